//! Footage that lies in Kinesis Video Streams. Players are sent there where it can serve them; what
//! it does not make (longer files and playlists, smaller pictures) is made here of the fragments that
//! it hands out, which are read when they are asked for.

mod download;
mod fragments;
mod hls;
mod listings;
mod pictures;
mod session;
mod stretches;

pub use download::Download;
pub use hls::File;
pub use listings::Listings;

use super::{MediaError, SessionError, Unavailable, UnavailableCode};
use crate::storage::StorageError;
use crate::storage::aws::kinesis_video::Refused;

/// No fragment is longer ("Amazon Kinesis Video Streams quotas"): one that reaches into a range
/// begins no earlier.
const MAX_FRAGMENT_MS: i64 = 20_000;

impl From<Refused> for MediaError {
    fn from(refused: Refused) -> Self {
        match refused {
            // Sessions are not given out for these, so that the footage has changed since.
            Refused::NoMedia | Refused::MixedCodecs | Refused::CodecNotSupported(_) => {
                Self::NotFound
            }
            Refused::Storage(StorageError::Unavailable(cause)) => {
                tracing::warn!(cause, "media was not served");
                Self::Busy
            }
            Refused::Storage(error) => error.into(),
        }
    }
}

impl From<Refused> for SessionError {
    fn from(refused: Refused) -> Self {
        let (code, message) = match refused {
            Refused::Storage(error) => return error.into(),
            Refused::NoMedia => {
                (UnavailableCode::NoMedia, "there is no footage in the range".to_owned())
            }
            Refused::CodecNotSupported(why) => (UnavailableCode::CodecNotSupported, why),
            Refused::MixedCodecs => {
                (UnavailableCode::MixedCodecs, "the codec changes in the range".to_owned())
            }
        };
        Unavailable { code, message, nearest: None }.into()
    }
}
