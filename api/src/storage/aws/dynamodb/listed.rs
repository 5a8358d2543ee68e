//! Lists of what may have something: streams with segments, devices with events. What is on one
//! stays there, so that whoever adds the first segment and whoever removes the last one do not have
//! to agree; whoever reads the list looks whether there is something.

use super::keys::{self, Key, Places};
use super::store::Store;
use crate::storage::Result;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::hash::Hash;

/// What this server remembers of a list, before it forgets all.
const MAX_KNOWN: usize = 100_000;

/// What this server knows to be on a list.
#[derive(Debug)]
pub struct Listed<I>(Mutex<HashSet<I>>);

impl<I> Default for Listed<I> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<I: Copy + Eq + Hash + Serialize> Listed<I> {
    /// Puts `id` on the list, under `key`; to be done before it has anything.
    pub async fn add(&self, store: &Store, key: &Key, id: I) -> Result<()> {
        if self.0.lock().contains(&id) {
            return Ok(());
        }
        store.put(key, &id).await?;
        let mut known = self.0.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(id);
        Ok(())
    }
}

/// All that is on a list, whose partitions `partition` names.
pub async fn all<I: DeserializeOwned>(
    store: &Store,
    partition: impl Fn(char) -> String,
) -> Result<Vec<I>> {
    let shards = keys::shards().map(|shard| {
        let places = Places::all(partition(shard));
        async move { store.list_records(&places, usize::MAX).await }
    });
    Ok(try_join_all(shards).await?.into_iter().flatten().collect())
}
