//! How a receiver knows that a post is ours: HMAC-SHA256 (RFC 2104) over its time and its body. Keys
//! are derived from a webhook's identifier, so that none is stored.

use crate::id::WebhookId;
use crate::keys::Keys;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use std::fmt::{self, Write};

/// What a secret begins with, so that one that is found somewhere is known for what it is.
const PREFIX: &str = "whsec_";

/// Knows the secret of every webhook.
pub struct Secrets(hmac::Key);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    pub fn new(keys: &Keys) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, keys.derive("webhooks").expose_secret()))
    }

    /// 256 bits as text. The key of the HMAC is the text itself, `whsec_` included.
    pub fn secret(&self, id: WebhookId) -> SecretString {
        let tag = hmac::sign(&self.0, id.to_string().as_bytes());
        format!("{PREFIX}{}", BASE64.encode(tag.as_ref())).into()
    }
}

/// The value of `Lookback-Signature`: `v1=` and 64 hexadecimal digits over the time in decimal, a
/// full stop and the body.
pub fn signature(secret: &SecretString, unix_seconds: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    let mut signing = hmac::Context::with_key(&key);
    signing.update(format!("{unix_seconds}.").as_bytes());
    signing.update(body);
    format!("v1={}", hex(signing.sign().as_ref()))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_wire::Timestamp;

    const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

    /// Computed by OpenSSL: `printf '%s' "$time.$body" | openssl dgst -sha256 -hmac "$secret"`.
    #[test]
    fn signatures() {
        for (secret, unix_seconds, body, expected) in SIGNED {
            let signed = signature(&(*secret).into(), unix_seconds, body.as_bytes());
            assert_eq!(signed, format!("v1={expected}"), "{secret} {body}");
        }
    }

    const SIGNED: [(&str, i64, &str, &str); 3] = [
        (
            "whsec_abc",
            1760000000,
            "{\"events\":[]}",
            "c84d5a64cf3ba92f928c22f818750e5d364d2355bf16abe717f5a55e50908802",
        ),
        ("Jefe", 0, "", "813f643c8863ba9754215e64cdab172f2e96c1a413d772978aba7398cc864e55"),
        (
            "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
            -1,
            "é",
            "657a6be2cafb83ec6df954adc9a5686673135ff94dd2be7701f0450e427d9026",
        ),
    ];

    #[test]
    fn a_secret_is_its_webhooks_and_its_services_own() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [ours, theirs] = dirs.each_ref().map(|d| Secrets::new(&Keys::open(d.path()).unwrap()));
        let ids = [WebhookId::new(NOW), WebhookId::new(NOW)];
        let secret = |secrets: &Secrets, id| secrets.secret(id).expose_secret().to_owned();
        assert_eq!(secret(&ours, ids[0]), secret(&ours, ids[0]));
        assert_ne!(secret(&ours, ids[0]), secret(&ours, ids[1]));
        assert_ne!(secret(&ours, ids[0]), secret(&theirs, ids[0]));
        let text = secret(&ours, ids[0]);
        assert_eq!((text.len(), &text[..6]), (PREFIX.len() + 43, PREFIX));
    }
}
