//! The contract's scalars. Each one reads strictly, so that a value means the same everywhere, and
//! writes one spelling only.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use chrono::{DateTime as ChronoDateTime, Datelike, NaiveDate, Utc};
use chrono_tz::Tz;
use lookback_wire::Timestamp;
use std::str::FromStr;

/// Earlier or later years are mistakes of a camera's clock or of units.
const YEARS: std::ops::RangeInclusive<i32> = 2000..=2199;

/// Scalars that are strings: how each is read from one, or why not.
trait FromText: Sized {
    fn from_text(text: &str) -> Result<Self, String>;
}

fn parse<T: FromText + async_graphql::InputType>(value: Value) -> InputValueResult<T> {
    match &value {
        Value::String(text) => T::from_text(text).map_err(InputValueError::custom),
        _ => Err(InputValueError::expected_type(value)),
    }
}

fn is_valid<T: FromText>(value: &Value) -> bool {
    matches!(value, Value::String(text) if T::from_text(text).is_ok())
}

/// See the contract; to the millisecond, further digits of an input are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime(pub Timestamp);

/// An instant, RFC 3339. Output is UTC with exactly three fractional digits and `Z`. Input needs an offset; years outside 2000-2199 are refused.
#[Scalar(specified_by_url = "https://scalars.graphql.org/andimarek/date-time")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        parse(value)
    }

    fn is_valid(value: &Value) -> bool {
        is_valid::<Self>(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.to_text())
    }
}

impl DateTime {
    fn to_text(self) -> String {
        ChronoDateTime::<Utc>::from_timestamp_millis(self.0.as_millis())
            .unwrap_or_default()
            .format("%Y-%m-%dT%H:%M:%S%.3fZ")
            .to_string()
    }
}

impl FromText for DateTime {
    fn from_text(text: &str) -> Result<Self, String> {
        // The parser below also takes a space or lower case letters, which RFC 3339 only tolerates.
        if text.as_bytes().get(10) != Some(&b'T') || text.ends_with('z') {
            return Err("needs the form 2026-11-22T09:30:00.000Z".into());
        }
        let at = ChronoDateTime::parse_from_rfc3339(text)
            .map_err(|_| "needs the form 2026-11-22T09:30:00.000Z, offset included".to_owned())?
            .with_timezone(&Utc);
        if !YEARS.contains(&at.year()) {
            return Err(format!("the year {} is not in 2000-2199", at.year()));
        }
        // Chrono carries a leap second as a second's 1000th to 1999th millisecond.
        let millis = at.timestamp() * 1000 + i64::from(at.timestamp_subsec_millis().min(999));
        Ok(Self(Timestamp::from_millis(millis)))
    }
}

/// See the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalDate(pub NaiveDate);

/// A civil date without time or zone: `2026-11-22`.
#[Scalar(specified_by_url = "https://scalars.graphql.org/andimarek/local-date")]
impl ScalarType for LocalDate {
    fn parse(value: Value) -> InputValueResult<Self> {
        parse(value)
    }

    fn is_valid(value: &Value) -> bool {
        is_valid::<Self>(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.format("%Y-%m-%d").to_string())
    }
}

impl FromText for LocalDate {
    fn from_text(text: &str) -> Result<Self, String> {
        NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()
            .filter(|date| text.len() == 10 && YEARS.contains(&date.year()))
            .map(Self)
            .ok_or_else(|| "needs the form 2026-11-22, years 2000-2199".into())
    }
}

/// See the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeZone(pub Tz);

/// An IANA time zone name, such as `Asia/Kolkata`. Fixed offsets and abbreviations are refused: days follow daylight saving.
#[Scalar(specified_by_url = "https://www.iana.org/time-zones")]
impl ScalarType for TimeZone {
    fn parse(value: Value) -> InputValueResult<Self> {
        parse(value)
    }

    fn is_valid(value: &Value) -> bool {
        is_valid::<Self>(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.name().to_owned())
    }
}

impl FromText for TimeZone {
    fn from_text(text: &str) -> Result<Self, String> {
        // The database also has `EST`, `CET` and `Etc/GMT+5`, which follow no place's clocks.
        let place = text == "UTC" || text.contains('/') && !text.starts_with("Etc/GMT");
        Tz::from_str(text)
            .ok()
            .filter(|_| place)
            .map(Self)
            .ok_or_else(|| "needs an IANA zone, such as Asia/Kolkata".into())
    }
}

/// See the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteCount(pub u64);

/// A count of bytes, as a decimal string so that no client rounds it.
#[Scalar]
impl ScalarType for ByteCount {
    fn parse(value: Value) -> InputValueResult<Self> {
        parse(value)
    }

    fn is_valid(value: &Value) -> bool {
        is_valid::<Self>(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

impl FromText for ByteCount {
    fn from_text(text: &str) -> Result<Self, String> {
        // `parse` alone would take a plus sign.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|_| digits)
            .map(Self)
            .ok_or_else(|| "needs a decimal number of bytes, as a string".into())
    }
}

/// See the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(pub String);

/// An absolute http(s) URL. One that carries a signature is a bearer secret until it expires.
#[Scalar(name = "URL", specified_by_url = "https://url.spec.whatwg.org/")]
impl ScalarType for Url {
    fn parse(value: Value) -> InputValueResult<Self> {
        parse(value)
    }

    fn is_valid(value: &Value) -> bool {
        is_valid::<Self>(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

impl FromText for Url {
    fn from_text(text: &str) -> Result<Self, String> {
        ["http://", "https://"]
            .iter()
            .any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| "needs an absolute http(s) URL".into())
    }
}

/// A JSON object's text may have this many bytes.
const MAX_JSON_BYTES: usize = 4 << 10;
/// Objects and arrays within each other, the object itself included.
const MAX_JSON_LEVELS: usize = 4;

/// See the contract.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonObject(pub serde_json::Map<String, serde_json::Value>);

/// A JSON object of at most 4 KiB and 4 levels; comes back equal in value, not in spelling.
#[Scalar(name = "JSONObject", specified_by_url = "https://datatracker.ietf.org/doc/html/rfc8259")]
impl ScalarType for JsonObject {
    fn parse(value: Value) -> InputValueResult<Self> {
        Self::from_value(&value).map_err(InputValueError::custom)
    }

    fn is_valid(value: &Value) -> bool {
        Self::from_value(value).is_ok()
    }

    fn to_value(&self) -> Value {
        // Every JSON value is a GraphQL value.
        Value::from_json(serde_json::Value::Object(self.0.clone())).unwrap_or_default()
    }
}

impl JsonObject {
    fn from_value(value: &Value) -> Result<Self, String> {
        if levels(value) > MAX_JSON_LEVELS {
            return Err(format!("has more than {MAX_JSON_LEVELS} levels"));
        }
        let object = match value.clone().into_json() {
            Ok(serde_json::Value::Object(object)) => object,
            _ => return Err("needs a JSON object".into()),
        };
        let bytes = serde_json::to_vec(&object).map_or(usize::MAX, |text| text.len());
        if bytes > MAX_JSON_BYTES {
            return Err(format!("has {bytes} bytes; at most {MAX_JSON_BYTES} are allowed"));
        }
        Ok(Self(object))
    }
}

/// Documents and variables are nested no deeper than the parsers allow, so this ends.
fn levels(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(levels).max().unwrap_or(0),
        Value::List(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromText + ScalarType>(text: &str, expected: Option<&str>) {
        let read = T::from_text(text).ok().map(|value| value.to_value());
        assert_eq!(read, expected.map(|text| Value::String(text.into())), "{text:?}");
    }

    #[test]
    fn instants() {
        for (text, expected) in [
            ("2026-11-22T09:30:00Z", Some("2026-11-22T09:30:00.000Z")),
            ("2026-11-22T09:30:00.5Z", Some("2026-11-22T09:30:00.500Z")),
            ("2026-11-22T09:30:00.123456789Z", Some("2026-11-22T09:30:00.123Z")),
            ("2026-11-22T15:00:00+05:30", Some("2026-11-22T09:30:00.000Z")),
            ("2026-11-22T09:30:00-00:00", Some("2026-11-22T09:30:00.000Z")),
            ("2016-12-31T23:59:60Z", Some("2016-12-31T23:59:59.999Z")),
            ("2016-12-31T23:59:60.5Z", Some("2016-12-31T23:59:59.999Z")),
            ("2000-01-01T00:00:00Z", Some("2000-01-01T00:00:00.000Z")),
            ("2199-12-31T23:59:59.999Z", Some("2199-12-31T23:59:59.999Z")),
            ("2200-01-01T00:00:00Z", None),
            ("1999-12-31T23:59:59Z", None),
            ("2000-01-01T00:30:00+01:00", None),
            ("2026-11-22T09:30:00", None),
            ("2026-11-22 09:30:00Z", None),
            ("2026-11-22t09:30:00Z", None),
            ("2026-11-22T09:30:00z", None),
            ("2026-11-22T09:30Z", None),
            ("2026-02-30T09:30:00Z", None),
            ("2026-11-22T24:00:00Z", None),
            ("1763803800000", None),
            ("", None),
        ] {
            check::<DateTime>(text, expected);
        }
    }

    #[test]
    fn dates() {
        for (text, valid) in [
            ("2026-11-22", true),
            ("2024-02-29", true),
            ("2026-02-29", false),
            ("2026-1-2", false),
            ("+2026-11-22", false),
            ("2026-11-22T00:00:00Z", false),
            ("2200-01-01", false),
        ] {
            check::<LocalDate>(text, valid.then_some(text));
        }
    }

    #[test]
    fn zones() {
        for (text, valid) in [
            ("Asia/Kolkata", true),
            ("America/Argentina/Buenos_Aires", true),
            ("UTC", true),
            ("Etc/UTC", true),
            ("EST", false),
            ("CET", false),
            ("Etc/GMT+5", false),
            ("+05:30", false),
            ("asia/kolkata", false),
            ("Mars/Olympus_Mons", false),
        ] {
            check::<TimeZone>(text, valid.then_some(text));
        }
    }

    #[test]
    fn byte_counts_and_urls() {
        for (text, valid) in [
            ("0", true),
            ("18446744073709551615", true),
            ("18446744073709551616", false),
            ("+1", false),
            ("-1", false),
            ("1.0", false),
            ("", false),
        ] {
            check::<ByteCount>(text, valid.then_some(text));
        }
        for (text, valid) in
            [("https://a.example/x", true), ("http://", false), ("ftp://a", false), ("/a", false)]
        {
            check::<Url>(text, valid.then_some(text));
        }
    }

    #[test]
    fn json_objects() {
        let long = |len: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(len - 8));
        for (text, valid) in [
            ("{}", true),
            (r#"{"b":[1,2.5,-3e300,null,true],"a":{"é":"\u0000"}}"#, true),
            (r#"{"a":{"b":{"c":{}}}}"#, true),
            (r#"{"a":{"b":{"c":[]}}}"#, true),
            (r#"{"a":{"b":{"c":[[]]}}}"#, false),
            ("[]", false),
            ("1", false),
            ("null", false),
            (&long(4_096), true),
            (&long(4_097), false),
        ] {
            let json: serde_json::Value = serde_json::from_str(text).unwrap();
            let value = Value::from_json(json.clone()).unwrap();
            let back = JsonObject::from_value(&value).map(|read| read.to_value());
            assert_eq!(back.is_ok(), valid, "{text}");
            if let Ok(back) = back {
                assert_eq!(back.into_json().unwrap(), json);
            }
        }
    }
}
