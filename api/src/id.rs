//! Identifiers: global, opaque, never reused. A ULID with the kind before it, such as
//! `dev_01JD6Z8Q3V4M6X0T5R9K2WBCFH`.

use lookback_wire::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 48 bits of time and 80 of chance, in Crockford's base 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(pub u128);

impl Ulid {
    pub fn new(now: Timestamp) -> Self {
        let mut chance = [0u8; 16];
        // Without randomness no identifier may be given out at all.
        #[allow(clippy::expect_used)]
        aws_lc_rs::rand::fill(&mut chance[6..]).expect("the system's random source failed");
        let time = (now.as_millis().max(0) as u128) << 80;
        Self(time | u128::from_be_bytes(chance))
    }

    pub fn to_be_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub fn from_be_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: [u8; 26] =
            std::array::from_fn(|i| ALPHABET[(self.0 >> (125 - 5 * i)) as usize & 31]);
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Text that is no identifier of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier of this kind")]
pub struct ParseIdError;

impl FromStr for Ulid {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.len() != 26 || text.as_bytes()[0] > b'7' {
            return Err(ParseIdError);
        }
        text.bytes()
            .try_fold(0u128, |value, byte| {
                let digit = ALPHABET.iter().position(|&c| c == byte).ok_or(ParseIdError)?;
                Ok(value << 5 | digit as u128)
            })
            .map(Self)
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Ulid);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            pub fn new(now: Timestamp) -> Self {
                Self(Ulid::new(now))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix(concat!($prefix, "_")).ok_or(ParseIdError)?.parse().map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

ids! {
    AccountId = "acc";
    UserId = "usr";
    DeviceId = "dev";
    StreamId = "str";
    PlanId = "plan";
    HoldId = "hold";
    ShareId = "share";
    /// A line of the audit log; its time is the line's.
    AuditId = "audit";
    /// Also the `jti` of the device token that it stands for.
    CredentialId = "cred";
    /// A family of refresh tokens: one sign-in on one browser.
    SignInId = "sign";
    /// A playback session.
    SessionId = "play";
    WebhookId = "whk";
    /// One event's way to one webhook, or several webhooks' at once.
    DeliveryId = "dlv";
    /// A running server, from its start to its end.
    ServerId = "srv";
}
