//! Streams by the name or the ARN that requests give.

use super::bounds::{is_stream_name, require};
use super::error::KinesisError;
use crate::access::{Action, Decision, Principal, Target, decide};
use crate::device::{Device, Stream};
use crate::service::Service;
use serde::Deserialize;

const MAX_ARN_LEN: usize = 1_024;

/// A stream by the name or the ARN that a request gives.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StreamSelector {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

/// A stream that the caller may do something with.
#[derive(Debug)]
pub struct Selected {
    pub device: Device,
    pub stream: Stream,
}

impl StreamSelector {
    pub fn new(stream_name: Option<String>, stream_arn: Option<String>) -> Self {
        Self { stream_name, stream_arn }
    }

    /// The stream, if `principal` may do `action` to its device.
    pub async fn select(
        &self,
        service: &Service,
        principal: &Principal,
        action: Action,
    ) -> Result<Selected, KinesisError> {
        let (name, created_at) = match (&self.stream_name, &self.stream_arn) {
            (Some(name), None) => {
                require("StreamName", name, is_stream_name)?;
                (name.as_str(), None)
            }
            (None, Some(arn)) => {
                let malformed = || KinesisError::invalid(format!("StreamARN {arn:?} is no ARN"));
                let resource = parse_arn(arn).ok_or_else(malformed)?;
                if resource.kind != "stream" {
                    let message = format!("There is no {} {}.", resource.kind, resource.name);
                    return Err(KinesisError::not_found(message));
                }
                (resource.name, Some(resource.created_at_ms))
            }
            (Some(_), Some(_)) => {
                return Err(KinesisError::invalid("give StreamName or StreamARN, not both"));
            }
            (None, None) => {
                return Err(KinesisError::invalid("StreamName or StreamARN is missing"));
            }
        };
        let hidden = || {
            let message = format!("The requested stream {name} is not found or not active.");
            KinesisError::not_found(message)
        };
        let catalog = &service.storage.catalog;
        let stream = catalog
            .stream_by_media_name(principal.account, name)
            .await?
            .filter(|stream| {
                created_at.is_none_or(|at_ms| at_ms == stream.created_at.as_millis().to_string())
            })
            .ok_or_else(hidden)?;
        let device = catalog.devices_by_id(&[stream.device]).await?.pop().flatten();
        let device = device.ok_or_else(hidden)?;
        let target =
            Target::Device { account: device.account, device: device.id, state: device.state };
        match decide(Some(principal), action, &target) {
            Decision::Allow => Ok(Selected { device, stream }),
            Decision::Hide => Err(hidden()),
            Decision::Forbid => Err(KinesisError::not_authorized(
                "the caller may not do this to this stream, or its device is not active",
            )),
        }
    }
}

/// Region and account are placeholders in the form that the API's patterns ask for; the creation
/// time tells a stream from an earlier one of its name.
pub fn arn(stream: &Stream) -> String {
    format!(
        "arn:aws:kinesisvideo:us-east-1:000000000000:stream/{}/{}",
        stream.media_stream_name,
        stream.created_at.as_millis()
    )
}

/// What an ARN names; not looked at further than its form.
#[derive(Debug, PartialEq, Eq)]
struct Resource<'a> {
    kind: &'a str,
    name: &'a str,
    created_at_ms: &'a str,
}

/// `arn:[a-z\d-]+:kinesisvideo:[a-z0-9-]+:[0-9]+:[a-z]+/[a-zA-Z0-9_.-]+/[0-9]+`
fn parse_arn(arn: &str) -> Option<Resource<'_>> {
    let all = |text: &str, allowed: fn(u8) -> bool| !text.is_empty() && text.bytes().all(allowed);
    let is_place = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_digit = |b: u8| b.is_ascii_digit();
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", partition, "kinesisvideo", region, account, resource] = parts[..] else {
        return None;
    };
    let parts: Vec<&str> = resource.split('/').collect();
    let [kind, name, created_at_ms] = parts[..] else { return None };
    let well_formed = arn.len() <= MAX_ARN_LEN
        && all(partition, is_place)
        && all(region, is_place)
        && all(account, is_digit)
        && all(kind, |b| b.is_ascii_lowercase())
        && is_stream_name(name)
        && all(created_at_ms, is_digit);
    well_formed.then_some(Resource { kind, name, created_at_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_name_streams() {
        let resource = |kind, name| Resource { kind, name, created_at_ms: "1551924009774" };
        let table = [
            (
                "arn:aws:kinesisvideo:us-east-1:400720404473:stream/test/1551924009774",
                Some(resource("stream", "test")),
            ),
            (
                "arn:aws-cn:kinesisvideo:x:1:stream/a.b-c_1/1551924009774",
                Some(resource("stream", "a.b-c_1")),
            ),
            (
                "arn:aws:kinesisvideo:us-east-1:1:channel/test/1551924009774",
                Some(resource("channel", "test")),
            ),
            ("arn:aws:kinesisvideo:us-east-1:one:stream/test/1551924009774", None),
            ("arn:aws:kinesisvideo:US:1:stream/test/1551924009774", None),
            ("arn:aws:s3:us-east-1:1:stream/test/1551924009774", None),
            ("arn:aws:kinesisvideo:us-east-1:1:stream/test", None),
            ("arn:aws:kinesisvideo:us-east-1:1:stream/test/1/2", None),
            ("arn:aws:kinesisvideo", None),
            ("", None),
        ];
        for (arn, expected) in table {
            assert_eq!(parse_arn(arn), expected, "{arn}");
        }
    }
}
