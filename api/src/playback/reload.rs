//! What a live player asks its playlist to wait for (draft-pantos-hls-rfc8216bis §6.2.5).

use crate::arriving::MAX_PART_MS;

/// Delivery directives of a playlist request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// Answer once this segment is listed.
    pub msn: Option<u64>,
    /// Answer once this part of it is, from 0.
    pub part: Option<u64>,
    /// Leave out what the player has.
    pub skip: bool,
}

/// Directives that cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Segments that a player may ask for ahead of the last one that is listed.
const MAX_AHEAD: u64 = 2;
/// Parts that it may ask for ahead of the last one: the Advance Part Limit of §6.2.5.2.
const MAX_PARTS_AHEAD: u64 = 3_000_u64.div_ceil(MAX_PART_MS as u64);

impl Reload {
    /// Reads a query; names that are not ours are passed over.
    pub fn parse(query: &str) -> Result<Self, Malformed> {
        let mut reload = Self::default();
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().map(Some).map_err(|_| Malformed("the number is too large")),
            false => Err(Malformed("_HLS_msn and _HLS_part have to be numbers")),
        };
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("_HLS_msn", text)) => reload.msn = number(text)?,
                Some(("_HLS_part", text)) => reload.part = number(text)?,
                Some(("_HLS_skip", text)) => reload.skip = matches!(text, "YES" | "v2"),
                _ => {}
            }
        }
        if reload.part.is_some() && reload.msn.is_none() {
            return Err(Malformed("_HLS_part needs _HLS_msn"));
        }
        Ok(reload)
    }
}

/// How far a rendition's playlist is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// Sequence number of the first segment that is not whole.
    pub next_msn: u64,
    /// Parts of the segment before it, where it is listed by parts.
    pub parts_before: Option<u64>,
    /// Of each segment that is not listed whole: its parts, and whether there will be more.
    pub arriving: Vec<(u64, bool)>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Listed,
    NotYet,
    TooFarAhead,
}

impl Edge {
    /// The last segment that is listed, whole or not, and its last part.
    pub fn last(&self) -> Option<(u64, Option<u64>)> {
        let last = |parts: u64| parts.checked_sub(1);
        match self.arriving.last() {
            Some((parts, _)) => {
                Some(((self.next_msn + self.arriving.len() as u64).checked_sub(1)?, last(*parts)))
            }
            None => Some((self.next_msn.checked_sub(1)?, self.parts_before.and_then(last))),
        }
    }

    /// Whether what the player waits for is listed.
    pub fn wanted(&self, reload: Reload) -> Wanted {
        let Some(msn) = reload.msn else { return Wanted::Listed };
        let end = self.next_msn + self.arriving.len() as u64;
        if msn >= end.saturating_add(MAX_AHEAD) {
            return Wanted::TooFarAhead;
        }
        let Some(part) = reload.part else {
            return if msn < self.next_msn { Wanted::Listed } else { Wanted::NotYet };
        };
        self.wanted_part(msn, part)
    }

    fn wanted_part(&self, msn: u64, part: u64) -> Wanted {
        let (parts, has_more) = match msn.checked_sub(self.next_msn) {
            None if msn + 1 < self.next_msn => return Wanted::Listed,
            None => match self.parts_before {
                Some(parts) => (parts, false),
                None => return Wanted::Listed,
            },
            Some(index) => match usize::try_from(index).ok().and_then(|i| self.arriving.get(i)) {
                Some(arriving) => *arriving,
                None => (0, true),
            },
        };
        if part < parts {
            Wanted::Listed
        } else if part >= parts.saturating_add(MAX_PARTS_AHEAD) {
            Wanted::TooFarAhead
        } else if has_more {
            Wanted::NotYet
        } else {
            // Behind its last part comes the first one of the next segment.
            self.wanted_part(msn.saturating_add(1), 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives() {
        let reload = |msn, part, skip| Ok(Reload { msn, part, skip });
        for (query, expected) in [
            ("", reload(None, None, false)),
            ("a=b&_HLS_msn=7", reload(Some(7), None, false)),
            ("_HLS_part=0&_HLS_msn=7&_HLS_skip=YES", reload(Some(7), Some(0), true)),
            ("_HLS_skip=v2", reload(None, None, true)),
            ("_HLS_skip=no", reload(None, None, false)),
        ] {
            assert_eq!(Reload::parse(query), expected, "{query}");
        }
        for bad in ["_HLS_part=0", "_HLS_msn=-1", "_HLS_msn=x", "_HLS_msn=99999999999999999999"] {
            assert!(Reload::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_listed_is_answered_and_what_comes_is_waited_for() {
        use Wanted::{Listed, NotYet, TooFarAhead};
        // 10 is whole, with 2 parts; of 11 all parts are listed; 12 is arriving.
        let edge =
            Edge { next_msn: 11, parts_before: Some(2), arriving: vec![(3, false), (1, true)] };
        assert_eq!(edge.last(), Some((12, Some(0))));
        // Between two fragments.
        let between = Edge { next_msn: 11, parts_before: Some(2), arriving: Vec::new() };
        assert_eq!(between.last(), Some((10, Some(1))));
        let fresh = Edge::default();
        assert_eq!(fresh.last(), None);
        for (edge, msn, part, expected) in [
            (&edge, 3, None, Listed),
            (&edge, 3, Some(99), Listed),
            (&edge, 10, None, Listed),
            (&edge, 10, Some(1), Listed),
            (&edge, 10, Some(2), Listed),
            (&edge, 11, None, NotYet),
            (&edge, 11, Some(2), Listed),
            (&edge, 11, Some(3), Listed),
            (&edge, 12, None, NotYet),
            (&edge, 12, Some(0), Listed),
            (&edge, 12, Some(1), NotYet),
            (&edge, 12, Some(6), NotYet),
            (&edge, 12, Some(7), TooFarAhead),
            (&edge, 13, Some(0), NotYet),
            (&edge, 14, None, NotYet),
            (&edge, 15, None, TooFarAhead),
            (&edge, u64::MAX, Some(u64::MAX), TooFarAhead),
            (&between, 10, Some(2), NotYet),
            (&between, 10, Some(8), TooFarAhead),
            (&between, 11, Some(0), NotYet),
            (&between, 12, None, NotYet),
            (&between, 13, None, TooFarAhead),
            (&fresh, 0, None, NotYet),
        ] {
            let reload = Reload { msn: Some(msn), part, skip: false };
            assert_eq!(edge.wanted(reload), expected, "{msn} {part:?} of {edge:?}");
        }
        assert_eq!(edge.wanted(Reload::default()), Listed);
    }
}
