//! Who asks. Made once from verified credentials; nothing else makes one.

use std::sync::Arc;

use agent_hub_protocol::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::admission::derived_uuid;

/// A user's plan: decides the daily quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// The smallest; what an unknown or missing plan means.
    #[default]
    Free,
    /// For people who pay.
    Pro,
    /// For companies.
    Enterprise,
}

impl Plan {
    /// The plan with this name; `free` for any other.
    pub fn from_claim(name: &str) -> Self {
        match name {
            "pro" => Plan::Pro,
            "enterprise" => Plan::Enterprise,
            _ => Plan::Free,
        }
    }

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Plan::Free => "free",
            Plan::Pro => "pro",
            Plan::Enterprise => "enterprise",
        }
    }
}

/// A verified user. Only the verifier of credentials makes one; every call into the runtime takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    user: String,
    plan: Plan,
    scopes: Vec<String>,
    expires_at: Option<Timestamp>,
    token: Option<Uuid>,
    /// Who acts, where it is not the user.
    acting: Option<String>,
}

impl Principal {
    pub(crate) fn verified(user: String, plan: Plan, scopes: Vec<String>, expires_at: Option<Timestamp>) -> Self {
        Self::of_token(user, plan, scopes, expires_at, None)
    }

    /// The same of a token with this `jti`, which can be revoked.
    pub(crate) fn of_token(user: String, plan: Plan, scopes: Vec<String>, expires_at: Option<Timestamp>, jti: Option<&str>) -> Self {
        // Together with the user: whoever gives out tokens may number them per user.
        let token = jti.map(|jti| derived_uuid(&user, "token", jti));
        Self(Arc::new(Inner { user, plan, scopes, expires_at, token, acting: None }))
    }

    /// The subject of the credentials.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// Who did it, as the log says: the user, or `admin:<user>` where an operator acts for somebody.
    pub fn name(&self) -> &str {
        self.0.acting.as_deref().unwrap_or(&self.0.user)
    }

    /// This operator, acting for somebody. Whoever calls it has checked that they may.
    pub(crate) fn acting_for(&self, user: String) -> Self {
        let Inner { plan, expires_at, .. } = *self.0;
        Self(Arc::new(Inner { user, plan, scopes: Vec::new(), expires_at, token: None, acting: Some(format!("admin:{}", self.0.user)) }))
    }

    /// The plan they name.
    pub fn plan(&self) -> Plan {
        self.0.plan
    }

    /// Whether they carry this scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|s| s == scope)
    }

    /// When they stop being valid.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.0.expires_at
    }

    /// Which of the user's tokens they are; `None` for those that cannot be revoked.
    pub(crate) fn token(&self) -> Option<Uuid> {
        self.0.token
    }
}
