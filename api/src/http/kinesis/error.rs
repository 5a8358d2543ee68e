//! Errors as the Kinesis Video Streams API tells them: a status, the exception's name in
//! `x-amzn-ErrorType`, and a text under `Message`; under `message` where the caller is not known.

use crate::http::body::Unread;
use crate::http::caller::Unauthorized;
use crate::retention::DeleteError;
use crate::signature::Refused;
use crate::storage::StorageError;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;
use std::fmt;

/// An error as the API tells it: status, type and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KinesisError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// What stands in front of the API refused the caller: its texts have another key.
    from_front_end: bool,
}

impl KinesisError {
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), from_front_end: false }
    }

    pub fn bad_request(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, message)
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::bad_request("InvalidArgumentException", message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
    }

    /// The caller is known, and may not do this to what it may see.
    pub fn not_authorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "NotAuthorizedException", message)
    }

    /// A rate that clients are held to was exceeded.
    pub fn too_many_calls(operation: &str, stream: &str) -> Self {
        let message = format!("too many calls of {operation} on {stream}");
        Self::new(StatusCode::BAD_REQUEST, "ClientLimitExceededException", message)
    }

    pub fn too_many_connections(stream: &str) -> Self {
        let message = format!("{stream} has too many open connections");
        Self::new(StatusCode::BAD_REQUEST, "ConnectionLimitExceededException", message)
    }

    /// The same, as the operations say it that have no `NotAuthorizedException`.
    pub fn access_denied(message: impl Into<String>) -> Self {
        Self::not_authorized(message).or_access_denied()
    }

    pub fn or_access_denied(self) -> Self {
        match self.kind {
            "NotAuthorizedException" => Self { kind: "AccessDeniedException", ..self },
            _ => self,
        }
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", message)
    }

    /// Nobody is known by what the request has to prove it.
    fn unknown_caller(kind: &'static str, message: impl Into<String>) -> Self {
        Self { from_front_end: true, ..Self::new(StatusCode::FORBIDDEN, kind, message) }
    }

    pub fn no_caller() -> Self {
        Self::unknown_caller("MissingAuthenticationTokenException", "Missing Authentication Token")
    }
}

impl fmt::Display for KinesisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl ResponseError for KinesisError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let key = if self.from_front_end { "message" } else { "Message" };
        HttpResponse::build(self.status)
            .insert_header(("x-amzn-ErrorType", self.kind))
            .json(json!({ key: self.message }))
    }
}

impl From<StorageError> for KinesisError {
    fn from(error: StorageError) -> Self {
        if let StorageError::OverQuota(_) = error {
            let status = StatusCode::BAD_REQUEST;
            return Self::new(status, "ClientLimitExceededException", error.to_string());
        }
        tracing::error!(%error, "a Kinesis call failed");
        Self::unavailable("try again later")
    }
}

impl From<DeleteError> for KinesisError {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::Held(hold) => {
                let message = format!("hold {} keeps some of the stream's footage", hold.id);
                Self::bad_request("ResourceInUseException", message)
            }
            DeleteError::Storage(error) => error.into(),
        }
    }
}

impl From<Unread> for KinesisError {
    fn from(unread: Unread) -> Self {
        Self::invalid(unread.to_string())
    }
}

impl From<Unauthorized> for KinesisError {
    fn from(error: Unauthorized) -> Self {
        match error {
            Unauthorized::Storage(error) => error.into(),
            Unauthorized::Signature(refused) => {
                let kind = match refused {
                    Refused::Incomplete(_) => "IncompleteSignatureException",
                    Refused::UnknownKey => "UnrecognizedClientException",
                    Refused::Expired { .. }
                    | Refused::NotYet { .. }
                    | Refused::Scope
                    | Refused::Mismatch => "InvalidSignatureException",
                };
                Self::unknown_caller(kind, refused.to_string())
            }
            error => Self::not_authorized(error.to_string()),
        }
    }
}
