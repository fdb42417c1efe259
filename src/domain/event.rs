//! Events: what a publisher sent, and what the journal made of it.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use super::{EventId, Millis, Seq, SubscriptionId};

/// An event that passed the door but is not accepted yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    pub envelope: Envelope,
    /// The payload as JSON text, byte for byte as received. Valid UTF-8 and valid JSON without
    /// NUL or lone surrogates: the door has checked (`api::intake`), so nothing behind it does.
    pub data: Bytes,
    pub lineage: Lineage,
}

/// An accepted event: on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub seq: Seq,
    pub uid: EventId,
    /// When the journal took it. Never decreases with `seq`, whatever the wall clock does.
    pub accepted_at: Millis,
    pub envelope: Envelope,
    pub data: Bytes,
    pub lineage: Lineage,
}

/// The CloudEvent's attributes. Strings are as received, and shared: a commit that has to be tried
/// again costs no copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The publisher's id, unique within `source`. `None`: it gave none, and the uid stands in.
    pub id: Option<Arc<str>>,
    pub source: Arc<str>,
    pub event_type: Arc<str>,
    pub subject: Option<Arc<str>>,
    /// RFC 3339 as received; `None` reads as the time of acceptance.
    pub time: Option<Arc<str>>,
    pub datacontenttype: Option<Arc<str>>,
    pub dataschema: Option<Arc<str>>,
    /// Extension attributes as the text of one flat JSON object; `None` when there are none.
    pub extensions: Option<Arc<str>>,
    pub encoding: DataEncoding,
}

/// How `data` stands for what was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataEncoding {
    /// The JSON value itself.
    #[default]
    Json,
    /// A JSON string that holds base64: `data_base64` of the CloudEvent.
    Base64,
    /// The event had no data; the payload reads as `null`.
    Absent,
    /// The payload was erased on request, at this time, and reads as `null`.
    Erased(Millis),
}

/// Where an event comes from in the chain of emits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// `None` for what publishers sent.
    pub cause: Option<Cause>,
    /// Emits between this event and the published one it descends from.
    pub hop: u32,
    /// `parent's spread x parent's deliveries x emits of the run`; 1 for a published event.
    pub spread: u64,
}

impl Default for Lineage {
    fn default() -> Self {
        Self { cause: None, hop: 0, spread: 1 }
    }
}

/// The event and the subscription whose run emitted an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    pub event: EventId,
    pub subscription: SubscriptionId,
}

impl Event {
    /// The CloudEvent's `id`: the publisher's, or the uid.
    #[must_use]
    pub fn id(&self) -> std::borrow::Cow<'_, str> {
        match &self.envelope.id {
            Some(id) => id.as_ref().into(),
            None => self.uid.to_string().into(),
        }
    }

    /// The CloudEvent's `time`: the publisher's, or when it was accepted.
    #[must_use]
    pub fn time(&self) -> std::borrow::Cow<'_, str> {
        match &self.envelope.time {
            Some(time) => time.as_ref().into(),
            None => self.accepted_at.to_string().into(),
        }
    }

    /// What it costs to hold in memory, in bytes; counted against `limits.in_hand_bytes`.
    #[must_use]
    pub fn weight(&self) -> usize {
        let envelope = &self.envelope;
        256 + self.data.len()
            + envelope.event_type.len()
            + envelope.source.len()
            + envelope.extensions.as_deref().map_or(0, str::len)
    }
}

/// Which event types a subscription takes: exact, or `*` for one dot-separated segment and `**`
/// for any number of segments, none included.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TypePattern(Box<str>);

/// Longest event type and longest pattern, in bytes.
pub const TYPE_BYTES_MAX: usize = 255;

impl TypePattern {
    /// Refuses empty segments, and wildcards that share a segment with other text.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.len() > TYPE_BYTES_MAX {
            return Err(PatternError::Length);
        }
        for segment in text.split('.') {
            match segment {
                "" => return Err(PatternError::EmptySegment),
                "*" | "**" => {}
                other if other.contains('*') => {
                    return Err(PatternError::PartialWildcard(other.into()));
                }
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when the pattern is one event type and nothing else.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Events of the runtime itself are taken only by a pattern that names them: one that takes
    /// everything was meant for the application's.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        if self.is_exact() {
            return *self.0 == *event_type;
        }
        (self.is_of_runtime() || !is_reserved(event_type)) && matches_segments(&self.0, event_type)
    }

    /// True when its first segment is the literal `tripline`: it is about [reserved](is_reserved)
    /// types.
    #[must_use]
    pub fn is_of_runtime(&self) -> bool {
        is_reserved(&self.0)
    }

    /// True when the pattern does not take the event type but differs in one segment only, or in
    /// upper and lower case: a slip of the author rather than another subject.
    #[must_use]
    pub fn is_near(&self, event_type: &str) -> bool {
        if self.matches(event_type) {
            return false;
        }
        let (mut ours, mut theirs) = (self.0.split('.'), event_type.split('.'));
        let (mut same, mut different) = (0, 0);
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => break,
                (Some(our), Some(their)) if our == "*" || our.eq_ignore_ascii_case(their) => {
                    same += 1;
                }
                _ => different += 1,
            }
        }
        different == 0 || (different == 1 && same > 0)
    }
}

/// True for `tripline` and everything under it: the types of the runtime's own events
/// (`domain::alert`). Nobody else publishes them.
#[must_use]
pub fn is_reserved(event_type: &str) -> bool {
    event_type.strip_prefix("tripline").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Greedy matching with one remembered `**`, as in globs: linear in the product at the worst,
/// without recursion.
fn matches_segments(pattern: &str, text: &str) -> bool {
    let (mut p, mut t) = (Some(pattern), Some(text));
    let mut retry: Option<(Option<&str>, &str)> = None;
    loop {
        match (p.map(split_segment), t) {
            (Some(("**", rest)), _) => {
                retry = t.map(|t| (rest, t));
                if rest.is_none() {
                    return true;
                }
                p = rest;
                continue;
            }
            (Some((head, rest)), Some(left)) => {
                let (segment, left_rest) = split_segment(left);
                if head == "*" || head == segment {
                    (p, t) = (rest, left_rest);
                    continue;
                }
            }
            (None, None) => return true,
            _ => {}
        }
        // Let the last `**` swallow one segment more.
        let Some((after, from)) = retry else { return false };
        let (_, shorter) = split_segment(from);
        (p, t) = (after, shorter);
        retry = shorter.map(|s| (after, s));
        if t.is_none() && p.is_some_and(|p| p.split('.').any(|s| s != "**")) {
            return false;
        }
    }
}

fn split_segment(text: &str) -> (&str, Option<&str>) {
    match text.split_once('.') {
        Some((head, rest)) => (head, Some(rest)),
        None => (text, None),
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypePattern({})", self.0)
    }
}

/// Why a text is no event type pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("expected 1 to {TYPE_BYTES_MAX} bytes")]
    Length,
    #[error("expected a name, `*` or `**` between the dots, found nothing")]
    EmptySegment,
    #[error(
        "`*` stands for a whole segment, so `{0}` is no segment; use a filter such as starts_with(event.type, …)"
    )]
    PartialWildcard(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, event_type: &str, expected: bool) {
        let parsed = TypePattern::parse(pattern).expect("a pattern");
        assert_eq!(parsed.matches(event_type), expected, "{pattern} on {event_type}");
    }

    #[test]
    fn an_exact_type_matches_itself_only() {
        check("finance.PaymentCreated", "finance.PaymentCreated", true);
        check("finance.PaymentCreated", "finance.PaymentCreated.v2", false);
        check("finance.PaymentCreated", "finance.paymentcreated", false);
    }

    #[test]
    fn a_star_is_one_segment() {
        check("finance.*", "finance.PaymentCreated", true);
        check("finance.*", "finance", false);
        check("finance.*", "finance.payment.created", false);
        check("*.created", "order.created", true);
        check("*", "order", true);
    }

    #[test]
    fn two_stars_are_any_number_of_segments() {
        for event_type in ["a", "a.b", "a.b.c"] {
            check("**", event_type, true);
        }
        check("a.**", "a", true);
        check("a.**", "a.b.c", true);
        check("a.**", "b.a", false);
        check("**.c", "a.b.c", true);
        check("**.c", "c", true);
        check("a.**.c", "a.c", true);
        check("a.**.c", "a.b.b.c", true);
        check("a.**.c", "a.b.c.d", false);
        check("**.b.**", "a.b.c", true);
        check("**.b.**", "a.c", false);
        check("a.**.*", "a", false);
        check("a.**.*", "a.b", true);
        check("**.**", "a", true);
    }

    #[test]
    fn events_of_the_runtime_are_taken_by_name_only() {
        let created = "tripline.dead_letter.created";
        for pattern in ["**", "*.*.*", "*.dead_letter.*", "**.created", "**.tripline.**"] {
            check(pattern, created, false);
        }
        for pattern in ["tripline.**", "tripline.*.created", "tripline.dead_letter.*", created] {
            check(pattern, created, true);
        }
        check("**", "tripline", false);
        check("tripline.**", "tripline", true);
        check("**", "tripliner.created", true);
        check("**", "my.tripline.created", true);
    }

    #[test]
    fn half_a_segment_is_refused() {
        assert_eq!(TypePattern::parse("a.b*"), Err(PatternError::PartialWildcard("b*".into())));
        assert_eq!(TypePattern::parse("a..b"), Err(PatternError::EmptySegment));
        assert_eq!(TypePattern::parse(""), Err(PatternError::Length));
    }
}
