//! `POST /putMedia` (KVS API, PutMedia): a body without end, and acknowledgements on the way back
//! while it arrives, each an HTTP chunk of its own.

use super::caller;
use super::kinesis::{self, KinesisError, Selected, StreamSelector};
use crate::access::Action;
use crate::ingest::receive::{self, Grant};
use crate::ingest::timeline::{Timecodes, parse_producer_start};
use crate::ingest::upload::{Phase, Upload};
use crate::ingest::uploads::OpenUpload;
use crate::service::Service;
use crate::signature::Body;
use actix_web::http::header::HeaderMap;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse, rt};
use bytes::Bytes;
use futures_util::Stream;
use lookback_wire::Ack;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{mpsc, oneshot};

/// Acknowledgements that a client has not read: 20 fragments' worth for one whose link is slow
/// downwards; who lets more gather is not reading.
const MAX_UNREAD_ACKS: usize = 64;

/// `POST /putMedia`
pub async fn put_media(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, KinesisError> {
    let begun = begin(&service, &request).await?;
    Ok(answer(service, begun, body))
}

struct Begun {
    grant: Grant,
    upload: Upload,
    open: OpenUpload,
}

/// All that can be refused before the 200.
async fn begin(service: &Service, request: &HttpRequest) -> Result<Begun, KinesisError> {
    let text = |name| {
        let value = request.headers().get(name)?;
        Some(value.to_str().map(str::to_owned).unwrap_or_default())
    };
    let selector = StreamSelector::new(text("x-amzn-stream-name"), text("x-amzn-stream-arn"));
    let principal = kinesis::principal(service, request, Body::Streamed).await?;
    let Selected { device, stream } = selector.select(service, &principal, Action::Upload).await?;
    let timecodes = timecodes(request.headers())?;
    let has_room = service.storage.archive().room().await? > 0;
    if !has_room || service.uploads.is_full(service.clock.now()) {
        return Err(KinesisError::unavailable("there is no room for more footage"));
    }
    service.retention.check_quota(device.id).await?;
    if !service.throttle.admits(stream.id, "PutMedia", service.clock.now()) {
        return Err(KinesisError::too_many_calls("PutMedia", &stream.media_stream_name));
    }
    let has_quota = service.throttle.is_on();
    let open = service
        .uploads
        .open(device.id, stream.id, has_quota)
        .ok_or_else(|| KinesisError::too_many_connections(&stream.media_stream_name))?;
    let grant = Grant { principal, device: device.id, stream: stream.id };
    let upload = receive::begin(service, &grant, device.plan, timecodes).await?;
    Ok(Begun { grant, upload, open })
}

fn timecodes(headers: &HeaderMap) -> Result<Timecodes, KinesisError> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match text("x-amzn-fragment-timecode-type") {
        Some("ABSOLUTE") => Ok(Timecodes::Absolute),
        Some("RELATIVE") => {
            let is_unpadded = caller::is_amazons_producer(headers);
            text("x-amzn-producer-start-timestamp")
                .and_then(|text| parse_producer_start(text, is_unpadded))
                .map(|producer_start| Timecodes::Relative { producer_start })
                .ok_or_else(|| {
                    KinesisError::invalid(
                        "x-amzn-producer-start-timestamp has to be decimal seconds where \
                         timecodes are RELATIVE",
                    )
                })
        }
        _ => Err(KinesisError::invalid(
            "x-amzn-fragment-timecode-type has to be ABSOLUTE or RELATIVE",
        )),
    }
}

/// Begins the response at once, and reads the body beside it.
fn answer(service: Data<Arc<Service>>, begun: Begun, mut body: Payload) -> HttpResponse {
    let (unread, acks) = mpsc::channel(MAX_UNREAD_ACKS);
    let (ended, end) = oneshot::channel();
    rt::spawn(async move {
        let Begun { grant, upload, open } = begun;
        let phase = receive::receive(&service, &grant, upload, &mut body, &unread).await;
        drop(open);
        if phase == Phase::Ended {
            // Where the response is gone already, so is the connection.
            let _ = ended.send(body);
        }
    });
    HttpResponse::Ok().content_type("application/json").streaming(Acknowledgements {
        acks,
        end,
        body: None,
    })
}

/// The response: ends as it should where the upload did, else with the connection.
struct Acknowledgements {
    acks: mpsc::Receiver<Ack>,
    end: oneshot::Receiver<Payload>,
    /// Held to the end: where the client has not ended its body, the server then closes the
    /// connection instead of reading on.
    body: Option<Payload>,
}

impl Stream for Acknowledgements {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(ack) = ready!(self.acks.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(ack.write().into())));
        }
        if self.body.is_some() {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut self.end).poll(cx)) {
            Ok(body) => {
                self.body = Some(body);
                Poll::Ready(None)
            }
            Err(_) => Poll::Ready(Some(Err(std::io::Error::other("the upload was cut off")))),
        }
    }
}
