//! What a stream's footage is coded in, as players ask before they try.

use crate::id::StreamId;
use crate::storage::{Result, Storage};
use lookback_packaging::TrackInit;

/// The newest fragment's tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// RFC 6381, comma-separated.
    pub codecs: String,
    /// Width and height of the video in pixels.
    pub resolution: Option<(u32, u32)>,
}

/// Describes a stream's newest fragment; `None` where there is none yet.
pub async fn describe(storage: &Storage, stream: StreamId) -> Result<Option<Description>> {
    let Some(fragment) = storage.local()?.newest(stream).await? else {
        return Ok(None);
    };
    let mut codecs = Vec::new();
    let mut resolution = None;
    for track in &fragment.tracks {
        let init = storage.local()?.init(stream, track.init).await?;
        let Some(init) = init.as_deref().and_then(TrackInit::decode) else { continue };
        if track.is_video && init.width > 0 {
            resolution = Some((init.width, init.height));
        }
        codecs.push(init.codecs);
    }
    Ok((!codecs.is_empty()).then(|| Description { codecs: codecs.join(","), resolution }))
}
