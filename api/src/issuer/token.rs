//! Tokens that other issuers signed: access tokens (RFC 9068) and ID tokens (OpenID Connect Core
//! §3.1.3.7), checked as RFC 8725 asks.

use super::key_set::KeySet;
use crate::token::Refused;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use lookback_wire::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Issuers put groups and addresses into theirs; more than this is not worth decoding.
const MAX_TOKEN_BYTES: usize = 8192;
/// How far the issuer's clock and ours may be apart.
const LEEWAY_MS: i64 = 30_000;
/// A token that says that it lasts longer is a password: nobody can take it back.
const MAX_LIFE_MS: i64 = 24 * 3_600_000;
/// OpenID Connect Core §2.
const MAX_SUBJECT_BYTES: usize = 255;
/// What stands before a token's type where it is written as a media type (RFC 7515 §4.1.9).
const MEDIA_TYPE: &str = "application/";

/// What a token has to be.
#[derive(Debug)]
pub struct Rules<'a> {
    pub issuer: &'a str,
    pub algorithms: &'a [Algorithm],
    pub purpose: Purpose<'a>,
}

/// What a token is for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// A call of ours, by whoever has the token.
    Access { audiences: &'a [String], types: &'a [String] },
    /// Telling this client who signed in, in answer to the request that bore the nonce.
    SignIn { client: &'a str, nonce: &'a str },
}

/// What a token names for itself, before anything of it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub algorithm: Algorithm,
    pub key_id: Option<String>,
}

/// What an issuer says of somebody.
#[derive(Clone, Debug)]
pub struct Claims {
    pub subject: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// All of them, as a JSON object.
    pub all: Value,
}

#[derive(Deserialize)]
struct Standard {
    iss: String,
    sub: String,
    aud: Audience,
    iat: f64,
    exp: f64,
    nbf: Option<f64>,
    azp: Option<String>,
    nonce: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// The issuer that a token says it has. Nothing of the token has been checked: this only tells by
/// whose keys it is to be.
pub fn named_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        iss: String,
    }
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let payload = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice::<Named>(&claims).ok().map(|named| named.iss)
}

/// Reads what a token names and checks what can be checked without a key.
pub fn head(token: &str, rules: &Rules<'_>) -> Result<Head, Refused> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Refused::TooLong);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Malformed)?;
    let typed = header.typ.as_deref().map(|typ| typ.strip_prefix(MEDIA_TYPE).unwrap_or(typ));
    let is_right = match rules.purpose {
        Purpose::Access { types, .. } => {
            typed.is_some_and(|typ| types.iter().any(|taken| taken.eq_ignore_ascii_case(typ)))
        }
        // An ID token need not say what it is.
        Purpose::SignIn { .. } => typed.is_none_or(|typ| typ.eq_ignore_ascii_case("JWT")),
    };
    if !is_right {
        return Err(Refused::Type);
    }
    if header.crit.is_some() {
        return Err(Refused::Critical);
    }
    // Keys that a token brings along (jwk, jku, x5u, x5c) are never looked at.
    if !rules.algorithms.contains(&header.alg) {
        return Err(Refused::Key);
    }
    Ok(Head { algorithm: header.alg, key_id: header.kid })
}

/// Checks a token with the issuer's keys.
pub fn verify(
    token: &str,
    head: &Head,
    keys: &KeySet,
    rules: &Rules<'_>,
    now: Timestamp,
) -> Result<Claims, Refused> {
    let key = keys.find(head.key_id.as_deref(), head.algorithm).ok_or(Refused::Key)?;
    // The library takes a claim that is absent for one that is right, so claims are checked here.
    let mut signature_only = Validation::new(head.algorithm);
    signature_only.required_spec_claims.clear();
    signature_only.validate_exp = false;
    signature_only.validate_aud = false;
    let all = jsonwebtoken::decode::<Map<String, Value>>(token, key, &signature_only)
        .map_err(|e| match e.kind() {
            ErrorKind::InvalidSignature => Refused::Signature,
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => Refused::Key,
            _ => Refused::Malformed,
        })?
        .claims;
    let all = Value::Object(all);
    let claims = Standard::deserialize(&all).map_err(|_| Refused::Claims)?;
    let subject_is_name = (1..=MAX_SUBJECT_BYTES).contains(&claims.sub.len())
        && !claims.sub.chars().any(char::is_control);
    if claims.iss != rules.issuer || !subject_is_name || !claims.is_meant_for(rules.purpose) {
        return Err(Refused::Claims);
    }
    let (issued_at, expires_at) = (instant(claims.iat), instant(claims.exp));
    if expires_at.plus_millis(LEEWAY_MS) <= now {
        return Err(Refused::Expired);
    }
    let valid_from = claims.nbf.map_or(issued_at, instant).max(issued_at);
    if valid_from > now.plus_millis(LEEWAY_MS) {
        return Err(Refused::NotYet);
    }
    if expires_at.millis_since(issued_at) > MAX_LIFE_MS {
        return Err(Refused::Claims);
    }
    Ok(Claims { subject: claims.sub, issued_at, expires_at, all })
}

impl Standard {
    fn is_meant_for(&self, purpose: Purpose<'_>) -> bool {
        let audiences = match &self.aud {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::Several(several) => several,
        };
        match purpose {
            Purpose::Access { audiences: ours, .. } => {
                audiences.iter().any(|audience| ours.contains(audience))
            }
            Purpose::SignIn { client, nonce } => {
                let party = self.azp.as_deref();
                audiences.iter().any(|audience| audience == client)
                    && party.is_none_or(|party| party == client)
                    && (audiences.len() == 1 || party.is_some())
                    && self.nonce.as_deref() == Some(nonce)
            }
        }
    }
}

/// A NumericDate (RFC 7519 §2); one beyond all time is as good as its end.
fn instant(seconds: f64) -> Timestamp {
    /// The year 9999: any later is a mistake, and arithmetic on it might not end well.
    const END_S: f64 = 253_402_300_799.0;
    Timestamp::from_millis((seconds.clamp(0.0, END_S) * 1000.0) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
    use jsonwebtoken::EncodingKey;
    use jsonwebtoken::jwk::Jwk;
    use serde_json::json;
    use std::sync::LazyLock;

    const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);
    const NOW_S: i64 = 1_760_000_000;
    const ISSUER: &str = "https://id.example";

    /// An issuer with a key of each kind.
    struct Issuer {
        keys: Vec<(&'static str, Algorithm, EncodingKey)>,
        published: KeySet,
    }

    static ISSUERS: LazyLock<[Issuer; 2]> = LazyLock::new(|| [Issuer::new(), Issuer::new()]);

    impl Issuer {
        fn new() -> Self {
            let rsa = KeyPair::generate(KeySize::Rsa2048).unwrap();
            let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der = rsa.as_der().unwrap();
            let rsa = EncodingKey::from_rsa_der(rsa_private_key(pkcs8.as_ref()));
            let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let ec = EncodingKey::from_ec_der(ec.to_pkcs8v1().unwrap().as_ref());
            let ed = Ed25519KeyPair::generate().unwrap();
            let ed = EncodingKey::from_ed_der(ed.to_pkcs8v1().unwrap().as_ref());
            let keys = vec![
                ("rsa", Algorithm::RS256, rsa),
                ("ec", Algorithm::ES256, ec),
                ("ed", Algorithm::EdDSA, ed),
            ];
            let published = keys.iter().map(|(id, algorithm, key)| {
                let mut jwk = Jwk::from_encoding_key(key, *algorithm).unwrap();
                jwk.common.key_id = Some((*id).into());
                // One that says nothing of its algorithm, as some issuers publish theirs.
                jwk.common.key_algorithm = None;
                jwk
            });
            let published = json!({"keys": published.collect::<Vec<_>>()}).to_string();
            let published = KeySet::read(published.as_bytes()).unwrap();
            assert_eq!(published.len(), 3);
            Self { keys, published }
        }

        fn sign(&self, with: &str, header: &Value, claims: &Value) -> String {
            let (_, algorithm, key) = self.keys.iter().find(|(id, ..)| *id == with).unwrap();
            let algorithm = serde_json::from_value(header["alg"].clone()).unwrap_or(*algorithm);
            let message = format!("{}.{}", part(header), part(claims));
            let signed = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
            format!("{message}.{signed}")
        }
    }

    /// The RSAPrivateKey (RFC 8017 A.1.2) at the end of what PKCS #8 wraps it in.
    fn rsa_private_key(pkcs8: &[u8]) -> &[u8] {
        // SEQUENCE, version, algorithm, then an OCTET STRING with a length of two bytes.
        &pkcs8[26..]
    }

    fn part(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn with(base: &Value, changes: Value) -> Value {
        let mut value = base.clone();
        for (key, change) in changes.as_object().unwrap() {
            match change {
                Value::Null => value.as_object_mut().unwrap().remove(key),
                _ => value.as_object_mut().unwrap().insert(key.clone(), change.clone()),
            };
        }
        value
    }

    fn check(token: &str, rules: &Rules<'_>) -> Result<String, Refused> {
        let head = head(token, rules)?;
        verify(token, &head, &ISSUERS[0].published, rules, NOW).map(|claims| claims.subject)
    }

    fn access_claims() -> Value {
        json!({
            "iss": ISSUER, "aud": "lookback", "sub": "ann", "iat": NOW_S, "exp": NOW_S + 900,
        })
    }

    #[test]
    fn what_the_issuer_signed_for_us_is_taken() {
        let audiences = ["lookback".to_owned(), "cameras".to_owned()];
        let types = ["at+jwt".to_owned()];
        let rules = Rules {
            issuer: ISSUER,
            algorithms: &[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
            purpose: Purpose::Access { audiences: &audiences, types: &types },
        };
        let header = json!({"alg": "RS256", "typ": "at+jwt", "kid": "rsa"});
        let algorithms = [("rsa", "RS256"), ("ec", "ES256"), ("ed", "EdDSA")];
        for (key, alg) in algorithms {
            let header = with(&header, json!({"alg": alg, "kid": key}));
            let token = ISSUERS[0].sign(key, &header, &access_claims());
            assert_eq!(check(&token, &rules), Ok("ann".into()), "{alg}");
        }
        let changes = [
            json!({"aud": ["else", "cameras"]}),
            json!({"exp": NOW_S as f64 + 0.5}),
            json!({"exp": NOW_S - 29}),
            json!({"nbf": NOW_S + 30, "iat": NOW_S + 30}),
            json!({"exp": NOW_S + 86_400}),
        ];
        for change in changes {
            let token = ISSUERS[0].sign("rsa", &header, &with(&access_claims(), change.clone()));
            assert_eq!(check(&token, &rules), Ok("ann".into()), "{change}");
        }
        let media_type = with(&header, json!({"typ": "application/AT+jwt"}));
        let token = ISSUERS[0].sign("rsa", &media_type, &access_claims());
        assert_eq!(check(&token, &rules), Ok("ann".into()));
        assert_eq!(named_issuer(&token).as_deref(), Some(ISSUER));
    }

    #[test]
    fn what_is_hostile_is_refused() {
        let audiences = ["lookback".to_owned()];
        let types = ["at+jwt".to_owned()];
        let rules = Rules {
            issuer: ISSUER,
            algorithms: &[Algorithm::RS256, Algorithm::ES256],
            purpose: Purpose::Access { audiences: &audiences, types: &types },
        };
        let [ours, other] = &*ISSUERS;
        let header = json!({"alg": "RS256", "typ": "at+jwt", "kid": "rsa"});
        let good = ours.sign("rsa", &header, &access_claims());
        assert!(check(&good, &rules).is_ok());
        let headed = |changes| ours.sign("rsa", &with(&header, changes), &access_claims());
        let claimed = |changes| ours.sign("rsa", &header, &with(&access_claims(), changes));
        let (message, signature) = good.rsplit_once('.').unwrap();

        let none = |alg: &str| {
            format!("{}.{}.", part(&with(&header, json!({"alg": alg}))), part(&access_claims()))
        };
        let by_secret = |secret: &[u8]| {
            let header = with(&header, json!({"alg": "HS256"}));
            let message = format!("{}.{}", part(&header), part(&access_claims()));
            let key = EncodingKey::from_secret(secret);
            let signed =
                jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
            format!("{message}.{signed}")
        };
        let public =
            serde_json::to_vec(&Jwk::from_encoding_key(&ours.keys[0].2, Algorithm::RS256).unwrap());
        let own_key = Jwk::from_encoding_key(&other.keys[0].2, Algorithm::RS256).unwrap();
        let brings_key = with(&header, json!({"jwk": own_key}));
        let swapped = {
            let (head, _) = message.split_once('.').unwrap();
            let claims = part(&with(&access_claims(), json!({"sub": "root"})));
            format!("{head}.{claims}.{signature}")
        };
        let long = |len| claimed(json!({"groups": "x".repeat(len)}));
        // Text that no JSON writer makes.
        let raw = |header: &str, claims: &str| {
            let message =
                format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
            let key = &ours.keys[0].2;
            let signed =
                jsonwebtoken::crypto::sign(message.as_bytes(), key, Algorithm::RS256).unwrap();
            format!("{message}.{signed}")
        };
        let head = header.to_string();
        let twice = |text: &str, first: &str| text.replacen('{', &format!("{{{first},"), 1);
        let claims_twice = |first: &str| raw(&head, &twice(&access_claims().to_string(), first));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));

        let table = [
            ("nothing", String::new(), Refused::Malformed),
            ("no token at all", "a.b.c".into(), Refused::Malformed),
            ("four parts", format!("{good}.x"), Refused::Malformed),
            ("five parts, as what is encrypted has", format!("{good}.x.x"), Refused::Malformed),
            ("huge", long(8192), Refused::TooLong),
            ("a header that is no object", raw("[]", "{}"), Refused::Malformed),
            (
                "an algorithm named twice",
                raw(&twice(&head, r#""alg":"none""#), &access_claims().to_string()),
                Refused::Malformed,
            ),
            ("unsigned", none("none"), Refused::Malformed),
            ("unsigned, in capitals", none("NONE"), Refused::Malformed),
            ("signature dropped", format!("{message}."), Refused::Signature),
            ("signed with the public key as a password", by_secret(&public.unwrap()), Refused::Key),
            ("signed with nothing", by_secret(b""), Refused::Key),
            ("an algorithm that is not allowed", headed(json!({"alg": "RS512"})), Refused::Key),
            ("an unknown algorithm", none("XX1"), Refused::Malformed),
            (
                "an RSA key's name over an elliptic signature",
                ours.sign("ec", &with(&header, json!({"alg": "ES256"})), &access_claims()),
                Refused::Key,
            ),
            (
                "a key of an algorithm that is not allowed",
                ours.sign(
                    "ed",
                    &with(&header, json!({"alg": "EdDSA", "kid": "ed"})),
                    &access_claims(),
                ),
                Refused::Key,
            ),
            ("an ID token's type", headed(json!({"typ": "JWT"})), Refused::Type),
            ("a logout token's type", headed(json!({"typ": "logout+jwt"})), Refused::Type),
            ("no type", headed(json!({"typ": null})), Refused::Type),
            ("critical", headed(json!({"crit": ["b64"], "b64": false})), Refused::Critical),
            ("critical of nothing", headed(json!({"crit": []})), Refused::Critical),
            ("no key named among three", headed(json!({"kid": null})), Refused::Key),
            ("an unknown key named", headed(json!({"kid": "../../etc/keys"})), Refused::Key),
            ("a long key name", headed(json!({"kid": "k".repeat(4096)})), Refused::Key),
            ("a number for a key name", headed(json!({"kid": 7})), Refused::Malformed),
            ("critical in no list", headed(json!({"crit": "b64"})), Refused::Malformed),
            ("signed by another", other.sign("rsa", &header, &access_claims()), Refused::Signature),
            (
                "brings its own key",
                other.sign("rsa", &brings_key, &access_claims()),
                Refused::Signature,
            ),
            (
                "says where its key is",
                other.sign(
                    "rsa",
                    &with(&header, json!({"jku": "https://evil.example"})),
                    &access_claims(),
                ),
                Refused::Signature,
            ),
            (
                "says where its key's certificate is",
                other.sign(
                    "rsa",
                    &with(&header, json!({"x5u": "https://evil.example", "x5c": ["MIIB"]})),
                    &access_claims(),
                ),
                Refused::Signature,
            ),
            ("other claims under the signature", swapped, Refused::Signature),
            // Other readers than ours would take the other one (RFC 7519 §4).
            (
                "an audience twice",
                raw(
                    &head,
                    &access_claims().to_string().replacen(
                        r#""aud":"lookback""#,
                        r#""aud":"lookback","aud":"billing""#,
                        1,
                    ),
                ),
                Refused::Malformed,
            ),
            (
                "an expiry twice",
                raw(
                    &head,
                    &access_claims().to_string().replacen(
                        r#""exp":"#,
                        &format!(r#""exp":{},"exp":1,"x":"#, NOW_S + 60),
                        1,
                    ),
                ),
                Refused::Malformed,
            ),
            ("lists in lists", claims_twice(&format!(r#""groups":{deep}"#)), Refused::Malformed),
            ("a number beyond all", claims_twice(r#""nbf":1e999"#), Refused::Malformed),
            (
                "claims that are no object",
                ours.sign("rsa", &header, &json!([])),
                Refused::Malformed,
            ),
            ("other issuer", claimed(json!({"iss": "https://id.example/"})), Refused::Claims),
            ("no issuer", claimed(json!({"iss": null})), Refused::Claims),
            ("other audience", claimed(json!({"aud": "billing"})), Refused::Claims),
            ("other audiences", claimed(json!({"aud": ["a", "b"]})), Refused::Claims),
            ("no audience", claimed(json!({"aud": null})), Refused::Claims),
            (
                "an audience in a list of lists",
                claimed(json!({"aud": [["lookback"]]})),
                Refused::Claims,
            ),
            (
                "an audience in an object",
                claimed(json!({"aud": {"a": "lookback"}})),
                Refused::Claims,
            ),
            ("nobody's audience", claimed(json!({"aud": []})), Refused::Claims),
            ("no subject", claimed(json!({"sub": null})), Refused::Claims),
            ("empty subject", claimed(json!({"sub": ""})), Refused::Claims),
            ("long subject", claimed(json!({"sub": "x".repeat(256)})), Refused::Claims),
            ("subject with a line in it", claimed(json!({"sub": "a\nb"})), Refused::Claims),
            ("numeric subject", claimed(json!({"sub": 7})), Refused::Claims),
            ("no expiry", claimed(json!({"exp": null})), Refused::Claims),
            ("expiry in words", claimed(json!({"exp": "never"})), Refused::Claims),
            ("no time of issue", claimed(json!({"iat": null})), Refused::Claims),
            ("expired", claimed(json!({"exp": NOW_S - 30})), Refused::Expired),
            ("expired in a far past", claimed(json!({"exp": -1e300})), Refused::Expired),
            ("not yet", claimed(json!({"nbf": NOW_S + 31})), Refused::NotYet),
            ("issued later", claimed(json!({"iat": NOW_S + 31})), Refused::NotYet),
            ("for ever", claimed(json!({"exp": 1e300})), Refused::Claims),
            ("for more than a day", claimed(json!({"exp": NOW_S + 86_401})), Refused::Claims),
        ];
        for (name, token, expected) in table {
            assert_eq!(check(&token, &rules), Err(expected), "{name}");
        }
        assert_eq!(named_issuer(&long(8192)), None);
        assert_eq!(named_issuer(&claims_twice(r#""iss":"https://other.example""#)), None);
    }

    #[test]
    fn an_id_token_answers_one_sign_in_of_one_client() {
        let rules = Rules {
            issuer: ISSUER,
            algorithms: &[Algorithm::RS256],
            purpose: Purpose::SignIn { client: "viewer", nonce: "n" },
        };
        let claims = with(&access_claims(), json!({"aud": "viewer", "nonce": "n"}));
        let header = |typ| with(&json!({"alg": "RS256", "kid": "rsa"}), json!({"typ": typ}));
        let table = [
            (json!("JWT"), json!({}), true),
            (Value::Null, json!({}), true),
            (json!("at+jwt"), json!({}), false),
            (Value::Null, json!({"nonce": "other"}), false),
            (Value::Null, json!({"nonce": null}), false),
            (Value::Null, json!({"aud": "lookback"}), false),
            (Value::Null, json!({"aud": ["viewer", "else"]}), false),
            (Value::Null, json!({"aud": ["viewer", "else"], "azp": "viewer"}), true),
            (Value::Null, json!({"azp": "else"}), false),
        ];
        for (typ, changes, taken) in table {
            let token = ISSUERS[0].sign("rsa", &header(typ), &with(&claims, changes.clone()));
            assert_eq!(check(&token, &rules).is_ok(), taken, "{changes}");
        }
    }
}
