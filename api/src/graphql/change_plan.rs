//! `createRetentionPlan` and `updateRetentionPlan`.

use super::asked::Asked;
use super::fault::Fault;
use super::plan::{RetentionMode, RetentionPlan};
use super::register::MAX_NAME_CHARS;
use super::scalar::ByteCount;
use super::user_error::{UserError, UserErrorCode, text};
use crate::access::{Action, Decision, Target};
use crate::account;
use crate::audit::AuditAction;
use crate::id::{AccountId, PlanId};
use async_graphql::{ID, InputObject, SimpleObject};
use std::ops::RangeInclusive;

const DAYS: RangeInclusive<i32> = 1..=3650;
/// Ten minutes: more than that is continuous recording by another name.
const ROLL_S: RangeInclusive<i32> = 0..=600;
/// Of one account; all of them are listed at once.
const MAX_PLANS: usize = 100;

#[derive(Debug, InputObject)]
pub struct CreateRetentionPlanInput {
    name: String,
    #[graphql(default_with = "RetentionMode::Continuous")]
    mode: RetentionMode,
    days: i32,
    #[graphql(default = 10)]
    pre_roll_seconds: i32,
    #[graphql(default = 20)]
    post_roll_seconds: i32,
    storage_quota: Option<ByteCount>,
    #[graphql(default)]
    is_default: bool,
}

#[derive(Debug, InputObject)]
pub struct UpdateRetentionPlanInput {
    id: ID,
    name: Option<String>,
    mode: Option<RetentionMode>,
    days: Option<i32>,
    pre_roll_seconds: Option<i32>,
    post_roll_seconds: Option<i32>,
    /// "0" lifts the cap.
    storage_quota: Option<ByteCount>,
    /// Only true: another plan stops being the default by this one becoming it.
    is_default: Option<bool>,
}

#[derive(SimpleObject)]
pub struct RetentionPlanPayload {
    plan: Option<RetentionPlan>,
    user_errors: Vec<UserError>,
}

impl RetentionPlanPayload {
    fn refused(user_errors: Vec<UserError>) -> Self {
        Self { plan: None, user_errors }
    }
}

/// The caller's account, where plans are the caller's to change.
fn account(asked: &Asked) -> Result<AccountId, Fault> {
    let account = asked.principal()?.account;
    match asked.decide(Action::Administer, &Target::Account(account)) {
        Decision::Allow => Ok(account),
        _ => Err(Fault::Forbidden),
    }
}

pub async fn create(
    asked: &Asked,
    input: CreateRetentionPlanInput,
) -> Result<RetentionPlanPayload, Fault> {
    let account = account(asked)?;
    let plans = asked.service.storage.catalog.plans(account).await?;
    if plans.len() >= MAX_PLANS {
        let message = format!("the account has {MAX_PLANS} plans");
        let mistake = UserError { code: UserErrorCode::LimitReached, message, path: None };
        return Ok(RetentionPlanPayload::refused(vec![mistake]));
    }
    let plan = account::RetentionPlan {
        id: PlanId::new(asked.now()),
        account,
        name: String::new(),
        mode: account::RetentionMode::Continuous,
        days: 0,
        pre_roll_s: 0,
        post_roll_s: 0,
        storage_quota_bytes: None,
        is_default: false,
    };
    let changes = UpdateRetentionPlanInput {
        id: plan.id.to_string().into(),
        name: Some(input.name),
        mode: Some(input.mode),
        days: Some(input.days),
        pre_roll_seconds: Some(input.pre_roll_seconds),
        post_roll_seconds: Some(input.post_roll_seconds),
        storage_quota: input.storage_quota,
        is_default: input.is_default.then_some(true),
    };
    put(asked, plan, changes).await
}

pub async fn update(
    asked: &Asked,
    input: UpdateRetentionPlanInput,
) -> Result<RetentionPlanPayload, Fault> {
    account(asked)?;
    let plan = match input.id.parse::<PlanId>() {
        Ok(id) => asked.plan(id).await?,
        Err(_) => None,
    };
    match plan {
        Some(plan) => put(asked, plan, input).await,
        None => {
            let message = "there is no such plan";
            let mistake = UserError::at(UserErrorCode::NotFound, &["id"], message);
            Ok(RetentionPlanPayload::refused(vec![mistake]))
        }
    }
}

async fn put(
    asked: &Asked,
    mut plan: account::RetentionPlan,
    changes: UpdateRetentionPlanInput,
) -> Result<RetentionPlanPayload, Fault> {
    let mistakes = change(&mut plan, changes);
    if !mistakes.is_empty() {
        return Ok(RetentionPlanPayload::refused(mistakes));
    }
    asked.service.storage.catalog.put_plan(plan.clone()).await?;
    asked.loaders.plans.forget(plan.id).await;
    asked.note(AuditAction::Change, plan.id).await;
    Ok(RetentionPlanPayload { plan: Some(RetentionPlan(plan)), user_errors: Vec::new() })
}

fn change(plan: &mut account::RetentionPlan, changes: UpdateRetentionPlanInput) -> Vec<UserError> {
    let mut mistakes = Vec::new();
    if let Some(name) = changes.name {
        match text("name", &name, MAX_NAME_CHARS) {
            Ok(name) => plan.name = name,
            Err(mistake) => mistakes.push(mistake),
        }
    }
    let mut invalid = |field: &str, message: String| {
        mistakes.push(UserError::at(UserErrorCode::Invalid, &[field], message));
    };
    for (field, value, range, place) in [
        ("days", changes.days, DAYS, &mut plan.days),
        ("preRollSeconds", changes.pre_roll_seconds, ROLL_S, &mut plan.pre_roll_s),
        ("postRollSeconds", changes.post_roll_seconds, ROLL_S, &mut plan.post_roll_s),
    ] {
        let Some(value) = value else { continue };
        match u32::try_from(value) {
            Ok(checked) if range.contains(&value) => *place = checked,
            _ => {
                let (min, max) = (range.start(), range.end());
                invalid(field, format!("{field} must be {min} to {max}"));
            }
        }
    }
    if changes.is_default == Some(false) {
        invalid("isDefault", "isDefault can only become true".into());
    }
    plan.is_default |= changes.is_default == Some(true);
    if let Some(mode) = changes.mode {
        plan.mode = mode.into();
    }
    if let Some(ByteCount(bytes)) = changes.storage_quota {
        plan.storage_quota_bytes = (bytes > 0).then_some(bytes);
    }
    mistakes
}
