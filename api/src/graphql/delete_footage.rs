//! `deleteFootage`.

use super::asked::Asked;
use super::fault::Fault;
use super::time_range::{DAY_MS, TimeRange, TimeRangeInput};
use super::user_error::{UserError, UserErrorCode};
use crate::audit::AuditAction;
use crate::retention::DeleteError;
use crate::storage::StorageError;
use async_graphql::{ID, InputObject, SimpleObject};

#[derive(Debug, InputObject)]
pub struct DeleteFootageInput {
    stream_id: ID,
    range: TimeRangeInput,
}

#[derive(Default, SimpleObject)]
pub struct DeleteFootagePayload {
    deleted_range: Option<TimeRange>,
    deleted_segments: Option<usize>,
    user_errors: Vec<UserError>,
}

impl DeleteFootagePayload {
    fn refused(code: UserErrorCode, message: impl Into<String>) -> Self {
        let mistake = UserError::at(code, &["range"], message);
        Self { user_errors: vec![mistake], ..Self::default() }
    }
}

pub async fn delete(
    asked: &Asked,
    input: DeleteFootageInput,
) -> Result<DeleteFootagePayload, Fault> {
    let stream = match asked.managed_stream(&input.stream_id, "streamId").await? {
        Ok(stream) => stream,
        Err(mistake) => {
            return Ok(DeleteFootagePayload { user_errors: vec![mistake], ..Default::default() });
        }
    };
    let Some(range) = input.range.span() else {
        let message = "range.end must be after range.start";
        return Ok(DeleteFootagePayload::refused(UserErrorCode::Invalid, message));
    };
    let days = asked.limits().query_range_days;
    if range.millis() > i64::from(days) * DAY_MS {
        let message = format!("range is longer than {days} days");
        return Ok(DeleteFootagePayload::refused(UserErrorCode::Invalid, message));
    }
    match asked.service.retention.delete(stream.id, range).await {
        Ok(deleted) => {
            asked.note(AuditAction::Delete, stream.id).await;
            Ok(DeleteFootagePayload {
                deleted_range: deleted.range.map(Into::into),
                deleted_segments: Some(deleted.segments),
                user_errors: Vec::new(),
            })
        }
        Err(held @ DeleteError::Held(_)) => {
            Ok(DeleteFootagePayload::refused(UserErrorCode::WrongState, held.to_string()))
        }
        Err(DeleteError::Storage(StorageError::NotSupported(_))) => {
            let message = "footage is deleted only with all of its stream";
            Ok(DeleteFootagePayload::refused(UserErrorCode::NotSupported, message))
        }
        Err(DeleteError::Storage(error)) => Err(error.into()),
    }
}
