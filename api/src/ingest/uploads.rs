//! Which uploads are open, and what outlives a connection of one producer session.

use crate::id::{DeviceId, StreamId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Uploads that one stream may have open at once. A producer needs two while it changes its token,
/// and connections that it lost linger until they are noticed.
const MAX_UPLOADS_PER_STREAM: usize = 4;

/// The open uploads of this process.
#[derive(Debug, Default)]
pub struct Uploads {
    open: Arc<Mutex<Open>>,
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
