//! `Mutation`: the writes.

use super::asked::asked;
use super::fault::Maybe;
use super::ingest::{self, IngestSegmentsInput, IngestSegmentsPayload};
use super::register::{self, RegisterDeviceInput, RegisterDevicePayload};
use super::upload_grant::{self, CreateUploadGrantInput, CreateUploadGrantPayload};
use async_graphql::{Context, Object};

pub struct Mutation;

/// Writes. Each is one step, all or nothing, unless its payload lists results; null only beside an entry in `errors`.
#[Object]
impl Mutation {
    /// Announces up to 100 segments of one device, in any order; each is judged by itself. Idempotent by `clientSegmentId`.
    async fn ingest_segments(
        &self,
        ctx: &Context<'_>,
        input: IngestSegmentsInput,
    ) -> Maybe<IngestSegmentsPayload> {
        Some(match asked(ctx) {
            Ok(asked) => ingest::ingest_segments(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    /// Gives a device what it needs to send media.
    async fn create_upload_grant(
        &self,
        ctx: &Context<'_>,
        input: CreateUploadGrantInput,
    ) -> Maybe<CreateUploadGrantPayload> {
        Some(match asked(ctx) {
            Ok(asked) => upload_grant::create(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    /// Makes a device known, with its streams and its first credential.
    async fn register_device(
        &self,
        ctx: &Context<'_>,
        input: RegisterDeviceInput,
    ) -> Maybe<RegisterDevicePayload> {
        Some(match asked(ctx) {
            Ok(asked) => register::register(asked, input).await,
            Err(fault) => Err(fault),
        })
    }
}
