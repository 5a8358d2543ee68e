//! Who the camera is, and where its media goes: a bearer token, then `createUploadGrant` and
//! `GetDataEndpoint`, whose answers are kept for a while.

use crate::api::Api;
use crate::config::MediaTarget;
use crate::error::LinkError;
use crate::upload::Url;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a data endpoint is used before it is asked for again; Amazon's producers do the same.
const ENDPOINT_LIFE: Duration = Duration::from_secs(40 * 60);
/// After as many failed attempts to connect the endpoint may have moved.
const FAILURES_BEFORE_ASKING: u32 = 3;

const CREATE_UPLOAD_GRANT: &str = "mutation CreateUploadGrant($input: CreateUploadGrantInput!) {
  createUploadGrant(input: $input) {
    grant { endpoint streams { name mediaStreamName } }
    userErrors { code message }
  }
}";

/// What proves who the camera is.
#[derive(Clone)]
pub struct Credentials(Source);

#[derive(Clone)]
enum Source {
    Token(Arc<str>),
    Provider(Arc<dyn Fn() -> Result<String, String> + Send + Sync>),
}

impl Credentials {
    /// A bearer token that stays the same.
    pub fn token(token: impl Into<String>) -> Self {
        Self(Source::Token(token.into().into()))
    }

    /// Asked for a token before each connection and call, on the producer's own thread.
    pub fn provider(provider: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Source::Provider(Arc::new(provider)))
    }

    pub(crate) fn bearer(&self) -> Result<String, LinkError> {
        match &self.0 {
            Source::Token(token) => Ok(token.to_string()),
            Source::Provider(provider) => provider().map_err(LinkError::Credentials),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Finds out where media goes, and remembers it.
#[derive(Debug)]
pub struct Discovery {
    stream: String,
    /// Given beforehand: nothing is asked.
    configured: Option<MediaTarget>,
    known: Option<(MediaTarget, Instant)>,
    failures: u32,
}

impl Discovery {
    pub fn new(stream: String, configured: Option<MediaTarget>) -> Self {
        Self { stream, configured, known: None, failures: 0 }
    }

    pub async fn target(&mut self, api: &Api, now: Instant) -> Result<MediaTarget, LinkError> {
        if let Some(target) = &self.configured {
            return Ok(target.clone());
        }
        if let Some((target, since)) = &self.known
            && now < *since + ENDPOINT_LIFE
            && self.failures < FAILURES_BEFORE_ASKING
        {
            return Ok(target.clone());
        }
        let target = self.ask(api).await?;
        self.failures = 0;
        self.known = Some((target.clone(), now));
        Ok(target)
    }

    /// Whether the connection to [`Discovery::target`] came about.
    pub fn connected(&mut self, connected: bool) {
        self.failures = if connected { 0 } else { self.failures.saturating_add(1) };
    }

    async fn ask(&self, api: &Api) -> Result<MediaTarget, LinkError> {
        let what = "createUploadGrant";
        let data = api.call(what, CREATE_UPLOAD_GRANT, json!({ "input": {} })).await?;
        let payload = &data[what];
        if let Some(message) = payload["userErrors"][0]["message"].as_str() {
            return Err(LinkError::Failed { what, message: message.to_owned() });
        }
        let grant = &payload["grant"];
        let answer = |cause: String| LinkError::Answer { what, cause };
        let endpoint = grant["endpoint"].as_str();
        let endpoint = endpoint.ok_or_else(|| answer("it names no endpoint".to_owned()))?;
        let streams = grant["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
        let name = media_stream_name(streams, &self.stream)
            .ok_or_else(|| answer(format!("the device has no stream {}", self.stream)))?;

        let what = "getDataEndpoint";
        let url = Url::parse(endpoint)?.join(what);
        let body = json!({ "StreamName": name, "APIName": "PUT_MEDIA" });
        let reply = api.client.post_json(what, &url, &api.bearer()?, &body).await?;
        let endpoint = reply["DataEndpoint"].as_str().ok_or_else(|| LinkError::Answer {
            what,
            cause: "it names no DataEndpoint".to_owned(),
        })?;
        Ok(MediaTarget { endpoint: endpoint.to_owned(), media_stream_name: name.to_owned() })
    }
}

fn media_stream_name<'a>(streams: &'a [Value], name: &str) -> Option<&'a str> {
    streams.iter().find(|stream| stream["name"] == name)?["mediaStreamName"].as_str()
}
