//! G.711 as players get it: FLAC, made of the kept chunks when they are asked for, and not kept.

use super::{MediaError, Playback};
use crate::id::StreamId;
use crate::storage::{InitId, StorageError};
use bytes::Bytes;
use lookback_packaging::{TrackInit, flac};
use std::sync::Arc;

/// Segments turned into FLAC at the same time: each takes some milliseconds of a core, and the
/// others of the machine are for those who upload.
pub const ENCODERS: usize = 2;

impl Playback {
    /// A track as players get it.
    pub(super) async fn played_init(
        &self,
        stream: StreamId,
        id: InitId,
    ) -> Result<Option<Arc<TrackInit>>, StorageError> {
        Ok(self.track_init(stream, id).await?.map(played))
    }

    /// Chunks of a track, one after the other, as [`Playback::played_init`] describes them.
    pub(super) async fn played_chunks(
        &self,
        init: &TrackInit,
        kept: Bytes,
    ) -> Result<Bytes, MediaError> {
        if init.codecs != flac::CODECS {
            return Ok(kept);
        }
        let failed =
            |cause| MediaError::Storage(format!("no FLAC of {}: {cause}", init.track.codec_id));
        let encoder = flac::Encoder::new(init).ok_or_else(|| failed("not G.711"))?;
        let _turn = self.encoders.acquire().await.map_err(|_| failed("the encoders are gone"))?;
        let encoded = tokio::task::spawn_blocking(move || encoder.encode(&kept))
            .await
            .map_err(|_| failed("the encoder broke off"))?;
        encoded.map(Bytes::from).ok_or_else(|| failed("damaged chunks"))
    }
}

/// FLAC in the place of G.711; any other track as it is.
pub(super) fn played(stored: Arc<TrackInit>) -> Arc<TrackInit> {
    if stored.playable {
        return stored;
    }
    match flac::Encoder::new(&stored) {
        Some(encoder) => Arc::new(encoder.init(&stored)),
        None => stored,
    }
}
