//! Acknowledgements, as PutMedia's response carries them (KVS API, PutMedia, "Response Syntax"):
//! flat JSON objects, one an HTTP chunk, each ended by a newline.
//!
//! The documentation's sample has them inside an `Acknowledgement` object; the service never sends
//! that, and no producer reads it.

use serde::Deserialize;
use std::fmt::{self, Write};

/// Amazon's C producer refuses a chunk of more bytes, and with it all acknowledgements in it.
pub const ACK_BYTES_MAX: usize = 1024;

/// A fragment's number: rises in the order of ingestion within a stream, never reused.
/// Written as 20 decimal digits, so that its text sorts as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentNumber(pub u64);

impl fmt::Display for FragmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}", self.0)
    }
}

/// What went wrong with an upload, by KVS's error ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorId {
    StreamReadError,
    MaxFragmentSizeReached,
    MaxFragmentDurationReached,
    MaxConnectionDurationReached,
    FragmentTimecodeLesserThanPrevious,
    InvalidMkvData,
    InvalidProducerTimestamp,
    StreamNotActive,
    FragmentMetadataLimitReached,
    TrackNumberMismatch,
    FramesMissingForTrack,
    MoreThanAllowedTracksFound,
    StreamDeleted,
    InternalError,
    ArchivalError,
    /// One that this version does not know.
    Other(u32),
}

const ERROR_IDS: [(ErrorId, u32, &str); 15] = [
    (ErrorId::StreamReadError, 4000, "STREAM_READ_ERROR"),
    (ErrorId::MaxFragmentSizeReached, 4001, "MAX_FRAGMENT_SIZE_REACHED"),
    (ErrorId::MaxFragmentDurationReached, 4002, "MAX_FRAGMENT_DURATION_REACHED"),
    (ErrorId::MaxConnectionDurationReached, 4003, "MAX_CONNECTION_DURATION_REACHED"),
    (ErrorId::FragmentTimecodeLesserThanPrevious, 4004, "FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS"),
    (ErrorId::InvalidMkvData, 4006, "INVALID_MKV_DATA"),
    (ErrorId::InvalidProducerTimestamp, 4007, "INVALID_PRODUCER_TIMESTAMP"),
    (ErrorId::StreamNotActive, 4008, "STREAM_NOT_ACTIVE"),
    (ErrorId::FragmentMetadataLimitReached, 4009, "FRAGMENT_METADATA_LIMIT_REACHED"),
    (ErrorId::TrackNumberMismatch, 4010, "TRACK_NUMBER_MISMATCH"),
    (ErrorId::FramesMissingForTrack, 4011, "FRAMES_MISSING_FOR_TRACK"),
    (ErrorId::MoreThanAllowedTracksFound, 4012, "MORE_THAN_ALLOWED_TRACKS_FOUND"),
    (ErrorId::StreamDeleted, 4507, "STREAM_DELETED"),
    (ErrorId::InternalError, 5000, "INTERNAL_ERROR"),
    (ErrorId::ArchivalError, 5001, "ARCHIVAL_ERROR"),
];

impl ErrorId {
    pub fn from_number(number: u32) -> Self {
        let known = ERROR_IDS.iter().find(|(_, known, _)| *known == number);
        known.map_or(Self::Other(number), |(id, _, _)| *id)
    }

    /// Such as 4006.
    pub fn number(self) -> u32 {
        match (self, self.row()) {
            (Self::Other(number), _) => number,
            (_, Some((_, number, _))) => *number,
            (_, None) => 0,
        }
    }

    /// Such as `INVALID_MKV_DATA`.
    pub fn code(self) -> &'static str {
        self.row().map_or("UNKNOWN_ERROR", |(_, _, code)| code)
    }

    /// Whether the same fragment may succeed when it is sent again; otherwise a producer skips it.
    pub fn is_transient(self) -> bool {
        match self {
            Self::StreamReadError
            | Self::MaxConnectionDurationReached
            | Self::InternalError
            | Self::ArchivalError => true,
            Self::Other(number) => !(4000..5000).contains(&number),
            _ => false,
        }
    }

    fn row(self) -> Option<&'static (Self, u32, &'static str)> {
        ERROR_IDS.iter().find(|(id, _, _)| *id == self)
    }
}

/// As `4006 INVALID_MKV_DATA`.
impl fmt::Display for ErrorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number(), self.code())
    }
}

/// One acknowledgement. Timecodes are the cluster's own, in its units.
///
/// The service writes [`FragmentNumber`]s; what a producer reads is text, since Kinesis Video
/// Streams has numbers of 47 digits and calls them opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack<N = FragmentNumber> {
    Buffering { timecode: u64, number: N },
    Received { timecode: u64, number: N },
    Persisted { timecode: u64, number: N },
    Error { timecode: Option<u64>, number: Option<N>, error: ErrorId },
    Idle,
}

impl<N: fmt::Display> Ack<N> {
    /// A JSON object and a newline, below [`ACK_BYTES_MAX`] bytes: one HTTP chunk.
    ///
    /// Producers read no escapes, so a number is printable ASCII without quotes and backslashes, up
    /// to 128 characters.
    pub fn write(&self) -> String {
        let (event, timecode, number) = match self {
            Self::Buffering { timecode, number } => ("BUFFERING", Some(timecode), Some(number)),
            Self::Received { timecode, number } => ("RECEIVED", Some(timecode), Some(number)),
            Self::Persisted { timecode, number } => ("PERSISTED", Some(timecode), Some(number)),
            Self::Error { timecode, number, .. } => ("ERROR", timecode.as_ref(), number.as_ref()),
            Self::Idle => ("IDLE", None, None),
        };
        let mut out = format!(r#"{{"EventType":"{event}""#);
        // Writing to a String does not fail.
        if let Some(timecode) = timecode {
            let _ = write!(out, r#","FragmentTimecode":{timecode}"#);
        }
        if let Some(number) = number {
            let _ = write!(out, r#","FragmentNumber":"{number}""#);
        }
        if let Self::Error { error, .. } = self {
            let (id, code) = (error.number(), error.code());
            let _ = write!(out, r#","ErrorId":{id},"ErrorCode":"{code}""#);
        }
        out.push_str("}\n");
        out
    }
}

/// Why a part of a response is no acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    #[error("acknowledgement of more than {ACK_BYTES_MAX} bytes")]
    TooLong,
    #[error("acknowledgement {text:?}: {cause}")]
    Invalid { text: String, cause: String },
}

/// Reads acknowledgements from a response as it arrives, cut anywhere. What lies between objects
/// is passed over. An error concerns one object; the next one is read as if it were not there.
#[derive(Debug, Default)]
pub struct AckParser {
    received: Vec<u8>,
    /// Up to where `received` was read.
    read: usize,
    object: Vec<u8>,
    too_long: bool,
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl AckParser {
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands over bytes. Then call [`AckParser::next`] until it has no more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.received.drain(..self.read);
        self.read = 0;
        self.received.extend_from_slice(bytes);
    }

    /// The next acknowledgement, or `None` until more bytes are pushed.
    #[allow(clippy::should_implement_trait)] // an iterator's `None` would mean the end
    pub fn next(&mut self) -> Result<Option<Ack<String>>, AckError> {
        while let Some(&byte) = self.received.get(self.read) {
            self.read += 1;
            if self.take(byte) {
                let object = std::mem::take(&mut self.object);
                if std::mem::take(&mut self.too_long) {
                    return Err(AckError::TooLong);
                }
                return parse(&object).map(Some).map_err(|cause| AckError::Invalid {
                    text: String::from_utf8_lossy(&object).into_owned(),
                    cause,
                });
            }
        }
        Ok(None)
    }

    /// Takes one byte; `true` where it ends an object.
    fn take(&mut self, byte: u8) -> bool {
        if self.depth == 0 && byte != b'{' {
            return false;
        }
        if self.object.len() < ACK_BYTES_MAX {
            self.object.push(byte);
        } else {
            self.too_long = true;
        }
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' => self.depth = self.depth.saturating_add(1),
            b'}' => {
                self.depth -= 1;
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Object {
    event_type: String,
    fragment_timecode: Option<u64>,
    fragment_number: Option<Number>,
    error_id: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Plain(u64),
}

/// Kinesis Video Streams documents 1 to 128 digits; others' numbers are let through where they can
/// be written again.
fn is_fragment_number(text: &str) -> bool {
    const CHARACTERS_MAX: usize = 128;
    (1..=CHARACTERS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

fn parse(object: &[u8]) -> Result<Ack<String>, String> {
    let object: Object = serde_json::from_slice(object).map_err(|cause| cause.to_string())?;
    let number = object.fragment_number.map(|number| match number {
        Number::Text(number) => number,
        Number::Plain(number) => number.to_string(),
    });
    if number.as_deref().is_some_and(|number| !is_fragment_number(number)) {
        return Err("FragmentNumber is not 1 to 128 printable characters".into());
    }
    let timecode = object.fragment_timecode;
    let fragment = || {
        let timecode = timecode.ok_or("FragmentTimecode is missing")?;
        let number = number.clone().ok_or("FragmentNumber is missing")?;
        Ok::<_, String>((timecode, number))
    };
    match object.event_type.as_str() {
        "BUFFERING" => fragment().map(|(timecode, number)| Ack::Buffering { timecode, number }),
        "RECEIVED" => fragment().map(|(timecode, number)| Ack::Received { timecode, number }),
        "PERSISTED" => fragment().map(|(timecode, number)| Ack::Persisted { timecode, number }),
        "ERROR" => {
            let error = ErrorId::from_number(object.error_id.ok_or("ErrorId is missing")?);
            Ok(Ack::Error { timecode, number, error })
        }
        "IDLE" => Ok(Ack::Idle),
        other => Err(format!("EventType {other:?} is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NUMBER: FragmentNumber = FragmentNumber(42);

    fn read(bytes: &[u8], cut: usize) -> Vec<Result<Ack<String>, AckError>> {
        let mut parser = AckParser::new();
        let mut acks = Vec::new();
        for part in bytes.chunks(cut.max(1)) {
            parser.push(part);
            while let Some(ack) = parser.next().transpose() {
                acks.push(ack);
            }
        }
        acks
    }

    #[test]
    fn writes_what_kinesis_writes() {
        let check = |ack: Ack, expected: &str| {
            assert_eq!(ack.write(), expected);
            assert!(ack.write().len() < ACK_BYTES_MAX);
        };
        check(
            Ack::Buffering { timecode: 1663277247152, number: NUMBER },
            "{\"EventType\":\"BUFFERING\",\"FragmentTimecode\":1663277247152,\
             \"FragmentNumber\":\"00000000000000000042\"}\n",
        );
        check(
            Ack::Error { timecode: None, number: None, error: ErrorId::InvalidMkvData },
            "{\"EventType\":\"ERROR\",\"ErrorId\":4006,\"ErrorCode\":\"INVALID_MKV_DATA\"}\n",
        );
        check(
            Ack::Error {
                timecode: Some(u64::MAX),
                number: Some(FragmentNumber(u64::MAX)),
                error: ErrorId::Other(u32::MAX),
            },
            "{\"EventType\":\"ERROR\",\"FragmentTimecode\":18446744073709551615,\
             \"FragmentNumber\":\"18446744073709551615\",\"ErrorId\":4294967295,\
             \"ErrorCode\":\"UNKNOWN_ERROR\"}\n",
        );
        check(Ack::Idle, "{\"EventType\":\"IDLE\"}\n");
    }

    #[test]
    fn reads_in_any_cut() {
        let number = "91343852333181432511524306419788296366724229586";
        let check = |text: &str, expected: &[Result<Ack<String>, &str>]| {
            for cut in 1..=text.len() {
                let acks = read(text.as_bytes(), cut);
                assert_eq!(acks.len(), expected.len(), "{text} by {cut}: {acks:?}");
                for (ack, expected) in acks.iter().zip(expected) {
                    match (ack, expected) {
                        (Ok(ack), Ok(expected)) => assert_eq!(ack, expected),
                        (Err(error), Err(part)) => {
                            assert!(error.to_string().contains(part), "{error}");
                        }
                        _ => panic!("{text} by {cut}: {ack:?}, not {expected:?}"),
                    }
                }
            }
        };
        let persisted = || Ok(Ack::Persisted { timecode: 7, number: number.to_string() });
        let ack = format!(
            r#"{{"EventType":"PERSISTED","FragmentTimecode":7,"FragmentNumber":"{number}"}}"#
        );
        check(&format!("{ack}\r\n{ack}{ack}"), &[persisted(), persisted(), persisted()]);
        check(r#"{"New":{"a":["}",{}]},"EventType":"IDLE","Text":"\"}{"}"#, &[Ok(Ack::Idle)]);
        check(
            r#"{"EventType":"RECEIVED","FragmentTimecode":0,"FragmentNumber":17}"#,
            &[Ok(Ack::Received { timecode: 0, number: "17".into() })],
        );
        check(
            r#"{"EventType":"ERROR","ErrorCode":"INVALID_MKV_DATA","ErrorId":4006}"#,
            &[Ok(Ack::Error { timecode: None, number: None, error: ErrorId::InvalidMkvData })],
        );
        check(
            r#"{"EventType":"ERROR","ErrorId":4999}{"EventType":"ERROR"}"#,
            &[
                Ok(Ack::Error { timecode: None, number: None, error: ErrorId::Other(4999) }),
                Err("ErrorId is missing"),
            ],
        );
        check(&format!(r#"{{"EventType":"DONE"}}{ack}"#), &[Err("\"DONE\""), persisted()]);
        check(r#"{"EventType":"BUFFERING"}"#, &[Err("FragmentTimecode is missing")]);
        check(
            r#"{"EventType":"PERSISTED","FragmentTimecode":-1,"FragmentNumber":"1"}"#,
            &[Err("-1")],
        );
        check(r#"{"EventType":"IDLE","EventType":"IDLE"}"#, &[Err("duplicate field")]);
        check(
            r#"{"EventType":"RECEIVED","FragmentTimecode":0,"FragmentNumber":"\""}"#,
            &[Err("FragmentNumber is not")],
        );
        check("Service Unavailable", &[]);
    }

    #[test]
    fn an_endless_object_takes_no_more_memory() {
        let text = format!(r#"{{"EventType":"{}"}}{{"EventType":"IDLE"}}"#, "x".repeat(1 << 20));
        assert_eq!(read(text.as_bytes(), 999), [Err(AckError::TooLong), Ok(Ack::Idle)]);
    }

    #[test]
    fn error_ids_go_both_ways() {
        for (id, number, code) in ERROR_IDS {
            assert_eq!(ErrorId::from_number(number), id);
            assert_eq!(id.to_string(), format!("{number} {code}"));
        }
        assert_eq!(ErrorId::from_number(4005), ErrorId::Other(4005));
        assert!(ErrorId::Other(7000).is_transient() && !ErrorId::Other(4500).is_transient());
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(
            timecode: u64,
            number: u64,
            id in 4000_u32..5100,
            kind in 0..5,
            cut in 1_usize..200,
        ) {
            let number = FragmentNumber(number);
            let text = number.to_string();
            let error = ErrorId::from_number(id);
            let (ack, expected) = match kind {
                0 => (
                    Ack::Buffering { timecode, number },
                    Ack::Buffering { timecode, number: text },
                ),
                1 => (
                    Ack::Received { timecode, number },
                    Ack::Received { timecode, number: text },
                ),
                2 => (
                    Ack::Persisted { timecode, number },
                    Ack::Persisted { timecode, number: text },
                ),
                3 => (
                    Ack::Error { timecode: Some(timecode), number: Some(number), error },
                    Ack::Error { timecode: Some(timecode), number: Some(text), error },
                ),
                _ => (Ack::Idle, Ack::Idle),
            };
            prop_assert_eq!(read(ack.write().as_bytes(), cut), [Ok(expected)]);
        }

        #[test]
        fn never_panics(bytes: Vec<u8>, cut in 1_usize..50) {
            read(&bytes, cut);
        }
    }
}
