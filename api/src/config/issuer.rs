//! `[[issuers]]`: OIDC issuers whose tokens are taken, and through which people may sign in.
//!
//! Deny first: an issuer that is only named opens nothing to anybody. Who its users are here, and
//! what they may do, has to be said.

use super::ConfigError;
use crate::account::Role;
use crate::sign_in::DEFAULT_ACCOUNT;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One issuer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Names it in addresses, as in `/auth/oidc/NAME/start`: small letters, digits and hyphens.
    pub name: String,
    /// What the viewer calls it; else the name.
    pub display_name: Option<String>,
    /// Exactly as its tokens say it in `iss`. Its metadata is below this, at
    /// `/.well-known/openid-configuration`.
    pub url: String,
    /// Where its keys are; else where its metadata says.
    pub jwks_uri: Option<String>,
    /// Allows it to be asked without TLS.
    #[serde(default)]
    pub plain_http: bool,
    /// An access token is for one of these.
    #[serde(default = "default_audiences")]
    pub audiences: Vec<String>,
    /// What its tokens may be signed with.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// What its access tokens call themselves in `typ`: RFC 9068 has them say `at+jwt`; issuers that
    /// are older than that say `JWT`.
    #[serde(default = "default_token_types")]
    pub token_types: Vec<String>,
    /// The account, by name, of all its users.
    #[serde(default = "default_account")]
    pub account: String,
    /// The claim that names each user's account instead; accounts are not made for it.
    pub account_claim: Option<String>,
    /// Whether whoever has a role and is no user yet becomes one; else `lookback user add` makes
    /// them.
    #[serde(default)]
    pub create_users: bool,
    /// What a user is called when made, unless the name is taken. Where users choose the claim's
    /// value themselves, they choose what others share devices with.
    #[serde(default = "default_name_claim")]
    pub name_claim: String,
    #[serde(default = "default_display_name_claim")]
    pub display_name_claim: String,
    /// The claim that decides the role, a text or a list of them; else roles are given here.
    pub role_claim: Option<String>,
    /// Roles by values of that claim; the one that allows most counts.
    #[serde(default)]
    pub roles: BTreeMap<String, Role>,
    /// The role of whom the claim gives none; else they are refused.
    pub default_role: Option<Role>,
    /// Lets people sign in to the viewer through it.
    pub sign_in: Option<SignIn>,
}

/// Signing in to the viewer through an issuer, which has to know `/auth/oidc/{name}/callback` as
/// an address to return to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    pub client_id: String,
    /// The file that holds the secret; a public client has none.
    pub client_secret_file: Option<PathBuf>,
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// After this the issuer is asked again whether it still knows the user.
    #[serde(default = "default_max_hours")]
    pub max_hours: u32,
}

fn default_audiences() -> Vec<String> {
    vec!["lookback".into()]
}

fn default_algorithms() -> Vec<Algorithm> {
    vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA]
}

fn default_token_types() -> Vec<String> {
    vec!["at+jwt".into()]
}

fn default_account() -> String {
    DEFAULT_ACCOUNT.into()
}

fn default_name_claim() -> String {
    "sub".into()
}

fn default_display_name_claim() -> String {
    "name".into()
}

fn default_scopes() -> Vec<String> {
    ["openid", "profile", "email"].map(String::from).into()
}

fn default_max_hours() -> u32 {
    24
}

impl Issuer {
    pub fn display_name(&self) -> &str {
        self.display_name.as_deref().unwrap_or(&self.name)
    }

    /// Whether the issuer's tokens decide what its users may do.
    pub fn decides_roles(&self) -> bool {
        self.role_claim.is_some()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refused = |key, value: &str, cause| {
            Err(ConfigError::Value { key, value: value.to_owned(), cause })
        };
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(1..=32).contains(&self.name.len()) || !self.name.chars().all(is_name) {
            return refused("issuers.name", &self.name, "it has 1 to 32 of a-z, 0-9 and -");
        }
        for (key, url) in
            [("issuers.url", Some(&self.url)), ("issuers.jwks_uri", self.jwks_uri.as_ref())]
        {
            if let Some(cause) = url.and_then(|url| self.not_an_address(url)) {
                return refused(key, url.map_or("", |url| url), cause);
            }
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return refused("issuers.audiences", &self.name, "a token has to be for somebody");
        }
        let shared = |algorithm: &Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
        if self.algorithms.is_empty() || self.algorithms.iter().any(shared) {
            let cause = "it takes signatures by keys that are public, such as RS256";
            return refused("issuers.algorithms", &self.name, cause);
        }
        let mut roles = self.roles.values().chain(&self.default_role);
        if roles.any(|role| *role == Role::Device) {
            return refused("issuers.roles", &self.name, "a user cannot be a device");
        }
        if self.role_claim.is_none() && !self.roles.is_empty() {
            return refused("issuers.roles", &self.name, "there is no issuers.role_claim");
        }
        let Some(sign_in) = &self.sign_in else { return Ok(()) };
        // What is said to this client about a user would open the API to whoever holds it.
        if sign_in.client_id.is_empty() || self.audiences.contains(&sign_in.client_id) {
            let cause = "it has to be the viewer's own, and none of issuers.audiences";
            return refused("issuers.sign_in.client_id", &sign_in.client_id, cause);
        }
        if !sign_in.scopes.iter().any(|scope| scope == "openid") {
            return refused("issuers.sign_in.scopes", &self.name, "openid has to be one of them");
        }
        let (least, most) = (1, 720);
        if !(least..=most).contains(&sign_in.max_hours.into()) {
            let (key, value) = ("issuers.sign_in.max_hours", sign_in.max_hours.into());
            return Err(ConfigError::Number { key, value, least, most });
        }
        Ok(())
    }

    /// Why `url` is no address of the issuer's that may be asked.
    pub fn not_an_address(&self, url: &str) -> Option<&'static str> {
        let rest = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => rest,
            (None, Some(rest)) if self.plain_http => rest,
            (None, Some(_)) => return Some("http:// needs plain_http = true"),
            (None, None) => return Some("it does not begin with https://"),
        };
        let host = rest.split('/').next().unwrap_or_default();
        if host.is_empty() || host.contains('@') || !rest.bytes().all(|b| b.is_ascii_graphic()) {
            return Some("it is no address of a host");
        }
        None
    }
}

/// Whether the issuers may stand beside each other.
pub(super) fn check(issuers: &[Issuer]) -> Result<(), ConfigError> {
    for (i, issuer) in issuers.iter().enumerate() {
        issuer.check()?;
        for earlier in issuers.iter().take(i) {
            let cause = "two issuers have it";
            if earlier.name == issuer.name {
                let (key, value) = ("issuers.name", issuer.name.clone());
                return Err(ConfigError::Value { key, value, cause });
            }
            if earlier.url == issuer.url {
                let (key, value) = ("issuers.url", issuer.url.clone());
                return Err(ConfigError::Value { key, value, cause });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn what_would_be_unsafe_is_refused() {
        let base = "[[issuers]]\nname = 'corp'\nurl = 'https://id.example'\n";
        let sign_in = "[issuers.sign_in]\nclient_id = 'viewer'\n";
        let cases = [
            (String::new(), Ok(())),
            (base.into(), Ok(())),
            (format!("{base}{sign_in}"), Ok(())),
            (base.replace("corp", "Corp"), Err("issuers.name")),
            (base.replace("corp", "a/b"), Err("issuers.name")),
            (base.replace("https", "http"), Err("plain_http")),
            (format!("{}plain_http = true", base.replace("https", "http")), Ok(())),
            (base.replace("https", "ftp"), Err("issuers.url")),
            (base.replace("id.example", "a@id.example"), Err("issuers.url")),
            (base.replace("id.example", "id.example/a b"), Err("issuers.url")),
            (format!("{base}jwks_uri = 'http://id.example/keys'"), Err("issuers.jwks_uri")),
            (format!("{base}audiences = []"), Err("issuers.audiences")),
            (format!("{base}algorithms = []"), Err("issuers.algorithms")),
            (format!("{base}algorithms = ['RS256', 'HS256']"), Err("issuers.algorithms")),
            (format!("{base}algorithms = ['none']"), Err("unknown variant")),
            (format!("{base}default_role = 'DEVICE'"), Err("issuers.roles")),
            (format!("{base}[issuers.roles]\na = 'ADMIN'"), Err("issuers.roles")),
            (format!("{base}role_claim = 'r'\n[issuers.roles]\na = 'ADMIN'"), Ok(())),
            (format!("{base}audience = 'a'"), Err("unknown field")),
            (format!("{base}audiences = ['viewer']\n{sign_in}"), Err("client_id")),
            (format!("{base}{sign_in}scopes = ['profile']"), Err("scopes")),
            (format!("{base}{sign_in}max_hours = 0"), Err("max_hours")),
            (format!("{base}{base}"), Err("issuers.name")),
            (format!("{base}{}", base.replace("corp", "other")), Err("issuers.url")),
        ];
        for (text, expected) in cases {
            let read = toml::from_str::<Config>(&text).map_err(|e| e.to_string());
            let checked = read.and_then(|config| config.check().map_err(|e| e.to_string()));
            match (checked, expected) {
                (Ok(()), Ok(())) => {}
                (Err(said), Err(part)) => assert!(said.contains(part), "{text}: {said}"),
                (checked, _) => panic!("{text}: {checked:?}"),
            }
        }
    }
}
