//! `Webhook`, and the mutations that make, delete and replay one; all of it is an administrator's.

use super::asked::{Asked, asked};
use super::event::{EventSeverity, EventType};
use super::fault::{Fault, Maybe};
use super::scalar::{DateTime, Url};
use super::time_range::{DAY_MS, TimeRangeInput};
use super::user_error::{UserError, UserErrorCode};
use crate::audit::AuditAction;
use crate::id::WebhookId;
use crate::webhook::{self, MAX_WEBHOOKS, WebhookState};
use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use secrecy::ExposeSecret;

#[derive(Clone)]
pub struct Webhook(pub webhook::Webhook);

/// Where events are posted to, signed; a failed delivery is retried for 24 hours.
#[Object]
impl Webhook {
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    async fn url(&self) -> Url {
        Url(self.0.url.clone())
    }

    /// Null for all.
    async fn types(&self) -> Option<Vec<EventType>> {
        Some(self.0.types.as_ref()?.iter().map(|known| (*known).into()).collect())
    }

    async fn min_severity(&self) -> Option<EventSeverity> {
        self.0.min_severity.map(Into::into)
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    async fn last_delivered_at(&self, ctx: &Context<'_>) -> Maybe<DateTime> {
        self.state(ctx).await.map(|state| state.last_delivered_at.map(DateTime)).transpose()
    }

    /// Null while deliveries succeed.
    async fn failing_since(&self, ctx: &Context<'_>) -> Maybe<DateTime> {
        self.state(ctx).await.map(|state| state.failing_since.map(DateTime)).transpose()
    }
}

impl Webhook {
    async fn state(&self, ctx: &Context<'_>) -> Result<WebhookState, Fault> {
        Ok(asked(ctx)?.service.storage.catalog.webhook_state(self.0.id).await?)
    }
}

/// The account's webhooks; `None` for a caller who does not administer it.
pub async fn list(asked: &Asked) -> Result<Option<Vec<Webhook>>, Fault> {
    let Some(caller) = asked.administrator()? else { return Ok(None) };
    let webhooks = asked.service.storage.catalog.webhooks(caller.account).await?;
    Ok(Some(webhooks.into_iter().map(Webhook).collect()))
}

/// A webhook; `None` where it does not exist for the caller.
pub async fn find(asked: &Asked, id: WebhookId) -> Result<Option<Webhook>, Fault> {
    let webhooks = list(asked).await?.unwrap_or_default();
    Ok(webhooks.into_iter().find(|Webhook(webhook)| webhook.id == id))
}

/// The webhook that an identifier names, for a caller who may change it.
async fn named(asked: &Asked, id: &ID) -> Result<Option<webhook::Webhook>, Fault> {
    asked.administrator()?.ok_or(Fault::Forbidden)?;
    match id.parse() {
        Ok(id) => Ok(find(asked, id).await?.map(|Webhook(webhook)| webhook)),
        Err(_) => Ok(None),
    }
}

#[derive(Debug, InputObject)]
pub struct CreateWebhookInput {
    url: Url,
    /// By default all.
    types: Option<Vec<EventType>>,
    min_severity: Option<EventSeverity>,
}

#[derive(SimpleObject)]
pub struct CreateWebhookPayload {
    webhook: Option<Webhook>,
    /// Keys the HMAC over timestamp and body; shown once.
    secret: Option<String>,
    user_errors: Vec<UserError>,
}

pub async fn create(
    asked: &Asked,
    input: CreateWebhookInput,
) -> Result<CreateWebhookPayload, Fault> {
    let account = asked.administrator()?.ok_or(Fault::Forbidden)?.account;
    let refused =
        |mistake| CreateWebhookPayload { webhook: None, secret: None, user_errors: vec![mistake] };
    let Url(url) = input.url;
    if let Err(refusal) = asked.service.deliveries.check_url(&url) {
        let mistake = UserError::at(UserErrorCode::Invalid, &["url"], refusal.to_string());
        return Ok(refused(mistake));
    }
    if input.types.as_ref().is_some_and(Vec::is_empty) {
        let message = "types must name at least one; left out, it means all";
        return Ok(refused(UserError::at(UserErrorCode::Invalid, &["types"], message)));
    }
    let distinct = |types: Vec<EventType>| {
        let mut distinct: Vec<crate::event::EventType> = Vec::new();
        for event_type in types.into_iter().map(Into::into) {
            if !distinct.contains(&event_type) {
                distinct.push(event_type);
            }
        }
        distinct
    };
    let now = asked.now();
    let webhook = webhook::Webhook {
        id: WebhookId::new(now),
        account,
        url,
        types: input.types.map(distinct),
        min_severity: input.min_severity.map(Into::into),
        created_at: now,
    };
    if !asked.service.storage.catalog.put_webhook(webhook.clone()).await? {
        let message = format!("the account has {MAX_WEBHOOKS} webhooks");
        let mistake = UserError { code: UserErrorCode::LimitReached, message, path: None };
        return Ok(refused(mistake));
    }
    asked.note(AuditAction::Change, webhook.id).await;
    Ok(CreateWebhookPayload {
        secret: Some(asked.service.deliveries.secret(webhook.id).expose_secret().to_owned()),
        webhook: Some(Webhook(webhook)),
        user_errors: Vec::new(),
    })
}

#[derive(SimpleObject)]
pub struct DeleteWebhookPayload {
    deleted_webhook_id: Option<ID>,
    user_errors: Vec<UserError>,
}

pub async fn delete(asked: &Asked, id: ID) -> Result<DeleteWebhookPayload, Fault> {
    let Some(webhook) = named(asked, &id).await? else {
        let (code, message) = (UserErrorCode::NotFound, "there is no such webhook".into());
        let mistake = UserError { code, message, path: Some(vec!["id".into()]) };
        return Ok(DeleteWebhookPayload { deleted_webhook_id: None, user_errors: vec![mistake] });
    };
    asked.service.storage.catalog.delete_webhook(webhook.account, webhook.id).await?;
    asked.note(AuditAction::Change, webhook.id).await;
    Ok(DeleteWebhookPayload { deleted_webhook_id: Some(id), user_errors: Vec::new() })
}

#[derive(Debug, InputObject)]
pub struct ReplayWebhookInput {
    id: ID,
    range: TimeRangeInput,
}

#[derive(SimpleObject)]
pub struct ReplayWebhookPayload {
    webhook: Option<Webhook>,
    user_errors: Vec<UserError>,
}

pub async fn replay(
    asked: &Asked,
    input: ReplayWebhookInput,
) -> Result<ReplayWebhookPayload, Fault> {
    let refused = |code, field: &str, message: String| {
        let mistake = UserError::at(code, &[field], message);
        Ok(ReplayWebhookPayload { webhook: None, user_errors: vec![mistake] })
    };
    let Some(webhook) = named(asked, &input.id).await? else {
        return refused(UserErrorCode::NotFound, "id", "there is no such webhook".into());
    };
    let Some(range) = input.range.span() else {
        let message = "range.end must be after range.start".into();
        return refused(UserErrorCode::Invalid, "range", message);
    };
    let days = asked.service.config.limits.query_range_days;
    if range.millis() > i64::from(days) * DAY_MS {
        let message = format!("range is longer than {days} days");
        return refused(UserErrorCode::Invalid, "range", message);
    }
    if !asked.service.deliveries.replay(&webhook, range).await? {
        let message = "an earlier span is still on its way".into();
        return refused(UserErrorCode::WrongState, "id", message);
    }
    asked.note(AuditAction::Change, webhook.id).await;
    Ok(ReplayWebhookPayload { webhook: Some(Webhook(webhook)), user_errors: Vec::new() })
}
