//! What goes wrong, by where it is told: at the start, at a frame, or later as an event.

use lookback_wire::Timestamp;

/// Why a producer was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("endpoint {endpoint} is invalid: {cause}")]
    Endpoint { endpoint: String, cause: String },
    #[error("{field} is invalid: {cause}")]
    Config { field: &'static str, cause: String },
    #[error("the root certificates are invalid: {0}")]
    Roots(String),
    #[error("the producer's thread did not start: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a frame was not taken. What was taken before it is not touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("track {0} was not configured")]
    UnknownTrack(u64),
    #[error("a frame of track {0} is empty")]
    Empty(u64),
    #[error("a frame of track {track} has {bytes} bytes, more than {limit}")]
    TooLarge { track: u64, bytes: usize, limit: usize },
    #[error("capture time {0} is before 1970 or after 9999")]
    Time(Timestamp),
    /// Such as an Annex B key frame without parameter sets.
    #[error("a frame of track {track} is malformed: {cause}")]
    Malformed { track: u64, cause: String },
    #[error("the producer was stopped")]
    Stopped,
}

/// Why a call or a connection failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("no token: {0}")]
    Credentials(String),
    #[error("{url} is not an http or https URL: {cause}")]
    Url { url: String, cause: String },
    #[error("{address} did not answer: {cause}")]
    Connect { address: String, cause: String },
    #[error("{what} took longer than {seconds} s")]
    TimedOut { what: &'static str, seconds: u64 },
    #[error("{what} was refused with status {status}: {message}")]
    Refused { what: &'static str, status: u16, message: String },
    #[error("the answer to {what} makes no sense: {cause}")]
    Answer { what: &'static str, cause: String },
    /// GraphQL errors, or a mistake named by `userErrors`.
    #[error("{what} failed: {message}")]
    Failed { what: &'static str, message: String },
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The service ended its answer.
    #[error("the service closed the connection")]
    Closed,
    /// No acknowledgement came for what had been sent.
    #[error("no acknowledgement for {seconds} s")]
    Stalled { seconds: u64 },
}

impl LinkError {
    /// Whether only a human can mend it: the token or the stream is not accepted.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { status: 401 | 403 | 404, .. })
    }
}
