//! `/auth`: signing in, staying signed in, signing out; and the keys that tokens are signed with.
//!
//! The access token travels in JSON and lives in the page's memory; the refresh token lives in a
//! cookie that only `/auth` is sent and that no script sees.

use super::{body, caller, edge};
use crate::graphql::fault::new_trace;
use crate::service::Service;
use crate::sign_in::{Granted, SignInError, Typed};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use lookback_wire::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// A name, an account and a password fit many times over.
const MAX_BODY_BYTES: usize = 8 * 1024;
const COOKIE: &str = "lookback_refresh";

/// What `/auth/login` takes: a name and a password, or the demo's code.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Login {
    Code { code: SecretString },
    Password { account: Option<String>, name: String, password: SecretString },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Access<'a> {
    access_token: &'a str,
    token_type: &'a str,
    /// RFC 3339.
    expires_at: String,
    /// For clients whose own clock may be wrong.
    expires_in_seconds: i64,
}

pub async fn login(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    body: Payload,
) -> HttpResponse {
    if let Some(refusal) = refuse_other_origins(&service, &request) {
        return refusal;
    }
    if !body::is_json(request.headers()) {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return error(status, "UNSUPPORTED_MEDIA_TYPE", "the body has to be application/json");
    }
    let body = match body::read(body, request.headers(), MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(unread) => return error(unread.status(), "BAD_REQUEST", &unread.to_string()),
    };
    let Ok(login) = serde_json::from_slice::<Login>(&body) else {
        let message = "the body has to be {\"name\", \"password\"} or {\"code\"}";
        return error(StatusCode::BAD_REQUEST, "BAD_REQUEST", message);
    };
    let now = service.clock.now();
    let address = caller::address(&service, &request);
    let granted = match login {
        Login::Code { code } if address.is_loopback() => {
            service.sign_ins.with_code(&code, address, now).await
        }
        Login::Code { .. } => Err(SignInError::Wrong),
        Login::Password { account, name, password } => {
            service.sign_ins.with_password(Typed { account, name, password }, address, now).await
        }
    };
    match granted {
        Ok(granted) => {
            tracing::info!(%address, "signed in");
            signed_in(&service, &request, &granted, now)
        }
        Err(e) => {
            tracing::info!(%address, error = %e, "sign-in refused");
            refused(&service, &request, e)
        }
    }
}

pub async fn refresh(service: Data<Arc<Service>>, request: HttpRequest) -> HttpResponse {
    if let Some(refusal) = refuse_other_origins(&service, &request) {
        return refusal;
    }
    let now = service.clock.now();
    let granted = match refresh_token(&request) {
        Some(token) => {
            let address = caller::address(&service, &request);
            service.sign_ins.refresh(&token, address, now).await
        }
        None => Err(SignInError::Ended),
    };
    match granted {
        Ok(granted) => signed_in(&service, &request, &granted, now),
        Err(e) => refused(&service, &request, e),
    }
}

pub async fn logout(service: Data<Arc<Service>>, request: HttpRequest) -> HttpResponse {
    if let Some(refusal) = refuse_other_origins(&service, &request) {
        return refusal;
    }
    if let Some(token) = refresh_token(&request)
        && let Err(e) = service.sign_ins.end(&token).await
    {
        return refused(&service, &request, e);
    }
    HttpResponse::NoContent()
        .insert_header((header::SET_COOKIE, cookie(&service, &request, "", 0)))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish()
}

/// `GET /.well-known/jwks.json`
pub async fn jwks(service: Data<Arc<Service>>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "public, max-age=300"))
        .json(service.tokens.jwks())
}

fn signed_in(
    service: &Service,
    request: &HttpRequest,
    granted: &Granted,
    now: Timestamp,
) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::SET_COOKIE, refresh_cookie(service, request, granted, now)))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(Access {
            access_token: granted.access.expose_secret(),
            token_type: "Bearer",
            expires_at: rfc3339(granted.access_expires_at),
            expires_in_seconds: granted.access_expires_at.millis_since(now) / 1000,
        })
}

/// The cookie that keeps somebody signed in.
pub fn refresh_cookie(
    service: &Service,
    request: &HttpRequest,
    granted: &Granted,
    now: Timestamp,
) -> String {
    let life_s = granted.refresh_expires_at.millis_since(now) / 1000;
    cookie(service, request, granted.refresh.expose_secret(), life_s)
}

fn rfc3339(at: Timestamp) -> String {
    chrono::DateTime::from_timestamp_millis(at.as_millis())
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn refused(service: &Service, request: &HttpRequest, why: SignInError) -> HttpResponse {
    let message = why.to_string();
    match why {
        SignInError::Wrong => error(StatusCode::UNAUTHORIZED, "WRONG_CREDENTIALS", &message),
        SignInError::Ended => {
            let mut response = error(StatusCode::UNAUTHORIZED, "SIGN_IN_ENDED", &message);
            if let Ok(value) = HeaderValue::from_str(&cookie(service, request, "", 0)) {
                response.headers_mut().insert(header::SET_COOKIE, value);
            }
            response
        }
        SignInError::TooMany { retry_after_s } => {
            let mut response = error(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_ATTEMPTS", &message);
            response.headers_mut().insert(header::RETRY_AFTER, retry_after_s.into());
            response
        }
        SignInError::Storage(_) | SignInError::Internal(_) => unavailable(&message),
    }
}

/// Logs the cause and answers what it can be found by.
fn unavailable(cause: &str) -> HttpResponse {
    let trace = new_trace();
    tracing::error!(trace, cause, "signing in failed");
    respond(
        StatusCode::SERVICE_UNAVAILABLE,
        json!({ "code": "UNAVAILABLE", "message": "try again later", "traceId": trace }),
    )
}

fn error(status: StatusCode, code: &str, message: &str) -> HttpResponse {
    respond(status, json!({ "code": code, "message": message }))
}

fn respond(status: StatusCode, error: Value) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({ "error": error }))
}

/// Cookies come along with requests that other sites' pages make; those are refused.
fn refuse_other_origins(service: &Service, request: &HttpRequest) -> Option<HttpResponse> {
    if !edge::is_of_other_origin(service, request) {
        return None;
    }
    let message = "pages of this origin may not sign in here; see allowed_origins";
    Some(error(StatusCode::FORBIDDEN, "ORIGIN_REFUSED", message))
}

fn cookie(service: &Service, request: &HttpRequest, value: &str, life_s: i64) -> String {
    let secure = secure(service, request);
    format!("{COOKIE}={value}; Path=/auth; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}")
}

/// What a cookie ends with that is for encrypted connections only, where this is one.
pub fn secure(service: &Service, request: &HttpRequest) -> &'static str {
    if caller::base_url(service, request).starts_with("https:") { "; Secure" } else { "" }
}

fn refresh_token(request: &HttpRequest) -> Option<SecretString> {
    sent_cookie(request, COOKIE).map(SecretString::from)
}

/// What a request brings along under a cookie's name.
pub fn sent_cookie<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request
        .headers()
        .get_all(header::COOKIE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;

    #[tokio::test]
    async fn what_failed_here_is_found_by_its_trace() {
        let answer = unavailable("the table is gone");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = to_bytes(answer.into_body()).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["traceId"].as_str().map(str::len), Some(26), "{body}");
        assert!(!body.to_string().contains("table"), "{body}");
    }
}
