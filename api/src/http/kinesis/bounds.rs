//! What the texts of a request may be, as the API's model has it (KVS API, 2017-09-30).

use super::error::KinesisError;

/// Whether a member's value has the form asked for.
pub fn require(
    member: &str,
    value: &str,
    form: impl FnOnce(&str) -> bool,
) -> Result<(), KinesisError> {
    if form(value) {
        return Ok(());
    }
    // A long value is told by its beginning.
    let shown: String = value.chars().take(64).collect();
    Err(KinesisError::invalid(format!("{member} {shown:?} is too long, too short or malformed")))
}

/// 1 to 256 of `[a-zA-Z0-9_.-]`
pub fn is_stream_name(name: &str) -> bool {
    is_name(name, 256)
}

/// 1 to 128 of `[a-zA-Z0-9_.-]`
pub fn is_device_name(name: &str) -> bool {
    is_name(name, 128)
}

fn is_name(name: &str, max_len: usize) -> bool {
    (1..=max_len).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// `type/subtype`, or several with commas between; up to 128 characters.
pub fn is_media_type(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.+".contains(&b))
    };
    (1..=128).contains(&text.len())
        && text.split(',').all(|media_type| {
            media_type.split_once('/').is_some_and(|(kind, name)| is_word(kind) && is_word(name))
        })
}

/// 1 to 2048 characters on one line.
pub fn is_kms_key_id(id: &str) -> bool {
    (1..=2_048).contains(&id.chars().count()) && !id.contains(['\n', '\r'])
}

/// 1 to 128 characters of a tag.
pub fn is_tag_key(key: &str) -> bool {
    !key.is_empty() && is_tag(key, 128)
}

/// Up to 256 characters of a tag.
pub fn is_tag_value(value: &str) -> bool {
    is_tag(value, 256)
}

/// Letters, digits, spaces and `_.:/=+-@`.
fn is_tag(text: &str, max_chars: usize) -> bool {
    text.chars().count() <= max_chars
        && text.chars().all(|c| {
            c.is_alphanumeric() || c.is_whitespace() && !c.is_control() || "_.:/=+-@".contains(c)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_hold_at_their_ends() {
        let long = |count: usize| "a".repeat(count);
        type Form = fn(&str) -> bool;
        let table: [(Form, &[String], &[String]); 6] = [
            (
                is_stream_name,
                &[long(1), long(256), "a_.-9".into()],
                &[long(0), long(257), "a b".into(), "é".into(), "a/b".into()],
            ),
            (is_device_name, &[long(128)], &[long(0), long(129), "a:b".into()]),
            (
                is_media_type,
                &["video/h264".into(), "video/h264,audio/aac".into(), "a-+._b/c".into()],
                &[
                    long(1),
                    "video/".into(),
                    "/h264".into(),
                    "video/h264,".into(),
                    "a/b/c".into(),
                    format!("a/{}", long(127)),
                ],
            ),
            (is_kms_key_id, &[long(2_048)], &[long(0), long(2_049), "a\n".into()]),
            (is_tag_key, &["ключ 1_.:/=+-@".into(), long(128)], &[long(0), long(129), "a*".into()]),
            (is_tag_value, &[long(0), long(256)], &[long(257), "a\n".into()]),
        ];
        for (form, good, bad) in table {
            assert!(good.iter().all(|text| form(text)), "{good:?}");
            for text in bad {
                assert!(!form(text), "{text:?}");
            }
        }
    }
}
