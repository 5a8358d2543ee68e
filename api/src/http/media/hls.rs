//! Media of playback sessions for HLS: `GET /hls/v1/s/{token}/{file}`. The token is all that a player
//! has.

use super::{File, answer, preflight, refuse};
use crate::playback::reload::{Malformed, Reload};
use crate::playback::segments::{PartName, SegmentName, SilenceName, parse_init_name};
use crate::playback::token::{MediaToken, Span};
use crate::playback::transport::TransportName;
use crate::playback::{MediaError, Rendition, Text, remote};
use crate::service::Service;
use actix_web::http::Method;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use lookback_wire::Timestamp;
use std::sync::Arc;

const PLAYLIST: &str = "application/vnd.apple.mpegurl";
const INIT: &str = "video/mp4";
const SEGMENT: &str = "video/iso.segment";
const TRANSPORT_STREAM: &str = "video/mp2t";

/// `GET`, `HEAD` and `OPTIONS /hls/v1/s/{token}/{file}`
pub async fn serve(service: Data<Arc<Service>>, request: HttpRequest) -> HttpResponse {
    match *request.method() {
        Method::GET | Method::HEAD => match open(&service, &request).await {
            Ok((expires_at, file)) => answer(&service, &request, expires_at, file),
            Err(error) => refuse(error),
        },
        Method::OPTIONS => preflight().await,
        _ => HttpResponse::MethodNotAllowed().finish(),
    }
}

async fn open(service: &Service, request: &HttpRequest) -> Result<(Timestamp, File), MediaError> {
    let address = request.match_info().unprocessed().strip_prefix('/');
    let (token, name) = address.and_then(|a| a.split_once('/')).ok_or(MediaError::NotFound)?;
    let token = service.playback.open(token).await?;
    let file = file(service, &token, name, request.query_string()).await?;
    Ok((token.expires_at, file))
}

async fn file(
    service: &Service,
    token: &MediaToken,
    name: &str,
    query: &str,
) -> Result<File, MediaError> {
    let playback = &service.playback;
    if let Some(made) = playback.remote_hls(token, name).await? {
        return Ok(match made {
            remote::File::Playlist(text) => {
                File::Text { content_type: PLAYLIST, text: Text::shared(text), settled: true }
            }
            remote::File::Init(bytes) => File::Media { content_type: INIT, bytes },
            remote::File::Segment(bytes) => File::Media { content_type: SEGMENT, bytes },
            remote::File::TransportStream(bytes) => {
                File::Media { content_type: TRANSPORT_STREAM, bytes }
            }
        });
    }
    let settled = matches!(token.span, Span::OnDemand { .. });
    let playlist = |text| File::Text { content_type: PLAYLIST, text, settled };
    let media_playlist = |rendition| media_playlist(service, token, rendition, query);
    match name {
        "main.m3u8" => playback.multivariant_playlist(token).await.map(Text::shared).map(playlist),
        "video.m3u8" => media_playlist(Rendition::Video).await.map(playlist),
        "audio.m3u8" => media_playlist(Rendition::Audio).await.map(playlist),
        "ts.m3u8" => playback.transport_playlist(token).await.map(Text::shared).map(playlist),
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
) -> Result<Arc<Text>, MediaError> {
    let reload = Reload::parse(query).map_err(|Malformed(why)| MediaError::Malformed(why))?;
    tokio::select! {
        playlist = service.playback.media_playlist(token, rendition, reload) => playlist,
        () = service.stopping() => Err(MediaError::NotYet),
    }
}
