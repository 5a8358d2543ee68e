//! Pictures that were made, as files in one folder, up to a number of bytes; the oldest go first.
//! Nothing in it is needed: what is missing or torn is made again.

use super::PictureKey;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// What every JPEG ends with (ITU-T T.81 §B.1.1.3): a file without it was cut off.
const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];
/// Of a file while it is written.
const UNFINISHED: &str = "new";

/// The pictures of one data directory.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    cap_bytes: u64,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    /// Of each, its place in `by_age` and its bytes.
    kept: HashMap<PictureKey, (u64, u64)>,
    by_age: BTreeMap<u64, PictureKey>,
    /// The place of the next one.
    next: u64,
    bytes: u64,
}

impl Cache {
    /// Takes up the folder as an earlier process left it, or makes it. Files of other names are
    /// removed: they are what that process was writing when it ended.
    pub fn open(dir: &Path, cap_bytes: u64) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            match entry.file_name().to_str().and_then(PictureKey::parse) {
                Some(key) => {
                    let metadata = entry.metadata()?;
                    let written_at = metadata.modified().unwrap_or(UNIX_EPOCH);
                    found.push((written_at, key, metadata.len()));
                }
                // A folder, such as a file system's `lost+found`, is nothing that a picture left.
                None if entry.file_type()?.is_dir() => {}
                None => std::fs::remove_file(entry.path())?,
            }
        }
        found.sort_by_key(|(written_at, ..)| *written_at);
        let mut files = Files::default();
        for (_, key, len) in found {
            files.add(key, len);
        }
        let cache = Self { dir: dir.into(), cap_bytes, files: Mutex::new(files) };
        cache.remove_excess();
        Ok(cache)
    }

    /// The picture, if it is kept. Reads a file of some 10 KB.
    pub fn get(&self, key: &PictureKey) -> Option<Bytes> {
        if !self.files.lock().kept.contains_key(key) {
            return None;
        }
        let found = std::fs::read(self.path(key)).ok().filter(|jpeg| jpeg.ends_with(&END_OF_IMAGE));
        if found.is_none() {
            self.remove(key);
        }
        found.map(Bytes::from)
    }

    /// Keeps a picture, where the disk lets it.
    pub fn put(&self, key: PictureKey, jpeg: &[u8]) {
        if jpeg.len() as u64 > self.cap_bytes {
            return;
        }
        let unfinished = self.path(&key).with_extension(UNFINISHED);
        let written = std::fs::write(&unfinished, jpeg)
            .and_then(|()| std::fs::rename(&unfinished, self.path(&key)));
        if let Err(error) = written {
            tracing::warn!(%error, "a picture was not kept");
            // It may be there in part; the next start would remove it as well.
            let _ = std::fs::remove_file(&unfinished);
            return;
        }
        self.files.lock().add(key, jpeg.len() as u64);
        self.remove_excess();
    }

    /// What is kept now.
    pub fn keys(&self) -> Vec<PictureKey> {
        self.files.lock().kept.keys().copied().collect()
    }

    pub fn remove(&self, key: &PictureKey) {
        self.files.lock().forget(key);
        // It may have gone already.
        let _ = std::fs::remove_file(self.path(key));
    }

    fn remove_excess(&self) {
        loop {
            let mut files = self.files.lock();
            if files.bytes <= self.cap_bytes {
                return;
            }
            let Some((_, &oldest)) = files.by_age.first_key_value() else { return };
            files.forget(&oldest);
            drop(files);
            let _ = std::fs::remove_file(self.path(&oldest));
        }
    }

    fn path(&self, key: &PictureKey) -> PathBuf {
        self.dir.join(key.to_string())
    }
}

impl Files {
    fn add(&mut self, key: PictureKey, len: u64) {
        self.forget(&key);
        self.kept.insert(key, (self.next, len));
        self.by_age.insert(self.next, key);
        self.next += 1;
        self.bytes += len;
    }

    fn forget(&mut self, key: &PictureKey) {
        if let Some((age, len)) = self.kept.remove(key) {
            self.by_age.remove(&age);
            self.bytes -= len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{StreamId, Ulid};
    use lookback_wire::{FragmentNumber, Timestamp};

    fn key(n: u64) -> PictureKey {
        PictureKey {
            stream: StreamId(Ulid(7)),
            start: Timestamp::from_millis(1_000),
            number: FragmentNumber(n),
            at: Timestamp::from_millis(1_000),
            width: 320,
        }
    }

    fn jpeg(len: usize) -> Vec<u8> {
        [vec![0; len - 2], END_OF_IMAGE.to_vec()].concat()
    }

    /// Which of the first ten are there.
    fn kept(cache: &Cache) -> Vec<u64> {
        (0..10).filter(|&n| cache.get(&key(n)).is_some()).collect()
    }

    #[test]
    fn the_oldest_go_first_over_restarts_too() {
        let folder = tempfile::TempDir::new().unwrap();
        let cache = Cache::open(folder.path(), 350).unwrap();
        for n in 0..4 {
            cache.put(key(n), &jpeg(100));
        }
        assert_eq!(kept(&cache), [1, 2, 3]);
        // The same again takes the place of the old one, and is the newest.
        cache.put(key(1), &jpeg(90));
        cache.put(key(4), &jpeg(100));
        assert_eq!(kept(&cache), [1, 3, 4]);
        cache.put(key(5), &jpeg(351));
        assert_eq!(kept(&cache), [1, 3, 4]);
        cache.remove(&key(3));
        assert_eq!((kept(&cache), cache.files.lock().bytes), (vec![1, 4], 190));

        std::fs::write(folder.path().join("something.new"), "torn").unwrap();
        std::fs::create_dir(folder.path().join("lost+found")).unwrap();
        let cache = Cache::open(folder.path(), 350).unwrap();
        assert_eq!((kept(&cache), cache.files.lock().bytes), (vec![1, 4], 190));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
        let cache = Cache::open(folder.path(), 100).unwrap();
        assert_eq!(cache.keys().len(), 1);
    }

    #[test]
    fn what_is_torn_or_gone_is_not_answered() {
        let folder = tempfile::TempDir::new().unwrap();
        let cache = Cache::open(folder.path(), 1_000).unwrap();
        cache.put(key(1), &jpeg(100));
        cache.put(key(2), &jpeg(100));
        std::fs::write(folder.path().join(key(1).to_string()), "half").unwrap();
        std::fs::remove_file(folder.path().join(key(2).to_string())).unwrap();
        assert_eq!(kept(&cache), [0; 0]);
        assert_eq!(cache.files.lock().bytes, 0);
    }

    #[test]
    fn names_are_read_back() {
        let text = key(123).to_string();
        assert_eq!(PictureKey::parse(&text), Some(key(123)), "{text}");
        for other in ["", "a.jpg", "str_1-2-3-4-5.jpg", &text.replace("-320", "-"), &text[1..]] {
            assert_eq!(PictureKey::parse(other), None, "{other}");
        }
    }
}
