//! Keys of `core`: a partition and a place in it, both text. What is written together often or read
//! together lies in one partition; what many devices write to is spread over 32.

use super::tables::{PARTITION, SORT};
use crate::event::{EventId, Watcher};
use crate::id::{
    AccountId, CredentialId, DeviceId, HoldId, PlanId, ShareId, SignInId, StreamId, Ulid, UserId,
    WebhookId,
};
use crate::segment::TimeRange;
use crate::storage::TimeOrder;
use crate::webhook::Delivery;
use aws_lc_rs::digest;
use aws_sdk_dynamodb::types::AttributeValue;
use lookback_wire::{FragmentNumber, Timestamp};
use std::collections::HashMap;

/// DynamoDB takes sort keys of 1,024 bytes; a text may have this many beside an identifier. A longer
/// one is cut and ends in its digest, which keeps it unique.
pub const MAX_TEXT: usize = 700;
const DIGEST_CHARS: usize = 64;

/// The place of what is alone in its partition.
const ALONE: &str = "-";

/// Sorts after every text.
const LAST: char = char::MAX;

/// Where an item of `core` is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub partition: String,
    pub sort: String,
}

impl Key {
    fn new(partition: impl ToString, sort: impl ToString) -> Self {
        Self { partition: partition.to_string(), sort: sort.to_string() }
    }

    /// As DynamoDB takes it.
    pub fn attributes(&self) -> HashMap<String, AttributeValue> {
        HashMap::from([
            (PARTITION.to_owned(), AttributeValue::S(self.partition.clone())),
            (SORT.to_owned(), AttributeValue::S(self.sort.clone())),
        ])
    }
}

/// Neighbours in a partition, from the first place to the last, both included.
#[derive(Clone, Debug)]
pub struct Places {
    pub partition: String,
    pub first: String,
    pub last: String,
    pub order: TimeOrder,
}

impl Places {
    /// Those that begin with `prefix` and come after `after`.
    pub fn new(partition: String, prefix: &str, after: Option<String>) -> Self {
        // The least text that is greater has a zero more.
        let after = after.map(|after| after + "\0").unwrap_or_default();
        // An empty text is no key; this is the least one.
        let first = after.max(prefix.to_owned()).max("\0".to_owned());
        let last = format!("{prefix}{LAST}");
        Self { partition, first, last, order: TimeOrder::OldestFirst }
    }

    /// Every place of a partition.
    pub fn all(partition: String) -> Self {
        Self::new(partition, "", None)
    }
}

/// A text that sorts as it reads, at whose end an identifier may stand.
pub fn text(text: &str) -> String {
    if text.len() < MAX_TEXT {
        return format!("{text}\0");
    }
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let digest = hex(digest.as_ref());
    let mut cut = MAX_TEXT - DIGEST_CHARS;
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{digest}", text.get(..cut).unwrap_or_default())
}

/// Who is who, in text that sorts as the bytes do.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An instant that sorts as it should.
fn instant(at: Timestamp) -> String {
    format!("{:016x}", at.as_millis().cast_unsigned() ^ (1 << 63))
}

/// The last character of an identifier: one of 32, by chance.
fn shard(id: impl ToString) -> char {
    id.to_string().chars().next_back().unwrap_or('0')
}

/// Every shard there is.
pub fn shards() -> impl Iterator<Item = char> {
    "0123456789ABCDEFGHJKMNPQRSTVWXYZ".chars()
}

pub fn account(id: AccountId) -> Key {
    Key::new(id, ALONE)
}

pub fn account_name(name: &str) -> Key {
    Key::new(format!("account-name#{}", text(name)), ALONE)
}

/// The identifiers of an account's plans.
pub fn plans_of(account: AccountId) -> Key {
    Key::new(account, "plans")
}

pub fn plan(id: PlanId) -> Key {
    Key::new(id, ALONE)
}

pub fn user(id: UserId) -> Key {
    Key::new(id, ALONE)
}

pub fn user_names(account: AccountId) -> String {
    format!("user-names#{account}")
}

pub fn user_name(account: AccountId, name: &str) -> Key {
    Key::new(user_names(account), text(name))
}

/// No issuer's URL has a space in it.
pub fn user_identity(account: AccountId, issuer: &str, subject: &str) -> Key {
    Key::new(format!("user-identities#{account}"), text(&format!("{issuer} {subject}")))
}

pub fn share(id: ShareId) -> Key {
    Key::new(id, ALONE)
}

pub fn shares_of(device: DeviceId) -> String {
    format!("shares-of#{device}")
}

pub fn share_of(device: DeviceId, user: UserId) -> Key {
    Key::new(shares_of(device), user)
}

pub fn shares_with(user: UserId) -> String {
    format!("shares-with#{user}")
}

pub fn share_with(user: UserId, device: DeviceId) -> Key {
    Key::new(shares_with(user), device)
}

pub fn audit_log(account: AccountId) -> String {
    format!("audit#{account}")
}

/// Lines sort by their identifiers, and with them by time.
pub fn audit_line(account: AccountId, id: Ulid) -> Key {
    Key::new(audit_log(account), id)
}

pub fn events_of(device: DeviceId) -> String {
    format!("events#{device}")
}

/// By window, then the client's identifier.
pub fn event(id: EventId) -> Key {
    Key::new(events_of(id.device), format!("{:08x}{:016x}", id.window, id.key))
}

/// The events that begin in windows from `first` to `last`.
pub fn events_between(device: DeviceId, first: u32, last: u32, order: TimeOrder) -> Places {
    Places {
        partition: events_of(device),
        first: format!("{first:08x}"),
        last: format!("{last:08x}{LAST}"),
        order,
    }
}

pub fn event_picture(id: EventId) -> Key {
    Key::new(format!("picture#{id}"), ALONE)
}

/// Where it is said who has seen an event.
pub fn watchers_of(event: EventId) -> String {
    format!("seen#{event}")
}

pub fn seen(event: EventId, by: Watcher) -> Key {
    Key::new(watchers_of(event), hex(&by.0))
}

pub fn eventful_devices(shard: char) -> String {
    format!("eventful#{shard}")
}

/// Says that a device may have events.
pub fn eventful(device: DeviceId) -> Key {
    Key::new(eventful_devices(shard(device)), device)
}

/// An account's webhooks, all in one record.
pub fn webhooks_of(account: AccountId) -> Key {
    Key::new(account, "webhooks")
}

pub fn accounts_with_webhooks(shard: char) -> String {
    format!("with-webhooks#{shard}")
}

/// Says that an account may have webhooks.
pub fn account_with_webhooks(account: AccountId) -> Key {
    Key::new(accounts_with_webhooks(shard(account)), account)
}

pub fn webhook_state(id: WebhookId) -> Key {
    Key::new(id, ALONE)
}

pub fn deliveries_to(webhook: WebhookId) -> String {
    format!("deliveries#{webhook}")
}

/// By when it is due, then by its identifier.
pub fn delivery(webhook: WebhookId, delivery: &Delivery) -> Key {
    Key::new(deliveries_to(webhook), format!("{}{}", instant(delivery.due_at), delivery.id))
}

pub fn known_gaps_of(stream: StreamId) -> String {
    format!("known-gaps#{stream}")
}

pub fn known_gap(stream: StreamId, start: Timestamp) -> Key {
    Key::new(known_gaps_of(stream), instant(start))
}

pub fn sign_in(id: SignInId) -> Key {
    Key::new(id, ALONE)
}

pub fn device(id: DeviceId) -> Key {
    Key::new(id, ALONE)
}

pub fn external_id(account: AccountId, external_id: &str) -> Key {
    Key::new(format!("external-id#{account}#{}", text(external_id)), ALONE)
}

pub fn device_names(account: AccountId) -> String {
    format!("device-names#{account}")
}

/// By lower-cased name, then identifier; the item's sort key ends in the identifier.
pub fn device_name(account: AccountId, name: &str, id: DeviceId) -> Key {
    Key::new(device_names(account), format!("{}{id}", text(&name.to_lowercase())))
}

/// The identifiers of a device's streams, the main one first.
pub fn streams_of(device: DeviceId) -> Key {
    Key::new(device, "streams")
}

pub fn stream(id: StreamId) -> Key {
    Key::new(id, ALONE)
}

pub fn all_streams(shard: char) -> String {
    format!("streams#{shard}")
}

/// A stream among all streams, and its shard.
pub fn among_all(stream: StreamId) -> (char, Key) {
    let shard = shard(stream);
    (shard, Key::new(all_streams(shard), stream))
}

pub fn media_names(account: AccountId) -> String {
    format!("media-names#{account}")
}

pub fn media_name(account: AccountId, name: &str) -> Key {
    Key::new(media_names(account), text(name))
}

pub fn media_settings(stream: StreamId) -> Key {
    Key::new(stream, "settings")
}

pub fn credential(id: CredentialId) -> Key {
    Key::new(id, ALONE)
}

/// Where it is said which credentials a device has.
pub fn credentials_of(device: DeviceId) -> String {
    format!("credentials#{device}")
}

pub fn credential_of(device: DeviceId, id: CredentialId) -> Key {
    Key::new(credentials_of(device), id)
}

/// What an idempotency key stands for.
pub fn registration(account: AccountId, key: &str) -> Key {
    Key::new(format!("registration#{account}#{}", text(key)), ALONE)
}

/// How a stream is kept.
pub fn kept(stream: StreamId) -> Key {
    Key::new(stream, "kept")
}

pub fn holds_of(stream: StreamId) -> String {
    format!("holds#{stream}")
}

pub fn hold(stream: StreamId, range: TimeRange, id: HoldId) -> Key {
    Key::new(holds_of(stream), format!("{}{id}", instant(range.start)))
}

/// Where a hold is.
pub fn hold_place(id: HoldId) -> Key {
    Key::new(id, ALONE)
}

pub fn deletions_of(stream: StreamId) -> String {
    format!("deletions#{stream}")
}

pub fn deletion(stream: StreamId, last: FragmentNumber) -> Key {
    Key::new(deletions_of(stream), format!("{:020}", last.0))
}

pub fn open_deletions(shard: char) -> String {
    format!("open-deletions#{shard}")
}

/// Says that a deletion may not be done.
pub fn open_deletion(stream: StreamId, last: FragmentNumber) -> Key {
    Key::new(open_deletions(shard(stream)), format!("{stream}#{:020}", last.0))
}

pub fn announced_streams(shard: char) -> String {
    format!("announced#{shard}")
}

/// Says that a stream may have segments.
pub fn announced(stream: StreamId) -> Key {
    Key::new(announced_streams(shard(stream)), stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_their_order_and_their_difference() {
        assert!(text("a") < text("a-") && text("a-") < text("b"));
        let long = |end: &str| text(&format!("{}{end}", "ä".repeat(400)));
        assert_ne!(long("x"), long("y"));
        assert!(long("x").len() <= MAX_TEXT);
    }

    #[test]
    fn instants_sort() {
        let sorted = [i64::MIN, -1, 0, 1, i64::MAX].map(|ms| instant(Timestamp::from_millis(ms)));
        assert!(sorted.is_sorted());
    }

    #[test]
    fn a_stream_is_in_one_of_the_shards() {
        let stream = StreamId::new(Timestamp::from_millis(0));
        assert!(shards().any(|one| one == shard(stream)));
    }
}
