//! Configuration: defaults, then a TOML file, then the environment, then flags.
//!
//! Every key of the file is a field here, and a key that is none is refused. Secrets are never
//! values of it: where one is needed, the file that holds it is named.

mod issuer;

pub use issuer::Issuer;

use crate::storage::aws::AwsOptions;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub listen: SocketAddr,
    /// Keys and, on the embedded backend, everything else.
    pub data_dir: PathBuf,
    /// Where records and media are kept.
    pub backend: Backend,
    /// What minted URLs begin with, without a slash at the end; else what the request came to. Amazon's
    /// producers do not say to which port they came: where it is not the one listened on, this is
    /// needed for them.
    pub public_url: Option<String>,
    /// Whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// Allows listening beyond loopback without TLS.
    pub plain_http: bool,
    /// Other origins whose pages may call `/graphql` and `/auth`, such as `https://app.example`.
    pub allowed_origins: Vec<String>,
    /// Threads that answer requests; by default one for each core.
    pub workers: Option<usize>,
    pub tls: Option<Tls>,
    pub log: Log,
    pub limits: Limits,
    pub rates: Rates,
    pub sign_in: SignIn,
    pub documents: Documents,
    pub playback: Playback,
    pub kinesis: Kinesis,
    pub webhooks: Webhooks,
    /// OIDC issuers whose tokens are taken, and through which people may sign in.
    pub issuers: Vec<Issuer>,
    /// Where the backend `aws` is; nothing else asks for it.
    pub aws: AwsOptions,
    /// What media leaves free of the disk, in bytes: for the records, and for what deleting writes.
    /// By default 256 MiB, or a twentieth of a small disk.
    pub min_free_bytes: Option<u64>,
}

/// TLS is on where this is set; both files are read again when they change and on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM: the certificate, then those that it depends on.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    /// Levels by part of the service, such as `info,lookback_api::ingest=debug`.
    pub filter: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// What one request may ask for; whatever is over a limit is refused whole. What the contract itself
/// says a number of, such as the days of a calendar, is not here.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub graphql_body_bytes: usize,
    /// Of a GraphQL document; the largest that the viewer sends has 1,500.
    pub document_chars: usize,
    /// Lexical ones: parsing and validation are paid by them.
    pub document_tokens: usize,
    /// Fragment spreads and inline fragments of a document: validation compares all with all.
    pub fragments: usize,
    /// Fields within fields.
    pub depth: usize,
    /// Objects that an answer may hold, page sizes multiplied in, and more for what reads much.
    pub cost: usize,
    pub aliases: usize,
    /// Of an operation; and five in one place.
    pub directives: usize,
    /// Fields at the root of a query.
    pub query_roots: usize,
    /// Fields at the root of a mutation, each another one.
    pub mutation_roots: usize,
    /// Errors in an answer: a document of 2,000 tokens can have as many mistakes.
    pub errors: usize,
    /// Longest page of devices and the like.
    pub page_items: usize,
    /// Longest page of clips and segments.
    pub timeline_page_items: usize,
    /// Longest range of one `clips`, `segments` or `coverage`.
    pub query_range_days: u32,
    /// What is not answered by then has gone wrong.
    pub timeout_seconds: u32,
    /// The same for what cameras send: they try again, and hold it meanwhile.
    pub ingest_timeout_seconds: u32,
    /// From a socket's opening to its `connection_init`.
    pub socket_init_seconds: u32,
    /// Of one message that a client sends.
    pub socket_message_bytes: usize,
    /// At once, on one socket.
    pub socket_subscriptions: usize,
    /// Sockets and event streams of one user, device or service at once.
    pub sockets_per_user: usize,
    /// Changes that wait to be taken by one subscription; beyond it, its socket is closed.
    pub socket_queue: usize,
    /// How often a client is asked whether it is still there, and how long it has to answer.
    pub socket_ping_seconds: u32,
    /// How long a client may take in nothing of what it is sent, on any connection; then that ends.
    pub unread_seconds: u32,
}

/// How often one caller may ask. A request over a rate is refused whole and told when to come again.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    pub enabled: bool,
    /// Of a user: points of its documents' cost.
    pub user_points: Rate,
    pub device_calls: Rate,
    /// Of an address from which somebody calls without a token.
    pub anonymous_calls: Rate,
    /// Of a caller, beyond their cost: on some backends each is a call that is charged for.
    pub playback_sessions: Rate,
    /// Snapshots and rows of thumbnails; otherwise the same.
    pub pictures: Rate,
}

/// How people sign in and stay signed in. Attempts may come at once, up to a minute's.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignIn {
    /// The life of an access token.
    pub access_minutes: u32,
    /// How long a sign-in lasts that is not used.
    pub idle_days: u32,
    /// By default 7,200 guesses a day at one name: far too few for any password.
    pub attempts_a_minute_a_name: u32,
    /// Of a household, which has several people: an IPv4 address, or a /64 of IPv6.
    pub attempts_a_minute_an_address: u32,
    /// Each one reads and writes the catalog, whether the token is right or not. A page refreshes when
    /// it is opened and before its access token ends: by default an office behind one address keeps
    /// 900 of them open.
    pub refreshes_a_minute_an_address: u32,
}

/// GraphQL documents that are known beforehand.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Documents {
    /// A JSON file of their texts by their SHA-256.
    pub manifest: Option<PathBuf>,
    /// Whether nothing else is run, for anybody but administrators, who explore, and devices, whose
    /// firmware is not changed for it.
    pub required: bool,
}

/// So many in a second, after so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
}

impl Rate {
    /// None below one each.
    const fn new(per_second: u32, burst: u32) -> Self {
        let (Some(per_second), Some(burst)) = (NonZeroU32::new(per_second), NonZeroU32::new(burst))
        else {
            return Self { per_second: NonZeroU32::MIN, burst: NonZeroU32::MIN };
        };
        Self { per_second, burst }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Playback {
    /// The longest life of a playback session, whatever was asked for.
    pub max_session_seconds: u32,
    /// The life of a link to a thumbnail or snapshot: long enough to scroll through a list of them.
    pub picture_seconds: u32,
    /// What thumbnails and snapshots that were made may take of the disk.
    pub picture_cache_bytes: u64,
}

/// What uploads by the Kinesis Video Streams API may be.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kinesis {
    /// Of one fragment.
    pub max_fragment_bytes: u64,
    /// From a fragment's earliest frame to its latest.
    pub max_fragment_seconds: u32,
    /// Of one upload.
    pub max_tracks: usize,
    /// What all uploads together may hold in memory before it is on the disk. Beyond half of it,
    /// uploads that hold more than their share are refused, and send again.
    pub max_unkept_bytes: u64,
    /// Whether clients are held to the rates that the service of Amazon has: calls and fragments a
    /// second, bytes a second, connections of a stream.
    pub quotas: bool,
}

/// Where records and media are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// In the data directory.
    #[default]
    Embedded,
    /// In DynamoDB and Kinesis Video Streams, which several servers share.
    Aws,
}

/// Where events may be posted to. By default only over TLS and to addresses that all of the internet
/// has: an administrator of an account need not be one of the network that this server is in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// Allows `http://`.
    pub plain_http: bool,
    /// Allows every private address, this machine's own included.
    pub allow_private: bool,
    /// Private addresses that are allowed all the same, such as `10.1.0.0/16`.
    pub allowed_networks: Vec<Network>,
    /// PEM: authorities that receivers' certificates may come from, besides the public ones.
    pub ca: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            data_dir: PathBuf::from("lookback-data"),
            backend: Backend::default(),
            public_url: None,
            trusted_proxies: Vec::new(),
            plain_http: false,
            allowed_origins: Vec::new(),
            workers: None,
            tls: None,
            log: Log::default(),
            limits: Limits::default(),
            rates: Rates::default(),
            sign_in: SignIn::default(),
            documents: Documents::default(),
            playback: Playback::default(),
            kinesis: Kinesis::default(),
            webhooks: Webhooks::default(),
            issuers: Vec::new(),
            aws: AwsOptions::default(),
            min_free_bytes: None,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // 100 announced segments are about 40 KiB.
            graphql_body_bytes: 512 * 1024,
            document_chars: 15_000,
            document_tokens: 2_000,
            fragments: 50,
            depth: 12,
            cost: 5_000,
            aliases: 15,
            directives: 50,
            query_roots: 20,
            mutation_roots: 5,
            errors: 20,
            page_items: 100,
            timeline_page_items: 500,
            query_range_days: 31,
            timeout_seconds: 10,
            ingest_timeout_seconds: 5,
            socket_init_seconds: 3,
            socket_message_bytes: 64 * 1024,
            socket_subscriptions: 10,
            sockets_per_user: 5,
            socket_queue: 256,
            socket_ping_seconds: 30,
            // A player that pauses a file asks for the rest of it again.
            unread_seconds: 120,
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            enabled: true,
            user_points: Rate::new(100, 2_000),
            device_calls: Rate::new(2, 20),
            anonymous_calls: Rate::new(1, 20),
            playback_sessions: Rate::new(2, 40),
            // A page of 100 devices, each with its picture, and the same again.
            pictures: Rate::new(10, 200),
        }
    }
}

impl Default for SignIn {
    fn default() -> Self {
        Self {
            access_minutes: 15,
            idle_days: 30,
            attempts_a_minute_a_name: 5,
            attempts_a_minute_an_address: 20,
            refreshes_a_minute_an_address: 60,
        }
    }
}

impl Default for Playback {
    fn default() -> Self {
        Self {
            max_session_seconds: 43_200,
            picture_seconds: 600,
            // Some 25,000 thumbnails.
            picture_cache_bytes: 256 << 20,
        }
    }
}

impl Default for Kinesis {
    fn default() -> Self {
        // The service's own: 50 MB, 20 s, 3 tracks.
        Self {
            max_fragment_bytes: 50 << 20,
            max_fragment_seconds: 20,
            max_tracks: 3,
            // 2,000 cameras of 4 Mbit/s whose fragments last 2 s hold a quarter of it.
            max_unkept_bytes: 2 << 30,
            quotas: false,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {cause}")]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("{path}: {cause}")]
    Malformed { path: PathBuf, cause: Box<toml::de::Error> },
    #[error(
        "listening on {0}, beyond loopback, needs tls.cert and tls.key, or plain_http = true where \
         something in front of the service encrypts"
    )]
    PlainBeyondLoopback(SocketAddr),
    #[error("{key} is {value:?}: {cause}")]
    Value { key: &'static str, value: String, cause: &'static str },
    #[error("{key} is {value}, and has to be {least} to {most}")]
    Number { key: &'static str, value: u64, least: u64, most: u64 },
}

impl Config {
    /// Reads a TOML file; what it leaves out has its default.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Unreadable { path: path.into(), cause })?;
        toml::from_str(&text)
            .map_err(|cause| ConfigError::Malformed { path: path.into(), cause: Box::new(cause) })
    }

    /// Whether the values may stand beside each other.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.listen.ip().is_loopback() && self.tls.is_none() && !self.plain_http {
            return Err(ConfigError::PlainBeyondLoopback(self.listen));
        }
        if self.workers == Some(0) {
            let cause = "at least one thread has to answer";
            return Err(ConfigError::Value { key: "workers", value: "0".into(), cause });
        }
        let Kinesis { max_fragment_bytes, max_fragment_seconds, max_tracks, .. } = self.kinesis;
        let Kinesis { max_unkept_bytes, .. } = self.kinesis;
        let SignIn { attempts_a_minute_a_name, attempts_a_minute_an_address, .. } = self.sign_in;
        let SignIn { refreshes_a_minute_an_address, .. } = self.sign_in;
        let least_unkept_bytes = max_fragment_bytes.saturating_mul(4);
        let bounds = [
            // All of one is in memory before any of it is written.
            ("kinesis.max_fragment_bytes", max_fragment_bytes, 64 << 10, 100 << 20),
            // In the half that is anyone's, one of the largest that arrives and one on its way.
            ("kinesis.max_unkept_bytes", max_unkept_bytes, least_unkept_bytes, 1 << 40),
            // A block's time counts from its cluster's in 16 bits of milliseconds.
            ("kinesis.max_fragment_seconds", max_fragment_seconds.into(), 1, 30),
            // What is withdrawn from an account's rights is looked up; the token itself cannot be.
            ("sign_in.access_minutes", self.sign_in.access_minutes.into(), 1, 60),
            ("sign_in.idle_days", self.sign_in.idle_days.into(), 1, 365),
            ("sign_in.attempts_a_minute_a_name", attempts_a_minute_a_name.into(), 1, 1_000),
            ("sign_in.attempts_a_minute_an_address", attempts_a_minute_an_address.into(), 1, 1_000),
            (
                "sign_in.refreshes_a_minute_an_address",
                refreshes_a_minute_an_address.into(),
                1,
                60_000,
            ),
            ("playback.picture_seconds", self.playback.picture_seconds.into(), 10, 43_200),
            // What the archive keeps of one fragment.
            ("kinesis.max_tracks", max_tracks as u64, 1, 3),
        ];
        for (key, value, least, most) in bounds.into_iter().chain(self.limits.bounds()) {
            if !(least..=most).contains(&value) {
                return Err(ConfigError::Number { key, value, least, most });
            }
        }
        self.aws.check().map_err(|(key, value, cause)| ConfigError::Value { key, value, cause })?;
        for (key, url) in self
            .public_url
            .iter()
            .map(|url| ("public_url", url))
            .chain(self.allowed_origins.iter().map(|url| ("allowed_origins", url)))
        {
            if let Some(cause) = not_an_origin(url) {
                return Err(ConfigError::Value { key, value: url.clone(), cause });
            }
        }
        issuer::check(&self.issuers)
    }
}

impl Limits {
    /// Each limit with the least that the service and its viewer work with, and the most that it can
    /// answer for.
    fn bounds(&self) -> [(&'static str, u64, u64, u64); 23] {
        [
            ("limits.graphql_body_bytes", self.graphql_body_bytes as u64, 64 << 10, 16 << 20),
            ("limits.document_chars", self.document_chars as u64, 5_000, 1 << 20),
            ("limits.document_tokens", self.document_tokens as u64, 1_000, 100_000),
            ("limits.fragments", self.fragments as u64, 20, 1_000),
            // The library goes 32 selections down.
            ("limits.depth", self.depth as u64, 10, 30),
            ("limits.cost", self.cost as u64, 1_000, 1_000_000),
            ("limits.aliases", self.aliases as u64, 10, 1_000),
            ("limits.directives", self.directives as u64, 5, 1_000),
            ("limits.query_roots", self.query_roots as u64, 5, 100),
            ("limits.mutation_roots", self.mutation_roots as u64, 1, 20),
            ("limits.errors", self.errors as u64, 1, 1_000),
            // No page is shorter than one whose length is not said.
            ("limits.page_items", self.page_items as u64, 50, 1_000),
            ("limits.timeline_page_items", self.timeline_page_items as u64, 50, 5_000),
            ("limits.query_range_days", self.query_range_days.into(), 1, 366),
            ("limits.timeout_seconds", self.timeout_seconds.into(), 1, 300),
            ("limits.ingest_timeout_seconds", self.ingest_timeout_seconds.into(), 1, 300),
            ("limits.socket_init_seconds", self.socket_init_seconds.into(), 1, 60),
            ("limits.socket_message_bytes", self.socket_message_bytes as u64, 16 << 10, 1 << 20),
            ("limits.socket_subscriptions", self.socket_subscriptions as u64, 1, 1_000),
            ("limits.sockets_per_user", self.sockets_per_user as u64, 1, 100_000),
            ("limits.socket_queue", self.socket_queue as u64, 1, 100_000),
            ("limits.socket_ping_seconds", self.socket_ping_seconds.into(), 1, 3_600),
            ("limits.unread_seconds", self.unread_seconds.into(), 1, 3_600),
        ]
    }
}

/// Why `url` is not a scheme and an authority, nothing more.
fn not_an_origin(url: &str) -> Option<&'static str> {
    let Some(authority) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))
    else {
        return Some("it does not begin with https:// or http://");
    };
    if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
        return Some("it is more or less than a scheme, a host and a port");
    }
    None
}

/// Addresses that begin alike, as in `10.0.0.0/8`; an address alone is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        let (bits, ours, theirs) = match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (32, u128::from(a.to_bits()), u128::from(b.to_bits()))
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => (128, a.to_bits(), b.to_bits()),
            _ => return false,
        };
        let host_bits = bits - u32::from(self.prefix_bits);
        (ours ^ theirs).checked_shr(host_bits).unwrap_or(0) == 0
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| format!("{text:?} does not begin with an address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            None => most,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|&bits| bits <= most)
                .ok_or_else(|| format!("{text:?} does not end with 0 to {most} bits"))?,
        };
        Ok(Self { address, prefix_bits })
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_the_addresses_that_begin_alike() {
        let cases = [
            ("10.0.0.0/8", "10.200.3.4", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "fe80::1", true),
        ];
        for (network, address, expected) in cases {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{network} {address}");
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/x", "example.org"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_sets_what_it_names_and_nothing_else() {
        let config: Config = toml::from_str(
            "listen = '[::1]:9000'\ntrusted_proxies = ['10.0.0.0/8']\n\
             [tls]\ncert = 'c.pem'\nkey = 'k.pem'\n[log]\nformat = 'json'\n",
        )
        .unwrap();
        assert_eq!(config.listen, "[::1]:9000".parse().unwrap());
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.log.filter, "info");
        assert_eq!(config.data_dir, PathBuf::from("lookback-data"));
        assert_eq!(config.backend, Backend::Embedded);
        let on_aws: Config =
            toml::from_str("backend = 'aws'\n[aws]\nregion = 'cn-north-1'\n").unwrap();
        assert_eq!(on_aws.backend, Backend::Aws);
        assert_eq!(on_aws.aws.region.as_deref(), Some("cn-north-1"));
        for text in [
            "lisen = '[::1]:1'",
            "[aws]\ntable = 't'",
            "[tls]\ncert = 'c'\nkey = 'k'\npassword = 'p'",
            "[log]\nx = 1",
            "[rates.device_calls]\nper_second = 1\nburst = 1\nper_minute = 1",
        ] {
            let refused = toml::from_str::<Config>(text).unwrap_err().to_string();
            assert!(refused.contains("unknown field"), "{text}: {refused}");
        }
        let rate = |per_second: u32| {
            toml::from_str::<Config>(&format!(
                "[rates]\nuser_points = {{ per_second = {per_second}, burst = 7 }}"
            ))
        };
        assert!(rate(0).is_err());
        assert_eq!(rate(3).unwrap().rates.user_points, Rate::new(3, 7));
    }

    #[test]
    fn what_would_be_unsafe_is_refused() {
        let tls = || Some(Tls { cert: "c".into(), key: "k".into() });
        let with = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().is_ok()
        };
        assert!(with(&|_| ()));
        assert!(with(&|c| c.listen = "[::1]:80".parse().unwrap()));
        assert!(!with(&|c| c.listen = "0.0.0.0:80".parse().unwrap()));
        assert!(!with(&|c| c.listen = "[::]:80".parse().unwrap()));
        assert!(with(&|c| {
            c.listen = "0.0.0.0:80".parse().unwrap();
            c.plain_http = true;
        }));
        assert!(with(&|c| {
            c.listen = "0.0.0.0:443".parse().unwrap();
            c.tls = tls();
        }));
        assert!(!with(&|c| c.workers = Some(0)));
        assert!(with(&|c| c.limits.cost = 1_000));
        assert!(!with(&|c| c.limits.cost = 999));
        assert!(!with(&|c| c.limits.depth = 31));
        assert!(!with(&|c| c.limits.timeout_seconds = 0));
        assert!(!with(&|c| c.limits.errors = 0));
        assert!(!with(&|c| c.sign_in.access_minutes = 61));
        assert!(!with(&|c| c.sign_in.attempts_a_minute_a_name = 0));
        assert!(!with(&|c| c.playback.picture_seconds = 9));
        assert!(with(&|c| c.kinesis.max_tracks = 1));
        assert!(!with(&|c| c.kinesis.max_tracks = 4));
        assert!(!with(&|c| c.kinesis.max_fragment_seconds = 0));
        assert!(!with(&|c| c.kinesis.max_fragment_bytes = 1 << 40));
        assert!(!with(&|c| c.kinesis.max_unkept_bytes = 199 << 20));
        assert!(with(&|c| c.kinesis.max_unkept_bytes = 200 << 20));
        assert!(with(&|c| c.public_url = Some("https://cam.example:8443".into())));
        for url in ["cam.example", "https://", "https://cam.example/", "https://a@cam.example"] {
            assert!(!with(&|c| c.public_url = Some(url.into())), "{url}");
        }
    }
}
