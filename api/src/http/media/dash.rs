//! Media of playback sessions for DASH: `GET /dash/v1/s/{token}/manifest.mpd`. Segments are fetched
//! where HLS has them.

use super::{File, answer, refuse};
use crate::playback::token::Span;
use crate::playback::{MediaError, Text};
use crate::service::Service;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use std::sync::Arc;

const MANIFEST: &str = "application/dash+xml";

/// `GET` and `HEAD /dash/v1/s/{token}/{file}`
pub async fn serve(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    path: Path<(String, String)>,
) -> HttpResponse {
    let (text, name) = path.into_inner();
    let token = match service.playback.open(&text).await {
        Ok(token) => token,
        Err(error) => return refuse(error),
    };
    if name != "manifest.mpd" {
        return refuse(MediaError::NotFound);
    }
    match service.playback.manifest(&token, &format!("../../../../hls/v1/s/{text}/")).await {
        Ok(text) => {
            let settled = matches!(token.span, Span::OnDemand { .. });
            let text = Text::shared(text);
            let file = File::Text { content_type: MANIFEST, text, settled };
            answer(&service, &request, token.expires_at, file)
        }
        Err(error) => refuse(error),
    }
}
