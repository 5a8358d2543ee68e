//! Everything that can be set, with its default.

use crate::credentials::Credentials;
use crate::frame::Track;
use crate::session::Event;
use std::fmt;
use std::time::Duration;

/// What a producer is to do. [`Config::new`] has the defaults; each method changes one of them.
pub struct Config {
    pub(crate) endpoint: String,
    pub(crate) credentials: Credentials,
    pub(crate) stream: String,
    pub(crate) media: Option<MediaTarget>,
    pub(crate) announce: bool,
    pub(crate) roots: Roots,
    pub(crate) tracks: Vec<Track>,
    pub(crate) fragment: Duration,
    pub(crate) buffer: BufferLimits,
    pub(crate) timing: Timing,
    pub(crate) on_event: Box<dyn FnMut(Event) + Send>,
}

/// Where media goes when it is known beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaTarget {
    /// An http or https URL; `/putMedia` is appended.
    pub endpoint: String,
    /// The name that PutMedia knows the stream by.
    pub media_stream_name: String,
}

/// Which certificates a TLS server is trusted by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// Mozilla's, built in.
    #[default]
    WebPki,
    /// One or more certificates, PEM.
    Pem(Vec<u8>),
}

/// How much footage waits for the network; whichever is reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLimits {
    /// Of media as it is sent; 16 MiB by default.
    pub bytes: usize,
    /// Of footage, gaps left out; 120 s by default.
    pub duration: Duration,
}

impl Default for BufferLimits {
    fn default() -> Self {
        Self { bytes: 16 << 20, duration: Duration::from_secs(120) }
    }
}

/// How patient a producer is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// Neither an acknowledgement nor room to write for this long: the connection is given up.
    /// 15 s by default.
    pub stalled_after: Duration,
    /// A fragment was sent whole and nothing became PERSISTED for this long: the same. 60 s by
    /// default, since a deep queue in the network is no fault.
    pub persist_within: Duration,
    /// A connection is replaced between two fragments at this age; Kinesis Video Streams ends them
    /// at 45 min. 40 min by default.
    pub rotate_after: Duration,
    /// How long a connection that is to end may take over its last acknowledgements. 10 s by
    /// default.
    pub drain_within: Duration,
    /// A connection with nothing to send is closed after this; the service would at 30 s. 25 s by
    /// default.
    pub idle_after: Duration,
    /// A fragment that got no frame for this long is ended, so that it is kept; the camera then has
    /// to go on with a key frame. 10 s by default.
    pub end_fragment_after: Duration,
    /// The longest wait before the first attempt to reconnect. 0.5 s by default.
    pub backoff_first: Duration,
    /// The longest wait before any attempt. 10 s by default.
    pub backoff_cap: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            stalled_after: Duration::from_secs(15),
            persist_within: Duration::from_secs(60),
            rotate_after: Duration::from_secs(40 * 60),
            drain_within: Duration::from_secs(10),
            idle_after: Duration::from_secs(25),
            end_fragment_after: Duration::from_secs(10),
            backoff_first: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// `endpoint` is the service's own URL, such as `https://lookback.example`.
    pub fn new(endpoint: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            endpoint: endpoint.into(),
            credentials,
            stream: "main".to_owned(),
            media: None,
            announce: true,
            roots: Roots::default(),
            tracks: Vec::new(),
            fragment: Duration::from_secs(2),
            buffer: BufferLimits::default(),
            timing: Timing::default(),
            on_event: Box::new(|_| {}),
        }
    }

    /// The device's stream, by name; `main` by default.
    #[must_use]
    pub fn stream(mut self, name: impl Into<String>) -> Self {
        self.stream = name.into();
        self
    }

    /// Sends media there without asking the service where to.
    #[must_use]
    pub fn media(mut self, target: MediaTarget) -> Self {
        self.media = Some(target);
        self
    }

    /// Whether segments are announced to the service; they are by default.
    #[must_use]
    pub fn announce(mut self, announce: bool) -> Self {
        self.announce = announce;
        self
    }

    #[must_use]
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Adds a track: the first is number 1. At most 3, at least 1. Fragments are cut at key frames
    /// of the first video track, or, without one, anywhere in the first track.
    #[must_use]
    pub fn track(mut self, track: Track) -> Self {
        self.tracks.push(track);
        self
    }

    /// A fragment ends at the first key frame that is this far from its start. 2 s by default;
    /// footage is seen, kept and lost by whole fragments.
    #[must_use]
    pub fn fragment(mut self, duration: Duration) -> Self {
        self.fragment = duration;
        self
    }

    #[must_use]
    pub fn buffer(mut self, limits: BufferLimits) -> Self {
        self.buffer = limits;
        self
    }

    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Told on the producer's own thread what happens; must not block for long.
    #[must_use]
    pub fn on_event(mut self, on_event: impl FnMut(Event) + Send + 'static) -> Self {
        self.on_event = Box::new(on_event);
        self
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("endpoint", &self.endpoint)
            .field("stream", &self.stream)
            .field("media", &self.media)
            .field("tracks", &self.tracks.len())
            .finish_non_exhaustive()
    }
}
