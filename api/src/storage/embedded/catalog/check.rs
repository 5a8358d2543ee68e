//! Holds the catalog's records against each other, and the tables that they are looked up in
//! against the records.
//!
//! A record that others name and that is gone is made again from what names it, so that no footage
//! becomes unreachable over a lost page: an account under its name, a device under its external
//! identifier (suspended, until somebody has looked at it), a stream under its media stream's name, a
//! plan that keeps for as long as any plan can. What cannot be read, and what belongs to nothing
//! any more, is set aside.

use super::devices::{external_id_key, name_key, stream_key};
use super::events::{event_at_key, id_of};
use super::retention::{deletion_key, hold_key};
use super::segments::{self, OfStream, at_key};
use super::shares::{device_key, user_key};
use super::tables::{self, NOTHING, Tables, decode, encode, key, put, text, text_of};
use super::users::{sign_in_end_key, user_identity_key, user_name_key};
use crate::access::Share;
use crate::account::{Account, Identity, RetentionMode, RetentionPlan, SignIn, User};
use crate::audit::AuditEntry;
use crate::device::{Device, DeviceCredential, DeviceState, Stream};
use crate::event::Event;
use crate::id::{AccountId, DeviceId, PlanId, StreamId, Ulid};
use crate::keeping::{Deletion, Hold, KnownGap};
use crate::media_stream::MediaSettings;
use crate::segment::Segment;
use crate::storage::embedded::lmdb::{Durability, Table, io_error};
use crate::storage::embedded::pages::{PageFault, survey};
use crate::storage::embedded::quarantine::{Quarantine, sync_dir};
use crate::storage::{Result, StorageError};
use crate::webhook::{Delivery, Webhook, WebhookState};
use heed::RwTxn;
use lookback_wire::Timestamp;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Display, Write};
use std::ops::Bound;
use std::path::Path;

/// Records looked at between two looks at the table.
const BATCH: usize = 1_000;
/// As long as any plan keeps: the one that was lost may have been such.
const LONGEST_DAYS: u32 = 3_650;

/// One thing that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// The database itself is damaged.
    Page(PageFault),
    /// A record is no record of its table.
    Unreadable { table: &'static str, key: String },
    /// A record that others name is not there.
    Lost { what: String },
    /// A record belongs to one that is not there.
    Orphan { what: String, of: String },
    /// A table in which records are looked up does not hold what they come to.
    LookUp { table: &'static str, missing: u64, surplus: u64 },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("catalog: ")?;
        match self {
            Self::Page(fault) => fault.fmt(f),
            Self::Unreadable { table, key } => {
                write!(f, "record {key} of table {table} cannot be read")
            }
            Self::Lost { what } => write!(f, "{what} is named and not there"),
            Self::Orphan { what, of } => write!(f, "{what} belongs to {of}, which is not there"),
            Self::LookUp { table, missing, surplus } => write!(
                f,
                "table {table} is out of step with its records: {missing} entries are missing, \
                 {surplus} too many"
            ),
        }
    }
}

/// What was looked at.
#[derive(Debug, Default)]
pub struct Checked {
    pub records: u64,
    pub findings: Vec<Finding>,
    /// The streams that have a record, or whose footage is to go; none are known where the catalog cannot be read.
    pub streams: Option<HashSet<StreamId>>,
}

/// Checks the catalog in `dir`, which nobody may have open. With `repair`, puts right what is wrong
/// and leaves in `quarantine` what it takes out.
pub fn check(dir: &Path, repair: bool, quarantine: &Quarantine) -> Result<Checked> {
    let faults = survey(&dir.join("data.mdb"), &mut |_, _, _| {})?;
    let is_sound = faults.is_empty();
    let findings = faults.into_iter().map(Finding::Page).collect();
    if !is_sound {
        if !repair {
            return Ok(Checked { findings, ..Checked::default() });
        }
        salvage(dir, quarantine)?;
    }
    let (env, tables) = tables::open(dir, Durability::EachCommit)?;
    let mut check = Check {
        tables: &tables,
        txn: env.write_txn()?,
        checked: Checked { findings, ..Checked::default() },
        set_aside: String::new(),
    };
    check.records()?;
    check.look_ups()?;
    let Check { txn, checked, set_aside, .. } = check;
    if repair && !checked.findings.is_empty() {
        if !set_aside.is_empty() {
            quarantine.keep("records.jsonl", set_aside.as_bytes())?;
        }
        txn.commit()?;
    } else {
        txn.abort();
    }
    Ok(checked)
}

/// Puts what can be read of a damaged database into a new one, and sets the old one aside.
fn salvage(dir: &Path, quarantine: &Quarantine) -> Result<()> {
    let new = dir.with_extension("salvaged");
    match std::fs::remove_dir_all(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io_error(&new, &error));
        }
        _ => {}
    }
    {
        let (env, tables) = tables::open(&new, Durability::EachCommit)?;
        let mut txn = env.write_txn()?;
        let mut failure = None;
        survey(&dir.join("data.mdb"), &mut |table, key, value| {
            let put = tables.named(table).map(|table| table.put(&mut txn, key, value));
            failure = put.and_then(heed::Result::err).or(failure.take());
        })?;
        failure.map_or(Ok(()), Err)?;
        txn.commit()?;
    }
    quarantine.take(dir, "catalog")?;
    std::fs::rename(&new, dir).map_err(|error| io_error(&new, &error))?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Looks at everything inside of one transaction, in which it also puts right what is wrong; whoever
/// asked only to look gives the transaction up.
struct Check<'a> {
    tables: &'a Tables,
    txn: RwTxn<'a>,
    checked: Checked,
    /// One JSON object a line: table, key, value.
    set_aside: String,
}

impl Check<'_> {
    /// Hands over all entries of a table, which may change meanwhile.
    fn each(
        &mut self,
        table: Table,
        mut visit: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut batch = Vec::new();
            for entry in table.range(&self.txn, &(from, Bound::Unbounded))?.take(BATCH) {
                let (key, value) = entry?;
                batch.push((key.to_vec(), value.to_vec()));
            }
            for (key, value) in &batch {
                visit(self, key, value)?;
            }
            match batch.pop() {
                Some((last, _)) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// Hands over all records of a table that can be read; the others are set aside.
    fn each_record<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        mut visit: impl FnMut(&mut Self, &[u8], T) -> Result<()>,
    ) -> Result<()> {
        self.each(self.named(name)?, |check, key, value| {
            check.checked.records += 1;
            match decode(value) {
                Ok(record) => visit(check, key, record),
                Err(_) => {
                    check.note(Finding::Unreadable { table: name, key: hex(key) });
                    check.remove(name, key)
                }
            }
        })
    }

    fn named(&self, name: &'static str) -> Result<Table> {
        let table = self.tables.named(name);
        table.ok_or_else(|| StorageError::Damaged(format!("the catalog has no table {name}")))
    }

    fn note(&mut self, finding: Finding) {
        self.checked.findings.push(finding);
    }

    /// Takes an entry out, and writes down what it was.
    fn remove(&mut self, name: &'static str, key: &[u8]) -> Result<()> {
        let table = self.named(name)?;
        if let Some(value) = table.get(&self.txn, key)? {
            let line = serde_json::json!({
                "table": name,
                "key": hex(key),
                "value": String::from_utf8_lossy(value),
            });
            self.set_aside.push_str(&format!("{line}\n"));
        }
        table.delete(&mut self.txn, key)?;
        Ok(())
    }

    fn orphan(
        &mut self,
        table: &'static str,
        key: &[u8],
        what: impl Display,
        of: impl Display,
    ) -> Result<()> {
        self.note(Finding::Orphan { what: what.to_string(), of: of.to_string() });
        self.remove(table, key)
    }

    fn is_there(&self, table: Table, id: Ulid) -> Result<bool> {
        Ok(table.get(&self.txn, &id.to_be_bytes())?.is_some())
    }

    fn records(&mut self) -> Result<()> {
        let tables = self.tables;
        self.each_record("accounts", |_, _, _: Account| Ok(()))?;
        self.each_record("plans", |check, _, plan: RetentionPlan| {
            check.need_account(plan.account)
        })?;
        self.each_record("users", |check, _, user: User| check.need_account(user.account))?;
        self.each_record("devices", |check, _, device: Device| {
            check.need_account(device.account)?;
            check.need_plan(device.account, device.plan)
        })?;
        self.each(tables.external_ids, |check, key, value| {
            match (account_and_text(key), decode(value)) {
                (Some((account, external_id)), Ok(id)) => {
                    check.need_device(id, account, external_id)
                }
                _ => Ok(()),
            }
        })?;
        self.each_record("streams", |check, _, stream: Stream| {
            check.need_device(stream.device, stream.account, stream.device.to_string())
        })?;
        self.each(tables.device_streams, |check, key, _| check.need_stream(key))?;
        self.each_record("credentials", |check, key, credential: DeviceCredential| {
            if check.is_there(tables.devices, credential.device.0)? {
                return Ok(());
            }
            check.orphan("credentials", key, credential.id, credential.device)
        })?;
        self.each_record("sign_ins", |check, key, sign_in: SignIn| {
            if check.is_there(tables.users, sign_in.user.0)? {
                return Ok(());
            }
            check.orphan("sign_ins", key, sign_in.id, sign_in.user)
        })?;
        self.each_record("shares", |check, key, share: Share| {
            if !check.is_there(tables.devices, share.device.0)? {
                return check.orphan("shares", key, share.id, share.device);
            }
            if !check.is_there(tables.users, share.user.0)? {
                return check.orphan("shares", key, share.id, share.user);
            }
            Ok(())
        })?;
        self.each_record("audit", |_, _, _: AuditEntry| Ok(()))?;
        let mut streams = HashSet::new();
        // A stream that was taken away may have footage that is still being deleted.
        for table in [tables.streams, tables.deletions] {
            self.each(table, |_, key, _| {
                streams.extend(key.first_chunk().map(|id| StreamId(Ulid::from_be_bytes(*id))));
                Ok(())
            })?;
        }
        self.each_record("segments", |check, key, segment: Segment| {
            if streams.contains(&segment.id.stream) {
                return Ok(());
            }
            check.orphan("segments", key, segment.id, segment.id.stream)
        })?;
        self.each_record("events", |check, key, event: Event| {
            if check.is_there(tables.devices, event.id.device.0)? {
                return Ok(());
            }
            check.orphan("events", key, event.id, event.id.device)
        })?;
        for table in ["event_pictures", "seen"] {
            self.each(self.named(table)?, |check, key, _| {
                let event = key.get(..28).unwrap_or(key);
                if check.tables.events.get(&check.txn, event)?.is_some() {
                    return Ok(());
                }
                let of = id_of(event).map_or_else(|| hex(event), |id| id.to_string());
                check.orphan(table, key, format!("record {} of table {table}", hex(key)), of)
            })?;
        }
        self.each_record("arrivals", |_, _, _: u64| Ok(()))?;
        self.each_record("webhooks", |check, _, webhook: Webhook| {
            check.need_account(webhook.account)
        })?;
        let mut webhooks = HashSet::new();
        self.each(tables.webhooks, |_, key, _| {
            webhooks.extend(key.get(16..).map(<[u8]>::to_vec));
            Ok(())
        })?;
        self.each_record("webhook_states", |_, _, _: WebhookState| Ok(()))?;
        self.each_record("deliveries", |_, _, _: Delivery| Ok(()))?;
        for table in ["webhook_states", "deliveries"] {
            self.each(self.named(table)?, |check, key, _| {
                let webhook = key.get(..16).unwrap_or(key);
                if webhooks.contains(webhook) {
                    return Ok(());
                }
                let what = format!("record {} of table {table}", hex(key));
                check.orphan(table, key, what, format!("webhook {}", hex(webhook)))
            })?;
        }
        self.each_record("known_gaps", |_, _, _: KnownGap| Ok(()))?;
        self.each_record("holds", |check, key, hold: Hold| {
            if streams.contains(&hold.stream) {
                return Ok(());
            }
            check.orphan("holds", key, hold.id, hold.stream)
        })?;
        self.each_record("deletions", |_, _, _: Deletion| Ok(()))?;
        self.each_record("media_settings", |_, _, _: MediaSettings| Ok(()))?;
        self.checked.streams = Some(streams);
        Ok(())
    }

    fn need_account(&mut self, id: AccountId) -> Result<()> {
        if self.is_there(self.tables.accounts, id.0)? {
            return Ok(());
        }
        let mut name = id.to_string();
        self.each(self.tables.account_names, |_, key, value| {
            if decode::<AccountId>(value).is_ok_and(|named| named == id) {
                name = text_of(key);
            }
            Ok(())
        })?;
        self.note(Finding::Lost { what: format!("account {name:?}, {id},") });
        let account = Account { id, name, created_at: made_at(id.0) };
        put(&mut self.txn, self.tables.accounts, &id.0.to_be_bytes(), &account)
    }

    fn need_plan(&mut self, account: AccountId, id: PlanId) -> Result<()> {
        if self.is_there(self.tables.plans, id.0)? {
            return Ok(());
        }
        self.note(Finding::Lost { what: format!("plan {id}") });
        let plan = RetentionPlan {
            id,
            account,
            name: format!("recovered {id}"),
            mode: RetentionMode::Continuous,
            days: LONGEST_DAYS,
            pre_roll_s: 10,
            post_roll_s: 20,
            storage_quota_bytes: None,
            is_default: false,
        };
        put(&mut self.txn, self.tables.plans, &id.0.to_be_bytes(), &plan)
    }

    fn need_device(&mut self, id: DeviceId, account: AccountId, external_id: String) -> Result<()> {
        if self.is_there(self.tables.devices, id.0)? {
            return Ok(());
        }
        self.note(Finding::Lost { what: format!("device {external_id:?}, {id},") });
        self.need_account(account)?;
        // One plan for all that are lost; no other one has the account's identifier for its own.
        let plan = PlanId(account.0);
        self.need_plan(account, plan)?;
        let device = Device {
            id,
            account,
            name: external_id.clone(),
            external_id,
            model: None,
            firmware_version: None,
            state: DeviceState::Suspended,
            time_zone: "UTC".into(),
            plan,
            created_at: made_at(id.0),
            last_seen_at: None,
            clock_skew_ms: None,
        };
        put(&mut self.txn, self.tables.devices, &id.0.to_be_bytes(), &device)
    }

    /// The stream of an entry of `device_streams`.
    fn need_stream(&mut self, entry: &[u8]) -> Result<()> {
        let split = || {
            let (device, rest) = entry.split_first_chunk::<16>()?;
            let ([position], id) = rest.split_first_chunk::<1>()?;
            let id = StreamId(Ulid::from_be_bytes(id.try_into().ok()?));
            Some((DeviceId(Ulid::from_be_bytes(*device)), *position, id))
        };
        let Some((device, position, id)) = split() else { return Ok(()) };
        if self.is_there(self.tables.streams, id.0)? {
            return Ok(());
        }
        let mut named = None;
        self.each(self.tables.media_names, |_, key, value| {
            if decode::<StreamId>(value).is_ok_and(|found| found == id) {
                named = account_and_text(key);
            }
            Ok(())
        })?;
        let Some((account, media_stream_name)) = named else { return Ok(()) };
        self.note(Finding::Lost { what: format!("stream {media_stream_name:?}, {id},") });
        self.need_device(device, account, device.to_string())?;
        let stream = Stream {
            id,
            device,
            account,
            name: if position == 0 { "main".into() } else { format!("stream-{position}") },
            position,
            media_stream_name,
            created_at: made_at(id.0),
        };
        put(&mut self.txn, self.tables.streams, &id.0.to_be_bytes(), &stream)
    }

    fn look_ups(&mut self) -> Result<()> {
        let names = [
            "account_names",
            "account_plans",
            "user_names",
            "user_identities",
            "device_shares",
            "user_shares",
            "sign_in_ends",
            "external_ids",
            "device_names",
            "device_streams",
            "media_names",
            "device_credentials",
            "segment_starts",
            "segment_arrivals",
            "announced",
            "event_starts",
            "event_arrivals",
            "stream_holds",
            "open_deletions",
        ];
        let mut look_ups = Vec::new();
        for name in names {
            look_ups.push(LookUp { name, table: self.named(name)?, expected: 0, missing: 0 });
        }
        self.put_look_ups(&mut look_ups)?;
        let mut is_cleared = false;
        for look_up in &look_ups {
            let surplus = look_up.table.len(&self.txn)?.saturating_sub(look_up.expected);
            if look_up.missing + surplus > 0 {
                let LookUp { name: table, missing, .. } = *look_up;
                self.note(Finding::LookUp { table, missing, surplus });
            }
            if surplus > 0 {
                look_up.table.clear(&mut self.txn)?;
                is_cleared = true;
            }
        }
        if is_cleared { self.put_look_ups(&mut look_ups) } else { Ok(()) }
    }

    /// Sees to it that the look-up tables hold what the records come to, and counts.
    fn put_look_ups(&mut self, look_ups: &mut [LookUp]) -> Result<()> {
        let mut expect = |check: &mut Self, name: &str, key: Vec<u8>, value: &[u8]| {
            let Some(look_up) = look_ups.iter_mut().find(|look_up| look_up.name == name) else {
                return Ok(());
            };
            look_up.expected += 1;
            if look_up.table.get(&check.txn, &key)? != Some(value) {
                look_up.missing += 1;
                look_up.table.put(&mut check.txn, &key, value)?;
            }
            Ok::<_, StorageError>(())
        };
        self.each_decoded("accounts", |check, account: Account| {
            expect(check, "account_names", text(&account.name), &encode(&account.id)?)
        })?;
        self.each_decoded("plans", |check, plan: RetentionPlan| {
            let key = key(&[&plan.account.0.to_be_bytes(), &plan.id.0.to_be_bytes()]);
            expect(check, "account_plans", key, NOTHING)
        })?;
        self.each_decoded("users", |check, user: User| {
            let id = encode(&user.id)?;
            if let Some(Identity { issuer, subject, .. }) = &user.identity {
                let identity = user_identity_key(user.account, issuer, subject);
                expect(check, "user_identities", identity, &id)?;
            }
            expect(check, "user_names", user_name_key(user.account, &user.name), &id)
        })?;
        self.each_decoded("shares", |check, share: Share| {
            expect(check, "device_shares", device_key(&share), &encode(&share.id)?)?;
            expect(check, "user_shares", user_key(&share), &encode(&share.id)?)
        })?;
        self.each_decoded("sign_ins", |check, sign_in: SignIn| {
            expect(check, "sign_in_ends", sign_in_end_key(&sign_in), NOTHING)
        })?;
        self.each_decoded("devices", |check, device: Device| {
            expect(check, "external_ids", external_id_key(&device), &encode(&device.id)?)?;
            let name = name_key(device.account, &device.name, device.id);
            expect(check, "device_names", name, NOTHING)
        })?;
        self.each_decoded("streams", |check, stream: Stream| {
            expect(check, "device_streams", stream_key(&stream), NOTHING)?;
            let name = key(&[&stream.account.0.to_be_bytes(), &text(&stream.media_stream_name)]);
            expect(check, "media_names", name, &encode(&stream.id)?)
        })?;
        self.each_decoded("credentials", |check, credential: DeviceCredential| {
            let key = key(&[&credential.device.0.to_be_bytes(), &credential.id.0.to_be_bytes()]);
            expect(check, "device_credentials", key, NOTHING)
        })?;
        self.each_decoded("holds", |check, hold: Hold| {
            expect(check, "stream_holds", hold_key(&hold), NOTHING)
        })?;
        self.each_decoded("deletions", |check, deletion: Deletion| {
            if deletion.is_done {
                return Ok(());
            }
            expect(check, "open_deletions", deletion_key(&deletion), NOTHING)
        })?;
        self.each_decoded("events", |check, event: Event| {
            expect(check, "event_starts", event_at_key(event.start, event.id), NOTHING)?;
            expect(check, "event_arrivals", event_at_key(event.ingested_at, event.id), NOTHING)
        })?;
        let mut announced: BTreeMap<StreamId, OfStream> = BTreeMap::new();
        self.each_decoded("segments", |check, segment: Segment| {
            let (start, entry) = segments::start_entry(&segment);
            let Segment { id, range, ingested_at, .. } = segment;
            announced.entry(id.stream).or_insert_with(|| OfStream::of(range)).note(range);
            expect(check, "segment_starts", start, &entry)?;
            expect(check, "segment_arrivals", at_key(ingested_at, id), NOTHING)
        })?;
        for (stream, mut of_stream) in announced {
            // The longest one may have gone since, which the table does not follow.
            let stored = segments::of_stream(self.tables, &self.txn, stream).ok().flatten();
            let stored_ms = stored.map_or(0, |stored| stored.longest_ms);
            of_stream.longest_ms = of_stream.longest_ms.max(stored_ms);
            let key = stream.0.to_be_bytes().to_vec();
            expect(self, "announced", key, &encode(&of_stream)?)?;
        }
        Ok(())
    }

    fn each_decoded<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        mut visit: impl FnMut(&mut Self, T) -> Result<()>,
    ) -> Result<()> {
        self.each(self.named(name)?, |check, _, value| visit(check, decode(value)?))
    }
}

struct LookUp {
    name: &'static str,
    table: Table,
    expected: u64,
    missing: u64,
}

/// The parts of a key that ends in a text.
fn account_and_text(key: &[u8]) -> Option<(AccountId, String)> {
    let (account, text) = key.split_first_chunk::<16>()?;
    Some((AccountId(Ulid::from_be_bytes(*account)), text_of(text)))
}

/// When an identifier was made, which is when what it names was.
fn made_at(id: Ulid) -> Timestamp {
    Timestamp::from_millis(i64::try_from(id.0 >> 80).unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::super::EmbeddedCatalog;
    use super::*;
    use crate::device::CredentialKind;
    use crate::event::{NewEvent, Picture};
    use crate::id::CredentialId;
    use crate::segment::{NewSegment, TimeRange};
    use crate::storage::Catalog;
    use crate::storage::contract::{self, NOW};

    /// A device with two streams, a credential, two segments and an event.
    async fn filled(dir: &Path) {
        let catalog = EmbeddedCatalog::open(dir).unwrap();
        let account = catalog.ensure_account("home", NOW).await.unwrap();
        let mut registration = contract::registration(account.id, "SN-1", "Door");
        registration.device.plan = catalog.plans(account.id).await.unwrap()[0].id;
        let made = catalog.register_device(registration, NOW).await.unwrap();
        for (from, to) in [(0, 20_000), (20_000, 60_000)] {
            let range = TimeRange { start: NOW.plus_millis(from), end: NOW.plus_millis(to) };
            let segment = NewSegment {
                client_segment_id: format!("from {from}"),
                range,
                trigger: Default::default(),
                codecs: None,
                width: None,
                height: None,
                size_bytes: None,
            };
            catalog.announce(made.streams[0].id, &[segment], NOW).await.unwrap();
        }
        let event = contract::events::new_event("a", 0);
        let picture = Picture { jpeg: b"a JPEG".as_slice().into(), width: 2, height: 1 };
        let event = NewEvent { picture: Some(picture), ..event };
        catalog.report_events(made.device.id, &[event], NOW).await.unwrap();
    }

    fn change(dir: &Path, change: impl FnOnce(&Tables, &mut RwTxn)) {
        let (env, tables) = tables::open(dir, Durability::None).unwrap();
        let mut txn = env.write_txn().unwrap();
        change(&tables, &mut txn);
        txn.commit().unwrap();
    }

    fn first(table: Table, txn: &RwTxn) -> (Vec<u8>, Vec<u8>) {
        let (key, value) = table.first(txn).unwrap().unwrap();
        (key.to_vec(), value.to_vec())
    }

    #[tokio::test]
    async fn what_does_not_fit_together_is_named_and_put_right() {
        type Damage = fn(&Tables, &mut RwTxn);
        // What is said, and how many lines are set aside.
        let cases: [(&str, Damage, &[&str], usize); 12] = [
            ("nothing", |_, _| {}, &[], 0),
            (
                "no account",
                |tables, txn| tables.accounts.clear(txn).unwrap(),
                &["account \"home\", acc_", "is named and not there"],
                0,
            ),
            ("no plan", |tables, txn| tables.plans.clear(txn).unwrap(), &["plan plan_"], 0),
            (
                "no device",
                |tables, txn| tables.devices.clear(txn).unwrap(),
                &["device \"SN-1\", dev_", "table device_names is out of step"],
                0,
            ),
            ("no streams", |tables, txn| tables.streams.clear(txn).unwrap(), &["stream \""], 0),
            (
                "no streams, nor their names",
                |tables, txn| {
                    tables.streams.clear(txn).unwrap();
                    tables.media_names.clear(txn).unwrap();
                },
                &["catalog: seg_", "belongs to str_", "table device_streams is out of step"],
                2,
            ),
            (
                "a record that is none",
                |tables, txn| {
                    let (key, _) = first(tables.credentials, txn);
                    tables.credentials.put(txn, &key, b"{\"id\":").unwrap();
                },
                &["of table credentials cannot be read", "table device_credentials"],
                1,
            ),
            (
                "a credential of nobody",
                |tables, txn| {
                    let credential = DeviceCredential {
                        id: CredentialId::new(NOW),
                        account: AccountId::new(NOW),
                        device: DeviceId::new(NOW),
                        kind: CredentialKind::Token,
                        created_at: NOW,
                        expires_at: None,
                        revoked_at: None,
                        last_used_at: None,
                    };
                    put(txn, tables.credentials, &credential.id.0.to_be_bytes(), &credential)
                        .unwrap();
                },
                &["cred_", "belongs to dev_"],
                1,
            ),
            (
                "a name of nobody",
                |tables, txn| tables.device_names.put(txn, b"of nobody", NOTHING).unwrap(),
                &["table device_names is out of step with its records: 0 entries are missing, 1"],
                0,
            ),
            (
                "segments that are not found",
                |tables, txn| {
                    tables.segment_starts.clear(txn).unwrap();
                    tables.announced.clear(txn).unwrap();
                },
                &["table segment_starts is out of step with its records: 2", "table announced"],
                0,
            ),
            (
                "events that are not found",
                |tables, txn| {
                    tables.event_starts.clear(txn).unwrap();
                    tables.event_arrivals.clear(txn).unwrap();
                },
                &["table event_starts is out of step", "table event_arrivals is out of step"],
                0,
            ),
            (
                "a picture of no event",
                |tables, txn| tables.events.clear(txn).unwrap(),
                &["of table event_pictures belongs to evt_", "table event_starts"],
                1,
            ),
        ];
        for (what, damage, named, set_aside) in cases {
            let root = tempfile::tempdir().unwrap();
            let dir = root.path().join("catalog");
            filled(&dir).await;
            change(&dir, damage);
            let quarantine = Quarantine::below(root.path());
            let found = check(&dir, false, &quarantine).unwrap().findings;
            let text: String = found.iter().map(|finding| format!("{finding}\n")).collect();
            assert_eq!(found.is_empty(), named.is_empty(), "{what}: {text}");
            for name in named {
                assert!(text.contains(name), "{what}: no {name:?} in {text}");
            }
            assert_eq!(check(&dir, true, &quarantine).unwrap().findings, found, "{what}");
            assert_eq!(check(&dir, false, &quarantine).unwrap().findings, [], "{what}");
            let aside = std::fs::read_to_string(root.path().join("quarantine/records.jsonl"));
            assert_eq!(aside.unwrap_or_default().lines().count(), set_aside, "{what}");
        }
    }

    #[tokio::test]
    async fn a_lost_device_comes_back_under_its_name_and_takes_no_uploads() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("catalog");
        filled(&dir).await;
        change(&dir, |tables, txn| {
            tables.devices.clear(txn).unwrap();
            tables.plans.clear(txn).unwrap();
        });
        check(&dir, true, &Quarantine::below(root.path())).unwrap();
        let catalog = EmbeddedCatalog::open(&dir).unwrap();
        let account = catalog.account_by_name("home").await.unwrap().unwrap();
        let device = catalog.device_by_external_id(account.id, "SN-1").await.unwrap().unwrap();
        assert_eq!(device.state, DeviceState::Suspended);
        assert_eq!(catalog.streams_of(&[device.id]).await.unwrap()[0].len(), 2);
        let plans = catalog.plans_by_id(&[device.plan]).await.unwrap();
        assert_eq!(plans[0].as_ref().map(|plan| plan.days), Some(LONGEST_DAYS));
    }
}
