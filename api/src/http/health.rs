//! What watches the service: `/livez`, `/readyz`, `/metrics`.

use crate::metrics::Gauges;
use crate::service::Service;
use crate::sign_in::DEFAULT_ACCOUNT;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::Data;
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use std::sync::Arc;

/// The process answers.
pub async fn livez() -> HttpResponse {
    plain("ok\n")
}

/// Whoever asks for readiness asks the store no more often.
const ASKED_EVERY_MS: i64 = 2_000;

/// What the store answered last.
#[derive(Debug, Default)]
pub struct Store(Mutex<Option<(Timestamp, bool)>>);

impl Store {
    async fn answers(&self, service: &Service) -> bool {
        let now = service.clock.now();
        if let Some((asked_at, answered)) = *self.0.lock()
            && now.millis_since(asked_at).abs() < ASKED_EVERY_MS
        {
            return answered;
        }
        let asked = service.storage.catalog.account_by_name(DEFAULT_ACCOUNT).await;
        if let Err(error) = &asked {
            tracing::error!(%error, "the store does not answer");
        }
        *self.0.lock() = Some((now, asked.is_ok()));
        asked.is_ok()
    }
}

/// The service can do its work: it is not on its way down, and its store answers and has room.
pub async fn readyz(service: Data<Arc<Service>>, store: Data<Store>) -> HttpResponse {
    if *service.stopping.borrow() {
        return HttpResponse::ServiceUnavailable().body("stopping\n");
    }
    let no_room = service.storage.archive().room().await.is_ok_and(|room| room == 0);
    if no_room || service.uploads.is_full(service.clock.now()) {
        return HttpResponse::ServiceUnavailable().body("the disk is full: uploads are refused\n");
    }
    if store.answers(&service).await {
        plain("ok\n")
    } else {
        HttpResponse::ServiceUnavailable().body("the store does not answer\n")
    }
}

/// Counts without names, so that no right is needed to read them.
pub async fn metrics(service: Data<Arc<Service>>) -> HttpResponse {
    let gauges = Gauges {
        uploads_open: service.uploads.count() as u64,
        subscribers_open: service.feed.connections() as u64,
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
