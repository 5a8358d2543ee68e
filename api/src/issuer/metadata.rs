//! What an issuer publishes of itself (OpenID Connect Discovery §3, RFC 8414 §2): where its keys are,
//! and where people sign in.

use super::key_set::KeySet;
use crate::config;
use serde::Deserialize;

/// What there is to know of an issuer.
#[derive(Debug, Default)]
pub struct Published {
    pub keys: KeySet,
    /// None where nobody signs in through it.
    pub metadata: Option<Metadata>,
}

/// The members of an issuer's metadata that are used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    issuer: String,
    pub jwks_uri: String,
    pub authorization_endpoint: Option<String>,
    pub token_endpoint: Option<String>,
    /// Without it, the secret goes into the header (RFC 8414 §2).
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Whether its answers say whose they are (RFC 9207 §3).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// Why an issuer's metadata is not gone by.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error("the metadata cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the metadata is of {0:?}")]
    OfAnother(String),
    #[error("the metadata names {url:?}: {cause}")]
    Address { url: String, cause: &'static str },
}

impl Metadata {
    /// Where an issuer's metadata is.
    pub fn address(issuer: &str) -> String {
        format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
    }

    /// Reads what stood there.
    pub fn read(json: &[u8], issuer: &config::Issuer) -> Result<Self, MetadataError> {
        let metadata: Self = serde_json::from_slice(json)?;
        // Discovery §4.3: else one issuer could speak for another.
        if metadata.issuer != issuer.url {
            return Err(MetadataError::OfAnother(metadata.issuer));
        }
        let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint];
        for url in endpoints.into_iter().flatten().chain([&metadata.jwks_uri]) {
            if let Some(cause) = issuer.not_an_address(url) {
                return Err(MetadataError::Address { url: url.clone(), cause });
            }
        }
        Ok(metadata)
    }

    /// Whether a client's secret goes into the body of a request and not into its header.
    pub fn takes_secrets_in_bodies_only(&self) -> bool {
        self.token_endpoint_auth_methods_supported.as_ref().is_some_and(|methods| {
            let has = |wanted| methods.iter().any(|method| method == wanted);
            has("client_secret_post") && !has("client_secret_basic")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_issuers_own_metadata_is_taken() {
        let toml = "[[issuers]]\nname = 'a'\nurl = 'https://id.example/a'\n";
        let config: config::Config = toml::from_str(toml).unwrap();
        let good = json!({
            "issuer": "https://id.example/a",
            "jwks_uri": "https://keys.example/a",
            "authorization_endpoint": "https://id.example/a/auth",
            "token_endpoint": "https://id.example/a/token",
            "scopes_supported": ["openid"],
        });
        let cases = [
            ("issuer", json!("https://id.example/a"), ""),
            ("issuer", json!("https://id.example/b"), "is of"),
            ("issuer", json!("https://id.example/a/"), "is of"),
            ("issuer", json!(null), "cannot be read"),
            ("jwks_uri", json!("http://keys.example/a"), "plain_http"),
            ("jwks_uri", json!("file:///etc/passwd"), "https://"),
            ("jwks_uri", json!(null), "cannot be read"),
            ("token_endpoint", json!("http://id.example/a/token"), "plain_http"),
            ("token_endpoint", json!(null), ""),
        ];
        for (name, value, expected) in cases {
            let mut metadata = good.clone();
            metadata[name] = value;
            let json = metadata.to_string();
            let refused = Metadata::read(json.as_bytes(), &config.issuers[0]).err();
            let said = refused.map(|e| e.to_string()).unwrap_or_default();
            assert_eq!(said.is_empty(), expected.is_empty(), "{json}: {said}");
            assert!(said.contains(expected), "{json}: {said}");
        }
    }
}
