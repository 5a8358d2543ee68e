//! A disk in memory whose power can be cut between any two operations, and in the middle of a
//! write: what was not synced is then lost, kept, or torn into sectors, by chance.

use super::disk::{Disk, DiskFile};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Chance that is the same for the same seed (SplitMix64).
#[derive(Debug)]
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn percent(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }
}

#[derive(Debug, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    /// What programs see: files, and directories as `None`.
    names: BTreeMap<PathBuf, Option<usize>>,
    /// What is on the platter.
    durable_names: BTreeMap<PathBuf, Option<usize>>,
    /// Operations until the power goes.
    left: Option<u64>,
    is_off: bool,
    /// Bytes that still fit.
    room: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

impl SimulatedDisk {
    /// The power goes with the operation after `operations` more.
    pub fn cut_after(&self, operations: u64) {
        self.state.lock().left = Some(operations);
    }

    pub fn never_cut(&self) {
        self.state.lock().left = None;
    }

    /// As after a kill in place of a power cut: what was not synced is still seen, and no safer.
    pub fn after_kill(&self) {
        let mut state = self.state.lock();
        state.is_off = false;
        state.left = None;
    }

    /// Lets no more than `bytes` be written.
    pub fn limit(&self, bytes: Option<u64>) {
        self.state.lock().room = bytes;
    }

    pub fn is_off(&self) -> bool {
        self.state.lock().is_off
    }

    /// All that programs see, for comparing.
    pub fn contents(&self) -> BTreeMap<PathBuf, usize> {
        let state = self.state.lock();
        let len = |inode: usize| state.inodes[inode].seen.len();
        state
            .names
            .iter()
            .filter_map(|(path, inode)| Some((path.clone(), len((*inode)?))))
            .collect()
    }

    /// The disk as the machine finds it when the power is back.
    pub fn after_power_cut(&self, chance: &mut Chance) -> SimulatedDisk {
        let state = self.state.lock();
        // All, none, or about half of what was under way.
        let kept_of_hundred = [0, 50, 90, 100][chance.below(4) as usize];
        let mut names = state.durable_names.clone();
        let changed: BTreeSet<&PathBuf> =
            state.names.keys().chain(state.durable_names.keys()).collect();
        for path in changed {
            if state.names.get(path) != state.durable_names.get(path)
                && chance.percent(kept_of_hundred)
            {
                match state.names.get(path) {
                    Some(inode) => names.insert(path.clone(), *inode),
                    None => names.remove(path),
                };
            }
        }
        // A name in a directory that was lost is lost with it.
        let all = names.clone();
        names.retain(|path, _| {
            path.ancestors().skip(1).all(|dir| dir.as_os_str().is_empty() || all.contains_key(dir))
        });
        let inodes = state.inodes.iter().map(|inode| inode.torn(kept_of_hundred, chance)).collect();
        let durable_names = names.clone();
        SimulatedDisk {
            state: Arc::new(Mutex::new(State { inodes, names, durable_names, ..State::default() })),
        }
    }
}

impl Inode {
    fn torn(&self, kept_of_hundred: u64, chance: &mut Chance) -> Inode {
        let mut data = self.durable.clone();
        for change in &self.pending {
            match change {
                Change::Truncate(len) if chance.percent(kept_of_hundred) => {
                    data.resize(*len as usize, 0);
                }
                Change::Truncate(_) => {}
                Change::Write(offset, bytes) => {
                    let mut at = *offset as usize;
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let (sector, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                        if chance.percent(kept_of_hundred) {
                            data.resize(data.len().max(at + sector.len()), 0);
                            data[at..at + sector.len()].copy_from_slice(sector);
                        }
                        at += sector.len();
                        rest = after;
                    }
                }
            }
        }
        Inode { seen: data.clone(), durable: data, pending: Vec::new() }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let at = offset as usize;
        self.seen.resize(self.seen.len().max(at + bytes.len()), 0);
        self.seen[at..at + bytes.len()].copy_from_slice(bytes);
        self.pending.push(Change::Write(offset, bytes.to_vec()));
    }
}

impl State {
    /// Before each operation that changes something: whether there is power for it.
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.left {
            _ if self.is_off => {}
            Some(0) => self.is_off = true,
            Some(left) => *left -= 1,
            None => {}
        }
        self.powered()
    }

    fn powered(&self) -> io::Result<()> {
        if self.is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct SimulatedFile {
    state: Arc<Mutex<State>>,
    inode: usize,
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.spend()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.names.insert(path.to_owned(), Some(inode));
        Ok(Arc::new(SimulatedFile { state: self.state.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state.lock();
        state.powered()?;
        let inode = state.names.get(path).copied().flatten().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimulatedFile { state: self.state.clone(), inode }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state.lock();
        state.spend()?;
        Ok(state.names.insert(path.to_owned(), None).is_none())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.spend()?;
        let within = |name: &PathBuf| name.parent() == Some(path);
        let state = &mut *state;
        state.durable_names.retain(|name, _| !within(name));
        let seen = state.names.iter().filter(|(name, _)| within(name));
        state.durable_names.extend(seen.map(|(name, inode)| (name.clone(), *inode)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.spend()?;
        state.names.remove(path).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.powered()?;
        let within = state.names.keys().filter(|name| name.parent() == Some(path));
        Ok(within.filter_map(|name| Some(name.file_name()?.to_str()?.to_owned())).collect())
    }

    /// Others write to the disk, too: what room there seemed to be may be gone.
    fn room(&self, _path: &Path, _min_free_bytes: Option<u64>) -> io::Result<u64> {
        self.state.lock().powered().map(|()| u64::MAX)
    }
}

impl DiskFile for SimulatedFile {
    fn write_at(&self, parts: &[Bytes], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let has_power = state.spend();
        let bytes = parts.concat();
        let room = state.room.unwrap_or(u64::MAX).min(bytes.len() as u64) as usize;
        state.room = state.room.map(|left| left - room as u64);
        // With the power gone in the middle of it, or no room, a part may have been written.
        let written = if has_power.is_ok() { room } else { bytes.len() / 2 };
        state.inodes[self.inode].write(offset, &bytes[..written]);
        has_power?;
        if room < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state.lock();
        state.powered()?;
        let data = state.inodes[self.inode].seen.get(offset as usize..).unwrap_or_default();
        let len = data.len().min(buffer.len());
        buffer[..len].copy_from_slice(&data[..len]);
        Ok(len)
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.state.lock();
        state.powered()?;
        Ok(state.inodes[self.inode].seen.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.spend()?;
        let inode = &mut state.inodes[self.inode];
        inode.seen.resize(len as usize, 0);
        inode.pending.push(Change::Truncate(len));
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.spend()?;
        state.inodes[self.inode].write(offset, &vec![0; len as usize]);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.spend()?;
        let inode = &mut state.inodes[self.inode];
        inode.durable = inode.seen.clone();
        inode.pending.clear();
        Ok(())
    }
}
