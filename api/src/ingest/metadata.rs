//! What is kept beside a fragment and handed back with it, as JSON.

use super::timeline::ProducerSession;
use bytes::Bytes;
use lookback_wire::SimpleTag;
use serde::{Deserialize, Serialize};

/// As much as the archive keeps of it.
const MAX_BYTES: usize = 8 << 10;

/// Tags that the camera sent with a fragment, and the run of the producer that it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub tags: Vec<SimpleTag>,
    pub producer: Option<ProducerSession>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    producer: Option<ProducerSession>,
}

impl Metadata {
    /// At most [`MAX_BYTES`]: tags that are too much are left out, the last ones first.
    pub fn encode(&self) -> Bytes {
        let mut stored = Stored {
            tags: self.tags.iter().map(|tag| (tag.name.clone(), tag.value.clone())).collect(),
            producer: self.producer.clone(),
        };
        loop {
            // Strings and integers: writing them as JSON cannot fail.
            let json = serde_json::to_vec(&stored).unwrap_or_default();
            if json.len() <= MAX_BYTES || stored.tags.pop().is_none() {
                return json.into();
            }
        }
    }

    /// What [`Metadata::encode`] wrote; nothing where it was something else.
    pub fn decode(bytes: &[u8]) -> Self {
        let Ok(stored) = serde_json::from_slice::<Stored>(bytes) else { return Self::default() };
        let tags = stored.tags.into_iter().map(|(name, value)| SimpleTag { name, value });
        Self { tags: tags.collect(), producer: stored.producer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_fits() {
        let tag = |i: usize, len| SimpleTag { name: format!("n{i}"), value: "\"".repeat(len) };
        let producer = ProducerSession {
            segment_uid: [9; 16],
            base_ms: -1,
            shift_ms: i64::MAX,
            newest_timecode_ms: 0,
        };
        let table = [
            (Metadata::default(), 0),
            (Metadata { tags: vec![tag(0, 0), tag(1, 256)], producer: Some(producer) }, 2),
            (Metadata { tags: (0..40).map(|i| tag(i, 256)).collect(), producer: None }, 15),
        ];
        for (metadata, kept) in table {
            let bytes = metadata.encode();
            assert!(bytes.len() <= MAX_BYTES);
            let expected = Metadata { tags: metadata.tags[..kept].to_vec(), ..metadata };
            assert_eq!(Metadata::decode(&bytes), expected);
        }
        assert_eq!(Metadata::decode(b"{"), Metadata::default());
    }
}
