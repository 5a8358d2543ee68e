//! What watches the service: `/livez`, `/readyz`, `/metrics`.

use crate::metrics::Gauges;
use crate::service::Service;
use crate::sign_in::DEFAULT_ACCOUNT;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::Data;
use std::sync::Arc;

/// The process answers.
pub async fn livez() -> HttpResponse {
    plain("ok\n")
}

/// The service can do its work: it is not on its way down, and its store answers and has room.
pub async fn readyz(service: Data<Arc<Service>>) -> HttpResponse {
    if *service.stopping.borrow() {
        return HttpResponse::ServiceUnavailable().body("stopping\n");
    }
    let no_room = service.storage.archive().room().await.is_ok_and(|room| room == 0);
    if no_room || service.uploads.is_full(service.clock.now()) {
        return HttpResponse::ServiceUnavailable().body("the disk is full: uploads are refused\n");
    }
    match service.storage.catalog.account_by_name(DEFAULT_ACCOUNT).await {
        Ok(_) => plain("ok\n"),
        Err(e) => {
            tracing::error!(error = %e, "the store does not answer");
            HttpResponse::ServiceUnavailable().body("the store does not answer\n")
        }
    }
}

/// Counts without names, so that no right is needed to read them.
pub async fn metrics(service: Data<Arc<Service>>) -> HttpResponse {
    let gauges = Gauges {
        uploads_open: service.uploads.count() as u64,
        unkept_bytes: service.unkept.bytes(),
        room_bytes: service.storage.archive().room().await.unwrap_or_default(),
        is_full: service.uploads.is_full(service.clock.now()),
    };
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(service.metrics.render(&gauges))
}

fn plain(text: &'static str) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).body(text)
}
