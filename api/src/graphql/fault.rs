//! Why a field or a whole request failed, as entries of `errors` with an `extensions.code`. What a
//! caller did wrong in a mutation's input is no fault: that is `UserError`.

use crate::rates::TooOften;
use crate::storage::StorageError;
use async_graphql::{Error, ErrorExtensions};
use lookback_wire::Timestamp;
use std::fmt::{Debug, Display};

/// A failure that a caller is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The field needs a token.
    Unauthenticated,
    /// The caller's role does not cover this.
    Forbidden,
    /// An argument is out of bounds: which, and how.
    BadInput(String),
    /// `first` is above the page's cap.
    PageLimit { first: i32, cap: usize },
    /// The backend has no such thing: what.
    NotSupported(&'static str),
    /// The caller asks for this too often.
    RateLimited { retry_after_s: u64 },
    /// It may work later; the cause is in the log under this trace.
    Unavailable { trace: String },
    /// Ours; the cause is in the log under this trace.
    Internal { trace: String },
}

/// What a resolver hands out for a nullable field that can fail. The library makes of it what the
/// specification asks for: the field null, the error listed, its siblings untouched.
pub type Maybe<T> = Option<Result<T, Fault>>;

impl Fault {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::BadInput(_) => "BAD_USER_INPUT",
            Self::PageLimit { .. } => "PAGE_LIMIT",
            Self::NotSupported(_) => "NOT_SUPPORTED",
            Self::RateLimited { .. } => "RATE_LIMITED",
            Self::Unavailable { .. } => "BACKEND_UNAVAILABLE",
            Self::Internal { .. } => "INTERNAL",
        }
    }

    /// An argument is out of these bounds.
    pub fn bounds(name: &str, value: impl Debug, least: impl Display, most: impl Display) -> Self {
        Self::BadInput(format!("{name} is {value:?}, and must be {least} to {most}"))
    }

    /// Logs the cause and answers what may be shown of it: only the trace to find it by.
    pub fn internal(cause: impl Display) -> Self {
        let trace = new_trace();
        tracing::error!(trace, %cause, "a field failed");
        Self::Internal { trace }
    }

    fn message(&self) -> String {
        match self {
            Self::Unauthenticated => "a token is required".into(),
            Self::Forbidden => "the caller may not do this".into(),
            Self::BadInput(what) => what.clone(),
            Self::PageLimit { first, cap } => format!("first is {first}, and must be 1 to {cap}"),
            Self::NotSupported(what) => format!("not supported by this backend: {what}"),
            Self::RateLimited { retry_after_s } => {
                format!("too often; try again in {retry_after_s} s")
            }
            Self::Unavailable { .. } => "the backend did not answer; try again".into(),
            Self::Internal { .. } => "internal error".into(),
        }
    }
}

/// Names one failure in the answer and in the log.
pub fn new_trace() -> String {
    crate::id::Ulid::new(Timestamp::from_millis(0)).to_string()
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable(cause) => {
                let trace = new_trace();
                tracing::warn!(trace, %cause, "the store did not answer");
                Self::Unavailable { trace }
            }
            StorageError::NotSupported(what) => Self::NotSupported(what),
            other => Self::internal(other),
        }
    }
}

impl From<TooOften> for Fault {
    fn from(TooOften { retry_after_s }: TooOften) -> Self {
        Self::RateLimited { retry_after_s }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::new(fault.message()).extend_with(|_, extensions| {
            extensions.set("code", fault.code());
            match &fault {
                Fault::Unavailable { trace } | Fault::Internal { trace } => {
                    extensions.set("traceId", trace.as_str());
                }
                Fault::RateLimited { retry_after_s } => {
                    extensions.set("retryAfterSeconds", *retry_after_s);
                }
                _ => {}
            }
        })
    }
}
