//! One post to a receiver: how it is made, and what its answer means.

use super::address::{Reachable, Resolver};
use super::body::VERSION;
use crate::config;
use lookback_wire::Timestamp;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// From the name's resolution to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of an answer, so that the connection can be used again; a longer one ends it.
const MAX_ANSWER_BYTES: usize = 4 << 10;
/// One connection for each receiver: its posts come one after the other.
const IDLE_CONNECTIONS: usize = 1;
const IDLE_FOR: Duration = Duration::from_secs(30);

/// How a post went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// The receiver answered, and not that it has it.
    Refused,
    /// Nobody answered in time, or who answered has no time now.
    Unreachable,
    /// The receiver will never take anything again.
    Gone,
}

/// Why nothing can be posted by this server.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    #[error("webhooks.ca: {path}: {cause}")]
    Authorities { path: PathBuf, cause: String },
    #[error("no HTTP client: {0}")]
    Client(String),
}

/// What is posted, and how it is signed.
#[derive(Clone, Debug)]
pub struct Post {
    pub id: String,
    pub webhook: String,
    pub at: Timestamp,
    pub signature: String,
    pub body: Vec<u8>,
}

/// Posts to receivers.
#[derive(Debug)]
pub struct Poster {
    client: Client,
    pub reachable: Reachable,
}

impl Poster {
    pub fn new(config: &config::Webhooks) -> Result<Self, PostError> {
        let reachable = Reachable::new(config);
        let failed = |error: &dyn Error| PostError::Client(with_causes(error));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_root_certificates(authorities(config)?)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(Resolver(reachable.clone())))
            // One in the environment would make connections that are not looked at here.
            .no_proxy()
            // It would lead where the URL was not checked for.
            .redirect(Policy::none())
            .https_only(!config.plain_http)
            .timeout(TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_FOR)
            .user_agent(concat!("lookback/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Self { client, reachable })
    }

    /// Posts, and says how that went; where it did not go well, also why.
    pub async fn post(&self, url: &str, post: Post) -> (Outcome, String) {
        // What is allowed may have changed since the webhook was made.
        let url = match self.reachable.check(url) {
            Ok(url) => url,
            Err(refusal) => return (Outcome::Unreachable, refusal.to_string()),
        };
        match self.send(url, post).await {
            Ok(answer) => {
                let status = answer.status();
                read(answer).await;
                (outcome(status), format!("it answered {status}"))
            }
            Err(error) => (Outcome::Unreachable, with_causes(&error.without_url())),
        }
    }

    async fn send(&self, url: Url, post: Post) -> reqwest::Result<Response> {
        self.client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("Lookback-Version", VERSION)
            .header("Lookback-Webhook", post.webhook)
            .header("Lookback-Delivery", post.id)
            .header("Lookback-Timestamp", post.at.as_millis().div_euclid(1_000).to_string())
            .header("Lookback-Signature", post.signature)
            .body(post.body)
            .send()
            .await
    }
}

fn outcome(status: StatusCode) -> Outcome {
    match status {
        status if status.is_success() => Outcome::Delivered,
        StatusCode::GONE => Outcome::Gone,
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Outcome::Unreachable,
        _ => Outcome::Refused,
    }
}

/// Reads an answer away, unless it is long. Nobody is shown it: it may be what only this server can
/// reach.
async fn read(mut answer: Response) {
    let mut read = 0;
    while read <= MAX_ANSWER_BYTES {
        match answer.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

/// Those that are public, and the configured ones.
fn authorities(config: &config::Webhooks) -> Result<RootCertStore, PostError> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let Some(path) = &config.ca else { return Ok(roots) };
    let failed = |cause: &dyn Error| PostError::Authorities {
        path: path.clone(),
        cause: with_causes(cause),
    };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    Ok(roots)
}

/// An error and what it came from, one after the other.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (statuses, expected) in [
            (&[200, 201, 202, 204, 299][..], Outcome::Delivered),
            (&[301, 302, 307, 400, 401, 403, 404, 413, 422, 500, 501], Outcome::Refused),
            (&[408, 425, 429, 502, 503, 504], Outcome::Unreachable),
            (&[410], Outcome::Gone),
        ] {
            for status in statuses {
                let status = StatusCode::from_u16(*status).unwrap();
                assert_eq!(outcome(status), expected, "{status}");
            }
        }
    }

    #[test]
    fn authorities_that_cannot_be_read_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let config = config::Webhooks { ca: Some(path.clone()), ..Default::default() };
        let refused = Poster::new(&config).unwrap_err().to_string();
        assert!(refused.contains("ca.pem"), "{refused}");
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .unwrap();
        assert!(Poster::new(&config).is_err());
    }
}
