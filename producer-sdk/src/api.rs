//! The service's GraphQL API, for what a camera asks beside uploading, such as registering itself.

use crate::config::Roots;
use crate::credentials::Credentials;
use crate::error::{LinkError, StartError};
use crate::upload::{Client, Url};
use serde_json::{Value, json};

/// Calls the API with a camera's credentials; a connection each, within 10 s, answers up to 1 MiB.
#[derive(Debug)]
pub struct Api {
    pub(crate) client: Client,
    credentials: Credentials,
    graphql: Url,
}

impl Api {
    /// `endpoint` is the service's own URL, such as `https://lookback.example`.
    pub fn new(
        endpoint: &str,
        credentials: Credentials,
        roots: &Roots,
    ) -> Result<Self, StartError> {
        let endpoint = Url::parse(endpoint).map_err(|error| StartError::Endpoint {
            endpoint: endpoint.to_owned(),
            cause: error.to_string(),
        })?;
        let client = Client::new(roots)?;
        Ok(Self { client, credentials, graphql: endpoint.join("graphql") })
    }

    /// Runs one operation; answers its `data`. `what` names it in errors.
    pub async fn call(
        &self,
        what: &'static str,
        query: &str,
        variables: Value,
    ) -> Result<Value, LinkError> {
        let body = json!({ "query": query, "variables": variables });
        let bearer = self.credentials.bearer()?;
        let mut answer = self.client.post_json(what, &self.graphql, &bearer, &body).await?;
        if let Some(message) = answer["errors"][0]["message"].as_str() {
            return Err(LinkError::Failed { what, message: message.to_owned() });
        }
        Ok(answer["data"].take())
    }

    pub(crate) fn bearer(&self) -> Result<String, LinkError> {
        self.credentials.bearer()
    }
}
