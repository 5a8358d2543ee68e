//! Retention beside a model that looks at every fragment: random footage, plans, holds, deletions,
//! restarts and clocks that jump; nothing goes early, all goes in time, what is held stays and what
//! was deleted is never seen again.

use super::{DeleteError, Retention};
use crate::account::RetentionPlan;
use crate::clock::Clock;
use crate::id::{HoldId, StreamId};
use crate::keeping::{Hold, Keeping};
use crate::segment::TimeRange;
use crate::storage::{Appended, FragmentQuery, RangeBy, Storage, TimeOrder, contract, embedded};
use lookback_wire::{FragmentNumber, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

const MINUTE_MS: i64 = 60_000;
/// A sweep is at most ten minutes late in its turn, and within the hour all is to be gone.
const MAX_LATE_MS: i64 = 50 * MINUTE_MS;

#[derive(Clone, Debug)]
enum Step {
    /// A fragment whose capture began so many minutes before it arrives.
    Append {
        stream: usize,
        minutes_ago: u16,
    },
    /// Time passes, and what is due goes.
    Pass {
        minutes: u16,
    },
    /// The clock is set, for no reason.
    Jump {
        minutes: i32,
    },
    Plan {
        days: u8,
    },
    Hold {
        stream: usize,
        minutes_ago: u16,
        minutes: u16,
        lasts: Option<u16>,
    },
    Release {
        which: prop::sample::Index,
    },
    Delete {
        stream: usize,
        minutes_ago: u16,
        minutes: u16,
    },
    /// The service stops without a word; perhaps it has to make its index again.
    Restart {
        lose_index: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stream = || 0..2usize;
    let ago = || 0..6_000u16;
    let append = (stream(), prop_oneof![3 => Just(0), 1 => ago()])
        .prop_map(|(stream, minutes_ago)| Step::Append { stream, minutes_ago });
    let pass = prop_oneof![3 => 1..60u16, 1 => 60..2_000u16, 1 => 2_000..6_000u16]
        .prop_map(|minutes| Step::Pass { minutes });
    let hold = (stream(), ago(), 1..1_440u16, prop::option::of(1..6_000u16)).prop_map(
        |(stream, minutes_ago, minutes, lasts)| Step::Hold { stream, minutes_ago, minutes, lasts },
    );
    let delete = (stream(), ago(), 1..3_000u16)
        .prop_map(|(stream, minutes_ago, minutes)| Step::Delete { stream, minutes_ago, minutes });
    let step = prop_oneof![
        10 => append,
        6 => pass,
        1 => (-3_000..3_000i32).prop_map(|minutes| Step::Jump { minutes }),
        2 => (1..5u8).prop_map(|days| Step::Plan { days }),
        2 => hold,
        2 => any::<prop::sample::Index>().prop_map(|which| Step::Release { which }),
        2 => delete,
        1 => any::<bool>().prop_map(|lose_index| Step::Restart { lose_index }),
    ];
    prop::collection::vec(step, 1..50)
}

/// A fragment, as the model remembers it.
struct Known {
    stream: StreamId,
    range: TimeRange,
    arrived_at: Timestamp,
    number: FragmentNumber,
    is_gone: bool,
}

impl Known {
    fn overlaps_any<'a>(&self, mut spans: impl Iterator<Item = &'a TimeRange>) -> bool {
        spans.any(|span| span.overlaps(&self.range))
    }
}

struct World<'a> {
    data_dir: &'a Path,
    clock: Arc<Clock>,
    /// None while the service is down.
    up: Option<(Storage, Retention)>,
    plan: RetentionPlan,
    streams: [StreamId; 2],
    known: Vec<Known>,
    holds: Vec<Hold>,
}

impl<'a> World<'a> {
    async fn new(data_dir: &'a Path) -> Self {
        let clock = Arc::new(Clock::manual(contract::NOW));
        let storage = embedded::open(data_dir).unwrap();
        let account = storage.catalog.ensure_account("default", contract::NOW).await.unwrap().id;
        let plan = storage.catalog.plans(account).await.unwrap().remove(0);
        let mut registration = contract::registration(account, "SN-1", "Door");
        registration.device.plan = plan.id;
        let made = storage.catalog.register_device(registration, contract::NOW).await.unwrap();
        let retention = Retention::new(storage.clone(), clock.clone());
        Self {
            data_dir,
            clock,
            up: Some((storage, retention)),
            plan,
            streams: [made.streams[0].id, made.streams[1].id],
            known: Vec::new(),
            holds: Vec::new(),
        }
    }

    fn storage(&self) -> &Storage {
        &self.up.as_ref().unwrap().0
    }

    fn retention(&self) -> &Retention {
        &self.up.as_ref().unwrap().1
    }

    /// A span that begins so long ago.
    fn span(&self, minutes_ago: u16, minutes: u16) -> TimeRange {
        let start = self.clock.now().plus_millis(-i64::from(minutes_ago) * MINUTE_MS);
        TimeRange { start, end: start.plus_millis(i64::from(minutes) * MINUTE_MS) }
    }

    async fn take(&mut self, place: usize, step: Step) {
        let now = self.clock.now();
        let later = |minutes: i64| now.plus_millis(minutes * MINUTE_MS);
        match step {
            Step::Append { stream, minutes_ago } => {
                // No two begin alike.
                let start = later(-i64::from(minutes_ago)).plus_millis(place as i64);
                self.append(self.streams[stream], start, place).await;
            }
            Step::Pass { minutes } => {
                self.clock.set(later(i64::from(minutes)));
                self.retention().sweep().await.unwrap();
                self.check_sweep().await;
            }
            Step::Jump { minutes } => self.clock.set(later(i64::from(minutes))),
            Step::Plan { days } => {
                self.plan.days = u32::from(days);
                self.storage().catalog.put_plan(self.plan.clone()).await.unwrap();
            }
            Step::Hold { stream, minutes_ago, minutes, lasts } => {
                let hold = Hold {
                    id: HoldId::new(now),
                    stream: self.streams[stream],
                    range: self.span(minutes_ago, minutes),
                    reason: None,
                    until: lasts.map(|minutes| later(i64::from(minutes))),
                    created_at: now,
                };
                assert!(self.retention().place_hold(hold.clone()).await.unwrap());
                self.holds.push(hold);
            }
            Step::Release { which } => {
                if !self.holds.is_empty() {
                    let hold = self.holds.swap_remove(which.index(self.holds.len()));
                    self.retention().release_hold(&hold).await.unwrap();
                }
            }
            Step::Delete { stream, minutes_ago, minutes } => {
                self.delete(self.streams[stream], self.span(minutes_ago, minutes)).await;
            }
            Step::Restart { lose_index } => {
                self.up = None;
                if lose_index {
                    std::fs::remove_dir_all(self.data_dir.join("archive").join("index")).unwrap();
                }
                let storage = embedded::open(self.data_dir).unwrap();
                let retention = Retention::new(storage.clone(), self.clock.clone());
                self.up = Some((storage, retention));
                let present = self.present().await;
                for known in self.known.iter().filter(|known| known.is_gone) {
                    assert!(!present.contains(&known.number), "{} is back", known.number);
                }
            }
        }
    }

    async fn append(&mut self, stream: StreamId, start: Timestamp, place: usize) {
        let now = self.clock.now();
        let archive = self.storage().local().unwrap();
        let mut fragment =
            contract::fragment(archive.as_ref(), stream, start, 2_000, &place.to_le_bytes());
        fragment.arrived_at = now;
        fragment.number = archive.next_number(stream, now);
        let number = fragment.number;
        assert_eq!(archive.append(fragment).await.unwrap(), Appended::Stored(number));
        let range = TimeRange { start, end: start.plus_millis(2_000) };
        self.known.push(Known { stream, range, arrived_at: now, number, is_gone: false });
    }

    fn held(&self, stream: StreamId) -> impl Iterator<Item = &TimeRange> {
        let now = self.clock.now();
        let in_force = move |hold: &&Hold| hold.stream == stream && hold.is_in_force(now);
        self.holds.iter().filter(in_force).map(|hold| &hold.range)
    }

    async fn delete(&mut self, stream: StreamId, span: TimeRange) {
        let is_held = self.held(stream).any(|held| held.overlaps(&span));
        let before = self.present().await;
        let deleted = self.retention().delete(stream, span).await;
        let after = self.present().await;
        if is_held {
            assert!(matches!(deleted, Err(DeleteError::Held(_))), "{deleted:?}");
            assert_eq!(before, after);
            return;
        }
        let held: Vec<TimeRange> = self.held(stream).copied().collect();
        let mut gone = 0;
        for known in self.known.iter_mut().filter(|known| !known.is_gone) {
            let goes = known.stream == stream
                && span.overlaps(&known.range)
                && !known.overlaps_any(held.iter());
            assert_eq!(!after.contains(&known.number), goes, "{}", known.number);
            known.is_gone = goes;
            gone += u64::from(goes);
        }
        assert_eq!(deleted.unwrap().fragments, gone);
    }

    /// After a sweep: who is gone was due and not held; who is due is gone, or held.
    async fn check_sweep(&mut self) {
        let now = self.clock.now();
        let present = self.present().await;
        let mut kept_ms = Vec::new();
        for stream in self.streams {
            let plan = &self.plan;
            let wanted = self.retention().keeping(stream, plan).await.unwrap();
            let in_force: Keeping =
                self.storage().catalog.keeping_in_force(stream, wanted, now).await.unwrap();
            kept_ms.push((stream, in_force.kept_ms()));
        }
        let holds = self.holds.clone();
        for known in self.known.iter_mut().filter(|known| !known.is_gone) {
            let kept_ms = kept_ms.iter().find(|(stream, _)| *stream == known.stream).unwrap().1;
            let late_ms = now.millis_since(known.arrived_at) - kept_ms;
            let held = holds
                .iter()
                .filter(|hold| hold.stream == known.stream && hold.is_in_force(now))
                .map(|hold| &hold.range);
            let is_held = known.overlaps_any(held);
            let number = known.number;
            if present.contains(&number) {
                assert!(is_held || late_ms < MAX_LATE_MS, "{number} stays {late_ms} ms too long");
            } else {
                assert!(!is_held, "{number} was held");
                assert!(late_ms > 0, "{number} went {late_ms} ms early");
                known.is_gone = true;
            }
        }
        // What has ended does not begin again where the clock is set back.
        self.holds.retain(|hold| hold.is_in_force(now));
    }

    /// What is there; all of it readable.
    async fn present(&self) -> BTreeSet<FragmentNumber> {
        let archive = self.storage().local().unwrap();
        let mut present = BTreeSet::new();
        for stream in self.streams {
            let query = FragmentQuery {
                by: RangeBy::Timeline,
                range: TimeRange::ALL,
                order: TimeOrder::OldestFirst,
                limit: usize::MAX,
            };
            for record in archive.fragments(stream, &query).await.unwrap() {
                archive.read(stream, record.location, 0, record.location.len).await.unwrap();
                present.insert(record.number);
            }
        }
        present
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("LOOKBACK_SOAK").is_some() { 2_000 } else { 60 },
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_goes_early_and_all_goes_in_time(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(dir.path()).await;
            for (place, step) in steps.into_iter().enumerate() {
                world.take(place, step).await;
            }
        });
    }
}
