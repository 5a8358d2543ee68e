//! Where the tracks of listed footage change: a camera was set up anew, or came back with other
//! firmware. Only the heads of a few fragments are read: those at both ends of the list and beside its
//! holes, and wherever two of them differ, one between them, until neighbours are found. So what
//! changes and changes back between two of them, without a hole, is not seen.

use super::fragments::{self, AT_ONCE, Unread};
use super::listings::gaps;
use crate::device::Stream;
use crate::storage::ListedFragment;
use crate::storage::aws::kinesis_video::KinesisArchive;
use futures_util::future::TryFutureExt;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use lookback_packaging::TrackInit;
use lookback_wire::TrackKind;
use std::collections::{BTreeMap, BTreeSet};

/// Heads read at most: some 3 s of a request's time. 17 find a change anywhere in the longest list,
/// and a hole's two sides tell of one there.
const MAX_READS: usize = 96;
/// Holes looked at; a camera that is off more often than this has a poor line rather than new settings.
const MAX_HOLES: usize = 16;

/// Fragments one after the other that have the same tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch<T = Vec<TrackInit>> {
    /// Its first fragment's place in the list.
    pub first: usize,
    pub tracks: T,
}

/// A list's stretches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretches<T = Vec<TrackInit>> {
    /// In order; none where no fragment is there any more.
    pub all: Vec<Stretch<T>>,
    /// How many fragments they cover: all, unless there are too many changes to be found.
    pub covered: usize,
}

impl Stretches {
    /// Of all stretches, in turn.
    pub fn tracks(&self) -> impl Iterator<Item = &TrackInit> {
        self.all.iter().flat_map(|stretch| &stretch.tracks)
    }

    /// RFC 6381: of those tracks that are `wanted` each codec once, video first.
    pub fn codecs(&self, wanted: impl Fn(&TrackInit) -> bool) -> String {
        let mut codecs: Vec<&str> = Vec::new();
        for kind in [TrackKind::Video, TrackKind::Audio] {
            for init in self.tracks().filter(|init| init.kind == kind && wanted(init)) {
                if !codecs.contains(&init.codecs.as_str()) {
                    codecs.push(&init.codecs);
                }
            }
        }
        codecs.join(",")
    }
}

/// Finds the stretches of a list.
pub async fn find(
    archive: &KinesisArchive,
    stream: &Stream,
    listed: &[ListedFragment],
) -> Result<Stretches, Unread> {
    let holes = gaps(listed);
    let mut sides = BTreeSet::new();
    if holes.len() <= MAX_HOLES {
        for hole in holes {
            let after = listed.partition_point(|one| one.start < hole.end);
            sides.extend([after.saturating_sub(1), after]);
        }
    }
    let read = |at: usize| async move {
        match listed.get(at) {
            Some(one) => fragments::tracks(archive, stream, &one.id).await,
            None => Ok(None),
        }
    };
    search(listed.len(), sides, |a, b| fragments::are_same(a, b), read).await
}

/// The same for anything of which `read` tells how it is at a place, if it is there; it is asked for
/// both ends and for `sides`, which are fewer than [`MAX_READS`], whatever they tell.
async fn search<T: Clone, E, F: Future<Output = Result<Option<T>, E>>>(
    count: usize,
    sides: BTreeSet<usize>,
    same: impl Fn(&T, &T) -> bool,
    read: impl Fn(usize) -> F,
) -> Result<Stretches<T>, E> {
    let mut known: BTreeMap<usize, T> = BTreeMap::new();
    let mut wanted = sides;
    wanted.extend([0, count.saturating_sub(1)]);
    let mut left = MAX_READS;
    while !wanted.is_empty() {
        let asked: Vec<usize> = wanted.into_iter().take(left).collect();
        left -= asked.len();
        let told: Vec<(usize, Option<T>)> = stream::iter(asked)
            .map(|at| read(at).map_ok(move |told| (at, told)))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        for (at, tracks) in told {
            // What is gone shows nothing, and goes with what is before it.
            let before = || known.range(..at).next_back().map(|(_, tracks)| tracks.clone());
            if let Some(tracks) = tracks.or_else(before) {
                known.insert(at, tracks);
            }
        }
        wanted = known
            .iter()
            .zip(known.iter().skip(1))
            .filter(|((last, a), (next, b))| *next - *last > 1 && !same(a, b))
            .map(|((last, _), (next, _))| last.midpoint(*next))
            .take(left)
            .collect();
    }
    let mut stretches = Stretches { all: Vec::new(), covered: count };
    let mut last = 0;
    for (at, tracks) in known {
        match stretches.all.last() {
            Some(stretch) if same(&stretch.tracks, &tracks) => {}
            // Somewhere in between.
            Some(_) if at - last > 1 => {
                stretches.covered = last + 1;
                break;
            }
            Some(_) => stretches.all.push(Stretch { first: at, tracks }),
            None => stretches.all.push(Stretch { first: 0, tracks }),
        }
        last = at;
    }
    Ok(stretches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::ready;

    /// Found among fragments whose tracks are told by a letter, a dash for one that is gone; as
    /// letters with their first places, and how many are covered. Answers how many were read.
    async fn check(tracks: &str, sides: &[usize], expected: &str, covered: usize) -> usize {
        let reads = Cell::new(0);
        let read = |at: usize| {
            reads.set(reads.get() + 1);
            ready(Ok::<_, ()>(tracks.chars().nth(at).filter(|track| *track != '-')))
        };
        let sides = sides.iter().copied().collect();
        let found = search(tracks.len(), sides, |a, b| a == b, read).await.unwrap();
        let all: Vec<String> =
            found.all.iter().map(|one| format!("{}{}", one.tracks, one.first)).collect();
        assert_eq!((all.join(" ").as_str(), found.covered), (expected, covered), "{tracks:?}");
        reads.get()
    }

    #[tokio::test]
    async fn changes_are_found_between_fragments_that_differ() {
        for (tracks, sides, expected) in [
            ("", &[][..], ""),
            ("a", &[], "a0"),
            ("ab", &[], "a0 b1"),
            ("aaaab", &[], "a0 b4"),
            ("abbbbbbb", &[], "a0 b1"),
            ("aaabbbcc", &[], "a0 b3 c6"),
            // Only seen where a hole is beside it.
            ("aaaaaabaaa", &[], "a0"),
            ("aaaaaabaaa", &[5, 6], "a0 b6 a7"),
            ("aaabbbbaaa", &[2, 3], "a0 b3 a7"),
            // Gone since it was listed.
            ("-", &[], ""),
            ("-aab", &[], "b0"),
            ("a-bb", &[], "a0 b2"),
            ("aab-", &[], "a0"),
        ] {
            check(tracks, sides, expected, tracks.len()).await;
        }
    }

    #[tokio::test]
    async fn a_search_ends() {
        let day = format!("{}{}", "a".repeat(77_777), "b".repeat(22_223));
        let reads = check(&day, &[], "a0 b77777", 100_000).await;
        assert!(reads < 20, "{reads}");
        // Another one each time.
        let reads = Cell::new(0);
        let read = |at: usize| {
            reads.set(reads.get() + 1);
            ready(Ok::<_, ()>(Some(at)))
        };
        let found = search(2_000, BTreeSet::new(), |a, b| a == b, read).await.unwrap();
        assert_eq!((reads.get(), found.covered), (MAX_READS, 1));
    }
}
