//! `markEventsSeen`: each caller for itself.

use super::asked::Asked;
use super::event::Event;
use super::fault::Fault;
use super::user_error::{UserError, UserErrorCode};
use crate::event::{EventId, Watcher};
use async_graphql::{ID, InputObject, SimpleObject};

const MAX_IDS: usize = 100;

#[derive(Debug, InputObject)]
pub struct MarkEventsSeenInput {
    /// 1 to 100.
    event_ids: Vec<ID>,
    #[graphql(default = true)]
    seen: bool,
}

#[derive(SimpleObject)]
pub struct MarkEventsSeenPayload {
    /// In the order asked for, null where one does not exist for the caller.
    events: Vec<Option<Event>>,
    user_errors: Vec<UserError>,
}

pub async fn mark(
    asked: &Asked,
    input: MarkEventsSeenInput,
) -> Result<MarkEventsSeenPayload, Fault> {
    let by = Watcher::of(asked.principal()?);
    let refused = match input.event_ids.len() {
        0 => Some((UserErrorCode::Invalid, "eventIds is empty".to_owned())),
        1..=MAX_IDS => None,
        count => {
            let message = format!("{count} identifiers; at most {MAX_IDS} at a time");
            Some((UserErrorCode::LimitReached, message))
        }
    };
    if let Some((code, message)) = refused {
        let user_errors = vec![UserError::at(code, &["eventIds"], message)];
        return Ok(MarkEventsSeenPayload { events: Vec::new(), user_errors });
    }
    let find = async |id: &ID| match id.parse::<EventId>() {
        Ok(id) => asked.event(id).await,
        Err(_) => Ok(None),
    };
    let events = futures_util::future::try_join_all(input.event_ids.iter().map(find)).await?;
    let ids: Vec<EventId> = events.iter().flatten().map(|event| event.id).collect();
    asked.service.storage.catalog.mark_seen(by, &ids, input.seen).await?;
    for id in ids {
        asked.loaders.seen.forget((by, id)).await;
    }
    // They hold what was seen of them.
    asked.loaders.events.forget_all().await;
    let events = events.into_iter().map(|event| event.map(Event)).collect();
    Ok(MarkEventsSeenPayload { events, user_errors: Vec::new() })
}
