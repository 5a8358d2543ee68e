//! Pictures: `GET /images/v1/s/{token}/{at_ms}-{width}.jpg`, made when they are fetched.

use super::{File, answer, refuse};
use crate::playback::MediaError;
use crate::playback::picture::PictureName;
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
    let name = name.parse::<PictureName>().map_err(|_| MediaError::NotFound)?;
    let bytes = service.playback.picture(&token, name).await?;
    Ok((token.expires_at, File::Media { content_type: "image/jpeg", bytes }))
}
