//! The name that a browser saves a file under: cleaned when a session is minted, and again when its
//! URL comes back, and told in a Content-Disposition header (RFC 6266).

use std::fmt::Write;

/// Characters of a name, without its extension: every file system takes as many.
const MAX_CHARS: usize = 60;

/// The name without extension, path or whatever a file system or shell takes for something else;
/// `None` where nothing is left.
pub fn clean(name: &str) -> Option<String> {
    let stem = match name.len().checked_sub(4).and_then(|at| name.split_at_checked(at)) {
        Some((stem, extension)) if extension.eq_ignore_ascii_case(".mp4") => stem,
        _ => name,
    };
    let clean: String = stem
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '(' | ')') {
                c
            } else {
                '_'
            }
        })
        .take(MAX_CHARS)
        .collect();
    let clean = clean.trim_matches([' ', '.']);
    (!clean.is_empty()).then(|| clean.to_owned())
}

/// The name as a segment of a URL's path (RFC 3986 §2.1).
pub fn percent_encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            out.push(char::from(byte));
        } else {
            // Writing into a `String` cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `attachment`, with a plain name for old clients and the whole one for others.
pub fn content_disposition(name: &str) -> String {
    let name = clean(name).unwrap_or_else(|| "footage".into());
    let plain: String = name.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    format!("attachment; filename=\"{plain}.mp4\"; filename*=UTF-8''{}.mp4", percent_encode(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_and_told() {
        let table = [
            ("Front door.mp4", Some("Front door"), "Front%20door"),
            ("..\\..\\etc/passwd", Some("_.._etc_passwd"), "_.._etc_passwd"),
            ("Tür \"3\"\r\n.MP4", Some("Tür _3___"), "T%C3%BCr%20_3___"),
            ("mp4", Some("mp4"), "mp4"),
            ("ü.mp4", Some("ü"), "%C3%BC"),
            (".mp4", None, ""),
            (" . ", None, ""),
            ("", None, ""),
        ];
        for (given, expected, encoded) in table {
            let cleaned = clean(given);
            assert_eq!(cleaned.as_deref(), expected, "{given:?}");
            assert_eq!(percent_encode(&cleaned.unwrap_or_default()), encoded, "{given:?}");
        }
        assert_eq!(clean(&"x".repeat(500)).map(|name| name.len()), Some(MAX_CHARS));
        assert_eq!(
            content_disposition("Tür 3"),
            "attachment; filename=\"T_r 3.mp4\"; filename*=UTF-8''T%C3%BCr%203.mp4"
        );
    }
}
