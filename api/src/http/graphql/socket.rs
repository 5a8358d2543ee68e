//! Subscriptions over a WebSocket (RFC 6455), one [`Protocol`] each.

use super::frame_length;
use super::protocol::{self, Close, Output, Protocol};
use crate::graphql::document::coded;
use crate::graphql::{End, Outcome, Request, Subscriber, prepare, subscribe};
use crate::http::caller::{self, Unauthorized};
use crate::http::edge;
use crate::service::Service;
use actix_web::guard::GuardContext;
use actix_web::http::header;
use actix_web::web::{Data, Payload};
use actix_web::{Error, FromRequest, HttpRequest, HttpResponse, dev, rt};
use actix_ws::{
    AggregatedMessage, AggregatedMessageStream, CloseReason, Closed, Message, ProtocolError,
    Session,
};
use async_graphql::ServerError;
use futures_util::future::{LocalBoxFuture, ready};
use futures_util::sink::Sink;
use futures_util::stream::{AbortHandle, BoxStream, SelectAll, StreamExt, abortable, once};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Messages that wait to be sent before no more of the client's are read.
const MAX_UNSENT: usize = 16;
/// How long a client has to take the reason why its socket is closed.
const CLOSING: Duration = Duration::from_secs(5);
/// A timer that is due at once would spin where it wakes a little early.
const SHORTEST_IDLE: Duration = Duration::from_millis(1);

/// Whether a request asks for a socket.
pub fn is_asked_for(request: &GuardContext<'_>) -> bool {
    let upgrade = request.head().headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

/// `GET /graphql`, upgraded.
pub async fn open(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, Error> {
    // Browsers let any page open a socket, and say which one it was.
    if edge::is_of_other_origin(&service, &request) {
        let reason = "pages of this origin may not subscribe here; see allowed_origins\n";
        return Ok(HttpResponse::Forbidden().body(reason));
    }
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offered = offered.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    if !offered.map(str::trim).any(|name| name == protocol::NAME) {
        let reason = format!("offer the subprotocol {}\n", protocol::NAME);
        return Ok(HttpResponse::BadRequest().body(reason));
    }
    let most = service.config.limits.socket_message_bytes;
    let mut frames: dev::Payload =
        dev::Payload::Stream { payload: Box::pin(frame_length::bounded(body, most)) };
    let frames = Payload::from_request(&request, &mut frames).await?;
    let (response, session, messages) =
        actix_ws::handle_with_protocols(&request, frames, &[protocol::NAME])?;
    let messages =
        messages.max_frame_size(most).aggregate_continuations().max_continuation_size(most);
    let header = request.headers().get(header::AUTHORIZATION);
    let socket = Socket {
        protocol: Protocol::new(&service.config.limits, service.clock.steady()),
        authorization: header.and_then(|value| value.to_str().ok()).map(str::to_owned),
        base_url: caller::base_url(&service, &request),
        address: caller::address(&service, &request),
        service: Arc::clone(&service),
        session,
        unsent: VecDeque::new(),
        subscriber: None,
        running: SelectAll::new(),
        handles: HashMap::new(),
    };
    rt::spawn(socket.run(messages));
    Ok(response)
}

/// A subscription's outcomes with its identifier; none at its end.
type Running = BoxStream<'static, (String, Option<Outcome>)>;

struct Socket {
    protocol: Protocol,
    /// What the request's own header said; browsers cannot set it.
    authorization: Option<String>,
    base_url: String,
    address: IpAddr,
    service: Arc<Service>,
    session: Session,
    unsent: VecDeque<Message>,
    /// Known once the connection is acknowledged.
    subscriber: Option<Arc<Subscriber>>,
    running: SelectAll<Running>,
    handles: HashMap<String, AbortHandle>,
}

/// What became of a socket.
enum Over {
    /// It has to be closed.
    Close(Close),
    /// The client is gone.
    Gone,
}

impl Socket {
    async fn run(mut self, messages: AggregatedMessageStream) {
        let Over::Close(Close { code, reason }) = self.serve(messages).await else { return };
        tracing::debug!(code, reason, "a socket is closed");
        let reason = CloseReason { code: code.into(), description: Some(reason) };
        let session = self.session.clone();
        drop(self);
        // Whoever does not read does not hear it, and is left.
        let _ = tokio::time::timeout(CLOSING, session.close(Some(reason))).await;
    }

    async fn serve(&mut self, mut messages: AggregatedMessageStream) -> Over {
        let service = Arc::clone(&self.service);
        let stopping = async move {
            service.stopping().await;
            End::Stopping
        };
        let mut end: LocalBoxFuture<'static, End> = Box::pin(stopping);
        let mut is_followed = false;
        loop {
            if let (Some(subscriber), false) = (&self.subscriber, is_followed) {
                let subscriber = Arc::clone(subscriber);
                end = Box::pin(async move { subscriber.end().await });
                is_followed = true;
            }
            let now = self.service.clock.steady();
            let output = self.protocol.tick(now);
            if let Some(over) = self.do_all(output).await {
                return over;
            }
            let idle = self.protocol.deadline().saturating_sub(now).max(SHORTEST_IDLE);
            // One answer at a time is made, so that the rest waits in the feed's bounded queue.
            tokio::select! {
                biased;
                end = &mut end => return Over::Close(close(end)),
                sent = send_first(&mut self.session, &mut self.unsent), if !self.unsent.is_empty() => {
                    if sent.is_err() {
                        return Over::Gone;
                    }
                }
                Some((id, outcome)) = self.running.next(), if self.unsent.is_empty() => {
                    let output = self.answer(&id, outcome);
                    if let Some(over) = self.do_all(output).await {
                        return over;
                    }
                }
                message = messages.recv(), if self.unsent.len() < MAX_UNSENT => {
                    self.protocol.heard(self.service.clock.steady());
                    let output = match message {
                        None => return Over::Gone,
                        Some(Ok(message)) => match self.read(message) {
                            Ok(output) => output,
                            Err(over) => return over,
                        },
                        Some(Err(error)) => return Over::Close(not_read(&error)),
                    };
                    if let Some(over) = self.do_all(output).await {
                        return over;
                    }
                }
                () = tokio::time::sleep(idle) => {}
            }
        }
    }

    fn read(&mut self, message: AggregatedMessage) -> Result<Option<Output>, Over> {
        match message {
            AggregatedMessage::Text(text) => Ok(self.protocol.receive(&text)),
            AggregatedMessage::Binary(_) => {
                let reason = format!("{} is text", protocol::NAME);
                Err(Over::Close(Close::new(Close::BAD_REQUEST, reason)))
            }
            AggregatedMessage::Ping(bytes) => {
                self.unsent.push_back(Message::Pong(bytes));
                Ok(None)
            }
            AggregatedMessage::Pong(_) => Ok(None),
            AggregatedMessage::Close(_) => Err(Over::Close(Close::new(1000, ""))),
        }
    }

    fn answer(&mut self, id: &str, outcome: Option<Outcome>) -> Option<Output> {
        match outcome {
            Some(Outcome::Ran(response)) => self.protocol.next(id, &response),
            Some(Outcome::Refused(response) | Outcome::TooOften(response, _)) => {
                self.stop(id);
                self.protocol.refuse(id, &response.errors)
            }
            None => {
                self.handles.remove(id);
                self.protocol.complete(id)
            }
        }
    }

    /// Does what the protocol asks for, and what follows from that.
    async fn do_all(&mut self, mut output: Option<Output>) -> Option<Over> {
        while let Some(next) = output {
            output = match next {
                Output::Send(text) => {
                    self.unsent.push_back(Message::Text(text.into()));
                    None
                }
                Output::Ping => {
                    self.unsent.push_back(Message::Ping(Default::default()));
                    None
                }
                Output::Authenticate(authorization) => Some(self.authenticate(authorization).await),
                Output::Start(id, request) => self.start(id, request),
                Output::Stop(id) => {
                    self.stop(&id);
                    None
                }
                Output::Close(close) => return Some(Over::Close(close)),
            };
        }
        None
    }

    async fn authenticate(&mut self, authorization: Option<String>) -> Output {
        let forbidden = |reason: &str| Output::Close(Close::new(Close::FORBIDDEN, reason));
        let Some(authorization) = authorization.or_else(|| self.authorization.take()) else {
            return forbidden("a token is required");
        };
        let principal =
            match caller::by_authorization(&self.service, &authorization, self.address).await {
                Ok(principal) => principal,
                Err(Unauthorized::Storage(cause)) => {
                    tracing::warn!(%cause, "the caller could not be looked up");
                    return Output::Close(Close::new(Close::TRY_AGAIN_LATER, "try again later"));
                }
                Err(refused) => return forbidden(&refused.to_string()),
            };
        let service = Arc::clone(&self.service);
        let Some(subscriber) =
            Subscriber::new(service, Some(principal), self.base_url.clone(), self.address)
        else {
            let most = self.service.config.limits.sockets_per_user;
            let reason = format!("{most} sockets of this caller are open");
            return Output::Close(Close::new(Close::TOO_MANY, reason));
        };
        self.subscriber = Some(Arc::new(subscriber));
        self.protocol.acknowledge()
    }

    fn start(&mut self, id: String, request: Request) -> Option<Output> {
        let subscriber = Arc::clone(self.subscriber.as_ref()?);
        let prepared = match prepare(request, &subscriber.asked()) {
            Ok(prepared) if prepared.subscribes => prepared,
            Ok(_) => {
                let message = "only subscriptions run on a socket; POST queries and mutations";
                let error = coded("BAD_REQUEST", ServerError::new(message, None));
                return self.protocol.refuse(&id, &[error]);
            }
            Err(refused) => {
                let (Outcome::Refused(response)
                | Outcome::TooOften(response, _)
                | Outcome::Ran(response)) = *refused;
                return self.protocol.refuse(&id, &response.errors);
            }
        };
        let (named, last) = (id.clone(), id.clone());
        let outcomes = subscribe(prepared, subscriber)
            .map(move |outcome| (named.clone(), Some(outcome)))
            .chain(once(ready((last, None))));
        // One that is stopped says nothing at its end: its identifier may be another's by then.
        let (outcomes, handle) = abortable(outcomes);
        self.handles.insert(id, handle);
        self.running.push(outcomes.boxed());
        None
    }

    fn stop(&mut self, id: &str) {
        if let Some(handle) = self.handles.remove(id) {
            handle.abort();
        }
    }
}

/// Hands the first message on as soon as the connection takes it.
async fn send_first(session: &mut Session, unsent: &mut VecDeque<Message>) -> Result<(), Closed> {
    poll_fn(|cx| Pin::new(&mut *session).poll_ready(cx)).await?;
    match unsent.pop_front() {
        Some(message) => Pin::new(session).start_send(message),
        None => Ok(()),
    }
}

/// What a client is told at a connection's end. After `FORBIDDEN`, clients connect again with the
/// token that they have by then.
fn close(end: End) -> Close {
    match end {
        End::Expired => Close::new(Close::FORBIDDEN, "the token has expired"),
        End::Withdrawn => Close::new(Close::FORBIDDEN, "the token has been withdrawn"),
        End::Unconfirmed => Close::new(Close::TRY_AGAIN_LATER, "try again later"),
        End::RightsChanged => Close::new(Close::FORBIDDEN, "the caller's rights have changed"),
        End::TooSlow => Close::new(Close::TOO_SLOW, "too slow"),
        End::Stopping => Close::new(Close::GOING_AWAY, "the service is stopping"),
    }
}

fn not_read(error: &ProtocolError) -> Close {
    let too_long = || Close::new(Close::TOO_LARGE, "the message is too long");
    match error {
        ProtocolError::Overflow => too_long(),
        ProtocolError::Io(cause) if cause.kind() == ErrorKind::InvalidData => {
            Close::new(Close::INVALID_DATA, cause.to_string())
        }
        // A frame that says so, or a message in parts; or the connection broke off, and hears nothing.
        ProtocolError::Io(_) => too_long(),
        error => Close::new(Close::PROTOCOL_ERROR, error.to_string()),
    }
}
