//! `RetentionPlan`.

use super::scalar::ByteCount;
use crate::account;
use async_graphql::{Enum, ID, Object};

#[derive(Clone)]
pub struct RetentionPlan(pub account::RetentionPlan);

/// How footage is kept; what a camera maker sells.
#[Object]
impl RetentionPlan {
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn mode(&self) -> RetentionMode {
        self.0.mode.into()
    }

    /// Rolling; 1 to 3650.
    async fn days(&self) -> u32 {
        self.0.days
    }

    /// Kept before and after an event, in `EVENT_ONLY`.
    async fn pre_roll_seconds(&self) -> u32 {
        self.0.pre_roll_s
    }

    async fn post_roll_seconds(&self) -> u32 {
        self.0.post_roll_s
    }

    /// How much one device may store; null for no cap.
    async fn storage_quota(&self) -> Option<ByteCount> {
        self.0.storage_quota_bytes.map(ByteCount)
    }

    /// Whether devices registered without a plan get this one; exactly one in the account is.
    async fn is_default(&self) -> bool {
        self.0.is_default
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "account::RetentionMode")]
pub enum RetentionMode {
    /// Everything.
    Continuous,
    /// Only what events touch, with pre- and post-roll.
    EventOnly,
}
