//! Relay connections, paged forward. A cursor names a position in the list's own order, so what
//! arrives late neither repeats nor hides what is shown.

use super::fault::Fault;
use crate::event::EventId;
use crate::id::{AuditId, DeviceId};
use crate::segment::SegmentId;
use async_graphql::SimpleObject;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lookback_wire::Timestamp;

/// A name of 128 characters of 4 bytes with its identifier, in base 64, and some room.
const MAX_CURSOR_CHARS: usize = 1024;

/// How many items a page is to have.
pub fn page_size(first: Option<i32>, default: usize, cap: usize) -> Result<usize, Fault> {
    let Some(first) = first else { return Ok(default) };
    let page = usize::try_from(first).ok().filter(|page| (1..=cap).contains(page));
    page.ok_or(Fault::PageLimit { first, cap })
}

/// A position in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// Among clips.
    Instant(Timestamp),
    /// Among segments, by start.
    Segment(Timestamp, SegmentId),
    /// Among events, by start; of several devices, too.
    Event(Timestamp, EventId),
    /// Among devices, by name.
    Device(String, DeviceId),
    /// Among users, by name.
    User(String),
    /// In the audit log.
    AuditEntry(AuditId),
}

impl Cursor {
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(match self {
            Self::Instant(at) => format!("i {}", at.as_millis()),
            Self::Segment(start, id) => format!("s {} {id}", start.as_millis()),
            Self::Event(start, id) => format!("e {} {id}", start.as_millis()),
            Self::Device(name, id) => format!("d {id} {name}"),
            Self::User(name) => format!("u {name}"),
            Self::AuditEntry(id) => format!("a {id}"),
        })
    }

    fn decode(text: &str) -> Option<Self> {
        if text.len() > MAX_CURSOR_CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (kind, rest) = std::str::from_utf8(&bytes).ok()?.split_once(' ')?;
        let millis = |text: &str| text.parse().ok().map(Timestamp::from_millis);
        Some(match kind {
            "i" => Self::Instant(millis(rest)?),
            "s" => {
                let (start, id) = rest.split_once(' ')?;
                Self::Segment(millis(start)?, id.parse().ok()?)
            }
            "e" => {
                let (start, id) = rest.split_once(' ')?;
                Self::Event(millis(start)?, id.parse().ok()?)
            }
            "d" => {
                let (id, name) = rest.split_once(' ')?;
                Self::Device(name.to_owned(), id.parse().ok()?)
            }
            "u" => Self::User(rest.to_owned()),
            "a" => Self::AuditEntry(rest.parse().ok()?),
            _ => return None,
        })
    }

    /// Reads `after` with `pick`, which takes the kind of cursor that the list gives out.
    pub fn read<T>(
        after: Option<String>,
        pick: impl FnOnce(Self) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(after) = after else { return Ok(None) };
        match Self::decode(&after).and_then(pick) {
            Some(position) => Ok(Some(position)),
            None => Err(Fault::BadInput("after is no cursor of this list".into())),
        }
    }
}

/// One page.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub items: Vec<(Cursor, T)>,
    /// Whether there was an `after`: what came before it is the previous page.
    pub has_previous: bool,
    /// Where to go on; none at the end of the list. A page that came short for being bounded goes
    /// on behind its last item.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    pub fn info(&self) -> PageInfo {
        let end = self.next.as_ref().or(self.items.last().map(|(cursor, _)| cursor));
        PageInfo {
            has_next_page: self.next.is_some(),
            has_previous_page: self.has_previous,
            start_cursor: self.items.first().map(|(cursor, _)| cursor.encode()),
            end_cursor: end.map(Cursor::encode),
        }
    }
}

/// Where a page lies in its connection.
#[derive(Debug, SimpleObject)]
pub struct PageInfo {
    has_next_page: bool,
    has_previous_page: bool,
    start_cursor: Option<String>,
    end_cursor: Option<String>,
}

/// Makes a connection and its edge of a node type. The documentation that an invocation gives is
/// the edge's in the contract.
macro_rules! connection {
    ($connection:ident, $(#[$doc:meta])* $edge:ident, $node:ty) => {
        $(#[$doc])*
        #[derive(async_graphql::SimpleObject)]
        pub struct $edge {
            cursor: String,
            node: $node,
        }

        pub struct $connection(pub $crate::graphql::pagination::Page<$node>);

        #[async_graphql::Object]
        impl $connection {
            async fn edges(&self) -> Vec<$edge> {
                let edge = |(cursor, node): &($crate::graphql::pagination::Cursor, $node)| $edge {
                    cursor: cursor.encode(),
                    node: node.clone(),
                };
                self.0.items.iter().map(edge).collect()
            }

            async fn nodes(&self) -> Vec<$node> {
                self.0.items.iter().map(|(_, node)| node.clone()).collect()
            }

            async fn page_info(&self) -> $crate::graphql::pagination::PageInfo {
                self.0.info()
            }
        }
    };
}
pub(crate) use connection;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StreamId;

    #[test]
    fn cursors_come_back() {
        let at = Timestamp::from_millis(1_763_803_800_123);
        let segment = SegmentId { stream: StreamId::new(at), window: 7, key: u64::MAX };
        for cursor in [
            Cursor::Instant(at),
            Cursor::Segment(at, segment),
            Cursor::Event(at, EventId::of(DeviceId::new(at), at, "a")),
            Cursor::Device("Hof, hinten ünd \u{1f4f7}".into(), DeviceId::new(at)),
            Cursor::Device(String::new(), DeviceId::new(at)),
            Cursor::User("ann of the yard".into()),
            Cursor::AuditEntry(AuditId::new(at)),
        ] {
            assert_eq!(Cursor::read(Some(cursor.encode()), Some), Ok(Some(cursor)));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let id = DeviceId::new(Timestamp::from_millis(1));
        for text in [
            String::new(),
            "???".into(),
            URL_SAFE_NO_PAD.encode("i x"),
            URL_SAFE_NO_PAD.encode("i 99999999999999999999"),
            URL_SAFE_NO_PAD.encode("x 1"),
            URL_SAFE_NO_PAD.encode(format!("d {id}")),
            URL_SAFE_NO_PAD.encode([0xff, b' ']),
            "A".repeat(MAX_CURSOR_CHARS + 1),
        ] {
            let read = Cursor::read(Some(text.clone()), Some);
            assert!(matches!(read, Err(Fault::BadInput(_))), "{text}: {read:?}");
        }
    }

    #[test]
    fn page_sizes() {
        for (first, expected) in [
            (None, Ok(20)),
            (Some(1), Ok(1)),
            (Some(100), Ok(100)),
            (Some(101), Err(Fault::PageLimit { first: 101, cap: 100 })),
            (Some(0), Err(Fault::PageLimit { first: 0, cap: 100 })),
            (Some(-1), Err(Fault::PageLimit { first: -1, cap: 100 })),
        ] {
            assert_eq!(page_size(first, 20, 100), expected, "{first:?}");
        }
    }
}
