//! Footage in memory that the archive has not kept yet, and how much of it there may be.
//!
//! A fragment is stored track after track, so all of it is here before any of it is written. Two
//! bounds hold for all uploads together. Uploads run ahead of the disk by [`MAX_AHEAD_BYTES`]: beyond
//! it, who has a fragment on its way waits for it. And of what is here at most, half is shared by who
//! comes first; the other half is every upload's in equal shares, so that one that sends a large
//! fragment is refused before many that send small ones are.

use parking_lot::Mutex;
use std::sync::Arc;

/// Fragments on their way to the disk, beyond which uploads wait for their own: 50 ms of a disk of
/// 600 MB/s. More would fill memory and keep that disk no busier.
pub const MAX_AHEAD_BYTES: u64 = 32 << 20;

/// What all uploads hold.
#[derive(Clone, Debug)]
pub struct Unkept {
    held: Arc<Mutex<Held>>,
    max_bytes: u64,
}

#[derive(Debug, Default)]
struct Held {
    uploads: u64,
    bytes: u64,
    /// Of these, in fragments that are on their way to the disk.
    in_flight_bytes: u64,
}

impl Unkept {
    /// `max_bytes` is what there may be at most, but for one receive buffer of each upload.
    pub fn new(max_bytes: u64) -> Self {
        Self { held: Arc::default(), max_bytes }
    }

    /// One more upload's part, until that is dropped.
    pub fn share(&self) -> Share {
        self.held.lock().uploads += 1;
        Share { unkept: self.clone(), bytes: 0, in_flight_bytes: 0 }
    }

    pub fn bytes(&self) -> u64 {
        self.held.lock().bytes
    }
}

/// What becomes of an upload, by what all of them hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may run ahead of the disk.
    Ahead,
    /// It may go on when its fragments are kept.
    Behind,
    /// It holds too much.
    Over,
}

/// What one upload holds.
#[derive(Debug)]
pub struct Share {
    unkept: Unkept,
    bytes: u64,
    in_flight_bytes: u64,
}

impl Share {
    /// Notes what the upload holds now, and answers what it may do.
    pub fn set(&mut self, arriving_bytes: u64, in_flight_bytes: u64) -> Room {
        let bytes = arriving_bytes.saturating_add(in_flight_bytes);
        let mut held = self.unkept.held.lock();
        held.bytes = (held.bytes - self.bytes).saturating_add(bytes);
        held.in_flight_bytes =
            (held.in_flight_bytes - self.in_flight_bytes).saturating_add(in_flight_bytes);
        (self.bytes, self.in_flight_bytes) = (bytes, in_flight_bytes);
        let half = self.unkept.max_bytes / 2;
        if held.bytes > half && bytes > half / held.uploads.max(1) {
            Room::Over
        } else if held.in_flight_bytes > MAX_AHEAD_BYTES {
            Room::Behind
        } else {
            Room::Ahead
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0, 0);
        self.unkept.held.lock().uploads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_least_is_refused_last() {
        let unkept = Unkept::new(200 << 20);
        let mut shares: Vec<Share> = (0..10).map(|_| unkept.share()).collect();
        // Nine hold the half that is anyone's.
        for share in &mut shares[..9] {
            assert_eq!(share.set(11 << 20, 0), Room::Ahead);
        }
        let small = &mut shares[9];
        assert_eq!(small.set(10 << 20, 0), Room::Ahead);
        assert_eq!(small.set(10 << 20 | 1, 0), Room::Over);
        small.set(10 << 20, 0);
        assert_eq!(shares[0].set(12 << 20, 0), Room::Over);
        assert!(unkept.bytes() <= 200 << 20);
        drop(shares);
        assert_eq!(unkept.bytes(), 0);
        assert_eq!(unkept.share().set(90 << 20, 0), Room::Ahead);
    }

    #[test]
    fn nobody_runs_ahead_of_a_disk_that_is_behind() {
        let unkept = Unkept::new(1 << 30);
        let (mut a, mut b) = (unkept.share(), unkept.share());
        assert_eq!(a.set(0, MAX_AHEAD_BYTES), Room::Ahead);
        assert_eq!(b.set(1 << 20, 1), Room::Behind);
        assert_eq!(a.set(1 << 20, 0), Room::Ahead);
        assert_eq!(b.set(1 << 20, 1), Room::Ahead);
    }
}
