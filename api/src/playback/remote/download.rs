//! MP4 files of remote footage: a short one is Kinesis's, and a longer one is written while its
//! fragments are read.

use super::fragments::{self, Packaged};
use crate::device::Stream;
use crate::playback::mp4::{MAX_CLIP_BYTES, MAX_CLIP_FRAGMENTS};
use crate::playback::token::{MediaToken, Span};
use crate::playback::{MediaError, Playback};
use crate::segment::TimeRange;
use crate::storage::aws::kinesis_video::{KinesisArchive, Refused};
use crate::storage::{ListedFragment, Media, RUN_TOLERANCE_MS};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use lookback_packaging::{TrackInit, muxed};
use std::sync::Arc;

/// Fragments that one download reads beside each other, and so what it holds of the media: at most 4
/// of 50 MB with the one that is sent, usually 4 MB. Kinesis lets five connections read a stream.
const READ_AHEAD: usize = 3;
const NS_PER_MS: i64 = 1_000_000;

/// A file that can only be sent from its beginning.
pub struct Download {
    /// In bytes, where it is known beforehand.
    pub len: Option<u64>,
    pub bytes: BoxStream<'static, Result<Bytes, MediaError>>,
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
        let (stream, fragments) = self.remote_fragments(token).await?;
        let (Some(first), Some(last)) = (fragments.first(), fragments.last()) else {
            return Err(MediaError::NotFound);
        };
        if is_clip(&fragments) {
            let range = TimeRange { start: first.start, end: last.start.plus_millis(1) };
            match archive.clip(&stream, range).await {
                Ok(clip) => {
                    let bytes = clip.bytes.map_err(MediaError::from).boxed();
                    return Ok(Some(Download { len: clip.len, bytes }));
                }
                // Kinesis looks at how a codec is set up more closely than players do.
                Err(Refused::MixedCodecs) => {}
                Err(refused) => return Err(refused.into()),
            }
        }
        Ok(Some(Download { len: None, bytes: joined(archive.clone(), stream, fragments) }))
    }

    /// The fragments that a session of a finished span opens, and their stream.
    pub(super) async fn remote_fragments(
        &self,
        token: &MediaToken,
    ) -> Result<(Stream, Arc<Vec<ListedFragment>>), MediaError> {
        let Span::OnDemand { range, .. } = token.span else { return Err(MediaError::NotFound) };
        let stream = self.stream_of(token).await?;
        let now = self.clock.now();
        let listed = self.listings.list(self.storage.archive(), &stream, range, now).await;
        let fragments = listed.map_err(|error| match error {
            crate::playback::SessionError::Storage(error) => Refused::Storage(error).into(),
            crate::playback::SessionError::Unavailable(_) => MediaError::NotFound,
        })?;
        Ok((stream, fragments))
    }

    pub(super) async fn stream_of(&self, token: &MediaToken) -> Result<Stream, MediaError> {
        let found = self.storage.catalog.streams_by_id(&[token.stream]).await?.pop().flatten();
        found.ok_or(MediaError::Refused)
    }
}

/// What was sent so far.
#[derive(Default)]
struct Joining {
    tracks: Vec<TrackInit>,
    sequence: u32,
    /// How much earlier the next fragment is in the file than it was recorded: holes are closed.
    earlier_ms: i64,
    end_ms: Option<i64>,
}

fn joined(
    archive: Arc<KinesisArchive>,
    stream: Stream,
    fragments: Arc<Vec<ListedFragment>>,
) -> BoxStream<'static, Result<Bytes, MediaError>> {
    let stream = Arc::new(stream);
    stream::iter(0..fragments.len())
        .map(move |index| {
            let (archive, stream, fragments) = (archive.clone(), stream.clone(), fragments.clone());
            async move {
                let Some(listed) = fragments.get(index) else { return Ok(None) };
                let read = fragments::read(&archive, &stream, &listed.id).await?;
                Ok::<_, MediaError>(read.map(|packaged| (packaged, listed.duration_ms)))
            }
        })
        .buffered(READ_AHEAD)
        // What has gone since is left out, as a hole would be.
        .try_filter_map(async |read| Ok(read))
        .scan(Joining::default(), |joining, read| {
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
            self.tracks.clone_from(&packaged.tracks);
            parts.push(muxed::header(&self.tracks.iter().collect::<Vec<_>>()));
        } else if !packaged.has(&self.tracks) {
            // The head of the file is sent: what follows would not be decoded.
            return Err(MediaError::Storage("the codec changes within a file".into()));
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
        let media = packaged.fragment(earlier_ns, self.sequence)?;
        parts.extend(media.into_parts());
        Ok(parts)
    }
}
