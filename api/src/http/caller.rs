//! Who is at the other end of a request, and by which address it came to us.

use crate::access::{Principal, Subject};
use crate::access_key::AccessKeyId;
use crate::account::Role;
use crate::device::CredentialKind;
use crate::issuer::{NobodyHere, NotAdmitted};
use crate::rights;
use crate::service::Service;
use crate::signature::{self, Body, Signature};
use crate::storage::StorageError;
use crate::token::Refused;
use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};
use lookback_wire::Timestamp;
use secrecy::ExposeSecret;
use std::net::{IpAddr, Ipv4Addr};

/// How long a caller by a key that does not expire is taken for known, where something outlives
/// the request: longer than any upload or session lasts.
const KEY_LIFE_MS: i64 = 24 * 3_600_000;

/// Why what a caller proves itself with is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Unauthorized {
    #[error("the Authorization header is not a bearer token")]
    Scheme,
    #[error(transparent)]
    Token(#[from] Refused),
    #[error(transparent)]
    Signature(#[from] signature::Refused),
    /// What the token was given to is gone, disabled or has had it revoked.
    #[error("the token has been withdrawn")]
    Withdrawn,
    /// An issuer's token that is right, of somebody who is nobody here.
    #[error(transparent)]
    Nobody(NobodyHere),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<NotAdmitted> for Unauthorized {
    fn from(refused: NotAdmitted) -> Self {
        match refused {
            NotAdmitted::Token(refused) => Self::Token(refused),
            NotAdmitted::Nobody(NobodyHere::ShutOut(_)) => Self::Withdrawn,
            NotAdmitted::Nobody(NobodyHere::Storage(error)) => Self::Storage(error),
            NotAdmitted::Nobody(nobody) => Self::Nobody(nobody),
        }
    }
}

/// Who calls, by the bearer token; nobody where there is none. That the caller still stands is
/// looked up every time.
pub async fn principal(
    service: &Service,
    request: &HttpRequest,
) -> Result<Option<Principal>, Unauthorized> {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else { return Ok(None) };
    let value = value.to_str().map_err(|_| Unauthorized::Scheme)?;
    by_authorization(service, value, address(service, request)).await.map(Some)
}

/// Who calls, by what an `Authorization` header says, or would say where none can be sent.
pub async fn by_authorization(
    service: &Service,
    value: &str,
    from: IpAddr,
) -> Result<Principal, Unauthorized> {
    let token = value
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or(Unauthorized::Scheme)?;
    bearer(service, token, from).await
}

/// Who calls, by a signature over the request and its body, or else by the bearer token; nobody
/// where there is neither.
pub async fn signer(
    service: &Service,
    request: &HttpRequest,
    body: Body<'_>,
) -> Result<Option<Principal>, Unauthorized> {
    let received = signature::Request {
        method: request.method().as_str(),
        path: request.path(),
        query: request.query_string(),
        headers: request.headers().iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect(),
    };
    let Some(signature) = Signature::read(&received)? else {
        return principal(service, request).await;
    };
    let unknown = || Unauthorized::Signature(signature::Refused::UnknownKey);
    let key = signature.access_key_id.parse().map_err(|_| unknown())?;
    let now = service.clock.now();
    let secret = service.access_keys.secret(key);
    signature.verify(&received, body, secret.expose_secret(), now)?;
    holder(service, key, now).await?.ok_or_else(unknown).map(Some)
}

/// Whose key it is; nobody's where it has ended or never was.
async fn holder(
    service: &Service,
    key: AccessKeyId,
    now: Timestamp,
) -> Result<Option<Principal>, StorageError> {
    let catalog = &*service.storage.catalog;
    let expires_at = now.plus_millis(KEY_LIFE_MS);
    let principal = match key {
        AccessKeyId::User(id) => catalog.user(id).await?.map(|user| Principal {
            subject: Subject::User(user.id),
            account: user.account,
            role: user.role,
            shares: Vec::new(),
            expires_at,
        }),
        AccessKeyId::Device(id) => {
            let credential = catalog.credential(id).await?;
            credential.filter(|found| found.kind == CredentialKind::AccessKey).map(|found| {
                Principal {
                    subject: Subject::Device { device: found.device, credential: found.id },
                    account: found.account,
                    role: Role::Device,
                    shares: Vec::new(),
                    expires_at: found.expires_at.unwrap_or(expires_at),
                }
            })
        }
    };
    match principal {
        Some(principal) => standing(service, &principal, now).await,
        None => Ok(None),
    }
}

/// Who calls, by a bearer token that came from an address, in a header or another way.
pub async fn bearer(
    service: &Service,
    token: &str,
    from: IpAddr,
) -> Result<Principal, Unauthorized> {
    let now = service.clock.now();
    let principal = match service.issuers.principal(token, from).await {
        Some(admitted) => admitted?,
        None => service.tokens.verify(token, now)?,
    };
    standing(service, &principal, now).await?.ok_or(Unauthorized::Withdrawn)
}

/// The caller as it stands now, if it does; a device's credential is noted to be in use.
async fn standing(
    service: &Service,
    principal: &Principal,
    now: Timestamp,
) -> Result<Option<Principal>, StorageError> {
    let catalog = &*service.storage.catalog;
    let principal = rights::current(catalog, principal, now).await?;
    if let Some(Principal { subject: Subject::Device { credential, .. }, .. }) = &principal {
        // A full disk keeps nobody out.
        if let Err(error) = catalog.note_credential_used(*credential, now).await {
            tracing::warn!(%credential, %error, "that a credential was used is not noted");
        }
    }
    Ok(principal)
}

/// Where the request came from: the peer, or whom a trusted proxy names.
pub fn address(service: &Service, request: &HttpRequest) -> IpAddr {
    let Some(peer) = request.peer_addr().map(|peer| peer.ip().to_canonical()) else {
        return IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    };
    let trusted = |address: IpAddr| {
        service.config.trusted_proxies.iter().any(|network| network.contains(address))
    };
    if !trusted(peer) {
        return peer;
    }
    // Each proxy adds whom it heard from at the end; the first that is no proxy of ours is it.
    let mut nearest = peer;
    let named: Vec<&str> = values(request.headers(), "x-forwarded-for").collect();
    for text in named.into_iter().rev() {
        let Ok(address) = text.parse::<IpAddr>() else { break };
        nearest = address.to_canonical();
        if !trusted(nearest) {
            break;
        }
    }
    nearest
}

/// What URLs of ours begin with, for whoever sent this request; no slash at the end.
pub fn base_url(service: &Service, request: &HttpRequest) -> String {
    if let Some(url) = &service.config.public_url {
        return url.clone();
    }
    let headers = request.headers();
    let proxied = request.peer_addr().is_some_and(|peer| {
        service.config.trusted_proxies.iter().any(|network| network.contains(peer.ip()))
    });
    let forwarded =
        |name| if proxied { values(headers, name).last() } else { None }.filter(|v| is_token(v));
    let own_scheme = if service.config.tls.is_some() { "https" } else { "http" };
    let scheme = match forwarded("x-forwarded-proto") {
        Some("https") => "https",
        Some("http") => "http",
        _ => own_scheme,
    };
    if let Some(host) = forwarded("x-forwarded-host") {
        return format!("{scheme}://{host}");
    }
    let local = request.app_config().local_addr();
    match headers.get(header::HOST).and_then(|h| h.to_str().ok()).filter(|h| is_token(h)) {
        Some(host) if is_amazons_producer(headers) && !has_port(host) => {
            format!("{scheme}://{host}:{}", local.port())
        }
        Some(host) => format!("{scheme}://{host}"),
        None => format!("{scheme}://{local}"),
    }
}

/// Whether Amazon's C or C++ producer sent the request: it leaves the port out of `Host`, whatever
/// port it connects to, and says milliseconds without leading zeros.
pub fn is_amazons_producer(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    agent.is_some_and(|agent| {
        agent.contains("AWS-PRODUCER-SDK-KVS") || agent.contains("AWS-SDK-KVS-CPP-CLIENT")
    })
}

/// Whether a port stands behind a host's name, or its address in brackets.
fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
}

/// The comma-separated values of a header, over all its lines.
fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Whether text is a host and port or a scheme, and cannot break out of a URL.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_')
        })
}
