//! Access keys for requests signed with AWS Signature Version 4. A key's secret is derived from its
//! identifier, so that none is stored, and an identifier that the service did not give out has a
//! secret that nobody knows.
//!
//! A device's key stands for a credential, which expires and is revoked like any other. Any other
//! key stands for a user, who has no password where it was made for the key alone: it does what the
//! user may do, and ends when the user is disabled.

use crate::id::{CredentialId, Ulid, UserId};
use crate::keys::Keys;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::str::FromStr;

const DEVICE_PREFIX: &str = "LKIA";
const USER_PREFIX: &str = "LKAA";

/// What an access key names; 30 of `A-Z 0-9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKeyId {
    Device(CredentialId),
    User(UserId),
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(credential) => write!(f, "{DEVICE_PREFIX}{}", credential.0),
            Self::User(user) => write!(f, "{USER_PREFIX}{}", user.0),
        }
    }
}

/// Text that is no access key's identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the identifier of an access key")]
pub struct ParseAccessKeyIdError;

impl FromStr for AccessKeyId {
    type Err = ParseAccessKeyIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ulid = |text: &str| text.parse::<Ulid>().map_err(|_| ParseAccessKeyIdError);
        if let Some(credential) = text.strip_prefix(DEVICE_PREFIX) {
            return Ok(Self::Device(CredentialId(ulid(credential)?)));
        }
        let user = text.strip_prefix(USER_PREFIX).ok_or(ParseAccessKeyIdError)?;
        Ok(Self::User(UserId(ulid(user)?)))
    }
}

/// Knows the secret of every access key.
pub struct AccessKeys(hmac::Key);

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKeys")
    }
}

impl AccessKeys {
    pub fn new(keys: &Keys) -> Self {
        let key = keys.derive("access keys");
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret()))
    }

    /// The secret access key: 44 characters.
    pub fn secret(&self, id: AccessKeyId) -> SecretString {
        let tag = hmac::sign(&self.0, id.to_string().as_bytes());
        BASE64.encode(tag.as_ref()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_wire::Timestamp;

    const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

    #[test]
    fn identifiers_are_read_back() {
        for id in [AccessKeyId::Device(CredentialId::new(NOW)), AccessKeyId::User(UserId::new(NOW))]
        {
            let text = id.to_string();
            assert!(text.len() <= 128);
            assert!(text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()), "{text}");
            assert_eq!(text.parse(), Ok(id));
            for wrong in [&text[1..], &text[..text.len() - 1], &text.to_lowercase(), ""] {
                assert_eq!(wrong.parse::<AccessKeyId>(), Err(ParseAccessKeyIdError), "{wrong}");
            }
        }
    }

    #[test]
    fn a_secret_is_its_keys_and_its_services_own() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [ours, theirs] =
            dirs.each_ref().map(|d| AccessKeys::new(&Keys::open(d.path()).unwrap()));
        let ids = [CredentialId::new(NOW), CredentialId::new(NOW)].map(AccessKeyId::Device);
        let secret = |keys: &AccessKeys, id| keys.secret(id).expose_secret().to_owned();
        assert_eq!(secret(&ours, ids[0]), secret(&ours, ids[0]));
        assert_ne!(secret(&ours, ids[0]), secret(&ours, ids[1]));
        assert_ne!(secret(&ours, ids[0]), secret(&theirs, ids[0]));
    }
}
