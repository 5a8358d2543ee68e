//! Media of playback sessions for HLS: `GET /hls/v1/s/{token}/{file}`. The token is all that a player
//! has.

use super::{File, answer, refuse};
use crate::playback::reload::{Malformed, Reload};
use crate::playback::segments::{PartName, SegmentName, SilenceName, parse_init_name};
use crate::playback::token::{MediaToken, Span};
use crate::playback::transport::TransportName;
use crate::playback::{MediaError, Rendition};
use crate::service::Service;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use std::sync::Arc;

const PLAYLIST: &str = "application/vnd.apple.mpegurl";
const INIT: &str = "video/mp4";
const SEGMENT: &str = "video/iso.segment";
const TRANSPORT_STREAM: &str = "video/mp2t";

/// `GET` and `HEAD /hls/v1/s/{token}/{file}`
pub async fn serve(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    path: Path<(String, String)>,
) -> HttpResponse {
    let (token, name) = path.into_inner();
    let found = match service.playback.open(&token).await {
        Ok(token) => file(&service, &token, &name, request.query_string())
            .await
            .map(|file| (token.expires_at, file)),
        Err(error) => Err(error),
    };
    match found {
        Ok((expires_at, file)) => answer(&service, &request, expires_at, file),
        Err(error) => refuse(error),
    }
}

async fn file(
    service: &Service,
    token: &MediaToken,
    name: &str,
    query: &str,
) -> Result<File, MediaError> {
    let playback = &service.playback;
    let playlist = |text| File::Text {
        content_type: PLAYLIST,
        text,
        settled: matches!(token.span, Span::OnDemand { .. }),
    };
    match name {
        "main.m3u8" => playback.multivariant_playlist(token).await.map(playlist),
        "video.m3u8" => media_playlist(service, token, Rendition::Video, query).await.map(playlist),
        "audio.m3u8" => media_playlist(service, token, Rendition::Audio, query).await.map(playlist),
        "ts.m3u8" => playback.transport_playlist(token).await.map(playlist),
        name => {
            if let Ok(segment) = name.parse::<TransportName>() {
                let bytes = playback.transport_segment(token, segment).await?;
                Ok(File::Media { content_type: TRANSPORT_STREAM, bytes })
            } else if let Ok(segment) = name.parse::<SegmentName>() {
                let bytes = playback.segment(token, segment).await?;
                Ok(File::Media { content_type: SEGMENT, bytes })
            } else if let Ok(part) = name.parse::<PartName>() {
                let bytes = playback.part(token, part).await?;
                Ok(File::Media { content_type: SEGMENT, bytes })
            } else if let Ok(silence) = name.parse::<SilenceName>() {
                let bytes = playback.silence(token, silence).await?;
                Ok(File::Media { content_type: SEGMENT, bytes })
            } else if let Some(init) = parse_init_name(name) {
                let bytes = playback.init_segment(token, init).await?;
                Ok(File::Media { content_type: INIT, bytes })
            } else {
                Err(MediaError::NotFound)
            }
        }
    }
}

/// Waits for what the query asks for, but not while the service is on its way down.
async fn media_playlist(
    service: &Service,
    token: &MediaToken,
    rendition: Rendition,
    query: &str,
) -> Result<String, MediaError> {
    let reload = Reload::parse(query).map_err(|Malformed(why)| MediaError::Malformed(why))?;
    tokio::select! {
        playlist = service.playback.media_playlist(token, rendition, reload) => playlist,
        () = service.stopping() => Err(MediaError::NotYet),
    }
}
