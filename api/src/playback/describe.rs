//! What a stream's footage is coded in, as players ask before they try.

use super::footage;
use crate::id::StreamId;
use crate::storage::{Result, Storage, TimeOrder};
use lookback_packaging::TrackInit;

/// The newest footage's tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// RFC 6381, comma-separated.
    pub codecs: String,
    /// Width and height of the video in pixels.
    pub resolution: Option<(u32, u32)>,
}

/// Describes a stream's newest footage; `None` where there is none yet, or where it lies elsewhere
/// and nobody said.
pub async fn describe(storage: &Storage, stream: StreamId) -> Result<Option<Description>> {
    let Ok(archive) = storage.local() else {
        let newest = footage::first(storage, stream, TimeOrder::NewestFirst).await?;
        return Ok(newest.and_then(|segment| {
            let resolution = segment.width.zip(segment.height);
            Some(Description { codecs: segment.codecs?, resolution })
        }));
    };
    let Some(fragment) = archive.newest(stream).await? else { return Ok(None) };
    let mut codecs = Vec::new();
    let mut resolution = None;
    for track in &fragment.tracks {
        let init = archive.init(stream, track.init).await?;
        let Some(init) = init.as_deref().and_then(TrackInit::decode) else { continue };
        if track.is_video && init.width > 0 {
            resolution = Some((init.width, init.height));
        }
        codecs.push(init.codecs);
    }
    Ok((!codecs.is_empty()).then(|| Description { codecs: codecs.join(","), resolution }))
}
