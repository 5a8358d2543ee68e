//! The token of a session that the Kinesis API minted: all that was asked for, under the same keyed
//! MAC as our own sessions. Ends in `~`, as those of Kinesis do.

use crate::id::{AccountId, SessionId, StreamId};
use crate::playback::token::{Fields, Holder, Refused, Signer};
use lookback_wire::{FragmentNumber, Timestamp};

/// The first byte, which no other kind of token has.
const KIND: u8 = b'K';
const END: char = '~';

/// What a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KinesisToken {
    pub session: SessionId,
    pub holder: Holder,
    pub account: AccountId,
    pub stream: StreamId,
    pub minted_at: Timestamp,
    pub expires_at: Timestamp,
    pub span: Span,
    pub rules: Rules,
    pub shape: Shape,
}

/// Which fragments it plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// As they arrive, from this one on.
    Live { origin: FragmentNumber },
    /// Those that begin at `start` or later, at the pace of their durations, up to those that begin
    /// at `end`.
    LiveReplay { start: Timestamp, end: Option<Timestamp> },
    /// Those that begin from `start` to `end`, both included.
    OnDemand { start: Timestamp, end: Timestamp },
}

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub protocol: Protocol,
    pub by: TimestampType,
    pub discontinuities: DiscontinuityMode,
    pub shows_timestamps: bool,
    pub shows_numbers: bool,
    /// Most fragments in a playlist, 1 to 5,000.
    pub max_fragments: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    HlsFragmentedMp4,
    HlsMpegTs,
    Dash,
}

/// Whose clock a fragment's time is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    Server,
    Producer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscontinuityMode {
    Always,
    Never,
    OnDiscontinuity,
}

/// The tracks that every fragment of a session has: their sample entries' types, such as `avc1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub video: Option<[u8; 4]>,
    pub audio: Option<[u8; 4]>,
}

impl KinesisToken {
    pub fn sign(&self, signer: &Signer) -> String {
        let mut text = signer.seal(&self.to_bytes());
        text.push(END);
        text
    }

    /// What the text says, if it is ours to the last character and has not expired.
    pub fn read(signer: &Signer, text: &str, now: Timestamp) -> Result<Self, Refused> {
        let bytes = signer.unseal(text.strip_suffix(END).ok_or(Refused)?)?;
        let token = Self::from_bytes(&bytes).ok_or(Refused)?;
        if now >= token.expires_at { Err(Refused) } else { Ok(token) }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![KIND];
        out.extend(self.session.0.to_be_bytes());
        self.holder.push_to(&mut out);
        out.extend(self.account.0.to_be_bytes());
        out.extend(self.stream.0.to_be_bytes());
        let mut put = |at: Timestamp| out.extend(at.as_millis().to_be_bytes());
        put(self.minted_at);
        put(self.expires_at);
        match self.span {
            Span::Live { origin } => {
                out.push(0);
                out.extend(origin.0.to_be_bytes());
            }
            Span::LiveReplay { start, end: None } => {
                out.push(1);
                out.extend(start.as_millis().to_be_bytes());
            }
            Span::LiveReplay { start, end: Some(end) } => {
                out.push(2);
                out.extend(start.as_millis().to_be_bytes());
                out.extend(end.as_millis().to_be_bytes());
            }
            Span::OnDemand { start, end } => {
                out.push(3);
                out.extend(start.as_millis().to_be_bytes());
                out.extend(end.as_millis().to_be_bytes());
            }
        }
        let Rules { protocol, by, discontinuities, .. } = self.rules;
        out.push(protocol as u8);
        out.push(by as u8);
        out.push(discontinuities as u8);
        out.push(u8::from(self.rules.shows_timestamps) | u8::from(self.rules.shows_numbers) << 1);
        out.extend(self.rules.max_fragments.to_be_bytes());
        out.extend(self.shape.video.unwrap_or_default());
        out.extend(self.shape.audio.unwrap_or_default());
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.u8()? != KIND {
            return None;
        }
        let session = SessionId(fields.ulid()?);
        let holder = Holder::read(&mut fields)?;
        let account = AccountId(fields.ulid()?);
        let stream = StreamId(fields.ulid()?);
        let minted_at = fields.timestamp()?;
        let expires_at = fields.timestamp()?;
        let span = match fields.u8()? {
            0 => Span::Live { origin: FragmentNumber(u64::from_be_bytes(fields.take()?)) },
            1 => Span::LiveReplay { start: fields.timestamp()?, end: None },
            2 => Span::LiveReplay { start: fields.timestamp()?, end: Some(fields.timestamp()?) },
            3 => Span::OnDemand { start: fields.timestamp()?, end: fields.timestamp()? },
            _ => return None,
        };
        use {DiscontinuityMode as Mode, Protocol as P, TimestampType as By};
        let protocol = coded(fields.u8()?, [P::HlsFragmentedMp4, P::HlsMpegTs, P::Dash])?;
        let by = coded(fields.u8()?, [By::Server, By::Producer])?;
        let discontinuities =
            coded(fields.u8()?, [Mode::Always, Mode::Never, Mode::OnDiscontinuity])?;
        let shown = fields.u8()?;
        let rules = Rules {
            protocol,
            by,
            discontinuities,
            shows_timestamps: shown & 1 != 0,
            shows_numbers: shown & 2 != 0,
            max_fragments: u16::from_be_bytes(fields.take()?),
        };
        let mut kind = || fields.take().map(|kind: [u8; 4]| Some(kind).filter(|k| *k != [0; 4]));
        let shape = Shape { video: kind()?, audio: kind()? };
        fields.0.is_empty().then_some(Self {
            session,
            holder,
            account,
            stream,
            minted_at,
            expires_at,
            span,
            rules,
            shape,
        })
    }
}

/// The value that is written as its position.
fn coded<T: Copy, const N: usize>(code: u8, values: [T; N]) -> Option<T> {
    values.get(usize::from(code)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Role;
    use crate::id::{Ulid, UserId};

    fn tokens() -> Vec<KinesisToken> {
        let at = Timestamp::from_millis;
        let token = |span, rules, shape| KinesisToken {
            session: SessionId(Ulid(1)),
            holder: Holder::User(UserId(Ulid(2))),
            account: AccountId(Ulid(3)),
            stream: StreamId(Ulid(4)),
            minted_at: at(5),
            expires_at: at(1_000),
            span,
            rules,
            shape,
        };
        let rules = Rules {
            protocol: Protocol::Dash,
            by: TimestampType::Producer,
            discontinuities: DiscontinuityMode::OnDiscontinuity,
            shows_timestamps: true,
            shows_numbers: false,
            max_fragments: 5_000,
        };
        let other = Rules {
            protocol: Protocol::HlsMpegTs,
            by: TimestampType::Server,
            discontinuities: DiscontinuityMode::Never,
            shows_timestamps: false,
            shows_numbers: true,
            max_fragments: 1,
        };
        let shape = Shape { video: Some(*b"avc1"), audio: Some(*b"mp4a") };
        let (start, end) = (at(-7), at(1_795_329_502_534));
        let mut tokens = vec![
            token(Span::Live { origin: FragmentNumber(u64::MAX) }, rules, shape),
            token(Span::LiveReplay { start, end: None }, other, Shape { video: None, ..shape }),
            token(
                Span::LiveReplay { start, end: Some(end) },
                rules,
                Shape { audio: None, ..shape },
            ),
            token(Span::OnDemand { start, end }, other, shape),
        ];
        tokens.push(KinesisToken { holder: Holder::Service(Role::Admin), ..tokens[3].clone() });
        tokens
    }

    #[test]
    fn reads_back_what_it_signed_until_it_expires() {
        let signer = Signer::new(&[7; 32]);
        let at = Timestamp::from_millis;
        for token in tokens() {
            let text = token.sign(&signer);
            assert!(text.ends_with('~') && text.len() < 300, "{text}");
            assert_eq!(KinesisToken::read(&signer, &text, at(999)), Ok(token));
            assert_eq!(KinesisToken::read(&signer, &text, at(1_000)), Err(Refused));
            assert_eq!(KinesisToken::read(&Signer::new(&[8; 32]), &text, at(0)), Err(Refused));
            // Neither kind of token passes for the other.
            let bare = text.trim_end_matches('~');
            assert_eq!(signer.read(bare, at(0)), Err(Refused));
            assert_eq!(KinesisToken::read(&signer, bare, at(0)), Err(Refused));
        }
    }
}
