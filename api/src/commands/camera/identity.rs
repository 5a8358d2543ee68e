//! Whose footage it is: the token's own device, or, with a manager's token, a device that is
//! registered where it is absent.

use crate::commands::{Failure, local_time_zone};
use lookback_producer::{Api, Credentials, Roots};
use serde_json::{Value, json};

const WHO: &str = "query Who($ref: DeviceRef!) {
  viewer { id role }
  device(ref: $ref) { id }
}";

const VIEWER: &str = "query Viewer { viewer { id role } }";

const REGISTER_DEVICE: &str = "mutation RegisterDevice($input: RegisterDeviceInput!) {
  registerDevice(input: $input) {
    credential { token }
    userErrors { message }
  }
}";

const ISSUE_CREDENTIAL: &str = "mutation IssueCredential($input: IssueDeviceCredentialInput!) {
  issueDeviceCredential(input: $input) {
    credential { token }
    userErrors { message }
  }
}";

/// How long a token for a device that is there already is good for; longer than a camera that is
/// tried out runs.
const VALID_DAYS: u32 = 30;

/// The token to upload with.
pub async fn token(
    endpoint: &str,
    token: String,
    device: Option<&str>,
    stream: &str,
    roots: &Roots,
) -> Result<String, Failure> {
    let api = Api::new(endpoint, Credentials::token(token.as_str()), roots)?;
    let answer = match device {
        Some(external_id) => {
            api.call("device", WHO, json!({ "ref": { "externalId": external_id } })).await?
        }
        None => api.call("viewer", VIEWER, json!({})).await?,
    };
    let viewer = &answer["viewer"];
    match (viewer["role"].as_str(), device) {
        (None, _) => Err("the service does not take the token".into()),
        (Some("DEVICE"), None) => Ok(token),
        (Some("DEVICE"), Some(external_id)) if viewer["id"] != answer["device"]["id"] => {
            Err(format!("the token is of another device than {external_id}").into())
        }
        (Some("DEVICE"), Some(_)) => Ok(token),
        (Some("ADMIN" | "MANAGER"), Some(external_id)) => match answer["device"]["id"].as_str() {
            Some(device) => issue(&api, device).await,
            None => register(&api, external_id, stream).await,
        },
        (Some("ADMIN" | "MANAGER"), None) => {
            Err("with a manager's token --device has to say which device it is".into())
        }
        (Some(role), _) => Err(format!("a token of role {role} cannot upload").into()),
    }
}

/// Registers the device. The same call within a day comes to the same device with a new token.
async fn register(api: &Api, external_id: &str, stream: &str) -> Result<String, Failure> {
    let input = json!({
        "externalId": external_id,
        "name": external_id,
        "timeZone": local_time_zone().name(),
        "streams": [stream],
        "idempotencyKey": format!("lookback-camera:{external_id}"),
    });
    let answer = api.call("registerDevice", REGISTER_DEVICE, json!({ "input": input })).await?;
    issued(&answer["registerDevice"], external_id)
}

/// A further token for a device that is there.
async fn issue(api: &Api, device: &str) -> Result<String, Failure> {
    let input = json!({ "deviceId": device, "kind": "TOKEN", "validDays": VALID_DAYS });
    let answer =
        api.call("issueDeviceCredential", ISSUE_CREDENTIAL, json!({ "input": input })).await?;
    issued(&answer["issueDeviceCredential"], device)
}

fn issued(payload: &Value, device: &str) -> Result<String, Failure> {
    if let Some(error) = payload["userErrors"].get(0) {
        let message = error["message"].as_str().unwrap_or_default();
        return Err(format!("device {device} gets no token: {message}").into());
    }
    match payload["credential"]["token"].as_str() {
        Some(token) => Ok(token.to_owned()),
        None => Err(format!("the service gave no token for device {device}").into()),
    }
}
