//! What watches the service: `/livez`, `/readyz`, `/metrics`.

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

/// The service can do its work: it is not on its way down, and its store answers.
pub async fn readyz(service: Data<Arc<Service>>) -> HttpResponse {
    if *service.stopping.borrow() {
        return HttpResponse::ServiceUnavailable().body("stopping\n");
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
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(service.metrics.render(service.uploads.count()))
}

fn plain(text: &'static str) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).body(text)
}
