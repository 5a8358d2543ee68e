//! Signing in through an issuer: the authorization code flow (OpenID Connect Core §3.1) with PKCE
//! (RFC 7636), a nonce, and the issuer's name in its answer (RFC 9207).
//!
//! The service keeps nothing between the two halves. A ticket in the browser's cookie, signed by the
//! service, says which sign-in this is; `state`, nonce and code verifier follow from it by a key of
//! the service, so that the browser never sees the verifier.

use super::client::{self, AskError, Redemption};
use super::token::Purpose;
use super::user::known_by;
use super::{Issuers, NotAdmitted};
use crate::account::User;
use crate::sign_in::random_secret;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lookback_wire::Timestamp;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How long somebody may take to type a password elsewhere.
pub const TICKET_LIFE_MS: i64 = 10 * 60_000;
/// A ticket with the longest page to return to.
const MAX_TICKET_BYTES: usize = 2048;
/// Pages of the viewer have short addresses.
const MAX_PAGE_BYTES: usize = 512;
/// Issuers' codes have at most a few hundred.
const MAX_CODE_BYTES: usize = 4096;

/// Those that are registered have at most 26.
const MAX_ERROR_CHARS: usize = 64;

/// Where to send a browser that is to sign in, and what it keeps meanwhile.
#[derive(Debug)]
pub struct Ticket {
    /// The issuer's page.
    pub location: String,
    /// For the cookie.
    pub ticket: String,
}

/// What the issuer sent the browser back with.
#[derive(Debug, Deserialize)]
pub struct Answer {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    /// Why there is no code (RFC 6749 §4.1.2.1).
    error: Option<String>,
}

/// Somebody whom an issuer has signed in.
#[derive(Debug)]
pub struct SignedIn {
    pub user: User,
    /// When the issuer has to be asked again.
    pub ends_at: Timestamp,
    /// The page of ours where it began: a path.
    pub page: String,
}

/// Why somebody did not get in through an issuer.
#[derive(Debug, thiserror::Error)]
pub enum NotSignedIn {
    #[error("there is no such issuer to sign in through")]
    NoIssuer,
    #[error("the issuer cannot be reached")]
    Unreachable,
    /// Not begun in this browser, or too long ago.
    #[error("the sign-in was not begun here, or too long ago")]
    Stale,
    #[error("the issuer let nobody in: {0}")]
    Declined(String),
    #[error("the issuer's answer is of another issuer or lacks a part")]
    Answer,
    #[error("the code was not taken: {0}")]
    Code(#[from] AskError),
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    #[error("the system's random source failed")]
    Random,
}

/// What a ticket says.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    issuer: String,
    /// What the sign-in's secrets are made of.
    seed: String,
    ends_at: Timestamp,
    page: String,
}

/// What is made of a ticket, each for one purpose.
#[derive(Clone, Copy)]
enum Secret {
    State,
    Nonce,
    Verifier,
}

impl Issuers {
    /// Begins a sign-in through the issuer of that name, which sends the browser back to
    /// `redirect_uri`; `page` is where the viewer goes on then.
    pub async fn begin_sign_in(
        &self,
        name: &str,
        redirect_uri: &str,
        page: &str,
    ) -> Result<Ticket, NotSignedIn> {
        let issuer = self.all.iter().find(|issuer| issuer.settings.name == name);
        let issuer = issuer.ok_or(NotSignedIn::NoIssuer)?;
        let settings = issuer.settings.sign_in.as_ref().ok_or(NotSignedIn::NoIssuer)?;
        let published = issuer.published(&self.clock).await.ok_or(NotSignedIn::Unreachable)?;
        let endpoint =
            published.metadata.as_ref().and_then(|m| m.authorization_endpoint.as_deref());
        let mut location = client::address(endpoint.ok_or(NotSignedIn::Unreachable)?)?;
        let seed = random_secret().map_err(|_| NotSignedIn::Random)?.expose_secret().to_owned();
        let challenge = digest(&SHA256, self.secret(&seed, Secret::Verifier).as_bytes());
        location
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &settings.client_id)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("scope", &settings.scopes.join(" "))
            .append_pair("state", &self.secret(&seed, Secret::State))
            .append_pair("nonce", &self.secret(&seed, Secret::Nonce))
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(challenge))
            .append_pair("code_challenge_method", "S256");
        let begun = Begun {
            issuer: name.to_owned(),
            seed,
            ends_at: self.clock.now().plus_millis(TICKET_LIFE_MS),
            page: own_page(page).to_owned(),
        };
        Ok(Ticket { location: location.into(), ticket: self.seal(&begun) })
    }

    /// Ends a sign-in that [`begin_sign_in`](Self::begin_sign_in) began, with what came to the address
    /// of the issuer of that name.
    pub async fn end_sign_in(
        &self,
        name: &str,
        ticket: &str,
        answer: &Answer,
        redirect_uri: &str,
        from: IpAddr,
    ) -> Result<SignedIn, NotSignedIn> {
        let now = self.clock.now();
        let begun = self.open(ticket).filter(|begun| now < begun.ends_at);
        let begun = begun.ok_or(NotSignedIn::Stale)?;
        let state = self.secret(&begun.seed, Secret::State);
        let came = answer.state.as_deref().unwrap_or_default();
        if verify_slices_are_equal(came.as_bytes(), state.as_bytes()).is_err() {
            return Err(NotSignedIn::Stale);
        }
        if begun.issuer != name {
            return Err(NotSignedIn::Answer);
        }
        let issuer = self.all.iter().find(|issuer| issuer.settings.name == begun.issuer);
        let issuer = issuer.ok_or(NotSignedIn::NoIssuer)?;
        let settings = issuer.settings.sign_in.as_ref().ok_or(NotSignedIn::NoIssuer)?;
        let published = issuer.published(&self.clock).await.ok_or(NotSignedIn::Unreachable)?;
        let metadata = published.metadata.as_ref().ok_or(NotSignedIn::Unreachable)?;
        let is_theirs = match &answer.iss {
            Some(named) => *named == issuer.settings.url,
            None => !metadata.authorization_response_iss_parameter_supported,
        };
        if !is_theirs {
            return Err(NotSignedIn::Answer);
        }
        if let Some(error) = &answer.error {
            return Err(NotSignedIn::Declined(declined(error)));
        }
        let code = answer.code.as_deref().filter(|code| code.len() <= MAX_CODE_BYTES);
        let redemption = Redemption {
            code: code.ok_or(NotSignedIn::Answer)?,
            redirect_uri,
            verifier: &self.secret(&begun.seed, Secret::Verifier),
            client_id: &settings.client_id,
            client_secret: issuer.client_secret.as_ref(),
        };
        let client = self.client.as_ref().ok_or(NotSignedIn::NoIssuer)?;
        let token = client.redeem(metadata, &redemption).await?;
        let nonce = self.secret(&begun.seed, Secret::Nonce);
        let purpose = Purpose::SignIn { client: &settings.client_id, nonce: &nonce };
        let claims = issuer.verify(token.expose_secret(), purpose, &self.clock).await;
        let claims = claims.map_err(NotAdmitted::from)?;
        let now = self.clock.now();
        let user = known_by(&*self.catalog, &issuer.settings, &claims, from, now).await;
        let user = user.map_err(NotAdmitted::from)?;
        let ends_at = now.plus_millis(i64::from(settings.max_hours).saturating_mul(3_600_000));
        Ok(SignedIn { user, ends_at, page: begun.page })
    }

    /// One of the secrets of the sign-in with that seed.
    fn secret(&self, seed: &str, which: Secret) -> String {
        let purpose = match which {
            Secret::State => "state",
            Secret::Nonce => "nonce",
            Secret::Verifier => "verifier",
        };
        let tag = hmac::sign(&self.ticket_key, format!("{purpose} {seed}").as_bytes());
        URL_SAFE_NO_PAD.encode(tag)
    }

    fn seal(&self, begun: &Begun) -> String {
        // A struct of texts and a number is always JSON.
        let said = URL_SAFE_NO_PAD.encode(serde_json::to_vec(begun).unwrap_or_default());
        let tag = hmac::sign(&self.ticket_key, format!("ticket {said}").as_bytes());
        format!("{said}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    fn open(&self, ticket: &str) -> Option<Begun> {
        let (said, tag) =
            Some(ticket).filter(|ticket| ticket.len() <= MAX_TICKET_BYTES)?.split_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.ticket_key, format!("ticket {said}").as_bytes(), &tag).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(said).ok()?).ok()
    }
}

/// What the log says of an answer's `error`: a short word (RFC 6749 §4.1.2.1), of which whoever has
/// begun a sign-in may have made lines of a log.
fn declined(error: &str) -> String {
    error.chars().filter(char::is_ascii_graphic).take(MAX_ERROR_CHARS).collect()
}

/// `page` where it is a path of ours, else the first page. What browsers take for another host, or
/// may put a header's end into, is no path.
fn own_page(page: &str) -> &str {
    let is_own = page.len() <= MAX_PAGE_BYTES
        && page.starts_with('/')
        && !page.starts_with("//")
        && page.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_own { page } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::keys::Keys;
    use crate::storage::embedded;
    use std::sync::Arc;

    const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

    #[test]
    fn only_pages_of_ours_are_returned_to() {
        let cases = [
            ("/", "/"),
            ("/device/dev_1?at=5#x", "/device/dev_1?at=5#x"),
            ("", "/"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("/a\\b", "/"),
            ("https://evil.example", "/"),
            ("javascript:alert(1)", "/"),
            ("/\r\nset-cookie: a=b", "/"),
            ("/\t/evil.example", "/"),
            ("/ü", "/"),
        ];
        for (page, expected) in cases {
            assert_eq!(own_page(page), expected, "{page}");
        }
        assert_eq!(own_page(&format!("/{}", "x".repeat(MAX_PAGE_BYTES))), "/");
    }

    #[test]
    fn an_issuers_error_makes_no_line_of_its_own() {
        assert_eq!(declined("access_denied"), "access_denied");
        assert_eq!(declined("a\r\nINFO signed in\u{1b}[2J\u{2028}ü"), "aINFOsignedin[2J");
        assert_eq!(declined(&"x".repeat(1_000)).len(), MAX_ERROR_CHARS);
    }

    #[tokio::test]
    async fn a_ticket_is_taken_back_as_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(dir.path()).unwrap();
        let catalog = embedded::open_catalog(dir.path()).unwrap();
        let clock = Arc::new(Clock::manual(NOW));
        let issuers = Issuers::new(&[], &keys, catalog.clone(), clock.clone()).unwrap();
        let begun = Begun {
            issuer: "corp".into(),
            seed: "seed".into(),
            ends_at: NOW.plus_millis(1),
            page: "/".into(),
        };
        let ticket = issuers.seal(&begun);
        assert_eq!(issuers.open(&ticket).map(|begun| begun.seed).as_deref(), Some("seed"));
        let (said, tag) = ticket.split_once('.').unwrap();
        let forged = URL_SAFE_NO_PAD.encode(
            serde_json::to_vec(&Begun { page: "https://evil.example".into(), ..begun }).unwrap(),
        );
        let state = issuers.secret("seed", Secret::State);
        for other in [
            String::new(),
            said.into(),
            format!("{said}."),
            format!("{forged}.{tag}"),
            format!("{said}.{}", state),
            "x".repeat(MAX_TICKET_BYTES + 1),
        ] {
            assert!(issuers.open(&other).is_none(), "{other:.40}");
        }

        let from = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        let answer = |state: Option<&str>| Answer {
            code: Some("code".into()),
            state: state.map(str::to_owned),
            iss: None,
            error: None,
        };
        let nonce = issuers.secret("seed", Secret::Nonce);
        for (state, after_ms, is_stale) in [
            (None, 0, true),
            (Some(""), 0, true),
            (Some(&*nonce), 0, true),
            (Some(&*state), 1, true),
            // It goes on from here, to an issuer that is not there.
            (Some(&*state), 0, false),
        ] {
            clock.set(NOW.plus_millis(after_ms));
            let ended =
                issuers.end_sign_in("corp", &ticket, &answer(state), "http://x", from).await;
            assert_eq!(matches!(ended, Err(NotSignedIn::Stale)), is_stale, "{state:?}");
        }
    }
}
