//! What every call of the Kinesis Video Streams API begins with: its caller, proven over the body,
//! and its body, read once.

use super::error::KinesisError;
use super::select::{Selected, StreamSelector};
use crate::access::{Action, Principal};
use crate::audit::{self, AuditAction, Deed};
use crate::device::Stream;
use crate::http::{body, caller};
use crate::id::StreamId;
use crate::service::Service;
use crate::signature;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, dev};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;

/// A list of 1,000 fragment numbers of 128 digits is the longest that a request can hold.
const MAX_BODY_BYTES: usize = 256 << 10;

/// What an operation answers.
pub type Answer = Result<actix_web::web::Json<Value>, KinesisError>;

/// One call of an operation whose input is its body.
#[derive(Debug)]
pub struct Call {
    pub service: Arc<Service>,
    pub principal: Principal,
    /// What URLs that are handed out begin with, without a slash at the end.
    pub base_url: String,
    /// Where the request came from.
    address: IpAddr,
    body: Bytes,
}

impl Call {
    /// The body as what the operation takes.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, KinesisError> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(body).map_err(|error| {
            KinesisError::invalid(format!("the body is not the JSON asked for: {error}"))
        })
    }

    /// The stream that the input names, if the caller may do `action` to its device.
    pub async fn select(
        &self,
        stream: &StreamSelector,
        action: Action,
    ) -> Result<Selected, KinesisError> {
        stream.select(&self.service, &self.principal, action).await
    }

    /// Writes down what the caller has done to a stream.
    pub async fn note(&self, action: AuditAction, stream: StreamId) {
        let deed = Deed {
            account: self.principal.account,
            actor: Some(self.principal.subject.id()),
            action,
            target: Some(stream.to_string()),
            address: self.address,
        };
        audit::note(&*self.service.storage.catalog, deed, self.service.clock.now()).await;
    }

    /// Writes down that the caller looks at pictures of a stream.
    pub async fn note_look(&self, stream: StreamId) {
        let (actor, now) = (self.principal.subject.id(), self.service.clock.now());
        if self.service.looks.is_first(actor, stream, self.address, now) {
            self.note(AuditAction::View, stream).await;
        }
    }

    async fn read(request: &HttpRequest, payload: dev::Payload) -> Result<Self, KinesisError> {
        let service = service(request)?;
        let body = body::read(payload, request.headers(), MAX_BODY_BYTES).await?;
        let principal = principal(&service, request, signature::Body::Whole(&body)).await?;
        let base_url = caller::base_url(&service, request);
        let address = caller::address(&service, request);
        Ok(Self { service, principal, base_url, address, body })
    }
}

impl FromRequest for Call {
    type Error = KinesisError;
    type Future = LocalBoxFuture<'static, Result<Self, KinesisError>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move { Self::read(&request, payload).await })
    }
}

fn service(request: &HttpRequest) -> Result<Arc<Service>, KinesisError> {
    let service = request.app_data::<Data<Arc<Service>>>();
    let service = service.ok_or_else(|| KinesisError::unavailable("the service is not there"))?;
    Ok(service.get_ref().clone())
}

/// Who calls; an error where nobody does.
pub async fn principal(
    service: &Service,
    request: &HttpRequest,
    body: signature::Body<'_>,
) -> Result<Principal, KinesisError> {
    caller::signer(service, request, body).await?.ok_or_else(KinesisError::no_caller)
}

/// Holds the calls of `operation` on a stream to their rate, where there is one.
pub fn admit(
    service: &Service,
    stream: &Stream,
    operation: &'static str,
) -> Result<(), KinesisError> {
    if service.throttle.admits(stream.id, operation, service.clock.now()) {
        Ok(())
    } else {
        Err(KinesisError::too_many_calls(operation, &stream.media_stream_name))
    }
}
