//! Which uploads are open, and what outlives the connections of a producer session.

use super::timeline::ProducerSession;
use crate::id::{DeviceId, StreamId};
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Uploads that one stream may have open at once. A producer needs two while it changes its token,
/// and connections that it lost linger until they are noticed.
const MAX_UPLOADS_PER_STREAM: usize = 4;

/// Where clients are held to the rates of Kinesis Video Streams.
const MAX_UPLOADS_PER_STREAM_BY_QUOTA: usize = 1;

/// Streams whose producer sessions are remembered; all are forgotten where there are more, and found
/// again beside each stream's newest fragments.
const MAX_STREAMS: usize = 100_000;
/// Producer sessions of one stream: as many as may upload at once.
pub const MAX_SESSIONS_PER_STREAM: usize = MAX_UPLOADS_PER_STREAM;

/// How long uploads are refused at once after the disk was found full.
const RETRY_FULL_MS: i64 = 5_000;

/// The open uploads of this process.
#[derive(Debug, Default)]
pub struct Uploads {
    open: Arc<Mutex<Open>>,
    sessions: Mutex<HashMap<StreamId, VecDeque<ProducerSession>>>,
    /// When a fragment last found the disk full, until one finds room.
    full_at: Mutex<Option<Timestamp>>,
}

#[derive(Debug, Default)]
struct Open {
    by_stream: HashMap<StreamId, usize>,
    by_device: HashMap<DeviceId, usize>,
}

impl Uploads {
    /// Counts an upload until the answer is dropped; `None` where the stream has its share. By
    /// `has_quota` that is one, as Kinesis Video Streams has it.
    pub fn open(&self, device: DeviceId, stream: StreamId, has_quota: bool) -> Option<OpenUpload> {
        let most = if has_quota { MAX_UPLOADS_PER_STREAM_BY_QUOTA } else { MAX_UPLOADS_PER_STREAM };
        let mut open = self.open.lock();
        if open.by_stream.get(&stream).is_some_and(|count| *count >= most) {
            return None;
        }
        let of_stream = open.by_stream.entry(stream).or_default();
        *of_stream += 1;
        *open.by_device.entry(device).or_default() += 1;
        Some(OpenUpload { open: self.open.clone(), device, stream })
    }

    /// Whether any stream of the device is being uploaded.
    pub fn is_open(&self, device: DeviceId) -> bool {
        self.open.lock().by_device.contains_key(&device)
    }

    /// Uploads that are open, of all devices.
    pub fn count(&self) -> usize {
        self.open.lock().by_device.values().sum()
    }

    /// Whether uploads are refused for want of room. One is let try again after
    /// [`RETRY_FULL_MS`].
    pub fn is_full(&self, now: Timestamp) -> bool {
        self.full_at.lock().is_some_and(|at| now.millis_since(at).abs() < RETRY_FULL_MS)
    }

    pub fn note_full(&self, now: Timestamp) {
        *self.full_at.lock() = Some(now);
    }

    pub fn note_room(&self) {
        *self.full_at.lock() = None;
    }

    /// The producer sessions that uploaded to the stream, the newest first.
    pub fn producer_sessions(&self, stream: StreamId) -> Vec<ProducerSession> {
        let sessions = self.sessions.lock();
        sessions.get(&stream).map(|known| known.iter().cloned().collect()).unwrap_or_default()
    }

    /// Remembers it for when its producer connects again.
    pub fn note_producer_session(&self, stream: StreamId, session: ProducerSession) {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= MAX_STREAMS && !sessions.contains_key(&stream) {
            sessions.clear();
        }
        let known = sessions.entry(stream).or_default();
        known.retain(|known| known.segment_uid != session.segment_uid);
        known.truncate(MAX_SESSIONS_PER_STREAM - 1);
        known.push_front(session);
    }
}

/// One open upload.
#[derive(Debug)]
pub struct OpenUpload {
    open: Arc<Mutex<Open>>,
    device: DeviceId,
    stream: StreamId,
}

impl Drop for OpenUpload {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        release(&mut open.by_stream, &self.stream);
        release(&mut open.by_device, &self.device);
    }
}

fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_its_share_and_gets_it_back() {
        let now = Timestamp::from_millis(0);
        let (device, stream) = (DeviceId::new(now), StreamId::new(now));
        let uploads = Uploads::default();
        let open: Vec<_> =
            std::iter::from_fn(|| uploads.open(device, stream, false)).take(100).collect();
        assert_eq!(open.len(), MAX_UPLOADS_PER_STREAM);
        let by_quota = StreamId::new(now);
        let first = uploads.open(device, by_quota, true);
        assert!(first.is_some() && uploads.open(device, by_quota, true).is_none());
        drop(first);
        assert!(uploads.open(device, StreamId::new(now), false).is_some());
        assert!(uploads.is_open(device));
        drop(open);
        assert!(!uploads.is_open(device));
        assert!(uploads.open(device, stream, false).is_some());
    }

    #[test]
    fn a_few_producer_sessions_are_remembered_the_newest_first() {
        let stream = StreamId::new(Timestamp::from_millis(0));
        let uploads = Uploads::default();
        for uid in [1, 2, 3, 1, 4, 5, 6, 4] {
            let session = ProducerSession {
                segment_uid: [uid; 16],
                base_ms: 0,
                shift_ms: 0,
                newest_timecode_ms: 0,
            };
            uploads.note_producer_session(stream, session);
        }
        let known = uploads.producer_sessions(stream);
        assert_eq!(known.iter().map(|s| s.segment_uid[0]).collect::<Vec<_>>(), [4, 6, 5, 1]);
    }
}
