//! The tokens that callers prove themselves with: JWTs signed with the service's own key
//! (RFC 7519, RFC 9068), checked as RFC 8725 asks, which is more than the library does by itself.

use crate::access::{Principal, Subject};
use crate::account::Role;
use crate::id::{CredentialId, Ulid};
use crate::keys::Keys;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use lookback_wire::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Issuer and audience of the service's own tokens.
const LOOKBACK: &str = "lookback";
/// RFC 9068 §2.1.
const TYPE: &str = "at+jwt";
/// Ours are about 500 bytes long; more is not worth decoding.
const MAX_TOKEN_BYTES: usize = 4096;
/// How far the clocks of two of our servers may be apart.
const LEEWAY_S: i64 = 30;

/// Why a token proves nothing. Callers learn no more than this; which check failed is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the token is too long")]
    TooLong,
    #[error("the token is malformed")]
    Malformed,
    #[error("the token is of another type")]
    Type,
    #[error("the token names extensions that must be understood")]
    Critical,
    #[error("the token is signed with a key that is not trusted")]
    Key,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token is for another service or lacks a claim")]
    Claims,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
}

/// Issues and verifies tokens.
pub struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    /// RFC 7638: the same for the same key, everywhere.
    key_id: String,
    /// RFC 8037 §2: the public key's 32 bytes, in base64url.
    public: String,
    rules: Validation,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    account: String,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    jti: String,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    exp: i64,
}

#[derive(Serialize)]
struct Jwk<'a> {
    kty: &'a str,
    crv: &'a str,
    x: &'a str,
    kid: &'a str,
    #[serde(rename = "use")]
    purpose: &'a str,
    alg: &'a str,
}

/// The keys that are trusted (RFC 7517 §5).
#[derive(Serialize)]
pub struct JwkSet<'a> {
    keys: [Jwk<'a>; 1],
}

impl Tokens {
    pub fn new(keys: &Keys) -> Result<Self, Refused> {
        let der = keys.signing().expose_secret();
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| Refused::Key)?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{public}"}}"#);
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        rules.set_audience(&[LOOKBACK]);
        rules.set_issuer(&[LOOKBACK]);
        // Times are checked here, by the service's own clock.
        rules.validate_exp = false;
        Ok(Self {
            signing: EncodingKey::from_ed_der(der),
            verifying: DecodingKey::from_ed_der(pair.public_key().as_ref()),
            key_id: URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes())),
            public,
            rules,
        })
    }

    /// What `/.well-known/jwks.json` answers.
    pub fn jwks(&self) -> JwkSet<'_> {
        JwkSet {
            keys: [Jwk {
                kty: "OKP",
                crv: "Ed25519",
                x: &self.public,
                kid: &self.key_id,
                purpose: "sig",
                alg: "EdDSA",
            }],
        }
    }

    /// A token that says what `principal` does, until it expires. A device's carries the identifier
    /// of its credential.
    pub fn issue(&self, principal: &Principal, now: Timestamp) -> Result<SecretString, Refused> {
        let (sub, device, jti) = match &principal.subject {
            Subject::User(user) => (user.to_string(), None, Ulid::new(now).to_string()),
            Subject::Device { device, credential } => {
                (device.to_string(), Some(device.to_string()), credential.to_string())
            }
            Subject::Service(name) => {
                (format!("{SERVICE_PREFIX}{name}"), None, Ulid::new(now).to_string())
            }
        };
        let claims = Claims {
            iss: LOOKBACK.into(),
            aud: LOOKBACK.into(),
            sub,
            account: principal.account.to_string(),
            role: principal.role,
            device,
            jti,
            iat: seconds(now),
            nbf: None,
            exp: seconds(principal.expires_at),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.into());
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, &claims, &self.signing)
            .map(SecretString::from)
            .map_err(|_| Refused::Key)
    }

    /// Who a token speaks for. Whether that caller still stands (a credential revoked, a user
    /// disabled) is not in the token and has to be looked up.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Principal, Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::TooLong);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Malformed)?;
        if !header.typ.is_some_and(|typ| typ.eq_ignore_ascii_case(TYPE)) {
            return Err(Refused::Type);
        }
        if header.crit.is_some() {
            return Err(Refused::Critical);
        }
        // Keys that a token brings along (jwk, jku, x5u, x5c) are never looked at.
        if header.kid.as_deref() != Some(&self.key_id) || header.alg != Algorithm::EdDSA {
            return Err(Refused::Key);
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.rules)
            .map_err(|e| match e.kind() {
                ErrorKind::InvalidSignature => Refused::Signature,
                ErrorKind::InvalidToken | ErrorKind::Base64(_) => Refused::Malformed,
                _ => Refused::Claims,
            })?
            .claims;
        let now = seconds(now);
        if claims.exp.saturating_add(LEEWAY_S) <= now {
            return Err(Refused::Expired);
        }
        if claims.nbf.unwrap_or(claims.iat).max(claims.iat) > now.saturating_add(LEEWAY_S) {
            return Err(Refused::NotYet);
        }
        principal(claims).ok_or(Refused::Claims)
    }
}

/// Keeps the names of scripts apart from identifiers.
const SERVICE_PREFIX: &str = "svc_";

fn principal(claims: Claims) -> Option<Principal> {
    let subject = match (claims.role, claims.device) {
        (Role::Device, Some(device)) if device == claims.sub => Subject::Device {
            device: device.parse().ok()?,
            credential: claims.jti.parse::<CredentialId>().ok()?,
        },
        (Role::Device, _) | (_, Some(_)) => return None,
        (_, None) => match claims.sub.strip_prefix(SERVICE_PREFIX) {
            Some(name) => Subject::Service(name.into()),
            None => Subject::User(claims.sub.parse().ok()?),
        },
    };
    Some(Principal {
        subject,
        account: claims.account.parse().ok()?,
        role: claims.role,
        shares: Vec::new(),
        expires_at: Timestamp::from_millis(claims.exp.saturating_mul(1000)),
    })
}

fn seconds(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AccountId, DeviceId, UserId};
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

    fn tokens() -> Tokens {
        let dir = tempfile::tempdir().unwrap();
        Tokens::new(&Keys::open(dir.path()).unwrap()).unwrap()
    }

    fn sign(header: &Value, claims: &Value, key: &EncodingKey) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), key, Algorithm::EdDSA).unwrap();
        format!("{message}.{signature}")
    }

    #[test]
    fn what_is_issued_is_understood() {
        let tokens = tokens();
        let (device, credential) = (DeviceId::new(NOW), CredentialId::new(NOW));
        let subjects = [
            (Subject::User(UserId::new(NOW)), Role::Viewer),
            (Subject::Device { device, credential }, Role::Device),
            (Subject::Service("nightly report".into()), Role::Admin),
        ];
        for (subject, role) in subjects {
            let expires_at = NOW.plus_millis(900_000);
            let account = AccountId::new(NOW);
            let principal = Principal { subject, account, role, shares: Vec::new(), expires_at };
            let token = tokens.issue(&principal, NOW).unwrap();
            assert_eq!(tokens.verify(token.expose_secret(), NOW).unwrap(), principal);
        }
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let tokens = tokens();
        let other = self::tokens();
        let header = json!({"alg": "EdDSA", "typ": TYPE, "kid": tokens.key_id});
        let user = UserId::new(NOW).to_string();
        let device = DeviceId::new(NOW).to_string();
        let claims = json!({
            "iss": LOOKBACK, "aud": LOOKBACK, "sub": user, "role": "ADMIN", "jti": "x",
            "account": AccountId::new(NOW).to_string(),
            "iat": seconds(NOW), "exp": seconds(NOW) + 900,
        });
        let with = |base: &Value, changes: Value| {
            let mut value = base.clone();
            for (key, change) in changes.as_object().unwrap() {
                match change {
                    Value::Null => value.as_object_mut().unwrap().remove(key),
                    _ => value.as_object_mut().unwrap().insert(key.clone(), change.clone()),
                };
            }
            value
        };
        let headers = |changes| sign(&with(&header, changes), &claims, &tokens.signing);
        let claimed = |changes| sign(&header, &with(&claims, changes), &tokens.signing);
        let good = sign(&header, &claims, &tokens.signing);
        assert!(tokens.verify(&good, NOW).is_ok());

        let hs256 = {
            let mut header = Header::new(Algorithm::HS256);
            header.typ = Some(TYPE.into());
            header.kid = Some(tokens.key_id.clone());
            let public = EncodingKey::from_secret(tokens.verifying.try_get_as_bytes().unwrap());
            jsonwebtoken::encode(&header, &claims, &public).unwrap()
        };
        let unsigned = {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            format!("{}.{}.", part(&with(&header, json!({"alg": "none"}))), part(&claims))
        };
        let own_key = json!({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": other.public}});
        let mut cut = good.clone();
        cut.pop();
        let swapped = {
            let (message, _) = good.rsplit_once('.').unwrap();
            let payload =
                URL_SAFE_NO_PAD.encode(with(&claims, json!({"sub": "svc_x"})).to_string());
            let (head, _) = message.split_once('.').unwrap();
            format!("{head}.{payload}.{}", good.rsplit_once('.').unwrap().1)
        };
        let table = [
            ("nothing", String::new(), Refused::Malformed),
            ("no token at all", "a.b.c".into(), Refused::Malformed),
            ("four parts", format!("{good}.x"), Refused::Malformed),
            ("too long", format!("{good}{}", "x".repeat(MAX_TOKEN_BYTES)), Refused::TooLong),
            ("unsigned", unsigned, Refused::Malformed),
            ("signed with the public key as a password", hs256, Refused::Key),
            ("other type", headers(json!({"typ": "JWT"})), Refused::Type),
            ("no type", headers(json!({"typ": null})), Refused::Type),
            (
                "critical extension",
                headers(json!({"crit": ["b64"], "b64": false})),
                Refused::Critical,
            ),
            ("empty critical", headers(json!({"crit": []})), Refused::Critical),
            ("no key named", headers(json!({"kid": null})), Refused::Key),
            ("another key named", headers(json!({"kid": other.key_id})), Refused::Key),
            ("signed by another", sign(&header, &claims, &other.signing), Refused::Signature),
            (
                "brings its own key",
                sign(&with(&header, own_key), &claims, &other.signing),
                Refused::Signature,
            ),
            ("signature cut short", cut, Refused::Malformed),
            ("other claims under the signature", swapped, Refused::Signature),
            ("other issuer", claimed(json!({"iss": "else"})), Refused::Claims),
            ("no issuer", claimed(json!({"iss": null})), Refused::Claims),
            ("other audience", claimed(json!({"aud": "else"})), Refused::Claims),
            ("no audience", claimed(json!({"aud": null})), Refused::Claims),
            ("no subject", claimed(json!({"sub": null})), Refused::Claims),
            ("strange subject", claimed(json!({"sub": "root"})), Refused::Claims),
            ("no expiry", claimed(json!({"exp": null})), Refused::Claims),
            ("expiry in words", claimed(json!({"exp": "never"})), Refused::Claims),
            ("no identifier", claimed(json!({"jti": null})), Refused::Claims),
            ("no account", claimed(json!({"account": null})), Refused::Claims),
            ("strange account", claimed(json!({"account": "acc_1"})), Refused::Claims),
            ("no role", claimed(json!({"role": null})), Refused::Claims),
            ("strange role", claimed(json!({"role": "ROOT"})), Refused::Claims),
            ("a user as a device", claimed(json!({"role": "DEVICE"})), Refused::Claims),
            ("a user with a device", claimed(json!({"device": device})), Refused::Claims),
            (
                "a device without a credential",
                claimed(json!({"role": "DEVICE", "device": device, "sub": device})),
                Refused::Claims,
            ),
            ("expired", claimed(json!({"exp": seconds(NOW) - LEEWAY_S})), Refused::Expired),
            ("expired long ago", claimed(json!({"exp": 0})), Refused::Expired),
            ("not yet", claimed(json!({"nbf": seconds(NOW) + LEEWAY_S + 1})), Refused::NotYet),
            ("made tomorrow", claimed(json!({"iat": seconds(NOW) + 86_400})), Refused::NotYet),
        ];
        for (what, token, expected) in table {
            assert_eq!(tokens.verify(&token, NOW), Err(expected), "{what}");
        }
        let nearly = claimed(json!({"exp": seconds(NOW) - LEEWAY_S + 1}));
        assert!(tokens.verify(&nearly, NOW).is_ok(), "within the leeway");
    }

    #[test]
    fn the_key_set_verifies_what_is_signed() {
        let tokens = tokens();
        let set: jsonwebtoken::jwk::JwkSet =
            serde_json::from_value(serde_json::to_value(tokens.jwks()).unwrap()).unwrap();
        let jwk = set.find(&tokens.key_id).unwrap();
        let thumbprint = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap();
        assert_eq!(thumbprint, tokens.key_id);
        let expires_at = NOW.plus_millis(60_000);
        let subject = Subject::User(UserId::new(NOW));
        let account = AccountId::new(NOW);
        let (role, shares) = (Role::Member, Vec::new());
        let principal = Principal { subject, account, role, shares, expires_at };
        let token = tokens.issue(&principal, NOW).unwrap();
        let key = DecodingKey::from_jwk(jwk).unwrap();
        jsonwebtoken::decode::<Value>(token.expose_secret(), &key, &tokens.rules).unwrap();
    }
}
