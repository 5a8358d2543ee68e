//! Pictures: `GET /images/v1/s/{token}/{at_ms}-{width}.jpg`, made when they are fetched; and what came
//! with an event: `{event}-{width}.jpg`.

use super::{File, answer, refuse};
use crate::playback::MediaError;
use crate::playback::picture::{EventPictureName, PictureName};
use crate::service::Service;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use std::sync::Arc;

/// `GET` and `HEAD /images/v1/s/{token}/{file}`
pub async fn serve(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    path: Path<(String, String)>,
) -> HttpResponse {
    let (token, name) = path.into_inner();
    match picture(&service, &token, &name).await {
        Ok((expires_at, file)) => answer(&service, &request, expires_at, file),
        Err(error) => refuse(error),
    }
}

async fn picture(
    service: &Service,
    token: &str,
    name: &str,
) -> Result<(lookback_wire::Timestamp, File), MediaError> {
    let token = service.playback.open(token).await?;
    let bytes = if let Ok(name) = name.parse::<PictureName>() {
        service.playback.picture(&token, name).await?
    } else if let Ok(name) = name.parse::<EventPictureName>() {
        service.playback.event_picture(&token, name).await?
    } else {
        return Err(MediaError::NotFound);
    };
    Ok((token.expires_at, File::Media { content_type: "image/jpeg", bytes }))
}
