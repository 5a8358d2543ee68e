//! Streams by the name or the ARN that requests give.

use super::error::KinesisError;
use crate::access::{Action, Decision, Principal, Target, decide};
use crate::device::{Device, Stream};
use crate::service::Service;
use lookback_wire::Timestamp;
use serde::Deserialize;

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
            (Some(name), None) => (name.as_str(), None),
            (None, Some(arn)) => {
                let (name, created_at) = parse_arn(arn)
                    .ok_or_else(|| KinesisError::invalid("StreamARN is no ARN of a stream"))?;
                (name, Some(created_at))
            }
            (Some(_), Some(_)) => {
                return Err(KinesisError::invalid("give StreamName or StreamARN, not both"));
            }
            (None, None) => {
                return Err(KinesisError::invalid("StreamName or StreamARN is missing"));
            }
        };
        if !is_name(name) {
            return Err(KinesisError::invalid(
                "StreamName has to be 1 to 256 letters, digits, '_', '.' or '-'",
            ));
        }
        let hidden = || {
            let message = format!("The requested stream {name} is not found or not active.");
            KinesisError::not_found(message)
        };
        let catalog = &service.storage.catalog;
        let stream = catalog
            .stream_by_media_name(principal.account, name)
            .await?
            .filter(|stream| created_at.is_none_or(|at| at == stream.created_at))
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

/// KVS API, `StreamName`: 1 to 256 of `[a-zA-Z0-9_.-]`.
fn is_name(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
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

/// The stream's name and creation time.
fn parse_arn(arn: &str) -> Option<(&str, Timestamp)> {
    let mut parts = arn.splitn(6, ':');
    let head = [parts.next()?, parts.next()?, parts.next()?];
    if head[0] != "arn" || head[2] != "kinesisvideo" {
        return None;
    }
    let resource = parts.nth(2)?.strip_prefix("stream/")?;
    let (name, created_at) = resource.split_once('/')?;
    Some((name, Timestamp::from_millis(created_at.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_name_streams() {
        let at = Timestamp::from_millis(1_551_924_009_774);
        let table = [
            ("arn:aws:kinesisvideo:us-east-1:400720404473:stream/test/1551924009774", Some("test")),
            ("arn:aws-cn:kinesisvideo:x:1:stream/a.b-c_1/1551924009774", Some("a.b-c_1")),
            ("arn:aws:kinesisvideo:us-east-1:1:channel/test/1551924009774", None),
            ("arn:aws:s3:us-east-1:1:stream/test/1551924009774", None),
            ("arn:aws:kinesisvideo:us-east-1:1:stream/test", None),
            ("arn:aws:kinesisvideo", None),
            ("", None),
        ];
        for (arn, name) in table {
            assert_eq!(parse_arn(arn), name.map(|name| (name, at)), "{arn}");
        }
    }
}
