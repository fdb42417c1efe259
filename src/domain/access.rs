//! Who may do what: roles, tokens, and the trail of what was done.

use serde::{Deserialize, Serialize};

use super::{AuditId, Millis, TokenId};

/// What a token may do. Each role may do all that the ones before it may, but for `Publisher`,
/// which only publishes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Publishes events, nothing else.
    Publisher,
    /// Reads everything but secrets.
    Viewer,
    /// Also writes scripts, subscriptions and kv, replays and discards.
    Editor,
    /// Also tokens, secrets and settings.
    Admin,
}

impl Role {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Admin => "admin",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Publisher, Self::Viewer, Self::Editor, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
    }

    /// Whether this role covers what `needed` asks for.
    #[must_use]
    pub fn covers(self, needed: Self) -> bool {
        match needed {
            Self::Publisher => matches!(self, Self::Publisher | Self::Editor | Self::Admin),
            _ => self >= needed,
        }
    }
}

/// A token as it is kept: never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: TokenId,
    pub name: String,
    pub role: Role,
    /// The first characters, to tell tokens apart and to find this one.
    pub prefix: String,
    /// SHA-256 of the whole token.
    pub hash: Vec<u8>,
    pub created_at: Millis,
    pub expires_at: Option<Millis>,
    pub last_used_at: Option<Millis>,
    pub revoked_at: Option<Millis>,
}

impl Token {
    /// Whether it still opens anything at `now`.
    #[must_use]
    pub fn is_good(&self, now: Millis) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// One line of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    pub id: AuditId,
    pub at: Millis,
    /// Name of the token.
    pub actor: String,
    /// A verb such as `subscription.delete`.
    pub action: String,
    /// What it was done to: a kind and an id.
    pub target: String,
    /// JSON text.
    pub detail: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_publishes_and_nothing_else() {
        assert!(Role::Publisher.covers(Role::Publisher));
        assert!(!Role::Publisher.covers(Role::Viewer));
        assert!(!Role::Viewer.covers(Role::Publisher), "reading is not writing");
        assert!(Role::Editor.covers(Role::Publisher) && Role::Editor.covers(Role::Viewer));
        assert!(!Role::Editor.covers(Role::Admin));
    }
}
