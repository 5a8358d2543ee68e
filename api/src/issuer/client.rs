//! Asking an issuer over HTTP: its metadata, its keys, and tokens for the codes that it gave.

use super::key_set::{KeySet, KeySetError};
use super::metadata::{Metadata, MetadataError, Published};
use crate::config;
use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::fmt::Write;
use std::time::Duration;

/// Of one answer, from the connection to its last byte.
const TIMEOUT: Duration = Duration::from_secs(5);
/// 64 keys with their certificates fit.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Why an issuer did not answer usefully.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("{url}: {cause}")]
    Unreachable { url: String, cause: String },
    #[error("{url} answers {status}")]
    Status { url: String, status: u16 },
    #[error("{url} answers more than {MAX_ANSWER_BYTES} bytes")]
    TooLong { url: String },
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Keys(#[from] KeySetError),
    #[error("the issuer's metadata names no token endpoint")]
    NoTokenEndpoint,
    #[error("the token endpoint's answer cannot be read: {0}")]
    Token(#[from] serde_json::Error),
    #[error("{url:?} is no address: {cause}")]
    Address { url: String, cause: String },
}

/// What an authorization code is traded in with.
#[derive(Debug)]
pub struct Redemption<'a> {
    pub code: &'a str,
    pub redirect_uri: &'a str,
    /// What the code challenge was made of (RFC 7636 §4.1).
    pub verifier: &'a str,
    pub client_id: &'a str,
    /// A public client has none.
    pub client_secret: Option<&'a SecretString>,
}

/// Asks issuers. Follows no redirects: what is asked for is where the issuer says it is.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
}

impl Client {
    pub fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .timeout(TIMEOUT)
            .user_agent(concat!("lookback/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http })
    }

    /// What the issuer publishes now.
    pub async fn published(&self, issuer: &config::Issuer) -> Result<Published, AskError> {
        let needs_metadata = issuer.jwks_uri.is_none() || issuer.sign_in.is_some();
        let metadata = if needs_metadata {
            let json = self.get(&Metadata::address(&issuer.url)).await?;
            Some(Metadata::read(&json, issuer)?)
        } else {
            None
        };
        let named = metadata.as_ref().map(|metadata| &metadata.jwks_uri);
        let keys = match issuer.jwks_uri.as_ref().or(named) {
            Some(url) => KeySet::read(&self.get(url).await?)?,
            None => KeySet::default(),
        };
        Ok(Published { keys, metadata })
    }

    /// Trades an authorization code for an ID token (OpenID Connect Core §3.1.3).
    pub async fn redeem(
        &self,
        metadata: &Metadata,
        redemption: &Redemption<'_>,
    ) -> Result<SecretString, AskError> {
        #[derive(Deserialize)]
        struct Answer {
            id_token: SecretString,
        }
        let url = metadata.token_endpoint.as_deref().ok_or(AskError::NoTokenEndpoint)?;
        let Redemption { code, redirect_uri, verifier, client_id, client_secret } = *redemption;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        let mut request = self.http.post(address(url)?);
        match client_secret {
            Some(secret) if !metadata.takes_secrets_in_bodies_only() => {
                // RFC 6749 §2.3.1: both are encoded before they are joined.
                let secret = encoded(secret.expose_secret());
                request = request.basic_auth(encoded(client_id), Some(secret));
            }
            secret => {
                fields.push(("client_id", client_id));
                if let Some(secret) = secret {
                    fields.push(("client_secret", secret.expose_secret()));
                }
            }
        }
        let form: Vec<_> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.join("&"));
        let answer: Answer = serde_json::from_slice(&Self::answer(url, request).await?)?;
        Ok(answer.id_token)
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, AskError> {
        Self::answer(url, self.http.get(address(url)?)).await
    }

    async fn answer(url: &str, request: RequestBuilder) -> Result<Vec<u8>, AskError> {
        let unreachable = |e: reqwest::Error| AskError::Unreachable {
            url: url.to_owned(),
            cause: causes(&e.without_url()),
        };
        let mut response =
            request.header(ACCEPT, "application/json").send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            return Err(AskError::Status { url: url.to_owned(), status });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
                return Err(AskError::TooLong { url: url.to_owned() });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// An error with all that led to it: the outermost alone says only that a request failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

pub fn address(url: &str) -> Result<Url, AskError> {
    let refused = |cause: String| AskError::Address { url: url.to_owned(), cause };
    Url::parse(url).map_err(|e| refused(e.to_string()))
}

/// A text as a value of a form or a query.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
