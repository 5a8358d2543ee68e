//! Media of sessions that the Kinesis API minted, at the addresses and by the query names that
//! Kinesis Video Streams has: `GET /hls/v1/get…?SessionToken=`,
//! `/dash/v1/get…`. The token is all that a player has.

use super::{File, answer, refuse};
use crate::playback::kinesis::Opened;
use crate::playback::kinesis::token::Span;
use crate::playback::{MediaError, Text};
use crate::service::Service;
use actix_web::web::{Data, Path, Query};
use actix_web::{Error, HttpRequest, HttpResponse};
use lookback_wire::FragmentNumber;
use serde::Deserialize;
use std::sync::Arc;

const RESOURCES: [&str; 6] = [
    "getHLSMasterPlaylist.m3u8",
    "getHLSMediaPlaylist.m3u8",
    "getDASHManifest.mpd",
    "getMP4InitFragment.mp4",
    "getMP4MediaFragment.mp4",
    "getTSFragment.ts",
];
const PLAYLIST: &str = "application/vnd.apple.mpegurl";
const TRANSPORT_STREAM: &str = "video/mp2t";
const MANIFEST: &str = "application/dash+xml";
const FRAGMENTED_MP4: &str = "video/mp4";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Resource {
    session_token: Option<String>,
    track_number: Option<u8>,
    sequence_number: Option<u64>,
    fragment_number: Option<u64>,
}

/// `GET` and `HEAD /hls/v1/{file}` and `/dash/v1/{file}`
pub async fn serve(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    file: Path<String>,
    resource: Result<Query<Resource>, Error>,
) -> HttpResponse {
    if !RESOURCES.contains(&file.as_str()) {
        return refuse(MediaError::NotFound);
    }
    let Ok(resource) = resource else {
        return refuse(MediaError::Malformed("a parameter comes twice or is no such number"));
    };
    let token = resource.session_token.as_deref().unwrap_or_default();
    let found = match service.playback.open_kinesis(token).await {
        Ok(session) => media_file(&service, &session, &file, &resource)
            .await
            .map(|file| (session.token.expires_at, file)),
        Err(error) => Err(error),
    };
    match found {
        Ok((expires_at, file)) => answer(&service, &request, expires_at, file),
        Err(error) => refuse(error),
    }
}

async fn media_file(
    service: &Service,
    session: &Opened,
    file: &str,
    resource: &Resource,
) -> Result<File, MediaError> {
    let playback = &service.playback;
    let settled = matches!(session.token.span, Span::OnDemand { .. });
    let text = |content_type, text| File::Text { content_type, text: Text::shared(text), settled };
    let playlist = |playlist| text(PLAYLIST, playlist);
    let media = |bytes| File::Media { content_type: FRAGMENTED_MP4, bytes };
    let track = resource.track_number.unwrap_or(1);
    let fragment = resource.fragment_number.map(FragmentNumber).ok_or(MediaError::NotFound);
    match file {
        "getHLSMasterPlaylist.m3u8" => {
            playback.kinesis_master_playlist(session).await.map(playlist)
        }
        "getHLSMediaPlaylist.m3u8" => {
            playback.kinesis_media_playlist(session, track).await.map(playlist)
        }
        "getDASHManifest.mpd" => Ok(text(MANIFEST, playback.kinesis_manifest(session).await?)),
        "getMP4InitFragment.mp4" => {
            let sequence = resource.sequence_number.ok_or(MediaError::NotFound)?;
            playback.kinesis_init_fragment(session, track, sequence).await.map(media)
        }
        "getMP4MediaFragment.mp4" => {
            playback.kinesis_media_fragment(session, track, fragment?).await.map(media)
        }
        "getTSFragment.ts" => {
            let bytes = playback.kinesis_ts_fragment(session, fragment?).await?;
            Ok(File::Media { content_type: TRANSPORT_STREAM, bytes })
        }
        _ => Err(MediaError::NotFound),
    }
}
