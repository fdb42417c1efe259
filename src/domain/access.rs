//! Who may do what: roles, tokens, and the trail of what was done.

use std::time::{Duration, Instant};

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
    /// Requests a second, with a second's worth at once; `None`: as many as the server takes.
    pub requests_per_s: Option<u32>,
}

/// Most requests a second that a token's limit can name.
pub const REQUESTS_PER_S_MAX: u32 = 100_000;

/// Holds the requests of one token to its limit: each moves the moment up to which it has used its
/// share, and that may lie at most a second ahead.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    used_up_to: Instant,
}

impl Pace {
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { used_up_to: now }
    }

    /// A request comes. `Err`: how long it is to wait before it comes again.
    pub fn request(&mut self, per_second: u32, now: Instant) -> Result<(), Duration> {
        const AHEAD: Duration = Duration::from_secs(1);
        let after = self.used_up_to.max(now) + AHEAD / per_second.max(1);
        match after.saturating_duration_since(now).checked_sub(AHEAD) {
            Some(early) if !early.is_zero() => Err(early),
            _ => {
                self.used_up_to = after;
                Ok(())
            }
        }
    }
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

    #[test]
    fn a_second_s_worth_at_once_and_then_the_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let at = |ms: u64| start + Duration::from_millis(ms);
        let taken = (0..50).filter(|_| pace.request(10, at(0)).is_ok()).count();
        assert_eq!(taken, 10);
        assert_eq!(pace.request(10, at(99)), Err(Duration::from_millis(1)));
        assert_eq!(pace.request(10, at(100)), Ok(()));
        assert!(pace.request(10, at(100)).is_err());
        // Over ten seconds: the rate, and the second's worth.
        let taken = (0..10_000).filter(|ms| pace.request(10, at(20_000 + ms)).is_ok()).count();
        assert!((109..=110).contains(&taken), "{taken}");
    }
}
