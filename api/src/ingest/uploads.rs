//! Which uploads are open, and what outlives a connection of one producer session.

use super::timeline::ProducerSession;
use crate::id::{DeviceId, StreamId};
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Uploads that one stream may have open at once. A producer needs two while it changes its token,
/// and connections that it lost linger until they are noticed.
const MAX_UPLOADS_PER_STREAM: usize = 4;

/// Producer sessions remembered, one a stream; all are forgotten where there are more, and found
/// again beside the stream's newest fragment.
const MAX_SESSIONS: usize = 100_000;

/// How long uploads are refused at once after the disk was found full.
const RETRY_FULL_MS: i64 = 5_000;

/// The open uploads of this process.
#[derive(Debug, Default)]
pub struct Uploads {
    open: Arc<Mutex<Open>>,
    sessions: Mutex<HashMap<StreamId, ProducerSession>>,
    /// When a fragment last found the disk full, until one finds room.
    full_at: Mutex<Option<Timestamp>>,
}

#[derive(Debug, Default)]
struct Open {
    by_stream: HashMap<StreamId, usize>,
    by_device: HashMap<DeviceId, usize>,
}

impl Uploads {
    /// Counts an upload until the answer is dropped; `None` where the stream has its share.
    pub fn open(&self, device: DeviceId, stream: StreamId) -> Option<OpenUpload> {
        let mut open = self.open.lock();
        let of_stream = open.by_stream.entry(stream).or_default();
        if *of_stream >= MAX_UPLOADS_PER_STREAM {
            return None;
        }
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

    /// The producer session that uploaded to the stream last.
    pub fn producer_session(&self, stream: StreamId) -> Option<ProducerSession> {
        self.sessions.lock().get(&stream).cloned()
    }

    /// Remembers it for when its producer connects again.
    pub fn note_producer_session(&self, stream: StreamId, session: ProducerSession) {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(&stream) {
            sessions.clear();
        }
        sessions.insert(stream, session);
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
        let open: Vec<_> = std::iter::from_fn(|| uploads.open(device, stream)).take(100).collect();
        assert_eq!(open.len(), MAX_UPLOADS_PER_STREAM);
        assert!(uploads.open(device, StreamId::new(now)).is_some());
        assert!(uploads.is_open(device));
        drop(open);
        assert!(!uploads.is_open(device));
        assert!(uploads.open(device, stream).is_some());
    }
}
