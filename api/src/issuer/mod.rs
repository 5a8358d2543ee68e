//! OIDC issuers besides the service itself: their keys, their tokens, their users, and signing in
//! through them.
//!
//! One task for each issuer asks it for what it publishes; a request never does. One that needs a
//! key which is not known waits for that task's next answer, and for no more than one.

mod cache;
mod client;
mod key_set;
mod metadata;
mod sign_in;
mod token;
mod user;

pub use client::AskError;
pub use sign_in::{Answer, NotSignedIn, SignedIn, TICKET_LIFE_MS, Ticket};
pub use user::NobodyHere;

use crate::access::{Principal, Subject};
use crate::account::Identity;
use crate::clock::Clock;
use crate::config;
use crate::keys::Keys;
use crate::storage::Catalog;
use crate::token::Refused;
use aws_lc_rs::hmac;
use cache::{Cache, Missing};
use client::Client;
use futures_util::future::join_all;
use metadata::Published;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use token::{Claims, Purpose, Rules};
use tokio::sync::{Notify, watch};
use user::known_by;

/// An issuer is asked two things, each of which takes at most 5 s.
const WAIT: Duration = Duration::from_secs(10);
/// A secret that somebody typed or generated; more is another file.
const MAX_SECRET_BYTES: usize = 4096;

/// Why the issuers that the configuration names cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum IssuersError {
    #[error("{path}: {cause}")]
    Secret { path: PathBuf, cause: String },
    #[error("outgoing connections cannot be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// Why a token of an issuer's opens nothing.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    #[error(transparent)]
    Token(#[from] Refused),
    #[error(transparent)]
    Nobody(#[from] NobodyHere),
}

/// All issuers that the configuration names.
pub struct Issuers {
    all: Vec<Issuer>,
    client: Option<Client>,
    clock: Arc<Clock>,
    catalog: Arc<dyn Catalog>,
    /// What tickets of sign-ins are signed with, and their secrets made by.
    ticket_key: hmac::Key,
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.all.iter().map(|issuer| &issuer.settings.name);
        f.debug_list().entries(names).finish()
    }
}

struct Issuer {
    settings: config::Issuer,
    client_secret: Option<SecretString>,
    cache: Mutex<Cache>,
    /// Told when the issuer is to be asked before its time.
    wanted: Notify,
    /// Counts answers, and answers that did not come.
    answers: watch::Sender<u64>,
}

impl Issuers {
    /// Reads the secrets that are named; asks nobody yet.
    pub fn new(
        settings: &[config::Issuer],
        keys: &Keys,
        catalog: Arc<dyn Catalog>,
        clock: Arc<Clock>,
    ) -> Result<Self, IssuersError> {
        let all = settings.iter().map(Issuer::new).collect::<Result<Vec<_>, _>>()?;
        let client = if all.is_empty() { None } else { Some(Client::new()?) };
        let key = keys.derive("sign-ins through issuers");
        let ticket_key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret());
        Ok(Self { all, client, clock, catalog, ticket_key })
    }

    /// Keeps what the issuers publish up to date, without end.
    pub async fn run(&self) {
        if let Some(client) = &self.client {
            join_all(self.all.iter().map(|issuer| issuer.follow(client, &self.clock))).await;
        }
    }

    /// The issuers through which people sign in: what each is called in addresses, and to people.
    pub fn of_sign_ins(&self) -> impl Iterator<Item = (&str, &str)> {
        let settings = self.all.iter().map(|issuer| &issuer.settings);
        settings
            .filter(|settings| settings.sign_in.is_some())
            .map(|settings| (&*settings.name, settings.display_name()))
    }

    /// Whether the role of a user is what an issuer's tokens say.
    pub fn decide_role_of(&self, identity: &Identity) -> bool {
        let mut settings = self.all.iter().map(|issuer| &issuer.settings);
        settings.any(|settings| settings.url == identity.issuer && settings.decides_roles())
    }

    /// Who somebody is who brings an access token of one of the issuers; `None` where it says that
    /// it is nobody's of them.
    pub async fn principal(
        &self,
        token: &str,
        from: IpAddr,
    ) -> Option<Result<Principal, NotAdmitted>> {
        if self.all.is_empty() {
            return None;
        }
        let named = token::named_issuer(token)?;
        let issuer = self.all.iter().find(|issuer| issuer.settings.url == named)?;
        Some(self.admit(issuer, token, from).await)
    }

    async fn admit(
        &self,
        issuer: &Issuer,
        token: &str,
        from: IpAddr,
    ) -> Result<Principal, NotAdmitted> {
        let settings = &issuer.settings;
        let purpose =
            Purpose::Access { audiences: &settings.audiences, types: &settings.token_types };
        let claims = issuer.verify(token, purpose, &self.clock).await?;
        let user = known_by(&*self.catalog, settings, &claims, from, self.clock.now()).await?;
        Ok(Principal {
            subject: Subject::User(user.id),
            account: user.account,
            role: user.role,
            shares: Vec::new(),
            expires_at: claims.expires_at,
        })
    }
}

impl Issuer {
    fn new(settings: &config::Issuer) -> Result<Self, IssuersError> {
        let file =
            settings.sign_in.as_ref().and_then(|sign_in| sign_in.client_secret_file.as_ref());
        let mut cache = Cache::default();
        // Whoever comes before the first answer waits for it.
        cache.asking();
        Ok(Self {
            settings: settings.clone(),
            client_secret: file.map(read_secret).transpose()?,
            cache: Mutex::new(cache),
            wanted: Notify::new(),
            answers: watch::Sender::new(0),
        })
    }

    async fn follow(&self, client: &Client, clock: &Clock) {
        let Self { settings, cache, wanted, answers, .. } = self;
        loop {
            cache.lock().asking();
            let published = client.published(settings).await;
            match &published {
                Ok(Published { keys, .. }) => {
                    tracing::debug!(issuer = settings.url, keys = keys.len(), "asked for keys");
                }
                Err(error) => {
                    tracing::warn!(issuer = settings.url, %error, "the issuer does not answer");
                }
            }
            let pause_ms = cache.lock().answered(published.ok(), clock.now());
            answers.send_modify(|count| *count += 1);
            let pause = Duration::from_millis(pause_ms.unsigned_abs());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = wanted.notified() => {}
            }
        }
    }

    async fn verify(
        &self,
        token: &str,
        purpose: Purpose<'_>,
        clock: &Clock,
    ) -> Result<Claims, Refused> {
        let Self { settings, cache, wanted, answers, .. } = self;
        let rules = Rules { issuer: &settings.url, algorithms: &settings.algorithms, purpose };
        let head = token::head(token, &rules)?;
        let mut answers = answers.subscribe();
        let now = clock.now();
        let is_known = |published: &Published| {
            published.keys.find(head.key_id.as_deref(), head.algorithm).is_some()
        };
        let known = cache.lock().published(now).cloned().filter(|known| is_known(known));
        let published = match known {
            Some(published) => published,
            None => {
                let missing = cache.lock().missing(now);
                if missing == Missing::Ask {
                    wanted.notify_one();
                }
                if missing != Missing::GiveUp {
                    // Whether it came in time or not, what is known then decides.
                    let _ = tokio::time::timeout(WAIT, answers.changed()).await;
                }
                cache.lock().published(clock.now()).cloned().ok_or(Refused::Key)?
            }
        };
        token::verify(token, &head, &published.keys, &rules, clock.now())
    }

    /// What the issuer published last, waiting for it where it was not heard of yet.
    async fn published(&self, clock: &Clock) -> Option<Arc<Published>> {
        let mut answers = self.answers.subscribe();
        let (known, is_asking) = {
            let cache = self.cache.lock();
            (cache.published(clock.now()).cloned(), cache.is_asking())
        };
        if known.is_none() && is_asking {
            let _ = tokio::time::timeout(WAIT, answers.changed()).await;
            return self.cache.lock().published(clock.now()).cloned();
        }
        known
    }
}

fn read_secret(path: &PathBuf) -> Result<SecretString, IssuersError> {
    let refused = |cause: String| IssuersError::Secret { path: path.clone(), cause };
    let text = std::fs::read_to_string(path).map_err(|e| refused(e.to_string()))?;
    let secret = text.trim();
    if secret.is_empty() || secret.len() > MAX_SECRET_BYTES {
        return Err(refused(format!("a secret has 1 to {MAX_SECRET_BYTES} bytes")));
    }
    Ok(secret.to_owned().into())
}
