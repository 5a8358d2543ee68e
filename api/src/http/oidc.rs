//! `/auth/issuers` and `/auth/oidc`: signing in through an OIDC issuer.
//!
//! The service redeems the code itself and gives the browser its own refresh cookie, as after
//! `/auth/login`: the page gets its token as always, and no token of the issuer's leaves the service.

use super::{auth, caller};
use crate::issuer::{Answer, NobodyHere, NotAdmitted, NotSignedIn, TICKET_LIFE_MS, Ticket};
use crate::service::Service;
use crate::sign_in::{Granted, SignInError};
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

/// The ticket of a sign-in that is under way. It has to come along when another site, the issuer,
/// sends the browser back.
const COOKIE: &str = "lookback_oidc";
const COOKIE_PATH: &str = "/auth/oidc";

#[derive(Serialize)]
struct Listed<'a> {
    issuers: Vec<ListedIssuer<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedIssuer<'a> {
    name: &'a str,
    display_name: &'a str,
}

/// `GET /auth/issuers`: through whom one can sign in, for the viewer's buttons.
pub async fn issuers(service: Data<Arc<Service>>) -> HttpResponse {
    let named = service.issuers.of_sign_ins();
    let issuers = named.map(|(name, display_name)| ListedIssuer { name, display_name }).collect();
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-cache")).json(Listed { issuers })
}

#[derive(Deserialize)]
pub struct Start {
    /// The page of ours to go on at.
    #[serde(default)]
    page: String,
}

/// `GET /auth/oidc/{issuer}/start`: to the issuer's page.
pub async fn start(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    issuer: Path<String>,
    query: Query<Start>,
) -> HttpResponse {
    let redirect_uri = redirect_uri(&service, &request, &issuer);
    match service.issuers.begin_sign_in(&issuer, &redirect_uri, &query.page).await {
        Ok(Ticket { location, ticket }) => {
            see_other(&location, &[cookie(&service, &request, &ticket, TICKET_LIFE_MS / 1000)])
        }
        Err(NotSignedIn::NoIssuer) => HttpResponse::build(StatusCode::NOT_FOUND).finish(),
        Err(error) => {
            tracing::warn!(issuer = %*issuer, %error, "a sign-in could not begin");
            failed(&service, &request, "unreachable")
        }
    }
}

/// `GET /auth/oidc/{issuer}/callback`: back from the issuer's page, and on to ours.
pub async fn callback(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    issuer: Path<String>,
    answer: Query<Answer>,
) -> HttpResponse {
    let from = caller::address(&service, &request);
    match sign_in(&service, &request, &issuer, &answer, from).await {
        Ok((granted, page)) => {
            tracing::info!(address = %from, "signed in through an issuer");
            let now = service.clock.now();
            let refresh = auth::refresh_cookie(&service, &request, &granted, now);
            see_other(&page, &[refresh, cookie(&service, &request, "", 0)])
        }
        Err(Failure::Issuer(error)) => {
            tracing::info!(address = %from, %error, "sign-in through an issuer refused");
            note_refused(&service, &error, from).await;
            failed(&service, &request, reason(&error))
        }
        Err(Failure::Here(error)) => {
            tracing::info!(address = %from, %error, "sign-in through an issuer refused");
            let reason = match error {
                SignInError::TooMany { .. } => "busy",
                _ => "failed",
            };
            failed(&service, &request, reason)
        }
    }
}

/// Who did not let somebody in.
enum Failure {
    Issuer(NotSignedIn),
    Here(SignInError),
}

async fn sign_in(
    service: &Service,
    request: &HttpRequest,
    issuer: &str,
    answer: &Answer,
    from: IpAddr,
) -> Result<(Granted, String), Failure> {
    let now = service.clock.now();
    // Each one may make us ask the issuer.
    service.sign_ins.attempt(from, now).map_err(Failure::Here)?;
    let ticket = auth::sent_cookie(request, COOKIE).unwrap_or_default();
    let redirect_uri = redirect_uri(service, request, issuer);
    let signed_in = service.issuers.end_sign_in(issuer, ticket, answer, &redirect_uri, from).await;
    let signed_in = signed_in.map_err(Failure::Issuer)?;
    service.sign_ins.forget_attempt(from);
    let begun =
        service.sign_ins.begin(&signed_in.user, Some(signed_in.ends_at), from, service.clock.now());
    Ok((begun.await.map_err(Failure::Here)?, signed_in.page))
}

/// What the viewer says to whoever did not get in; see `web/src/sign-in`.
fn reason(error: &NotSignedIn) -> &'static str {
    match error {
        NotSignedIn::Stale => "stale",
        NotSignedIn::Declined(_) => "declined",
        NotSignedIn::Unreachable => "unreachable",
        NotSignedIn::NotAdmitted(NotAdmitted::Nobody(_)) => "nobody",
        _ => "failed",
    }
}

/// Writes down that a user of ours was not let in; whoever is none has no log to stand in.
async fn note_refused(service: &Service, error: &NotSignedIn, from: IpAddr) {
    if let NotSignedIn::NotAdmitted(NotAdmitted::Nobody(NobodyHere::ShutOut(user))) = error {
        service.sign_ins.note_refused(user, from, service.clock.now()).await;
    }
}

/// Where an issuer sends browsers back to. Each has an address of its own, so that none can pass off
/// another's answer as its own (RFC 9700 §4.4.2.2).
fn redirect_uri(service: &Service, request: &HttpRequest, issuer: &str) -> String {
    format!("{}/auth/oidc/{issuer}/callback", caller::base_url(service, request))
}

/// To the viewer, which says why.
fn failed(service: &Service, request: &HttpRequest, reason: &str) -> HttpResponse {
    see_other(&format!("/#sign-in={reason}"), &[cookie(service, request, "", 0)])
}

fn see_other(location: &str, cookies: &[String]) -> HttpResponse {
    let mut answer = HttpResponse::SeeOther();
    answer.insert_header((header::LOCATION, location));
    answer.insert_header((header::CACHE_CONTROL, "no-store"));
    for cookie in cookies {
        answer.append_header((header::SET_COOKIE, cookie.as_str()));
    }
    answer.finish()
}

fn cookie(service: &Service, request: &HttpRequest, value: &str, life_s: i64) -> String {
    let secure = auth::secure(service, request);
    format!(
        "{COOKIE}={value}; Path={COOKIE_PATH}; Max-Age={life_s}; HttpOnly; SameSite=Lax{secure}"
    )
}
