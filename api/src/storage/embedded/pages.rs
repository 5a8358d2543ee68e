//! Reads an LMDB file page by page and believes none of it (data format 1, little-endian, as
//! `mdb.c` of LMDB 0.9 describes it).
//!
//! LMDB maps its pages and trusts them: a damaged one ends the process. So a database is looked at
//! here before LMDB opens it, and `check` takes from a damaged one what can still be read. Pages
//! carry no checksum: a bit that flips inside of a value is for whoever decodes the value to find.

use super::lmdb::io_error;
use crate::storage::{Result, StorageError};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const HEADER: usize = 16;
const NODE_HEADER: usize = 8;
const META_MAGIC: u32 = 0xBEEF_C0DE;
const META_VERSION: u32 = 1;
/// Length of a tree's description, in metas and as the value of a table's name.
const TREE: usize = 48;
/// The root of an empty tree.
const NO_PAGE: u64 = u64::MAX;
/// LMDB's own bound, and so the depth of the recursion here.
const MAX_DEPTH: u16 = 32;
/// Where the second meta is looked for when the first one does not say how long a page is.
const USUAL_PAGE: usize = 4096;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
const META: u16 = 0x08;
const BIG: u16 = 0x01;
const TABLE: u16 = 0x02;

/// A page that is not what the database says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFault {
    pub table: String,
    pub page: u64,
    pub what: &'static str,
}

impl fmt::Display for PageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} of table {}: {}", self.page, self.table, self.what)
    }
}

/// Takes an entry: table, key, value.
pub type Visit<'a> = dyn FnMut(&str, &[u8], &[u8]) + 'a;

/// Walks every page in use of the database in `path` and hands over each entry of its tables that
/// lies on a sound page. Nobody may write meanwhile.
pub fn survey(path: &Path, entry: &mut Visit<'_>) -> Result<Vec<PageFault>> {
    try_survey(path, entry).map_err(|error| io_error(path, &error))
}

/// Refuses a database on which LMDB would end the process.
pub fn require_sound(path: &Path) -> Result<()> {
    match survey(path, &mut |_, _, _| {})?.first() {
        None => Ok(()),
        Some(fault) => Err(StorageError::Damaged(format!("{}: {fault}", path.display()))),
    }
}

/// As [`require_sound`], of what LMDB is to make where it is absent.
pub fn require_sound_or_new(path: &Path) -> Result<()> {
    let len = match path.metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(io_error(path, &error)),
    };
    // A command beside us may write one record or another: what is a fault is one the second time.
    if len == 0 { Ok(()) } else { require_sound(path).or_else(|_| require_sound(path)) }
}

fn try_survey(path: &Path, entry: &mut Visit<'_>) -> io::Result<Vec<PageFault>> {
    let file = File::open(path)?;
    let file_len = file.metadata()?.len();
    // The walk goes to and fro; a disk reads ten times as fast in order. Where this is not had, the
    // walk takes longer.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed);
    let mut faults = Vec::new();
    let first = Meta::read(&file, 0, 0)?;
    let page_len = first.as_ref().map_or(USUAL_PAGE, |meta| meta.page_len);
    let second = Meta::read(&file, 1, page_len)?;
    for (page, meta) in [(0, &first), (1, &second)] {
        if meta.is_none() {
            faults.push(PageFault { table: "meta".into(), page, what: "is no meta page" });
        }
    }
    let Some(meta) = first.into_iter().chain(second).max_by_key(|meta| meta.transaction) else {
        return Ok(faults);
    };
    let pages = file_len / page_len as u64;
    // A new database has two pages and may not have written them yet.
    if meta.transaction > 0 && pages <= meta.last_page {
        faults.push(PageFault { table: "meta".into(), page: pages, what: "the file ends here" });
    }
    let mut walk = Walk {
        file: &file,
        page_len,
        last_page: meta.last_page.min(pages.saturating_sub(1)),
        seen: vec![false; usize::try_from(pages).unwrap_or(0)],
        faults,
        tables: Vec::new(),
        entry,
    };
    walk.tree(Kind::Names, "names", meta.names)?;
    for (name, tree) in std::mem::take(&mut walk.tables) {
        walk.tree(Kind::Table, &name, tree)?;
    }
    // Last, so that a free page that is in use is held against the list and not against its user.
    walk.tree(Kind::Free, "free", meta.free)?;
    Ok(walk.faults)
}

/// A tree of pages.
#[derive(Clone, Copy, Debug)]
struct Tree {
    depth: u16,
    entries: u64,
    root: u64,
}

#[derive(Debug)]
struct Meta {
    page_len: usize,
    free: Tree,
    names: Tree,
    last_page: u64,
    transaction: u64,
}

impl Meta {
    fn read(file: &File, page: u64, page_len: usize) -> io::Result<Option<Self>> {
        let mut bytes = [0; HEADER + 136];
        match file.read_exact_at(&mut bytes, page * page_len as u64) {
            Ok(()) => Ok(Self::decode(&bytes, page)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn decode(bytes: &[u8], page: u64) -> Option<Self> {
        let is_meta = u64_at(bytes, 0)? == page
            && u16_at(bytes, 10)? & META != 0
            && u32_at(bytes, 16)? == META_MAGIC
            && u32_at(bytes, 20)? == META_VERSION;
        let page_len = u32_at(bytes, 40)? as usize;
        let usable = page_len.is_power_of_two() && (512..=32_768).contains(&page_len);
        (is_meta && usable).then_some(Self {
            page_len,
            free: Tree::decode(bytes.get(40..)?)?,
            names: Tree::decode(bytes.get(40 + TREE..)?)?,
            last_page: u64_at(bytes, 136)?,
            transaction: u64_at(bytes, 144)?,
        })
    }
}

impl Tree {
    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            depth: u16_at(bytes, 6)?,
            entries: u64_at(bytes, 32)?,
            root: u64_at(bytes, 40)?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Table names and their trees.
    Names,
    Table,
    /// Transactions, and the pages that each of them left.
    Free,
}

/// Keys of a page are at or after the first and before the second.
type Span<'a> = (&'a [u8], Option<&'a [u8]>);

struct Walk<'a> {
    file: &'a File,
    page_len: usize,
    last_page: u64,
    seen: Vec<bool>,
    faults: Vec<PageFault>,
    tables: Vec<(String, Tree)>,
    entry: &'a mut Visit<'a>,
}

impl Walk<'_> {
    fn tree(&mut self, kind: Kind, table: &str, tree: Tree) -> io::Result<()> {
        if tree.root == NO_PAGE {
            return Ok(());
        }
        let faults = self.faults.len();
        let entries = self.visit(kind, table, tree.root, tree.depth.min(MAX_DEPTH), (&[], None))?;
        if self.faults.len() == faults && entries != tree.entries {
            self.fault(table, tree.root, "the tree's entries are not as many as it says");
        }
        Ok(())
    }

    /// Looks at a page and all below it, `depth` levels; answers how many entries there are.
    fn visit(
        &mut self,
        kind: Kind,
        table: &str,
        page: u64,
        depth: u16,
        span: Span<'_>,
    ) -> io::Result<u64> {
        if let Err(what) = self.take(page) {
            self.fault(table, page, what);
            return Ok(0);
        }
        let mut bytes = vec![0; self.page_len];
        self.file.read_exact_at(&mut bytes, page * self.page_len as u64)?;
        let nodes = match Page::decode(&bytes, page, depth == 1) {
            Ok(found) if found.is_ordered(kind, span) => found.nodes,
            Ok(_) => {
                self.fault(table, page, "its keys are out of order");
                return Ok(0);
            }
            Err(what) => {
                self.fault(table, page, what);
                return Ok(0);
            }
        };
        if depth == 1 {
            for node in &nodes {
                self.entry(kind, table, page, node)?;
            }
            return Ok(nodes.len() as u64);
        }
        let mut entries = 0;
        for (position, node) in nodes.iter().enumerate() {
            // The first key of a branch is never compared with; it may be left empty.
            let from = if position == 0 { span.0 } else { node.key };
            let to = nodes.get(position + 1).map(|next| next.key).or(span.1);
            let child = u64::from(node.size) | u64::from(node.flags) << 32;
            entries += self.visit(kind, table, child, depth - 1, (from, to))?;
        }
        Ok(entries)
    }

    fn entry(&mut self, kind: Kind, table: &str, page: u64, node: &Node<'_>) -> io::Result<()> {
        let value = match self.value(node)? {
            Ok(value) => value,
            Err(what) => {
                self.fault(table, page, what);
                return Ok(());
            }
        };
        match kind {
            Kind::Table if node.flags & !BIG == 0 => (self.entry)(table, node.key, &value),
            Kind::Names if node.flags == TABLE => {
                match (std::str::from_utf8(node.key), Tree::decode(&value)) {
                    (Ok(name), Some(tree)) => self.tables.push((name.to_owned(), tree)),
                    _ => self.fault(table, page, "it names no table"),
                }
            }
            Kind::Free if node.flags & !BIG == 0 => {
                let count = u64_at(&value, 0).unwrap_or(0);
                let listed = (1..=count).map_while(|place| u64_at(&value, place as usize * 8));
                let mut left = count;
                for free in listed {
                    left -= 1;
                    if self.take(free).is_err() {
                        self.fault(table, free, "it is free and in use");
                    }
                }
                if left > 0 {
                    self.fault(table, page, "it lists fewer pages than it says");
                }
            }
            _ => self.fault(table, page, "an entry is of an unknown kind"),
        }
        Ok(())
    }

    /// An entry's value; on pages of its own where it is big.
    fn value(&mut self, node: &Node<'_>) -> io::Result<Result<Vec<u8>, &'static str>> {
        let size = node.size as usize;
        if node.flags & BIG == 0 {
            return Ok(Ok(node.data.to_vec()));
        }
        let Some(first) = u64_at(node.data, 0) else { return Ok(Err("a big value has no page")) };
        if let Err(what) = self.take(first) {
            return Ok(Err(what));
        }
        let at = first * self.page_len as u64;
        let mut header = [0; HEADER];
        self.file.read_exact_at(&mut header, at)?;
        let pages = u64::from(u32_at(&header, 12).unwrap_or(0));
        let is_overflow =
            u64_at(&header, 0) == Some(first) && u16_at(&header, 10) == Some(OVERFLOW);
        if !is_overflow || pages != (HEADER + size).div_ceil(self.page_len) as u64 {
            return Ok(Err("a big value's page is not one"));
        }
        for page in first + 1..first + pages {
            if let Err(what) = self.take(page) {
                return Ok(Err(what));
            }
        }
        let mut value = vec![0; size];
        self.file.read_exact_at(&mut value, at + HEADER as u64)?;
        Ok(Ok(value))
    }

    /// Notes that a page is used; once only, and only where there is one.
    fn take(&mut self, page: u64) -> Result<(), &'static str> {
        let seen = usize::try_from(page).ok().and_then(|page| self.seen.get_mut(page));
        match seen {
            Some(seen) if (2..=self.last_page).contains(&page) => {
                if std::mem::replace(seen, true) {
                    Err("it is used twice")
                } else {
                    Ok(())
                }
            }
            _ => Err("there is no such page"),
        }
    }

    fn fault(&mut self, table: &str, page: u64, what: &'static str) {
        self.faults.push(PageFault { table: table.to_owned(), page, what });
    }
}

/// An entry of a page: of a branch, a child by its number in `size` and `flags`; of a leaf, a value.
#[derive(Debug)]
struct Node<'a> {
    size: u32,
    flags: u16,
    key: &'a [u8],
    data: &'a [u8],
}

#[derive(Debug)]
struct Page<'a> {
    nodes: Vec<Node<'a>>,
    is_leaf: bool,
}

impl<'a> Page<'a> {
    fn decode(bytes: &'a [u8], number: u64, is_leaf: bool) -> Result<Self, &'static str> {
        if u64_at(bytes, 0) != Some(number) {
            return Err("it is not this page");
        }
        if u16_at(bytes, 10) != Some(if is_leaf { LEAF } else { BRANCH }) {
            return Err("it is of another kind");
        }
        let nodes = Self::nodes(bytes, is_leaf).filter(|nodes| !nodes.is_empty());
        Ok(Self { nodes: nodes.ok_or("its entries cannot be read")?, is_leaf })
    }

    fn nodes(bytes: &'a [u8], is_leaf: bool) -> Option<Vec<Node<'a>>> {
        let lower = usize::from(u16_at(bytes, 12)?);
        let upper = usize::from(u16_at(bytes, 14)?);
        if lower < HEADER || lower > upper || upper > bytes.len() {
            return None;
        }
        let node = |position: usize| {
            let at = usize::from(u16_at(bytes, HEADER + position * 2)?);
            let size = u32_at(bytes, at)?;
            let flags = u16_at(bytes, at + 4)?;
            let key_len = usize::from(u16_at(bytes, at + 6)?);
            let rest = bytes.get(at.max(upper) + NODE_HEADER..)?;
            let (key, rest) = rest.split_at_checked(key_len)?;
            let data_len = match (is_leaf, flags & BIG) {
                (false, _) => 0,
                (true, 0) => size as usize,
                (true, _) => 8,
            };
            (at >= upper).then_some(Node { size, flags, key, data: rest.get(..data_len)? })
        };
        (0..(lower - HEADER) / 2).map(node).collect()
    }

    fn is_ordered(&self, kind: Kind, (from, to): Span<'_>) -> bool {
        if kind == Kind::Free {
            // Its keys are numbers; LMDB reads it from end to end.
            return true;
        }
        // A branch's first key says nothing.
        let keys = self.nodes.iter().skip(usize::from(!self.is_leaf)).map(|node| node.key);
        keys.clone().is_sorted_by(|a, b| a < b)
            && keys.clone().all(|key| from <= key)
            && to.is_none_or(|to| keys.clone().all(|key| key < to))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::embedded::lmdb::{self, Durability};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::LazyLock;

    type Entries = BTreeMap<(String, Vec<u8>), Vec<u8>>;

    /// Two tables of hundreds of entries, some of them big, with pages that were used and freed.
    fn database(dir: &Path) -> Entries {
        let (env, tables) = lmdb::open(dir, ["few", "many"], Durability::None).unwrap();
        let mut expected = Entries::new();
        for round in 0..3u64 {
            let mut txn = env.write_txn().unwrap();
            for number in 0..600u64 {
                let (name, table) =
                    if number % 50 == 0 { ("few", tables[0]) } else { ("many", tables[1]) };
                let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                let len = if number % 97 == 0 { 9_000 } else { number as usize % 90 };
                if round == 2 && number % 3 == 0 {
                    table.delete(&mut txn, &key).unwrap();
                    expected.remove(&(name.to_owned(), key.to_vec()));
                } else {
                    let value = vec![(number + round) as u8; len];
                    table.put(&mut txn, &key, &value).unwrap();
                    expected.insert((name.to_owned(), key.to_vec()), value);
                }
            }
            txn.commit().unwrap();
        }
        expected
    }

    fn read(path: &Path) -> (Entries, Vec<PageFault>) {
        let mut found = Entries::new();
        let faults = survey(path, &mut |table, key, value| {
            found.insert((table.to_owned(), key.to_vec()), value.to_vec());
        });
        (found, faults.unwrap())
    }

    #[test]
    fn a_sound_database_is_read_as_lmdb_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let expected = database(dir.path());
        let (found, faults) = read(&dir.path().join("data.mdb"));
        assert_eq!(faults, []);
        assert_eq!(found, expected);
        let empty = tempfile::tempdir().unwrap();
        lmdb::open(empty.path(), ["none"], Durability::None).unwrap();
        assert_eq!(read(&empty.path().join("data.mdb")), (Entries::new(), Vec::new()));
    }

    #[test]
    fn a_damaged_page_costs_no_more_than_itself() {
        let dir = tempfile::tempdir().unwrap();
        let expected = database(dir.path());
        let path = dir.path().join("data.mdb");
        let sound = std::fs::read(&path).unwrap();
        let mut found_damaged = 0;
        for page in 0..sound.len() / USUAL_PAGE {
            let mut bytes = sound.clone();
            bytes[page * USUAL_PAGE..][..USUAL_PAGE].fill(0xa5);
            std::fs::write(&path, bytes).unwrap();
            let (found, faults) = read(&path);
            // A page that nobody uses may hold anything, and so may the later part of a big value.
            // Without one of the metas, the other one's older state is read.
            let Some(fault) = faults.first() else { continue };
            found_damaged += 1;
            if page >= 2 {
                assert!(faults.iter().all(|other| other.page == fault.page), "{page}: {faults:?}");
                let same = found.iter().all(|(key, value)| expected.get(key) == Some(value));
                assert!(same, "page {page}");
            }
        }
        assert!(found_damaged > 10, "{found_damaged}");
    }

    /// LMDB writes a commit's pages, syncs, and writes a meta: where the power goes before that,
    /// any of the pages may be there, in any parts, and the commit before must be.
    #[test]
    fn a_commit_that_the_power_cuts_short_leaves_the_one_before() {
        const SECTOR: usize = 512;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.mdb");
        let mut expected = database(dir.path());
        let mut chance: u64 = 1;
        let mut below = |limit: u64| {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            chance % limit
        };
        for round in 0..40u64 {
            let before = std::fs::read(&path).unwrap();
            let mut committed = expected.clone();
            {
                let (env, [_, table]) =
                    lmdb::open(dir.path(), ["few", "many"], Durability::None).unwrap();
                let mut txn = env.write_txn().unwrap();
                for number in 0..1 + below(80) {
                    let key = (round << 32 | number).to_be_bytes();
                    let value = vec![round as u8; below(3_000) as usize];
                    table.put(&mut txn, &key, &value).unwrap();
                    committed.insert(("many".into(), key.to_vec()), value);
                }
                txn.commit().unwrap();
            }
            let after = std::fs::read(&path).unwrap();
            for _ in 0..10 {
                let len = before.len() + below((after.len() - before.len() + 1) as u64) as usize;
                let mut torn = before.clone();
                torn.resize(len, 0);
                let percent = below(101);
                for at in (2 * USUAL_PAGE..len).step_by(SECTOR) {
                    if below(100) < percent {
                        let to = len.min(at + SECTOR);
                        torn[at..to].copy_from_slice(&after[at..to]);
                    }
                }
                let cut = tempfile::tempdir().unwrap();
                std::fs::write(cut.path().join("data.mdb"), torn).unwrap();
                assert_eq!(read(&cut.path().join("data.mdb")), (expected.clone(), Vec::new()));
                let (env, [_, table]) =
                    lmdb::open(cut.path(), ["few", "many"], Durability::None).unwrap();
                let txn = env.read_txn().unwrap();
                let many = expected.keys().filter(|(table, _)| table == "many").count();
                assert_eq!(table.len(&txn).unwrap(), many as u64);
            }
            expected = committed;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn arbitrary_damage_never_panics(
            flips in proptest::collection::vec((0..400_000usize, any::<u8>()), 1..40),
            len in 0..400_000usize,
        ) {
            static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
                let dir = tempfile::tempdir().unwrap();
                database(dir.path());
                std::fs::read(dir.path().join("data.mdb")).unwrap()
            });
            let mut bytes = SOUND.clone();
            let whole = bytes.len();
            let file = tempfile::NamedTempFile::new().unwrap();
            for (at, byte) in flips {
                bytes[at % whole] = byte;
            }
            bytes.truncate(len.max(USUAL_PAGE));
            std::fs::write(file.path(), bytes).unwrap();
            read(file.path());
        }
    }
}
