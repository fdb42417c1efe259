//! Inbound webhooks: whose signature a delivery must carry, and what event it becomes.

use std::{fmt, str::FromStr, time::Duration};

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;
use sha2::Sha256;

use super::{Millis, Span, event::TYPE_BYTES_MAX};

/// Most secrets of a hook: the one in use, and those that are rotated out.
pub const KEYS_MAX: usize = 4;
/// Longest name.
pub const NAME_BYTES_MAX: usize = 64;
/// Replay window of a hook that names none, as Standard Webhooks and Stripe recommend.
pub const TOLERANCE: Duration = Duration::from_mins(5);
/// Header of the plain HMAC of a hook that names none.
pub const HMAC_HEADER: &str = "x-signature";
const ATTRIBUTE_BYTES_MAX: usize = 2_048;

/// A door for the deliveries of another system.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    /// Last part of its path, `/hooks/{name}`.
    pub name: String,
    pub preset: Preset,
    /// Names of secrets; a signature by any of them counts, so that keys can be rotated.
    pub secrets: Vec<String>,
    /// Carries the signature of [`Preset::Hmac`].
    pub header: String,
    /// How old a signed time may be, and how far ahead.
    pub tolerance: Span,
    pub event_type: Template,
    pub subject: Option<Template>,
    /// Of the event's id, by which a delivery that comes twice is taken once.
    pub event_id: Option<Template>,
    pub is_active: bool,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub revision: u64,
}

/// Who signs, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature`, as of standardwebhooks.com.
    StandardWebhooks,
    /// `X-Hub-Signature-256`.
    Github,
    /// `Stripe-Signature`.
    Stripe,
    /// HMAC-SHA256 of the body in one header, hex or base64, with or without `sha256=`.
    Hmac,
}

impl Preset {
    pub const ALL: [Self; 4] = [Self::StandardWebhooks, Self::Github, Self::Stripe, Self::Hmac];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StandardWebhooks => "standard_webhooks",
            Self::Github => "github",
            Self::Stripe => "stripe",
            Self::Hmac => "hmac",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == text)
    }

    /// Type and id of events of a hook that maps neither.
    #[must_use]
    pub fn mapping(self, name: &str) -> (Template, Option<Template>) {
        let (event_type, id) = match self {
            Self::StandardWebhooks => (format!("{name}.{{$.type}}"), Some("{header:webhook-id}")),
            Self::Github => {
                (format!("{name}.{{header:x-github-event}}"), Some("{header:x-github-delivery}"))
            }
            Self::Stripe => (format!("{name}.{{$.type}}"), Some("{$.id}")),
            Self::Hmac => (format!("{name}.received"), None),
        };
        (Template(event_type), id.map(|id| Template(id.into())))
    }
}

/// Why a delivery was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the header {0} is missing")]
    MissingHeader(String),
    #[error("the header {0} cannot be read")]
    UnreadableHeader(String),
    #[error("no signature in it was made with a secret of this hook")]
    WrongSignature,
    #[error("its signed time is {0} s in the past, outside of the replay window")]
    TooOld(u64),
    #[error("its signed time is {0} s in the future, outside of the replay window")]
    TooEarly(u64),
    #[error("no secret of this hook can be read on this server")]
    NoKey,
}

impl Refusal {
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::MissingHeader(_) => "missing_header",
            Self::UnreadableHeader(_) => "unreadable_header",
            Self::WrongSignature => "wrong_signature",
            Self::TooOld(_) => "too_old",
            Self::TooEarly(_) => "too_early",
            Self::NoKey => "no_key",
        }
    }
}

/// The headers of a delivery: the value of the one with this name, in lower case.
pub type Headers<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

impl Hook {
    /// Whether the body carries a signature by one of `keys` that is made now, or was made within
    /// the replay window. Signatures are compared in constant time.
    pub fn verify(
        &self,
        headers: &Headers<'_>,
        body: &[u8],
        keys: &[&str],
        now: Millis,
    ) -> Result<(), Refusal> {
        if keys.is_empty() {
            return Err(Refusal::NoKey);
        }
        let need = |name: &str| headers(name).ok_or_else(|| Refusal::MissingHeader(name.into()));
        let (signatures, signed, at) = match self.preset {
            Preset::StandardWebhooks => {
                let (id, at) = (need("webhook-id")?, need("webhook-timestamp")?);
                let list = need("webhook-signature")?;
                let signatures: Vec<Vec<u8>> =
                    list.split(' ').filter_map(|one| base64(one.strip_prefix("v1,")?)).collect();
                let head = format!("{id}.{at}.");
                (signatures, head, Some((at, "webhook-timestamp")))
            }
            Preset::Stripe => {
                let list = need("stripe-signature")?;
                let part = |one: &'_ str, name: &str| {
                    one.trim().strip_prefix(name)?.strip_prefix('=').map(str::to_owned)
                };
                let at = list.split(',').find_map(|one| one.trim().strip_prefix("t="));
                let at = at.ok_or_else(|| Refusal::UnreadableHeader("stripe-signature".into()))?;
                let signatures = list.split(',').filter_map(|one| hex(&part(one, "v1")?)).collect();
                (signatures, format!("{at}."), Some((at, "stripe-signature")))
            }
            Preset::Github => {
                let one = need("x-hub-signature-256")?;
                (
                    one.strip_prefix("sha256=").and_then(hex).into_iter().collect(),
                    String::new(),
                    None,
                )
            }
            Preset::Hmac => {
                let one = need(&self.header)?.trim();
                let one = one.strip_prefix("sha256=").unwrap_or(one);
                (hex(one).or_else(|| base64(one)).into_iter().collect(), String::new(), None)
            }
        };
        let made_with = |key: &&str| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&self.key_bytes(key))
                .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
            mac.update(signed.as_bytes());
            mac.update(body);
            // All of them are looked at, whichever fits.
            signatures
                .iter()
                .fold(false, |found, one| mac.clone().verify_slice(one).is_ok() | found)
        };
        if !keys.iter().fold(false, |found, key| made_with(key) | found) {
            return Err(Refusal::WrongSignature);
        }
        let Some((at, header)) = at else { return Ok(()) };
        let at: i64 = at.parse().map_err(|_| Refusal::UnreadableHeader(header.into()))?;
        let (at, tolerance) = (Millis(at.saturating_mul(1_000)), self.tolerance.0);
        if now.since(at) > tolerance {
            return Err(Refusal::TooOld(now.since(at).as_secs()));
        }
        if at.since(now) > tolerance {
            return Err(Refusal::TooEarly(at.since(now).as_secs()));
        }
        Ok(())
    }

    /// Standard Webhooks hands out keys as `whsec_` and base64; all others are the text itself.
    fn key_bytes(&self, key: &str) -> Vec<u8> {
        let encoded =
            key.strip_prefix("whsec_").filter(|_| self.preset == Preset::StandardWebhooks);
        encoded.and_then(base64).unwrap_or_else(|| key.as_bytes().to_vec())
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks(2).map(pair).collect()
}

/// A text with places that a delivery fills: `github.{header:x-github-event}`, `{$.data.id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTemplate {
    #[error("1 to {TYPE_BYTES_MAX} bytes")]
    Length,
    #[error("`{{` and `}}` in pairs")]
    Unclosed,
    #[error("`{{header:name}}` or `{{$.path}}`, not `{{{0}}}`")]
    Place(String),
}

/// What a delivery lacks that a template needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not in the delivery, or is no text, number or boolean")]
pub struct Lacking(pub String);

enum Part<'a> {
    Text(&'a str),
    Header(&'a str),
    Path(&'a str),
}

impl Template {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn parse(text: &str) -> Result<Self, NoTemplate> {
        if text.is_empty() || text.len() > TYPE_BYTES_MAX {
            return Err(NoTemplate::Length);
        }
        parts(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The text, with what the delivery has. `clean`: letters, digits, `_`, `-` and `.` are taken
    /// from it, all else becomes `_`, so that an event's type stays one.
    pub fn fill(
        &self,
        headers: &Headers<'_>,
        body: &Value,
        clean: bool,
    ) -> Result<String, Lacking> {
        let mut filled = String::new();
        for part in parts(&self.0).unwrap_or_default() {
            let value = match part {
                Part::Text(text) => {
                    filled.push_str(text);
                    continue;
                }
                Part::Header(name) => headers(name)
                    .map(str::to_owned)
                    .ok_or_else(|| Lacking(format!("the header {name}")))?,
                Part::Path(path) => at(body, path).ok_or_else(|| Lacking(path.to_owned()))?,
            };
            let keep = |c: char| !clean || c.is_ascii_alphanumeric() || "_-.".contains(c);
            filled.extend(value.chars().map(|c| if keep(c) { c } else { '_' }));
        }
        let mut end = filled.len().min(if clean { TYPE_BYTES_MAX } else { ATTRIBUTE_BYTES_MAX });
        while !filled.is_char_boundary(end) {
            end -= 1;
        }
        filled.truncate(end);
        Ok(filled)
    }
}

fn parts(text: &str) -> Result<Vec<Part<'_>>, NoTemplate> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        if rest[open..].starts_with('}') {
            return Err(NoTemplate::Unclosed);
        }
        parts.push(Part::Text(&rest[..open]));
        let close = rest[open..].find('}').ok_or(NoTemplate::Unclosed)? + open;
        let place = &rest[open + 1..close];
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        };
        parts.push(if let Some(name) = place.strip_prefix("header:") {
            if !is_name(name) || name.chars().any(|c| c.is_ascii_uppercase()) {
                return Err(NoTemplate::Place(place.to_owned()));
            }
            Part::Header(name)
        } else if place.strip_prefix("$.").is_some_and(|path| path.split('.').all(is_name)) {
            Part::Path(place)
        } else {
            return Err(NoTemplate::Place(place.to_owned()));
        });
        rest = &rest[close + 1..];
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// A text, number or boolean at a path of members and positions.
fn at(body: &Value, path: &str) -> Option<String> {
    let mut value = body;
    for name in path.strip_prefix("$.")?.split('.') {
        value = match value {
            Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
            other => other.get(name)?,
        };
    }
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Template {
    type Err = NoTemplate;

    fn from_str(text: &str) -> Result<Self, NoTemplate> {
        Self::parse(text)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// Lower-case letters, digits, `-` and `_`: it stands in a path.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hook(preset: Preset) -> Hook {
        let (event_type, event_id) = preset.mapping("door");
        Hook {
            name: "door".into(),
            preset,
            secrets: vec!["key".into()],
            header: HMAC_HEADER.into(),
            tolerance: Span(TOLERANCE),
            event_type,
            subject: None,
            event_id,
            is_active: true,
            created_at: Millis(0),
            updated_at: Millis(0),
            revision: 1,
        }
    }

    fn verify(
        hook: &Hook,
        headers: &[(&str, &'static str)],
        body: &str,
        keys: &[&str],
        at: i64,
    ) -> Result<(), Refusal> {
        let find =
            |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        hook.verify(&find, body.as_bytes(), keys, Millis(at * 1_000))
    }

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn the_example_of_standard_webhooks_is_taken() {
        let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let headers = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ];
        let (hook, body) = (hook(Preset::StandardWebhooks), r#"{"test": 2432232314}"#);
        assert_eq!(verify(&hook, &headers, body, &[key], 1_614_265_330), Ok(()));
        assert_eq!(verify(&hook, &headers, body, &["other", key], 1_614_265_330), Ok(()));
        let wrong = verify(&hook, &headers, r#"{"test": 2432232315}"#, &[key], 1_614_265_330);
        assert_eq!(wrong, Err(Refusal::WrongSignature));
        let late = verify(&hook, &headers, body, &[key], 1_614_265_330 + 301);
        assert_eq!(late, Err(Refusal::TooOld(301)));
        let early = verify(&hook, &headers, body, &[key], 1_614_265_330 - 301);
        assert_eq!(early, Err(Refusal::TooEarly(301)));
    }

    /// The example of GitHub's documentation on validating deliveries.
    #[test]
    fn the_example_of_github_is_taken() {
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let (hook, key) = (hook(Preset::Github), "It's a Secret to Everybody");
        let headers = [("x-hub-signature-256", signature)];
        assert_eq!(verify(&hook, &headers, "Hello, World!", &[key], 0), Ok(()));
        assert_eq!(
            verify(&hook, &headers, "Hello, World", &[key], 0),
            Err(Refusal::WrongSignature)
        );
        let missing = verify(&hook, &[], "Hello, World!", &[key], 0);
        assert_eq!(missing, Err(Refusal::MissingHeader("x-hub-signature-256".into())));
        assert_eq!(verify(&hook, &headers, "Hello, World!", &[], 0), Err(Refusal::NoKey));
        let garbage = [("x-hub-signature-256", "sha256=zz")];
        assert_eq!(verify(&hook, &garbage, "", &[key], 0), Err(Refusal::WrongSignature));
    }

    #[test]
    fn a_template_is_filled_from_headers_and_body() {
        let headers = |name: &str| (name == "x-event").then_some("pull request");
        let body = json!({ "type": "a.b", "items": [{ "id": 7 }], "none": null });
        let fill = |text: &str, clean| Template::parse(text).unwrap().fill(&headers, &body, clean);
        assert_eq!(fill("git.{header:x-event}", true).unwrap(), "git.pull_request");
        assert_eq!(fill("{header:x-event}", false).unwrap(), "pull request");
        assert_eq!(fill("s.{$.type}.{$.items.0.id}", true).unwrap(), "s.a.b.7");
        assert_eq!(fill("{$.none}", true), Err(Lacking("$.none".into())));
        assert_eq!(fill("{header:x-other}", true), Err(Lacking("the header x-other".into())));
        for wrong in ["", "{", "}", "a}b", "{body}", "{$.}", "{header:}", "{header:X-Event}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
