//! What a caller did wrong in a mutation's input, as data.

use async_graphql::{Enum, SimpleObject};
use icu_normalizer::ComposingNormalizerBorrowed;

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

/// A text that people give to something, in Unicode's normalization form C, so that two keyboards
/// write the same name alike. It has 1 to `max_chars` characters, none of them control characters.
pub fn text(field: &str, text: &str, max_chars: usize) -> Result<String, UserError> {
    let text = ComposingNormalizerBorrowed::new_nfc().normalize(text).into_owned();
    if (1..=max_chars).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    let message =
        format!("{field} must be 1 to {max_chars} characters, none of them control characters");
    Err(UserError::at(UserErrorCode::Invalid, &[field], message))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, expected: Option<&str>) {
        let text = text("name", given, 4).map_err(|mistake| mistake.message);
        let refused = "name must be 1 to 4 characters, none of them control characters";
        assert_eq!(text.as_deref(), expected.ok_or(&refused.to_owned()), "{given:?}");
    }

    #[test]
    fn texts_are_bounded_and_of_one_form() {
        check("Hof", Some("Hof"));
        check("Tu\u{308}r", Some("T\u{fc}r"));
        check("e\u{301}e\u{301}e\u{301}e\u{301}", Some("éééé"));
        check("éééée", None);
        check("", None);
        check("a\u{7f}", None);
    }
}
