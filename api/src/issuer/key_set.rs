//! JSON Web Key Sets (RFC 7517 §5) as other issuers publish them: the keys among them that may
//! verify signatures, each with the algorithms that it fits.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse, RSAKeyParameters,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;

/// Large issuers publish a dozen.
const MAX_KEYS: usize = 64;
/// RFC 7518 §3.3.
const MIN_RSA_BITS: usize = 2048;
/// What verifying with a larger one takes is not worth it.
const MAX_RSA_BITS: usize = 8192;

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Why a set of keys is none.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    #[error("the keys are no JSON Web Key Set: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("there are {0} keys, more than {MAX_KEYS}")]
    TooMany(usize),
}

/// The public keys of an issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    id: Option<String>,
    /// What the key may verify.
    algorithms: Vec<Algorithm>,
    verifying: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a set. Keys of unknown kinds, for other uses, or too weak are left out, as §5 asks.
    pub fn read(json: &[u8]) -> Result<Self, KeySetError> {
        let published: Published = serde_json::from_slice(json)?;
        if published.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(published.keys.len()));
        }
        let read = |key| serde_json::from_value::<Jwk>(key).ok().as_ref().and_then(Key::read);
        Ok(Self { keys: published.keys.into_iter().filter_map(read).collect() })
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key of that identifier, where it fits the algorithm; the only key where a token names
    /// none.
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let named = |key: &&Key| match id {
            Some(_) => key.id.as_deref() == id,
            None => self.keys.len() == 1,
        };
        let fits = |key: &&Key| key.algorithms.contains(&algorithm);
        self.keys.iter().filter(named).find(fits).map(|key| &key.verifying)
    }
}

impl Key {
    fn read(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature)
            && common
                .key_operations
                .as_ref()
                .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !signs {
            return None;
        }
        let fitting: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(key) if is_strong(key) => RSA,
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                &[Algorithm::EdDSA]
            }
            // A shared key that is published is no secret.
            _ => return None,
        };
        let algorithms = match common.key_algorithm {
            None => fitting.to_vec(),
            Some(own) => {
                let own = Algorithm::try_from(own).ok()?;
                fitting.iter().copied().filter(|fits| *fits == own).collect()
            }
        };
        let verifying = DecodingKey::from_jwk(jwk).ok()?;
        (!algorithms.is_empty()).then(|| Self { id: common.key_id.clone(), algorithms, verifying })
    }
}

fn is_strong(key: &RSAKeyParameters) -> bool {
    if !is_exponent(&key.e) {
        return false;
    }
    let Ok(modulus) = URL_SAFE_NO_PAD.decode(&key.n) else { return false };
    let mut digits = modulus.iter().skip_while(|byte| **byte == 0);
    let bits = digits.next().map_or(0, |first| {
        8usize.saturating_sub(first.leading_zeros() as usize).saturating_add(digits.count() * 8)
    });
    (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits)
}

/// Whether text is an odd number of 3 or more in at most 8 bytes (RFC 8017 §3.1). With an exponent
/// of 1 a message is its own signature, and anybody makes those.
fn is_exponent(text: &str) -> bool {
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else { return false };
    let digits: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    match &digits[..] {
        [] | [1] => false,
        [.., last] => digits.len() <= 8 && last % 2 == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rsa(bits: usize) -> Value {
        let mut n = vec![0xff; bits / 8];
        n[0] = 0x80;
        json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": "AQAB", "kid": "k"})
    }

    fn ec(curve: &str, len: usize) -> Value {
        let coordinate = URL_SAFE_NO_PAD.encode(vec![7; len]);
        json!({"kty": "EC", "crv": curve, "x": coordinate, "y": coordinate, "kid": "k"})
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    /// What one key may verify of all that tokens can be signed with.
    #[test]
    fn a_key_verifies_only_what_it_is_for() {
        use Algorithm::*;
        let all =
            [HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA];
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([7; 32]),
            "kid": "k"});
        let shared = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 64]), "kid": "k"});
        let table: [(&str, Value, &[Algorithm]); 24] = [
            ("RSA", rsa(2048), RSA),
            ("RSA for one algorithm", with(rsa(2048), "alg", json!("PS256")), &[PS256]),
            ("RSA for another kind's", with(rsa(2048), "alg", json!("ES256")), &[]),
            ("RSA for a shared key's", with(rsa(2048), "alg", json!("HS256")), &[]),
            ("RSA for encryption's", with(rsa(2048), "alg", json!("RSA-OAEP")), &[]),
            ("for signatures", with(rsa(2048), "use", json!("sig")), RSA),
            ("for encryption", with(rsa(2048), "use", json!("enc")), &[]),
            ("to verify", with(rsa(2048), "key_ops", json!(["verify"])), RSA),
            ("to wrap", with(rsa(2048), "key_ops", json!(["wrapKey"])), &[]),
            ("weak", rsa(2040), &[]),
            ("large", rsa(8192), RSA),
            ("too large", rsa(8200), &[]),
            ("of half the size", rsa(1024), &[]),
            ("with the exponent 1", with(rsa(2048), "e", json!("AQ")), &[]),
            ("with the exponent 01", with(rsa(2048), "e", json!("AAE")), &[]),
            ("with an even exponent", with(rsa(2048), "e", json!("AQAA")), &[]),
            ("without an exponent", with(rsa(2048), "e", json!("")), &[]),
            ("with the exponent 3", with(rsa(2048), "e", json!("Aw")), RSA),
            ("P-256", ec("P-256", 32), &[ES256]),
            ("P-384", ec("P-384", 48), &[ES384]),
            ("P-521", ec("P-521", 66), &[]),
            ("Ed25519", ed, &[EdDSA]),
            ("shared", shared, &[]),
            ("unknown", json!({"kty": "PQ", "kid": "k"}), &[]),
        ];
        for (name, key, expected) in table {
            // Behind one that nobody understands.
            let set = json!({"keys": [{"kty": 7}, key]}).to_string();
            let set = KeySet::read(set.as_bytes()).unwrap();
            let fits = |id| all.into_iter().filter(|a| set.find(id, *a).is_some()).collect();
            let found: Vec<Algorithm> = fits(Some("k"));
            assert_eq!(found, expected, "{name}");
            assert_eq!(fits(None), expected, "{name}: the only one needs no name");
            assert_eq!(fits(Some("other")), [], "{name}");
        }
    }

    #[test]
    fn of_several_keys_one_has_to_be_named() {
        let other = with(rsa(2048), "kid", json!("other"));
        let set = json!({"keys": [rsa(2048), other]}).to_string();
        let set = KeySet::read(set.as_bytes()).unwrap();
        assert!(set.find(None, Algorithm::RS256).is_none());
        assert!(set.find(Some("other"), Algorithm::RS256).is_some());
    }

    #[test]
    fn what_is_no_set_is_refused() {
        let many = json!({"keys": vec![rsa(2048); MAX_KEYS + 1]}).to_string();
        for text in ["", "[]", "{}", r#"{"keys": {}}"#, "<html>", &many] {
            assert!(KeySet::read(text.as_bytes()).is_err(), "{text:.40}");
        }
        assert_eq!(KeySet::read(br#"{"keys": []}"#).unwrap().len(), 0);
    }
}
