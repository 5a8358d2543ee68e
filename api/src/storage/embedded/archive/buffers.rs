//! Buffers that bodies are read into, used again once they are sent: neither made nor cleared anew.

use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;

/// Buffers kept for the next read: as many as reads run beside each other on a busy server.
const MAX_FREE: usize = 64;
/// A larger one, for a fragment of a very high bit rate, is not kept.
const MAX_KEPT_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
pub struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

/// A buffer on loan; goes back when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    len: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// A buffer of `len` bytes. What is in it is left over from earlier.
    pub fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let mut bytes = self.free.lock().pop().unwrap_or_default();
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        Buffer { bytes, len, home: self.clone() }
    }
}

impl Buffer {
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.home.free.lock();
        if free.len() < MAX_FREE && self.bytes.len() <= MAX_KEPT_BYTES {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}
