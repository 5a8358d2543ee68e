//! How people get their tokens: a name and a password, then refresh tokens that change with every
//! use.
//!
//! A refresh token is the sign-in's identifier and a secret. The next one follows from the one
//! before by a key of the service, so that two tabs, or an answer that was lost, come to the same
//! one within [`GRACE_MS`]; an old one that turns up later was stolen, and ends the sign-in.

use crate::access::{Principal, Subject};
use crate::account::{Role, SignIn, User};
use crate::audit::{self, AuditAction, Deed};
use crate::config;
use crate::id::{SignInId, UserId};
use crate::keys::Keys;
use crate::rates::household;
use crate::storage::{Catalog, CreateError, StorageError};
use crate::token::Tokens;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How long the refresh token before the one in force still works.
pub const GRACE_MS: i64 = 30 * 1000;

/// Each password check takes 19 MiB and tens of milliseconds: two at a time leave room for footage.
const CHECKS_AT_ONCE: usize = 2;
/// Further ones wait; beyond this they are told to come again.
const CHECKS_WAITING: usize = 32;
/// Longer is no password but an attack on the hash.
const MAX_PASSWORD_BYTES: usize = 1024;
/// Names are at most 128 characters.
const MAX_NAME_BYTES: usize = 512;
/// The account that is meant where none is named.
pub const DEFAULT_ACCOUNT: &str = "default";
/// Whom the demo's code signs in.
const DEMO_USER: &str = "demo";

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Also where there is no such user: which it is, is not said.
    #[error("the name or the password is wrong")]
    Wrong,
    #[error("the sign-in has ended")]
    Ended,
    #[error("too many attempts; try again in {retry_after_s} s")]
    TooMany { retry_after_s: u32 },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Internal(&'static str),
}

/// What a sign-in gives.
#[derive(Debug)]
pub struct Granted {
    pub access: SecretString,
    pub access_expires_at: Timestamp,
    pub refresh: SecretString,
    pub refresh_expires_at: Timestamp,
}

/// What somebody typed.
#[derive(Debug)]
pub struct Typed {
    /// `default` unless named.
    pub account: Option<String>,
    pub name: String,
    pub password: SecretString,
}

/// Signs people in and keeps them signed in.
pub struct SignIns {
    catalog: Arc<dyn Catalog>,
    tokens: Arc<Tokens>,
    refresh_key: hmac::Key,
    checks: Semaphore,
    waiting: Semaphore,
    attempts: Attempts,
    /// How long an access token lasts.
    access_ms: i64,
    /// How long a sign-in lasts that is not used.
    idle_ms: i64,
    /// A hash of no password at all, so that an unknown name takes as long as a known one.
    nobody: String,
    code: Option<SecretString>,
}

impl fmt::Debug for SignIns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIns").finish_non_exhaustive()
    }
}

/// A password's Argon2id hash in PHC form, with the parameters that OWASP advises.
pub fn hash_password(password: &SecretString) -> Result<String, SignInError> {
    let password = password.expose_secret();
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(SignInError::Internal("the password is longer than 1024 bytes"));
    }
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|_| SignInError::Internal("the password could not be hashed"))
}

/// A secret that cannot be guessed, in base64url.
pub fn random_secret() -> Result<SecretString, SignInError> {
    let mut secret = [0; 32];
    rand::fill(&mut secret)
        .map_err(|_| SignInError::Internal("the system's random source failed"))?;
    Ok(URL_SAFE_NO_PAD.encode(secret).into())
}

impl SignIns {
    /// With `code`, whoever knows it is signed in as an administrator without a password.
    pub fn new(
        catalog: Arc<dyn Catalog>,
        tokens: Arc<Tokens>,
        keys: &Keys,
        config: &config::SignIn,
        code: Option<SecretString>,
    ) -> Result<Self, SignInError> {
        let key = keys.derive("refresh tokens");
        Ok(Self {
            catalog,
            tokens,
            refresh_key: hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret()),
            checks: Semaphore::new(CHECKS_AT_ONCE),
            waiting: Semaphore::new(CHECKS_WAITING),
            attempts: Attempts::new(config),
            access_ms: i64::from(config.access_minutes) * 60_000,
            idle_ms: i64::from(config.idle_days) * 24 * 3_600_000,
            nobody: hash_password(&random_secret()?)?,
            code,
        })
    }

    /// Signs in by name and password; `from` is where the request came from.
    pub async fn with_password(
        &self,
        typed: Typed,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Granted, SignInError> {
        let Typed { account, name, password } = typed;
        let account = account.as_deref().unwrap_or(DEFAULT_ACCOUNT);
        if name.len() > MAX_NAME_BYTES
            || account.len() > MAX_NAME_BYTES
            || password.expose_secret().len() > MAX_PASSWORD_BYTES
        {
            return Err(SignInError::Wrong);
        }
        let buckets = [Key::address(from), Key::name(account, &name)];
        self.attempts.take(&buckets, now)?;
        let user = match self.catalog.account_by_name(account).await? {
            Some(account) => self.catalog.user_by_name(account.id, &name).await?,
            None => None,
        };
        let hash = user.as_ref().and_then(|u| u.password_hash.clone());
        let right = self.check(password, hash.unwrap_or_else(|| self.nobody.clone())).await?;
        match user {
            Some(user) if right && user.password_hash.is_some() && user.may_come_in() => {
                self.attempts.give_back(&buckets);
                self.begin(&user, None, from, now).await
            }
            Some(user) => {
                self.note_refused(&user, from, now).await;
                Err(SignInError::Wrong)
            }
            // Nobody's log: whoever guesses names would fill it.
            None => Err(SignInError::Wrong),
        }
    }

    /// Counts an attempt to sign in through an issuer.
    pub fn attempt(&self, from: IpAddr, now: Timestamp) -> Result<(), SignInError> {
        self.attempts.take(&[Key::address(from)], now)
    }

    /// Takes back an attempt that succeeded.
    pub fn forget_attempt(&self, from: IpAddr) {
        self.attempts.give_back(&[Key::address(from)]);
    }

    /// Writes down that somebody who may be `user` was not let in.
    pub async fn note_refused(&self, user: &User, from: IpAddr, now: Timestamp) {
        let deed = Deed {
            account: user.account,
            actor: None,
            action: AuditAction::SignInRefused,
            target: Some(user.id.to_string()),
            address: from,
        };
        audit::note(&*self.catalog, deed, now).await;
    }

    /// Signs in by the demo's code.
    pub async fn with_code(
        &self,
        code: &SecretString,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Granted, SignInError> {
        let known = self.code.as_ref().ok_or(SignInError::Wrong)?.expose_secret();
        verify_slices_are_equal(known.as_bytes(), code.expose_secret().as_bytes())
            .map_err(|_| SignInError::Wrong)?;
        let account = self.catalog.ensure_account(DEFAULT_ACCOUNT, now).await?;
        let user = User {
            id: UserId::new(now),
            account: account.id,
            name: DEMO_USER.into(),
            display_name: "Demo".into(),
            role: Role::Admin,
            password_hash: None,
            identity: None,
            time_zone: None,
            disabled: false,
            created_at: now,
        };
        match self.catalog.create_user(user).await {
            Ok(()) | Err(CreateError::Taken { .. }) => {}
            Err(CreateError::Storage(e)) => return Err(e.into()),
            Err(_) => return Err(SignInError::Wrong),
        }
        let user =
            self.catalog.user_by_name(account.id, DEMO_USER).await?.ok_or(SignInError::Wrong)?;
        self.begin(&user, None, from, now).await
    }

    /// Trades a refresh token for new tokens.
    pub async fn refresh(
        &self,
        token: &SecretString,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Granted, SignInError> {
        let (id, secret) = split(token).ok_or(SignInError::Ended)?;
        self.attempts.take(&[Key::refresh(from)], now)?;
        // Another tab may rotate between the read and the write: then this is the previous one.
        for _ in 0..2 {
            let Some(known) = self.catalog.sign_in(id).await?.filter(|s| s.expires_at > now) else {
                return Err(SignInError::Ended);
            };
            let user = match self.catalog.user(known.user).await? {
                Some(user) if user.may_come_in() => user,
                _ => {
                    self.catalog.delete_sign_in(id).await?;
                    return Err(SignInError::Ended);
                }
            };
            let presented = hash(secret);
            let next = self.next(secret);
            if same(&presented, &known.current) {
                let sign_in = SignIn {
                    current: hash(&next),
                    previous: Some(presented),
                    rotated_at: now,
                    expires_at: self.end_of(now, known.ends_at),
                    ..known
                };
                if self.catalog.rotate_sign_in(presented, sign_in.clone()).await? {
                    return self.grant(&user, &sign_in, &next, now);
                }
            } else if known.previous.is_some_and(|previous| same(&presented, &previous))
                && now.millis_since(known.rotated_at) <= GRACE_MS
            {
                return self.grant(&user, &known, &next, now);
            } else {
                tracing::warn!(sign_in = %id, user = %user.id, "a used refresh token came again");
                self.note_refused(&user, from, now).await;
                self.catalog.delete_sign_in(id).await?;
                return Err(SignInError::Ended);
            }
        }
        Err(SignInError::Ended)
    }

    /// Ends a sign-in; whoever holds one of its tokens may.
    pub async fn end(&self, token: &SecretString) -> Result<(), SignInError> {
        let Some((id, secret)) = split(token) else { return Ok(()) };
        let presented = hash(secret);
        match self.catalog.sign_in(id).await? {
            Some(known)
                if same(&presented, &known.current)
                    || known.previous.is_some_and(|previous| same(&presented, &previous)) =>
            {
                Ok(self.catalog.delete_sign_in(id).await?)
            }
            _ => Ok(()),
        }
    }

    /// Signs in somebody who has been proved to be `user`; the sign-in lasts at most until `ends_at`.
    pub async fn begin(
        &self,
        user: &User,
        ends_at: Option<Timestamp>,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Granted, SignInError> {
        let secret = random_secret()?;
        let sign_in = SignIn {
            id: SignInId::new(now),
            user: user.id,
            current: hash(secret.expose_secret()),
            previous: None,
            rotated_at: now,
            expires_at: self.end_of(now, ends_at),
            ends_at,
        };
        self.catalog.put_sign_in(sign_in.clone()).await?;
        let deed = Deed {
            account: user.account,
            actor: Some(user.id.to_string()),
            action: AuditAction::SignIn,
            target: None,
            address: from,
        };
        audit::note(&*self.catalog, deed, now).await;
        self.grant(user, &sign_in, secret.expose_secret(), now)
    }

    fn grant(
        &self,
        user: &User,
        sign_in: &SignIn,
        secret: &str,
        now: Timestamp,
    ) -> Result<Granted, SignInError> {
        let expires_at = now.plus_millis(self.access_ms);
        let principal = Principal {
            subject: Subject::User(user.id),
            account: user.account,
            role: user.role,
            shares: Vec::new(),
            expires_at,
        };
        Ok(Granted {
            access: self
                .tokens
                .issue(&principal, now)
                .map_err(|_| SignInError::Internal("the token could not be signed"))?,
            access_expires_at: expires_at,
            refresh: format!("{}.{secret}", sign_in.id).into(),
            refresh_expires_at: sign_in.expires_at,
        })
    }

    /// When a sign-in ends that is not used any more from `now` on.
    fn end_of(&self, now: Timestamp, ends_at: Option<Timestamp>) -> Timestamp {
        let unused = now.plus_millis(self.idle_ms);
        ends_at.map_or(unused, |end| end.min(unused))
    }

    /// The secret that follows `secret`.
    fn next(&self, secret: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.refresh_key, secret.as_bytes()))
    }

    /// Whether `password` has `hash`, found out away from the threads that answer requests.
    async fn check(&self, password: SecretString, hash: String) -> Result<bool, SignInError> {
        let busy = |_| SignInError::TooMany { retry_after_s: 1 };
        let _place = self.waiting.try_acquire().map_err(|_| busy(()))?;
        let _turn = self.checks.acquire().await.map_err(|_| busy(()))?;
        tokio::task::spawn_blocking(move || {
            Argon2::default()
                .verify_password(password.expose_secret().as_bytes(), hash.as_str())
                .is_ok()
        })
        .await
        .map_err(|_| SignInError::Internal("the password check did not end"))
    }
}

fn split(token: &SecretString) -> Option<(SignInId, &str)> {
    let (id, secret) = token.expose_secret().split_once('.')?;
    Some((id.parse().ok()?, secret))
}

fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}

fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

/// Attempts at passwords and refresh tokens: a bucket for each address and one for each name, so that
/// neither one guesser nor many get far. Signing in costs nothing where it succeeds.
#[derive(Debug)]
struct Attempts {
    buckets: Mutex<HashMap<Key, Bucket>>,
    config: config::SignIn,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// Of a household: whoever signs in from there.
    Address(IpAddr),
    /// Of a household: whoever stays signed in from there.
    Refresh(IpAddr),
    /// By hash: what was typed may be a password.
    Name([u8; 32]),
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// What is left of [`FULL_MS`]; each attempt costs [`Attempts::cost_ms`] and each passing
    /// millisecond gives one back.
    left_ms: i64,
    at: Timestamp,
}

/// What a bucket holds: a minute's attempts may come at once, for a person mistypes a few times.
const FULL_MS: i64 = 60_000;
/// 100 bytes each. Where more guess at once, the fullest buckets are forgotten first.
const MAX_BUCKETS: usize = 10_000;

impl Attempts {
    fn new(config: &config::SignIn) -> Self {
        Self { buckets: Mutex::default(), config: config.clone() }
    }

    /// What an attempt takes out of a bucket.
    fn cost_ms(&self, key: &Key) -> i64 {
        let a_minute = match key {
            Key::Address(_) => self.config.attempts_a_minute_an_address,
            Key::Refresh(_) => self.config.refreshes_a_minute_an_address,
            Key::Name(_) => self.config.attempts_a_minute_a_name,
        };
        FULL_MS / i64::from(a_minute).max(1)
    }

    fn take(&self, keys: &[Key], now: Timestamp) -> Result<(), SignInError> {
        let mut buckets = self.buckets.lock();
        if buckets.len() + 2 > MAX_BUCKETS {
            buckets.retain(|_, bucket| bucket.filled(now) < FULL_MS);
        }
        if buckets.len() + 2 > MAX_BUCKETS {
            let mut levels: Vec<i64> = buckets.values().map(|b| b.filled(now)).collect();
            let middle = levels.len() / 2;
            let (_, &mut median, _) = levels.select_nth_unstable(middle);
            buckets.retain(|_, bucket| bucket.filled(now) < median);
        }
        for key in keys {
            let bucket = buckets.entry(key.clone()).or_insert(Bucket { left_ms: FULL_MS, at: now });
            *bucket = Bucket { left_ms: bucket.filled(now), at: now };
            let missing_ms = self.cost_ms(key) - bucket.left_ms;
            if missing_ms > 0 {
                let retry_after_s = u32::try_from(missing_ms / 1000 + 1).unwrap_or(u32::MAX);
                return Err(SignInError::TooMany { retry_after_s });
            }
            bucket.left_ms -= self.cost_ms(key);
        }
        Ok(())
    }

    fn give_back(&self, keys: &[Key]) {
        let mut buckets = self.buckets.lock();
        for key in keys {
            if let Some(bucket) = buckets.get_mut(key) {
                bucket.left_ms = (bucket.left_ms + self.cost_ms(key)).min(FULL_MS);
            }
        }
    }
}

impl Bucket {
    /// What it holds at `now`.
    fn filled(&self, now: Timestamp) -> i64 {
        let refilled_ms = now.millis_since(self.at).max(0);
        self.left_ms.saturating_add(refilled_ms).min(FULL_MS)
    }
}

impl Key {
    fn address(from: IpAddr) -> Self {
        Self::Address(household(from))
    }

    fn refresh(from: IpAddr) -> Self {
        Self::Refresh(household(from))
    }

    fn name(account: &str, name: &str) -> Self {
        Self::Name(hash(&format!("{account}\0{name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::UserChange;
    use crate::storage::embedded;

    const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);
    const IDLE_MS: i64 = 30 * 24 * 3_600_000;
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// A catalog with one user, and the desk in front of it.
    struct Desk {
        sign_ins: SignIns,
        catalog: Arc<dyn Catalog>,
        user: User,
        _dir: tempfile::TempDir,
    }

    async fn desk(code: Option<&str>) -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let catalog = embedded::open_catalog(dir.path()).unwrap();
        let account = catalog.ensure_account(DEFAULT_ACCOUNT, NOW).await.unwrap();
        let user = User {
            id: UserId::new(NOW),
            account: account.id,
            name: "ann".into(),
            display_name: "Ann".into(),
            role: Role::Viewer,
            password_hash: Some(hash_password(&"correct horse".into()).unwrap()),
            identity: None,
            time_zone: None,
            disabled: false,
            created_at: NOW,
        };
        catalog.create_user(user.clone()).await.unwrap();
        let keys = Keys::open(dir.path()).unwrap();
        let tokens = Arc::new(Tokens::new(&keys).unwrap());
        let code = code.map(SecretString::from);
        let config = config::SignIn::default();
        let sign_ins = SignIns::new(catalog.clone(), tokens, &keys, &config, code).unwrap();
        Desk { sign_ins, catalog, user, _dir: dir }
    }

    impl Desk {
        async fn login(&self, password: &str) -> Result<Granted, SignInError> {
            let typed = Typed { account: None, name: "ann".into(), password: password.into() };
            self.sign_ins.with_password(typed, HERE, NOW).await
        }

        async fn refresh(&self, token: &Granted, after_ms: i64) -> Result<Granted, SignInError> {
            self.sign_ins.refresh(&token.refresh, HERE, NOW.plus_millis(after_ms)).await
        }
    }

    fn token(granted: &Granted) -> &str {
        granted.refresh.expose_secret()
    }

    #[tokio::test]
    async fn the_token_before_works_for_its_grace_and_then_ends_all() {
        for (after_ms, works) in [(0, true), (GRACE_MS, true), (GRACE_MS + 1, false)] {
            let desk = desk(None).await;
            let first = desk.login("correct horse").await.unwrap();
            let second = desk.refresh(&first, 1_000).await.unwrap();
            let again = desk.refresh(&first, 1_000 + after_ms).await;
            assert_eq!(again.is_ok(), works, "{after_ms} ms");
            if let Ok(again) = again {
                assert_eq!(token(&again), token(&second));
            }
            assert_eq!(desk.refresh(&second, 2_000).await.is_ok(), works, "{after_ms} ms");
        }
    }

    #[tokio::test]
    async fn eight_tabs_at_once_come_to_the_same_token() {
        let desk = desk(None).await;
        let first = desk.login("correct horse").await.unwrap();
        let tabs = futures_util::future::join_all((0..8).map(|_| desk.refresh(&first, 10))).await;
        let tokens: Vec<&str> = tabs.iter().map(|tab| token(tab.as_ref().unwrap())).collect();
        assert!(tokens.iter().all(|t| *t == tokens[0] && *t != token(&first)));
    }

    #[tokio::test]
    async fn refreshing_is_limited_by_address_and_apart_from_signing_in() {
        let desk = desk(None).await;
        let mut granted = desk.login("correct horse").await.unwrap();
        for _ in 0..60 {
            granted = desk.refresh(&granted, 0).await.unwrap();
        }
        let slowed = desk.refresh(&granted, 0).await;
        assert!(matches!(slowed, Err(SignInError::TooMany { retry_after_s: 2 })), "{slowed:?}");
        assert!(desk.login("correct horse").await.is_ok());
        assert!(desk.refresh(&granted, 1_000).await.is_ok(), "nothing was used up");
    }

    #[tokio::test]
    async fn a_sign_in_ends_with_its_user_and_when_it_is_not_used() {
        let unused = desk(None).await;
        let granted = unused.login("correct horse").await.unwrap();
        assert!(unused.refresh(&granted, IDLE_MS).await.is_err());

        let used = desk(None).await;
        let granted = used.login("correct horse").await.unwrap();
        let later = used.refresh(&granted, IDLE_MS - 1).await.unwrap();
        assert!(used.refresh(&later, IDLE_MS + 1).await.is_ok());

        let bounded = desk(None).await;
        let ends_at = Some(NOW.plus_millis(3_600_000));
        let granted = bounded.sign_ins.begin(&bounded.user, ends_at, HERE, NOW).await.unwrap();
        let later = bounded.refresh(&granted, 3_599_999).await.unwrap();
        assert_eq!(Some(later.refresh_expires_at), ends_at);
        assert!(bounded.refresh(&later, 3_600_000).await.is_err());

        let disabled = desk(None).await;
        let granted = disabled.login("correct horse").await.unwrap();
        let change = UserChange { disabled: Some(true), ..UserChange::default() };
        disabled.catalog.change_user(disabled.user.id, change).await.unwrap();
        assert!(matches!(disabled.refresh(&granted, 1).await, Err(SignInError::Ended)));
        assert!(matches!(disabled.login("correct horse").await, Err(SignInError::Wrong)));
    }

    #[tokio::test]
    async fn the_code_signs_in_only_where_there_is_one() {
        let cases = [(Some("code"), "code", true), (Some("code"), "cod", false), (None, "", false)];
        for (known, typed, works) in cases {
            let desk = desk(known).await;
            for _ in 0..2 {
                let granted = desk.sign_ins.with_code(&typed.into(), HERE, NOW).await;
                assert_eq!(granted.is_ok(), works, "{known:?} {typed}");
            }
        }
    }

    fn both(from: IpAddr, name: &str) -> [Key; 2] {
        [Key::address(from), Key::name("a", name)]
    }

    #[test]
    fn attempts_come_back_with_time_and_when_they_succeed() {
        let attempts = Attempts::new(&config::SignIn::default());
        let take = |after_ms| attempts.take(&both(HERE, "ann"), NOW.plus_millis(after_ms)).is_ok();
        assert_eq!((0..12).filter(|_| take(0)).count(), 5);
        assert!(!take(11_999));
        assert!(take(12_000));
        assert!(!take(12_000));
        attempts.give_back(&both(HERE, "ann"));
        assert!(take(12_000));
    }

    #[test]
    fn neither_many_names_nor_many_addresses_help() {
        let attempts = Attempts::new(&config::SignIn::default());
        let names = (0..100).filter(|n| attempts.take(&both(HERE, &n.to_string()), NOW).is_ok());
        assert_eq!(names.count(), 20);
        let address = |n: u32| IpAddr::V4((0x0a00_0000 + n).into());
        let addresses = (0..100).filter(|&n| attempts.take(&both(address(n), "bob"), NOW).is_ok());
        assert_eq!(addresses.count(), 5);
        let household = |n: u128| IpAddr::V6((0x2001_0db8 << 96 | n).into());
        let hosts =
            (0..100).filter(|&n| attempts.take(&both(household(n), &format!("c{n}")), NOW).is_ok());
        assert_eq!(hosts.count(), 20);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let attempts = Attempts::new(&config::SignIn::default());
        let guesser = IpAddr::V4([192, 0, 2, 1].into());
        while attempts.take(&both(guesser, "root"), NOW).is_ok() {}
        for n in 0..3 * MAX_BUCKETS as u32 {
            let from = IpAddr::V4((0x0a00_0000 + n).into());
            let _ = attempts.take(&both(from, &n.to_string()), NOW);
            assert!(attempts.buckets.lock().len() <= MAX_BUCKETS);
        }
        assert!(attempts.take(&both(guesser, "root"), NOW).is_err(), "the guesser is remembered");
    }
}
