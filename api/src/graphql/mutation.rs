//! `Mutation`: the writes.

use super::asked::asked;
use super::change_plan::{
    self, CreateRetentionPlanInput, RetentionPlanPayload, UpdateRetentionPlanInput,
};
use super::credential::{
    self, IssueDeviceCredentialInput, IssueDeviceCredentialPayload, RevokeDeviceCredentialPayload,
};
use super::delete_footage::{self, DeleteFootageInput, DeleteFootagePayload};
use super::fault::Maybe;
use super::heartbeat::{self, HeartbeatInput, HeartbeatPayload};
use super::hold::{self, PlaceHoldInput, PlaceHoldPayload, ReleaseHoldPayload};
use super::ingest::{self, IngestSegmentsInput, IngestSegmentsPayload};
use super::ingest_events::{self, IngestEventsInput, IngestEventsPayload};
use super::mark_events_seen::{self, MarkEventsSeenInput, MarkEventsSeenPayload};
use super::register::{self, RegisterDeviceInput, RegisterDevicePayload};
use super::share::{self, RevokeSharePayload, ShareDeviceInput, ShareDevicePayload};
use super::update_device::{self, DevicePayload, RetireDeviceInput, UpdateDeviceInput};
use super::update_user::{self, UpdateUserInput, UpdateUserPayload};
use super::upload_grant::{self, CreateUploadGrantInput, CreateUploadGrantPayload};
use super::webhook::{
    self, CreateWebhookInput, CreateWebhookPayload, DeleteWebhookPayload, ReplayWebhookInput,
    ReplayWebhookPayload,
};
use async_graphql::{Context, ID, Object};

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

    /// Reports up to 100 events of one device; each is judged by itself. Idempotent by `clientEventId`.
    async fn ingest_events(
        &self,
        ctx: &Context<'_>,
        input: IngestEventsInput,
    ) -> Maybe<IngestEventsPayload> {
        Some(match asked(ctx) {
            Ok(asked) => ingest_events::ingest_events(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    /// Says that the device is alive, and how it is.
    async fn report_heartbeat(
        &self,
        ctx: &Context<'_>,
        input: HeartbeatInput,
    ) -> Maybe<HeartbeatPayload> {
        Some(match asked(ctx) {
            Ok(asked) => heartbeat::report(asked, input).await,
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

    /// Changes a device; what is left out stays.
    async fn update_device(
        &self,
        ctx: &Context<'_>,
        input: UpdateDeviceInput,
    ) -> Maybe<DevicePayload> {
        Some(match asked(ctx) {
            Ok(asked) => update_device::update(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    /// Takes a device out of service; its footage stays until its retention ends, unless it is to be deleted.
    async fn retire_device(
        &self,
        ctx: &Context<'_>,
        input: RetireDeviceInput,
    ) -> Maybe<DevicePayload> {
        Some(match asked(ctx) {
            Ok(asked) => update_device::retire(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    async fn issue_device_credential(
        &self,
        ctx: &Context<'_>,
        input: IssueDeviceCredentialInput,
    ) -> Maybe<IssueDeviceCredentialPayload> {
        Some(match asked(ctx) {
            Ok(asked) => credential::issue(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    /// Stops a credential at once.
    async fn revoke_device_credential(
        &self,
        ctx: &Context<'_>,
        id: ID,
    ) -> Maybe<RevokeDeviceCredentialPayload> {
        Some(match asked(ctx) {
            Ok(asked) => credential::revoke(asked, &id).await,
            Err(fault) => Err(fault),
        })
    }

    /// Gives a user access to a device; replaces the share that the user has on it.
    async fn share_device(
        &self,
        ctx: &Context<'_>,
        input: ShareDeviceInput,
    ) -> Maybe<ShareDevicePayload> {
        Some(match asked(ctx) {
            Ok(asked) => share::share(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    /// Ends a share at once; open sessions of the user are closed.
    async fn revoke_share(&self, ctx: &Context<'_>, id: ID) -> Maybe<RevokeSharePayload> {
        Some(match asked(ctx) {
            Ok(asked) => share::revoke(asked, id).await,
            Err(fault) => Err(fault),
        })
    }

    /// Changes a user; a new role or `disabled` takes effect within 5 s.
    async fn update_user(
        &self,
        ctx: &Context<'_>,
        input: UpdateUserInput,
    ) -> Maybe<UpdateUserPayload> {
        Some(match asked(ctx) {
            Ok(asked) => update_user::update(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    async fn create_retention_plan(
        &self,
        ctx: &Context<'_>,
        input: CreateRetentionPlanInput,
    ) -> Maybe<RetentionPlanPayload> {
        Some(match asked(ctx) {
            Ok(asked) => change_plan::create(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    /// Changes a plan for every device on it; what is left out stays.
    async fn update_retention_plan(
        &self,
        ctx: &Context<'_>,
        input: UpdateRetentionPlanInput,
    ) -> Maybe<RetentionPlanPayload> {
        Some(match asked(ctx) {
            Ok(asked) => change_plan::update(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    /// Keeps a span beyond its retention; copies nothing.
    async fn place_hold(
        &self,
        ctx: &Context<'_>,
        input: PlaceHoldInput,
    ) -> Maybe<PlaceHoldPayload> {
        Some(match asked(ctx) {
            Ok(asked) => hold::place(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    async fn release_hold(&self, ctx: &Context<'_>, id: ID) -> Maybe<ReleaseHoldPayload> {
        Some(match asked(ctx) {
            Ok(asked) => hold::release(asked, id).await,
            Err(fault) => Err(fault),
        })
    }

    /// Deletes a span for good; held footage is refused.
    async fn delete_footage(
        &self,
        ctx: &Context<'_>,
        input: DeleteFootageInput,
    ) -> Maybe<DeleteFootagePayload> {
        Some(match asked(ctx) {
            Ok(asked) => delete_footage::delete(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    /// Marks events as seen, or not, for the caller.
    async fn mark_events_seen(
        &self,
        ctx: &Context<'_>,
        input: MarkEventsSeenInput,
    ) -> Maybe<MarkEventsSeenPayload> {
        Some(match asked(ctx) {
            Ok(asked) => mark_events_seen::mark(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    async fn create_webhook(
        &self,
        ctx: &Context<'_>,
        input: CreateWebhookInput,
    ) -> Maybe<CreateWebhookPayload> {
        Some(match asked(ctx) {
            Ok(asked) => webhook::create(asked, input).await,
            Err(fault) => Err(fault),
        })
    }

    async fn delete_webhook(&self, ctx: &Context<'_>, id: ID) -> Maybe<DeleteWebhookPayload> {
        Some(match asked(ctx) {
            Ok(asked) => webhook::delete(asked, id).await,
            Err(fault) => Err(fault),
        })
    }

    /// Delivers the events of a span once more.
    async fn replay_webhook(
        &self,
        ctx: &Context<'_>,
        input: ReplayWebhookInput,
    ) -> Maybe<ReplayWebhookPayload> {
        Some(match asked(ctx) {
            Ok(asked) => webhook::replay(asked, input).await,
            Err(fault) => Err(fault),
        })
    }
}
