//! The media session token: what a playback session may fetch, readable only by us, under a keyed
//! MAC (HMAC-SHA256, RFC 2104) over its exact text.

use crate::access::{DeviceRole, Principal, Subject, share_needed};
use crate::account::Role;
use crate::id::{AccountId, CredentialId, DeviceId, SessionId, ShareId, StreamId, Ulid, UserId};
use crate::segment::TimeRange;
use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lookback_wire::{FragmentNumber, Timestamp};

/// Bytes of the MAC that are kept: 144 bits, a whole number of base64 characters.
const MAC_BYTES: usize = 18;
const MAC_CHARS: usize = MAC_BYTES / 3 * 4;
/// Longer than any token is.
const MAX_CHARS: usize = 512;
const VERSION: u8 = 2;

/// What a session token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaToken {
    pub session: SessionId,
    pub holder: Holder,
    pub account: AccountId,
    pub stream: StreamId,
    pub span: Span,
    pub expires_at: Timestamp,
}

/// Whose rights the session lives by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    User(UserId),
    /// A user who sees the device by this share, and by no role.
    Share(UserId, ShareId),
    Device(DeviceId, CredentialId),
    /// A script: nothing revokes it but its expiry.
    Service(Role),
}

/// What of the stream it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Every fragment that overlaps the range. `start_offset_ms` is where players begin, from the
    /// first picture.
    OnDemand { range: TimeRange, start_offset_ms: u32 },
    /// Every fragment that ends after `start`. What arrived up to `newest` was there when the session
    /// was minted, and is joined to longer segments if `is_joined`.
    LiveReplay {
        start: Timestamp,
        start_offset_ms: u32,
        newest: FragmentNumber,
        target_duration_s: u32,
        is_joined: bool,
    },
    /// Everything from one fragment on.
    Live { origin: Timestamp, number: FragmentNumber, target_duration_s: u32 },
}

/// Why a token opens nothing. The caller is told no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session token is invalid or expired")]
pub struct Refused;

/// Signs and reads tokens.
pub struct Signer {
    key: hmac::Key,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// `secret` is this purpose's own, 32 random bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    pub fn sign(&self, token: &MediaToken) -> String {
        self.seal(&token.to_bytes())
    }

    /// What the text says, if it is ours to the last character and has not expired.
    pub fn read(&self, text: &str, now: Timestamp) -> Result<MediaToken, Refused> {
        let token = MediaToken::from_bytes(&self.unseal(text)?).ok_or(Refused)?;
        if now >= token.expires_at { Err(Refused) } else { Ok(token) }
    }

    /// What a token says, and the code under it. Each kind of token begins with another byte.
    pub(super) fn seal(&self, bytes: &[u8]) -> String {
        let mut text = URL_SAFE_NO_PAD.encode(bytes);
        let mac = self.mac(&text);
        text.push_str(&mac);
        text
    }

    /// What [`Signer::seal`] was given, if the text is its own to the last character.
    pub(super) fn unseal(&self, text: &str) -> Result<Vec<u8>, Refused> {
        if text.len() > MAX_CHARS || !text.is_ascii() {
            return Err(Refused);
        }
        let split = text.len().checked_sub(MAC_CHARS).ok_or(Refused)?;
        let (body, mac) = text.split_at(split);
        constant_time::verify_slices_are_equal(self.mac(body).as_bytes(), mac.as_bytes())
            .map_err(|_| Refused)?;
        URL_SAFE_NO_PAD.decode(body).map_err(|_| Refused)
    }

    fn mac(&self, text: &str) -> String {
        let tag = hmac::sign(&self.key, text.as_bytes());
        URL_SAFE_NO_PAD.encode(&tag.as_ref()[..MAC_BYTES])
    }
}

impl Holder {
    /// Whose rights a session of a device's footage lives by, and when it ends that was to end at
    /// `expires_at`: not after the share.
    pub fn of(principal: &Principal, device: DeviceId, expires_at: Timestamp) -> (Self, Timestamp) {
        match (&principal.subject, share_needed(principal, DeviceRole::Viewer, device)) {
            (&Subject::User(user), Some(share)) => {
                let ends_at = share.expires_at.map_or(expires_at, |end| end.min(expires_at));
                (Self::Share(user, share.id), ends_at)
            }
            (&Subject::User(user), None) => (Self::User(user), expires_at),
            (&Subject::Device { device, credential }, _) => {
                (Self::Device(device, credential), expires_at)
            }
            (Subject::Service(_), _) => (Self::Service(principal.role), expires_at),
        }
    }

    /// For a decision to be made anew. A user's role and shares are the catalog's to say, so none are
    /// given here.
    pub fn principal(self, account: AccountId, expires_at: Timestamp) -> Principal {
        let (subject, role) = match self {
            Self::User(user) | Self::Share(user, _) => (Subject::User(user), Role::Member),
            Self::Device(device, credential) => {
                (Subject::Device { device, credential }, Role::Device)
            }
            Self::Service(role) => (Subject::Service(String::new()), role),
        };
        Principal { subject, account, role, shares: Vec::new(), expires_at }
    }

    pub(super) fn push_to(self, out: &mut Vec<u8>) {
        match self {
            Self::User(user) => {
                out.push(0);
                out.extend(user.0.to_be_bytes());
            }
            Self::Device(device, credential) => {
                out.push(1);
                out.extend(device.0.to_be_bytes());
                out.extend(credential.0.to_be_bytes());
            }
            Self::Service(role) => {
                out.push(2);
                out.push(role as u8);
            }
            Self::Share(user, share) => {
                out.push(3);
                out.extend(user.0.to_be_bytes());
                out.extend(share.0.to_be_bytes());
            }
        }
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(match fields.u8()? {
            0 => Self::User(UserId(fields.ulid()?)),
            1 => Self::Device(DeviceId(fields.ulid()?), CredentialId(fields.ulid()?)),
            2 => Self::Service(role(fields.u8()?)?),
            3 => Self::Share(UserId(fields.ulid()?), ShareId(fields.ulid()?)),
            _ => return None,
        })
    }
}

impl MediaToken {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend(self.session.0.to_be_bytes());
        self.holder.push_to(&mut out);
        out.extend(self.account.0.to_be_bytes());
        out.extend(self.stream.0.to_be_bytes());
        out.extend(self.expires_at.as_millis().to_be_bytes());
        match self.span {
            Span::OnDemand { range, start_offset_ms } => {
                out.push(0);
                out.extend(range.start.as_millis().to_be_bytes());
                out.extend(range.end.as_millis().to_be_bytes());
                out.extend(start_offset_ms.to_be_bytes());
            }
            Span::Live { origin, number, target_duration_s } => {
                out.push(1);
                out.extend(origin.as_millis().to_be_bytes());
                out.extend(number.0.to_be_bytes());
                out.extend(target_duration_s.to_be_bytes());
            }
            Span::LiveReplay { start, start_offset_ms, newest, target_duration_s, is_joined } => {
                out.push(2);
                out.extend(start.as_millis().to_be_bytes());
                out.extend(start_offset_ms.to_be_bytes());
                out.extend(newest.0.to_be_bytes());
                out.extend(target_duration_s.to_be_bytes());
                out.push(u8::from(is_joined));
            }
        }
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.u8()? != VERSION {
            return None;
        }
        let session = SessionId(fields.ulid()?);
        let holder = Holder::read(&mut fields)?;
        let account = AccountId(fields.ulid()?);
        let stream = StreamId(fields.ulid()?);
        let expires_at = fields.timestamp()?;
        let span = match fields.u8()? {
            0 => Span::OnDemand {
                range: TimeRange::new(fields.timestamp()?, fields.timestamp()?)?,
                start_offset_ms: u32::from_be_bytes(fields.take()?),
            },
            1 => Span::Live {
                origin: fields.timestamp()?,
                number: FragmentNumber(u64::from_be_bytes(fields.take()?)),
                target_duration_s: u32::from_be_bytes(fields.take()?),
            },
            2 => Span::LiveReplay {
                start: fields.timestamp()?,
                start_offset_ms: u32::from_be_bytes(fields.take()?),
                newest: FragmentNumber(u64::from_be_bytes(fields.take()?)),
                target_duration_s: u32::from_be_bytes(fields.take()?),
                is_joined: fields.u8()? != 0,
            },
            _ => return None,
        };
        fields.0.is_empty().then_some(Self { session, holder, account, stream, span, expires_at })
    }
}

fn role(code: u8) -> Option<Role> {
    [Role::Admin, Role::Manager, Role::Viewer, Role::Member, Role::Device]
        .into_iter()
        .find(|role| *role as u8 == code)
}

/// Reads fixed-width fields from the front.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub fn ulid(&mut self) -> Option<Ulid> {
        self.take().map(Ulid::from_be_bytes)
    }

    pub fn timestamp(&mut self) -> Option<Timestamp> {
        self.take().map(|bytes| Timestamp::from_millis(i64::from_be_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> Ulid {
        Ulid(n << 64 | 77)
    }

    fn tokens() -> Vec<MediaToken> {
        let at = Timestamp::from_millis;
        let spans = [
            Span::OnDemand {
                range: TimeRange { start: at(1_795_329_502_534), end: at(1_795_329_562_534) },
                start_offset_ms: 1_234,
            },
            Span::LiveReplay {
                start: at(1_795_329_502_534),
                start_offset_ms: 7,
                newest: FragmentNumber(9),
                target_duration_s: 6,
                is_joined: true,
            },
            Span::Live { origin: at(-5), number: FragmentNumber(u64::MAX), target_duration_s: 2 },
        ];
        let holders = [
            Holder::User(UserId(id(1))),
            Holder::Device(DeviceId(id(2)), CredentialId(id(3))),
            Holder::Service(Role::Viewer),
            Holder::Share(UserId(id(1)), ShareId(id(7))),
        ];
        let mut tokens = Vec::new();
        for span in spans {
            for holder in holders {
                tokens.push(MediaToken {
                    session: SessionId(id(4)),
                    holder,
                    account: AccountId(id(5)),
                    stream: StreamId(id(6)),
                    span,
                    expires_at: at(1_000),
                });
            }
        }
        tokens
    }

    #[test]
    fn reads_back_what_it_signed_until_it_expires() {
        let signer = Signer::new(&[7; 32]);
        for token in tokens() {
            let text = signer.sign(&token);
            assert_eq!(signer.read(&text, Timestamp::from_millis(999)), Ok(token));
            assert_eq!(signer.read(&text, Timestamp::from_millis(1_000)), Err(Refused));
            assert_eq!(Signer::new(&[8; 32]).read(&text, Timestamp::from_millis(0)), Err(Refused));
        }
    }

    #[test]
    fn any_other_character_anywhere_is_refused() {
        const URL_CHARS: &[u8] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=.~%";
        let signer = Signer::new(&[7; 32]);
        let now = Timestamp::from_millis(0);
        for token in tokens() {
            let text = signer.sign(&token);
            for i in 0..text.len() {
                for &other in URL_CHARS.iter().filter(|&&c| c != text.as_bytes()[i]) {
                    let mut changed = text.clone().into_bytes();
                    changed[i] = other;
                    let changed = String::from_utf8(changed).unwrap();
                    assert_eq!(signer.read(&changed, now), Err(Refused), "{changed}");
                }
                assert_eq!(signer.read(&text[..i], now), Err(Refused));
            }
            assert_eq!(signer.read(&format!("{text}A"), now), Err(Refused));
        }
    }
}
