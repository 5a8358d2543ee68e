//! Operations answered as server-sent events, each on a connection of its own: GraphQL over SSE,
//! "distinct connections mode"
//! (<https://github.com/graphql/graphql-over-http/blob/main/rfcs/GraphQLOverSSE.md>).

use crate::graphql::{End, Outcome, Subscriber};
use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpResponse, rt};
use futures_util::stream::{BoxStream, StreamExt, unfold};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Shorter than any proxy waits for more of an answer.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events that are made before the connection takes them; more wait in the feed's bounded queue.
const MAX_UNSENT: usize = 4;

/// Answers with each outcome as it comes. The stream ends without `complete` where the subscriber's
/// time is over, so that its client asks again.
pub fn respond(
    outcomes: BoxStream<'static, Outcome>,
    subscriber: Option<Arc<Subscriber>>,
) -> HttpResponse {
    let (unsent, events) = mpsc::channel(MAX_UNSENT);
    rt::spawn(async move {
        let end = async {
            match &subscriber {
                Some(subscriber) => subscriber.end().await,
                None => std::future::pending::<End>().await,
            }
        };
        tokio::select! {
            end = end => tracing::debug!(?end, "a stream of events is ended"),
            () = unsent.closed() => {}
            () = send(outcomes, &unsent) => {}
        }
    });
    let body = unfold(events, async |mut events: mpsc::Receiver<Bytes>| {
        events.recv().await.map(|event| (Ok::<_, Infallible>(event), events))
    });
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // A proxy that collects answers would hold events back.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body)
}

/// Sends outcomes to their end, and signs of life between them.
async fn send(mut outcomes: BoxStream<'static, Outcome>, unsent: &mpsc::Sender<Bytes>) {
    let mut beat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            outcome = outcomes.next() => match outcome {
                Some(Outcome::Ran(response)) => next(&response),
                Some(Outcome::Refused(response) | Outcome::TooOften(response, _)) => next(&super::without_data(&response)),
                None => break,
            },
            _ = beat.tick() => Bytes::from_static(b":\n\n"),
        };
        if unsent.send(event).await.is_err() {
            return;
        }
    }
    let _ = unsent.send(Bytes::from_static(b"event: complete\ndata:\n\n")).await;
}

/// JSON has no line breaks that would end the event.
fn next(answer: &impl serde::Serialize) -> Bytes {
    let json = serde_json::to_string(answer).unwrap_or_else(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        r#"{"errors":[{"message":"internal error","extensions":{"code":"INTERNAL"}}]}"#.into()
    });
    format!("event: next\ndata: {json}\n\n").into()
}
