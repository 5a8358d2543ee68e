//! Which addresses events are posted to. Whoever names a receiver must not reach, through this
//! server, what only this server can: so an address has to be one that all of the internet has (by
//! IANA's registries of special-purpose addresses, RFC 6890), unless the configuration says otherwise.

use crate::config::{self, Network};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A receiver's URL, in characters.
const MAX_URL_CHARS: usize = 2_048;

/// IPv4 networks that are not the internet's, by their first address and the bits that count.
const SPECIAL_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Carriers' own (RFC 6598).
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local, where clouds serve their machines' credentials.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // Public by its number; Azure's machines are served by their host there.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast, then what is reserved, broadcast with it.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// All that is global unicast in IPv6 (RFC 4291 §2.4, as assigned); the rest is loopback, link-local,
/// unique-local, multicast or nobody's.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What of that is not.
const SPECIAL_V6: [(Ipv6Addr, u32); 4] = [
    // Teredo, ORCHID and other protocols' own.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4, which leads to any address of IPv4.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// An address of IPv4 behind a gateway (RFC 6052 §2.1), in its last 32 bits.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether all of the internet knows the address by this name.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) if begins_with(address, NAT64) => {
            is_public_v4(Ipv4Addr::from_bits(address.to_bits() as u32))
        }
        IpAddr::V6(address) => {
            begins_with(address, GLOBAL_V6)
                && !SPECIAL_V6.iter().any(|network| begins_with(address, *network))
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_V4
        .iter()
        .any(|(network, bits)| (address.to_bits() ^ network.to_bits()) >> (32 - bits) == 0)
}

fn begins_with(address: Ipv6Addr, (network, bits): (Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()) >> (128 - bits) == 0
}

/// Why nothing is posted to a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "url must be an absolute URL of at most {MAX_URL_CHARS} characters, none of them blank"
    )]
    Malformed,
    #[error("url must begin with https://")]
    NotEncrypted,
    #[error("url must not hold a user name or a password")]
    UserInfo,
    #[error("url must not hold a fragment")]
    Fragment,
    #[error("url must not lead to a private address")]
    Private,
}

/// Where receivers may be.
#[derive(Clone, Debug)]
pub struct Reachable {
    plain_http: bool,
    allow_private: bool,
    networks: Vec<Network>,
}

impl Reachable {
    pub fn new(config: &config::Webhooks) -> Self {
        Self {
            plain_http: config.plain_http,
            allow_private: config.allow_private,
            networks: config.allowed_networks.clone(),
        }
    }

    pub fn allows(&self, address: IpAddr) -> bool {
        self.allow_private
            || is_public(address)
            || self.networks.iter().any(|network| network.contains(address))
    }

    /// A receiver's URL, as far as can be told without asking for its host's addresses.
    pub fn check(&self, text: &str) -> Result<Url, Refusal> {
        // The standard leaves blanks and line breaks out as it reads; what is kept, shown and logged
        // would be another text than what is connected to.
        let is_blank = |c: char| c.is_whitespace() || c.is_control();
        if text.chars().count() > MAX_URL_CHARS || text.contains(is_blank) {
            return Err(Refusal::Malformed);
        }
        let url = Url::parse(text).map_err(|_| Refusal::Malformed)?;
        match url.scheme() {
            "https" => {}
            "http" if self.plain_http => {}
            _ => return Err(Refusal::NotEncrypted),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(Refusal::Fragment);
        }
        // However an address was spelled, this is how the URL standard writes it.
        let host = url.host_str().ok_or(Refusal::Malformed)?.trim_matches(['[', ']']);
        match host.parse() {
            Ok(address) if !self.allows(address) => Err(Refusal::Private),
            // A name's addresses are looked at when it is connected to.
            _ => Ok(url),
        }
    }
}

/// Resolves names for the HTTP client, which connects to what this answers and asks nobody else. So
/// a name cannot be one address when it is looked at and another one when it is connected to.
#[derive(Debug)]
pub struct Resolver(pub Reachable);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reachable = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found = reachable.permitted(name.as_str(), found)?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Reachable {
    /// Those addresses of a name that may be connected to.
    fn permitted(
        &self,
        name: &str,
        found: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, String> {
        let (permitted, refused): (Vec<_>, Vec<_>) =
            found.partition(|address| self.allows(address.ip()));
        match refused.first() {
            Some(address) if permitted.is_empty() => {
                Err(format!("{name} is {}, which is private", address.ip()))
            }
            _ => Ok(permitted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reachable(change: impl FnOnce(&mut config::Webhooks)) -> Reachable {
        let mut config = config::Webhooks::default();
        change(&mut config);
        Reachable::new(&config)
    }

    #[test]
    fn addresses_that_not_everybody_has_are_private() {
        let private = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "64:ff9b::10.1.2.3",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ];
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "168.63.129.15",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "198.17.255.255",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:4860:4860::8888",
            "2606:4700::1111",
        ];
        for (addresses, expected) in [(&private[..], false), (&public[..], true)] {
            for address in addresses {
                assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    #[test]
    fn urls() {
        let by_default = reachable(|_| ());
        let plain = reachable(|config| config.plain_http = true);
        let private = reachable(|config| {
            config.plain_http = true;
            config.allow_private = true;
        });
        let listed = reachable(|config| {
            config.allowed_networks =
                vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()];
        });
        let long = format!("https://example.com/{}", "a".repeat(MAX_URL_CHARS));
        for (reachable, url, expected) in [
            (&by_default, "https://example.com/a?b=c", Ok(())),
            (&by_default, "https://example.com:8443", Ok(())),
            (&by_default, "https://8.8.8.8/", Ok(())),
            (&by_default, "https://[2606:4700::1111]/", Ok(())),
            (&by_default, "http://example.com/", Err(Refusal::NotEncrypted)),
            (&plain, "http://example.com/", Ok(())),
            (&plain, "ftp://example.com/", Err(Refusal::NotEncrypted)),
            (&by_default, "file:///etc/passwd", Err(Refusal::NotEncrypted)),
            (&by_default, "https://a@example.com/", Err(Refusal::UserInfo)),
            (&by_default, "https://:b@example.com/", Err(Refusal::UserInfo)),
            (&by_default, "https://example.com/#a", Err(Refusal::Fragment)),
            (&by_default, "https://", Err(Refusal::Malformed)),
            (&by_default, "example.com", Err(Refusal::Malformed)),
            (&by_default, &long, Err(Refusal::Malformed)),
            (&by_default, " https://example.com/", Err(Refusal::Malformed)),
            (&by_default, "https://exam\nple.com/", Err(Refusal::Malformed)),
            (&by_default, "https://example.com/a b", Err(Refusal::Malformed)),
            (&by_default, "https://example.com/\u{0}", Err(Refusal::Malformed)),
            (&by_default, "https://127.0.0.1./", Err(Refusal::Private)),
            (&by_default, "https://127.0.0.1/", Err(Refusal::Private)),
            // The URL standard reads all of these as 127.0.0.1.
            (&by_default, "https://2130706433/", Err(Refusal::Private)),
            (&by_default, "https://0x7f.1/", Err(Refusal::Private)),
            (&by_default, "https://0177.0.0.1/", Err(Refusal::Private)),
            (&by_default, "https://%31%32%37.0.0.1/", Err(Refusal::Private)),
            (&by_default, "https://１２７.0.0.1/", Err(Refusal::Private)),
            (&by_default, "https://[::1]/", Err(Refusal::Private)),
            (&by_default, "https://[::ffff:10.0.0.1]/", Err(Refusal::Private)),
            (&by_default, "https://169.254.169.254/latest/meta-data/", Err(Refusal::Private)),
            (&private, "http://127.0.0.1:9/", Ok(())),
            (&listed, "https://10.1.2.3/", Ok(())),
            (&listed, "https://[fd00::1]/", Ok(())),
            (&listed, "https://10.2.2.3/", Err(Refusal::Private)),
        ] {
            assert_eq!(reachable.check(url).map(|_| ()), expected, "{url}");
        }
    }

    #[test]
    fn of_a_names_addresses_only_public_ones_are_connected_to() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
        };
        let by_default = reachable(|_| ());
        for (found, expected) in [
            (&["8.8.8.8", "10.0.0.1"][..], Some(&["8.8.8.8"][..])),
            (&["::1", "2606:4700::1111"], Some(&["2606:4700::1111"])),
            (&["10.0.0.1", "::1"], None),
            (&["::ffff:169.254.169.254"], None),
            (&[], Some(&[])),
        ] {
            let permitted = by_default.permitted("name", addresses(found).into_iter());
            assert_eq!(permitted.ok(), expected.map(addresses), "{found:?}");
        }
    }

    #[tokio::test]
    async fn names_of_this_machine_are_not_resolved() {
        let resolve = async |reachable| {
            let name = "localhost".parse().unwrap();
            Resolver(reachable).resolve(name).await.map(Iterator::count)
        };
        let refused = resolve(reachable(|_| ())).await.unwrap_err().to_string();
        assert!(refused.contains("private"), "{refused}");
        assert!(resolve(reachable(|config| config.allow_private = true)).await.unwrap() > 0);
    }
}
