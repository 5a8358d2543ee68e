//! What an error of Kinesis Video Streams means to whoever wants to play, and which errors are worth
//! another try.

use crate::storage::StorageError;
use aws_sdk_kinesisvideo::config::interceptors::InterceptorContext;
use aws_sdk_kinesisvideo::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_kinesisvideo::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use std::error::Error;

/// Why media is not handed out.
#[derive(Clone, Debug)]
pub enum Refused {
    /// There is no such stream, or nothing in the range.
    NoMedia,
    /// What is there cannot be carried so; the service's own words.
    CodecNotSupported(String),
    /// The codec, or how it is set up, changes in the range.
    MixedCodecs,
    Storage(StorageError),
}

impl From<StorageError> for Refused {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl Refused {
    /// For calls that are about no media that could be missing or mixed.
    pub fn into_storage_error(self) -> StorageError {
        let text = match self {
            Self::Storage(error) => return error,
            Self::NoMedia => "there is no such video stream".to_owned(),
            Self::CodecNotSupported(text) => text,
            Self::MixedCodecs => "the codec changes".to_owned(),
        };
        StorageError::Unavailable(text)
    }
}

/// Reads what an operation on a stream answered.
pub fn refused<E, R>(operation: &str, stream: &str, error: &SdkError<E, R>) -> Refused
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug,
{
    let service = error.as_service_error();
    let words = service.and_then(ProvideErrorMetadata::message).unwrap_or_default();
    match service.and_then(ProvideErrorMetadata::code) {
        Some("ResourceNotFoundException" | "NoDataRetentionException") => Refused::NoMedia,
        Some("UnsupportedStreamMediaTypeException" | "MissingCodecPrivateDataException") => {
            Refused::CodecNotSupported(words.to_owned())
        }
        Some("InvalidCodecPrivateDataException" | "InvalidMediaFrameException") => {
            Refused::MixedCodecs
        }
        _ => unavailable(operation, stream, error).into(),
    }
}

/// Says which call failed, on what, and why.
pub fn unavailable<E, R>(operation: &str, stream: &str, error: &SdkError<E, R>) -> StorageError
where
    E: Error + 'static,
    R: std::fmt::Debug,
{
    let cause = DisplayErrorContext(error);
    StorageError::Unavailable(format!("{operation} of video stream {stream}: {cause}"))
}

/// Whether nothing answered at an endpoint.
pub fn is_dead<E, R>(error: &SdkError<E, R>) -> bool {
    matches!(error, SdkError::DispatchFailure(_) | SdkError::TimeoutError(_))
}

/// The service's throttling, which it tells by other names than the SDK knows.
#[derive(Debug)]
pub struct Throttling;

impl ClassifyRetry for Throttling {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let kind = context.response().and_then(|answer| answer.headers().get("x-amzn-errortype"));
        match kind.map(|kind| kind.split(':').next().unwrap_or(kind)) {
            Some("ClientLimitExceededException" | "ConnectionLimitExceededException") => {
                RetryAction::throttling_error()
            }
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "throttling by Kinesis Video Streams"
    }
}
