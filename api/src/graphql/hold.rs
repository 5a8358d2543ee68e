//! `Hold`, `placeHold` and `releaseHold`.

use super::asked::{Asked, asked};
use super::fault::Fault;
use super::scalar::DateTime;
use super::stream::Stream;
use super::time_range::{TimeRange, TimeRangeInput};
use super::user_error::{UserError, UserErrorCode, text};
use crate::access::Action;
use crate::audit::AuditAction;
use crate::id::HoldId;
use crate::keeping::{self, MAX_HOLD_MS, MAX_HOLDS};
use crate::storage::StorageError;
use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

const MAX_REASON_CHARS: usize = 256;

#[derive(Clone)]
pub struct Hold(pub keeping::Hold);

/// A span of footage kept beyond its retention.
#[Object]
impl Hold {
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    async fn stream(&self, ctx: &Context<'_>) -> Result<Stream, Fault> {
        let lost = || Fault::internal(format!("{} has no stream", self.0.id));
        asked(ctx)?.stream(self.0.stream).await?.map(Stream).ok_or_else(lost)
    }

    async fn range(&self) -> TimeRange {
        self.0.range.into()
    }

    async fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// Null until released.
    async fn until(&self) -> Option<DateTime> {
        self.0.until.map(DateTime)
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
}

/// A hold in force; `None` where it does not exist for the caller.
pub async fn find(asked: &Asked, id: HoldId) -> Result<Option<Hold>, Fault> {
    let found = asked.service.storage.catalog.hold(id).await?;
    let Some(hold) = found.filter(|hold| hold.is_in_force(asked.now())) else { return Ok(None) };
    Ok(asked.stream(hold.stream).await?.map(|_| Hold(hold)))
}

#[derive(Debug, InputObject)]
pub struct PlaceHoldInput {
    stream_id: ID,
    /// At most 24 hours.
    range: TimeRangeInput,
    reason: Option<String>,
    until: Option<DateTime>,
}

#[derive(SimpleObject)]
pub struct PlaceHoldPayload {
    hold: Option<Hold>,
    user_errors: Vec<UserError>,
}

impl PlaceHoldPayload {
    fn refused(mistake: UserError) -> Self {
        Self { hold: None, user_errors: vec![mistake] }
    }
}

pub async fn place(asked: &Asked, input: PlaceHoldInput) -> Result<PlaceHoldPayload, Fault> {
    let stream = match asked.managed_stream(&input.stream_id, "streamId").await? {
        Ok(stream) => stream,
        Err(mistake) => return Ok(PlaceHoldPayload::refused(mistake)),
    };
    let now = asked.now();
    let invalid = |field: &str, message: String| {
        let mistake = UserError::at(UserErrorCode::Invalid, &[field], message);
        Ok(PlaceHoldPayload::refused(mistake))
    };
    let Some(range) = input.range.span() else {
        return invalid("range", "range.end must be after range.start".into());
    };
    if range.millis() > MAX_HOLD_MS {
        return invalid("range", format!("a hold is at most {} h long", MAX_HOLD_MS / 3_600_000));
    }
    let reason = input.reason.map(|reason| text("reason", &reason, MAX_REASON_CHARS)).transpose();
    let reason = match reason {
        Ok(reason) => reason,
        Err(mistake) => return Ok(PlaceHoldPayload::refused(mistake)),
    };
    if input.until.is_some_and(|DateTime(until)| until <= now) {
        return invalid("until", "until is not in the future".into());
    }
    let hold = keeping::Hold {
        id: HoldId::new(now),
        stream: stream.id,
        range,
        reason,
        until: input.until.map(|DateTime(until)| until),
        created_at: now,
    };
    let has_room = match asked.service.retention.place_hold(hold.clone()).await {
        Err(StorageError::NotSupported(what)) => {
            let mistake = UserError::at(UserErrorCode::NotSupported, &["until"], what);
            return Ok(PlaceHoldPayload::refused(mistake));
        }
        placed => placed?,
    };
    if !has_room {
        let message = format!("the stream has {MAX_HOLDS} holds");
        let mistake = UserError { code: UserErrorCode::LimitReached, message, path: None };
        return Ok(PlaceHoldPayload::refused(mistake));
    }
    asked.loaders.holds.forget(stream.id).await;
    asked.note(AuditAction::Change, hold.id).await;
    Ok(PlaceHoldPayload { hold: Some(Hold(hold)), user_errors: Vec::new() })
}

#[derive(SimpleObject)]
pub struct ReleaseHoldPayload {
    released_hold_id: Option<ID>,
    user_errors: Vec<UserError>,
}

pub async fn release(asked: &Asked, id: ID) -> Result<ReleaseHoldPayload, Fault> {
    asked.principal()?;
    let refused = |code, message: &str| {
        let mistake = UserError { code, message: message.into(), path: Some(vec!["id".into()]) };
        Ok(ReleaseHoldPayload { released_hold_id: None, user_errors: vec![mistake] })
    };
    let found = match id.parse::<HoldId>() {
        Ok(id) => find(asked, id).await?,
        Err(_) => None,
    };
    let Some(Hold(hold)) = found else {
        return refused(UserErrorCode::NotFound, "there is no such hold");
    };
    let stream = asked.stream(hold.stream).await?;
    let Some(stream) = stream else {
        return refused(UserErrorCode::NotFound, "there is no such hold");
    };
    if !asked.may(Action::Manage, &asked.device_of(&stream).await?) {
        return refused(UserErrorCode::Forbidden, "the caller may not manage this device");
    }
    asked.service.retention.release_hold(&hold).await?;
    asked.loaders.holds.forget(hold.stream).await;
    asked.note(AuditAction::Change, hold.id).await;
    Ok(ReleaseHoldPayload { released_hold_id: Some(id), user_errors: Vec::new() })
}
