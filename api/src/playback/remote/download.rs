//! MP4 files of remote footage: a short one is Kinesis's, and a longer one is written while its
//! fragments are read.

use super::fragments::{self, AT_ONCE, Packaged};
use super::listings::Way;
use super::stretches::Stretches;
use crate::device::Stream;
use crate::playback::mp4::{MAX_CLIP_BYTES, MAX_CLIP_FRAGMENTS};
use crate::playback::token::{MediaToken, Span};
use crate::playback::{MediaError, Playback, SessionError, UnavailableCode};
use crate::segment::TimeRange;
use crate::storage::aws::kinesis_video::{KinesisArchive, Refused};
use crate::storage::{ListedFragment, Media, RUN_TOLERANCE_MS};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use lookback_packaging::muxed;
use std::sync::Arc;

const NS_PER_MS: i64 = 1_000_000;

/// A file that can only be sent from its beginning.
pub struct Download {
    /// In bytes, where it is known beforehand.
    pub len: Option<u64>,
    pub bytes: BoxStream<'static, Result<Bytes, MediaError>>,
}

/// What one file of fragments has room for; where there are some of another codec, the place of the
/// first of them.
pub fn file_of(stretches: &Stretches) -> Result<muxed::Tracks, usize> {
    let mut file = muxed::Tracks::default();
    let other = stretches.all.iter().find(|stretch| !file.add(&stretch.tracks));
    match other {
        Some(stretch) => Err(stretch.first),
        None => Ok(file),
    }
}

/// Whether Kinesis makes one file of these.
pub fn is_clip(fragments: &[ListedFragment]) -> bool {
    let bytes: u64 = fragments.iter().fold(0, |sum, one| sum.saturating_add(one.bytes));
    fragments.len() <= MAX_CLIP_FRAGMENTS && bytes <= MAX_CLIP_BYTES
}

impl Playback {
    /// The session's span as one file, where its footage lies in Kinesis Video Streams; none where it
    /// lies here.
    pub async fn download(&self, token: &MediaToken) -> Result<Option<Download>, MediaError> {
        let Media::Remote(archive) = &self.storage.media else { return Ok(None) };
        let (stream, way) = self.remote_way(token).await?;
        let (Some(first), Some(last)) = (way.fragments.first(), way.fragments.last()) else {
            return Err(MediaError::NotFound);
        };
        if is_clip(&way.fragments) {
            let range = TimeRange { start: first.start, end: last.start.plus_millis(1) };
            match archive.clip(&stream, range).await {
                Ok(clip) => {
                    let bytes = clip.bytes.map_err(MediaError::from).boxed();
                    return Ok(Some(Download { len: clip.len, bytes }));
                }
                // Kinesis makes no file of pictures whose size changes.
                Err(Refused::MixedCodecs) => {}
                Err(refused) => return Err(refused.into()),
            }
        }
        let stretches = way.stretches(archive, &stream).await?;
        // No session is given out for what one file cannot hold: the footage has changed since.
        let file = file_of(stretches).map_err(|_| MediaError::NotFound)?;
        Ok(Some(Download { len: None, bytes: joined(archive.clone(), stream, way, file) }))
    }

    /// The fragments that a session of a finished span opens, and their stream.
    pub(super) async fn remote_way(
        &self,
        token: &MediaToken,
    ) -> Result<(Stream, Arc<Way>), MediaError> {
        let Span::OnDemand { range, .. } = token.span else { return Err(MediaError::NotFound) };
        let stream = self.stream_of(token).await?;
        let archive = self.storage.archive();
        let listed = self.listings.list(archive, &stream, range, &self.clock).await;
        let way = listed.map_err(|error| match error {
            SessionError::Storage(error) => Refused::Storage(error).into(),
            SessionError::Unavailable(refused)
                if refused.code == UnavailableCode::BackendUnavailable =>
            {
                MediaError::Busy
            }
            SessionError::Unavailable(_) => MediaError::NotFound,
        })?;
        Ok((stream, way))
    }

    pub(super) async fn stream_of(&self, token: &MediaToken) -> Result<Stream, MediaError> {
        let found = self.storage.catalog.streams_by_id(&[token.stream]).await?.pop().flatten();
        found.ok_or(MediaError::Refused)
    }
}

/// What was sent so far.
#[derive(Default)]
struct Joining {
    file: muxed::Tracks,
    sequence: u32,
    /// How much earlier the next fragment is in the file than it was recorded: holes are closed.
    earlier_ms: i64,
    end_ms: Option<i64>,
}

/// Holds at most one fragment of 50 MB more than are read beside each other, usually 4 MB in all.
fn joined(
    archive: Arc<KinesisArchive>,
    stream: Stream,
    way: Arc<Way>,
    file: muxed::Tracks,
) -> BoxStream<'static, Result<Bytes, MediaError>> {
    let stream = Arc::new(stream);
    stream::iter(0..way.fragments.len())
        .map(move |index| {
            let (archive, stream, way) = (archive.clone(), stream.clone(), way.clone());
            async move {
                let Some(listed) = way.fragments.get(index) else { return Ok(None) };
                let read = fragments::read(&archive, &stream, &listed.id).await?;
                Ok::<_, MediaError>(read.map(|packaged| (packaged, listed.duration_ms)))
            }
        })
        .buffered(AT_ONCE)
        // What has gone since is left out, as a hole would be.
        .try_filter_map(async |read| Ok(read))
        .scan(Joining { file, ..Joining::default() }, |joining, read| {
            let parts = read.and_then(|(packaged, duration_ms)| joining.add(packaged, duration_ms));
            std::future::ready(Some(parts))
        })
        .map_ok(|parts| stream::iter(parts.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

impl Joining {
    fn add(&mut self, packaged: Packaged, duration_ms: u32) -> Result<Vec<Bytes>, MediaError> {
        let start_ms = packaged.start.as_millis();
        let mut parts = Vec::new();
        if self.sequence == 0 {
            self.earlier_ms = start_ms;
            parts.push(self.file.header());
        }
        if !self.file.have_room_for(&packaged.tracks) {
            // The head of the file is sent: what follows would not be decoded.
            let start = packaged.start;
            return Err(MediaError::Storage(format!("the codec changes within a file at {start}")));
        }
        if let Some(end_ms) = self.end_ms {
            let hole_ms = start_ms.saturating_sub(end_ms);
            if hole_ms > RUN_TOLERANCE_MS {
                self.earlier_ms = self.earlier_ms.saturating_add(hole_ms);
            }
        }
        self.end_ms = Some(start_ms.saturating_add(i64::from(duration_ms)));
        self.sequence = self.sequence.saturating_add(1);
        let earlier_ns = self.earlier_ms.saturating_mul(NS_PER_MS);
        let media = packaged.fragment(&self.file, earlier_ns, self.sequence)?;
        parts.extend(media.into_parts());
        Ok(parts)
    }
}
