//! What a caller did wrong in a mutation's input, as data.

use async_graphql::{Enum, SimpleObject};

/// A mistake in a mutation's input.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject)]
pub struct UserError {
    /// Stable, for programs.
    pub code: UserErrorCode,
    /// For people, in English.
    pub message: String,
    /// The input field it concerns, from the argument down; null where it concerns the whole.
    pub path: Option<Vec<String>>,
}

impl UserError {
    /// A mistake in one field of `input`.
    pub fn at(code: UserErrorCode, path: &[&str], message: impl Into<String>) -> Self {
        let path = std::iter::once("input").chain(path.iter().copied()).map(str::to_owned);
        Self { code, message: message.into(), path: Some(path.collect()) }
    }
}

/// Whether a text has 1 to `max_chars` characters, none of them control characters.
pub fn is_text(text: &str, max_chars: usize) -> bool {
    let chars = text.chars().count();
    (1..=max_chars).contains(&chars) && !text.chars().any(char::is_control)
}

/// What a caller did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum UserErrorCode {
    /// A value is malformed or out of bounds.
    Invalid,
    /// The object does not exist for this caller.
    NotFound,
    /// The caller may see the object and not do this to it.
    Forbidden,
    /// The value is in use.
    Taken,
    /// The object's state does not allow this.
    WrongState,
    /// The same idempotency key came with another input.
    IdempotencyConflict,
    /// A plan's or the service's limit is reached.
    LimitReached,
    /// The backend of this deployment cannot do this.
    NotSupported,
}
