//! What changes, told to those who listen at this moment: events, footage, devices that come and go.
//!
//! A feed remembers nothing: who has to have every change asks the catalog for what it missed. It
//! reaches the listeners of this process only. Where several instances share one backend, each tells
//! of what came in through itself.

use crate::event::Event;
use crate::id::{AccountId, DeviceId, StreamId};
use crate::rates::Caller;
use crate::segment::TimeRange;
use parking_lot::{Mutex, RwLock};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};

/// One thing that changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It began, or more is known of it.
    Event(Event),
    /// A piece of footage that is kept.
    Footage { stream: StreamId, range: TimeRange, bytes: Option<u64> },
    /// It was registered, came, went, or changed its state.
    Device(DeviceId),
}

impl Change {
    fn kind(&self) -> Kind {
        match self {
            Self::Event(_) => Kind::Event,
            Self::Footage { .. } => Kind::Footage,
            Self::Device(_) => Kind::Device,
        }
    }
}

/// What a subscription listens for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Event,
    Footage,
    Device,
}

/// Whose changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those of every device in it.
    Account(AccountId),
    Device(DeviceId),
}

/// Hands changes on. Whoever publishes never waits: a listener whose queue is full has lost one, and
/// is told that it was too slow.
#[derive(Debug, Default)]
pub struct Feed {
    listeners: RwLock<Listeners>,
    connections: Arc<Mutex<HashMap<Caller, usize>>>,
}

type Listeners = HashMap<(Kind, Scope), Vec<Arc<Listener>>>;

#[derive(Debug)]
struct Listener {
    queue: mpsc::Sender<Arc<Change>>,
    too_slow: Arc<Notify>,
}

impl Feed {
    /// Tells of a change on a device.
    pub fn publish(&self, account: AccountId, device: DeviceId, change: Change) {
        let listeners = self.listeners.read();
        if listeners.is_empty() {
            return;
        }
        let kind = change.kind();
        let change = Arc::new(change);
        let reached = [Scope::Account(account), Scope::Device(device)]
            .into_iter()
            .filter_map(|scope| listeners.get(&(kind, scope)))
            .flatten();
        for listener in reached {
            if listener.queue.try_send(change.clone()).is_err() {
                listener.too_slow.notify_one();
            }
        }
    }

    /// Listens for one kind of change, to nobody's at first. At most `queued` wait to be taken; where
    /// there are more, `too_slow` is notified.
    pub fn subscribe(
        self: &Arc<Self>,
        kind: Kind,
        queued: usize,
        too_slow: Arc<Notify>,
    ) -> Subscription {
        let (queue, changes) = mpsc::channel(queued);
        let listener = Arc::new(Listener { queue, too_slow });
        Subscription { feed: self.clone(), kind, listener, scopes: HashSet::new(), changes }
    }

    /// Counts a caller's connection until the answer is dropped; `None` where it has `most`.
    pub fn connect(&self, caller: Caller, most: usize) -> Option<Connection> {
        let mut open = self.connections.lock();
        let count = open.get(&caller).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        open.insert(caller.clone(), count + 1);
        Some(Connection { open: self.connections.clone(), caller })
    }

    /// Connections that listen, of all callers.
    pub fn connections(&self) -> usize {
        self.connections.lock().values().sum()
    }
}

/// A connection that somebody listens on.
#[derive(Debug)]
pub struct Connection {
    open: Arc<Mutex<HashMap<Caller, usize>>>,
    caller: Caller,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.caller) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

/// Changes of one kind, as they come.
#[derive(Debug)]
pub struct Subscription {
    feed: Arc<Feed>,
    kind: Kind,
    listener: Arc<Listener>,
    scopes: HashSet<Scope>,
    changes: mpsc::Receiver<Arc<Change>>,
}

impl Subscription {
    /// Listens to these from now on, and to no others.
    pub fn follow(&mut self, scopes: HashSet<Scope>) {
        if self.scopes == scopes {
            return;
        }
        let mut listeners = self.feed.listeners.write();
        for scope in self.scopes.difference(&scopes) {
            leave(&mut listeners, (self.kind, *scope), &self.listener);
        }
        for scope in scopes.difference(&self.scopes) {
            listeners.entry((self.kind, *scope)).or_default().push(self.listener.clone());
        }
        drop(listeners);
        self.scopes = scopes;
    }

    /// The next change.
    pub async fn next(&mut self) -> Arc<Change> {
        match self.changes.recv().await {
            Some(change) => change,
            // Not reached: the sending end is ours.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.follow(HashSet::new());
    }
}

fn leave(listeners: &mut Listeners, topic: (Kind, Scope), listener: &Arc<Listener>) {
    if let Entry::Occupied(mut others) = listeners.entry(topic) {
        others.get_mut().retain(|other| !Arc::ptr_eq(other, listener));
        if others.get().is_empty() {
            others.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use lookback_wire::Timestamp;

    const NOW: Timestamp = Timestamp::from_millis(1_763_803_800_000);

    /// What is waiting, taken.
    fn waiting(subscription: &mut Subscription) -> Vec<Change> {
        std::iter::from_fn(|| subscription.next().now_or_never()).map(|c| (*c).clone()).collect()
    }

    #[test]
    fn changes_reach_those_who_listen_for_them() {
        let (account, other_account) = (AccountId::new(NOW), AccountId::new(NOW));
        let (device, other) = (DeviceId::new(NOW), DeviceId::new(NOW));
        let stream = StreamId::new(NOW);
        let footage = Change::Footage { stream, range: TimeRange::ALL, bytes: None };
        let came = Change::Device(device);
        use Scope::{Account, Device};
        for (kind, scopes, expected) in [
            (Kind::Device, vec![Account(account)], vec![&came]),
            (Kind::Device, vec![Device(device)], vec![&came]),
            (Kind::Device, vec![Device(other), Device(device)], vec![&came]),
            (Kind::Footage, vec![Account(account)], vec![&footage]),
            (Kind::Event, vec![Account(account)], vec![]),
            (Kind::Device, vec![Account(other_account)], vec![]),
            (Kind::Device, vec![Device(other)], vec![]),
            (Kind::Device, vec![], vec![]),
        ] {
            let feed = Arc::new(Feed::default());
            let mut subscription = feed.subscribe(kind, 4, Arc::default());
            subscription.follow(scopes.iter().copied().collect());
            feed.publish(account, device, footage.clone());
            feed.publish(account, device, came.clone());
            let found = waiting(&mut subscription);
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{kind:?} {scopes:?}");
            subscription.follow(HashSet::new());
            feed.publish(account, device, came.clone());
            assert_eq!(waiting(&mut subscription), [], "{kind:?} {scopes:?}");
            assert!(feed.listeners.read().is_empty());
        }
    }

    #[test]
    fn who_is_too_slow_is_told_and_holds_up_nobody() {
        let (account, device) = (AccountId::new(NOW), DeviceId::new(NOW));
        let feed = Arc::new(Feed::default());
        let (slow, quick) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let mut asleep = feed.subscribe(Kind::Device, 3, slow.clone());
        let mut awake = feed.subscribe(Kind::Device, 3, quick.clone());
        asleep.follow([Scope::Device(device)].into());
        awake.follow([Scope::Device(device)].into());
        for _ in 0..4 {
            feed.publish(account, device, Change::Device(device));
            assert_eq!(waiting(&mut awake).len(), 1);
        }
        assert!(slow.notified().now_or_never().is_some());
        assert!(quick.notified().now_or_never().is_none());
        assert_eq!(waiting(&mut asleep).len(), 3);
        drop((asleep, awake));
        assert!(feed.listeners.read().is_empty());
    }

    #[test]
    fn connections_are_counted_by_whose_they_are() {
        let feed = Feed::default();
        // The same name in another account is another's.
        let [ann, other] = [1, 2].map(|n| {
            let account = AccountId::new(Timestamp::from_millis(n));
            Caller::Service(account, "ann".into())
        });
        let open: Vec<_> = std::iter::from_fn(|| feed.connect(ann.clone(), 5)).take(9).collect();
        assert_eq!((open.len(), feed.connections()), (5, 5));
        let others = feed.connect(other, 5);
        assert!(others.is_some());
        drop(open);
        assert_eq!(feed.connections(), 1);
        assert!(feed.connect(ann, 1).is_some());
    }
}
