//! Time as the product writes it: milliseconds since 1970 in UTC inside, RFC 3339 outside.

use std::{
    fmt,
    str::FromStr,
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use time::{
    OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339, macros::format_description,
};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z. In JSON an RFC 3339 string in UTC,
/// in binary formats the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct Millis(pub i64);

impl Millis {
    /// The wall clock. The journal alone decides what "now" means for what it stores.
    #[must_use]
    pub fn now() -> Self {
        let since =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// The clock of what waits: the wall clock when the process first looked, and what has passed
    /// since. A step of the wall clock does not move it, so that nothing comes early or late for one.
    /// A machine that slept goes on waiting where it stopped.
    #[must_use]
    pub fn steady() -> Self {
        Self(STEADY.first.plus(STEADY.at.elapsed()).0 + STEADY.ahead.load(Relaxed))
    }

    /// The steady clock is not behind `at` from now on: what a store holds was written by then, and
    /// the wall clock may have been set back between two starts.
    pub fn steady_from(at: Self) {
        STEADY.ahead.fetch_add(at.0.saturating_sub(Self::steady().0).max(0), Relaxed);
    }

    /// What it is at least, by either clock: for what ends things that do not come back. A clock that
    /// leapt ahead may be wrong, and ends nothing.
    #[must_use]
    pub fn at_least() -> Self {
        Self::now().min(Self::steady())
    }

    /// What the steady clock showed when the wall clock showed this, if that was not set since.
    #[must_use]
    pub fn by_steady(self) -> Self {
        Self(self.0.saturating_add(Self::steady().0 - Self::now().0))
    }

    #[must_use]
    pub fn plus(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)))
    }

    #[must_use]
    pub fn minus(self, age: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier`; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

struct Steady {
    first: Millis,
    at: Instant,
    /// Milliseconds that were added since.
    ahead: AtomicI64,
}

static STEADY: LazyLock<Steady> =
    LazyLock::new(|| Steady { first: Millis::now(), at: Instant::now(), ahead: AtomicI64::new(0) });

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .map_err(|_| fmt::Error)?;
        f.write_str(&moment.format(&format).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Millis {
    type Err = time::error::Parse;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let moment = OffsetDateTime::parse(text, &Rfc3339)?.to_offset(UtcOffset::UTC);
        Ok(Self(i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)))
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return i64::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|_| D::Error::custom("expected an RFC 3339 time such as 2026-01-31T12:00:00Z"))
    }
}

/// Parses a span: milliseconds as a bare number, or a number with `ms`, `s`, `m`, `h` or `d`.
///
/// The form of delays in scripts and of durations in the configuration.
pub fn parse_span(text: &str) -> Result<Duration, SpanError> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let error = || SpanError(text.chars().take(40).collect());
    let number: f64 = number.parse().map_err(|_| error())?;
    let unit_ms = match unit.trim() {
        "" | "ms" => 1.0,
        "s" => 1_000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return Err(error()),
    };
    let ms = number * unit_ms;
    // A hundred years: beyond any use, and far from overflow in every unit we convert to.
    if !(0.0..=3.2e12).contains(&ms) {
        return Err(error());
    }
    Ok(Duration::from_micros((ms * 1_000.0) as u64))
}

/// The text is no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no duration: expected milliseconds or a number with ms, s, m, h or d, such as \"30s\""
)]
pub struct SpanError(String);

/// A span of time: `"30s"`, `"10m"`, `"2h"`, `"7d"`, or milliseconds as a number. Printed in the
/// largest unit that is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, utoipa::ToSchema)]
#[schema(value_type = String, example = "1m")]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            if ms >= size && ms.is_multiple_of(size) {
                return write!(f, "{}{unit}", ms / size);
            }
        }
        write!(f, "{ms}ms")
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor).map(Self)
    }
}

struct SpanVisitor;

impl serde::de::Visitor<'_> for SpanVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"30s\", or milliseconds")
    }

    fn visit_i64<E: serde::de::Error>(self, ms: i64) -> Result<Duration, E> {
        u64::try_from(ms)
            .map(Duration::from_millis)
            .map_err(|_| E::custom("a duration is not negative"))
    }

    fn visit_u64<E: serde::de::Error>(self, ms: u64) -> Result<Duration, E> {
        Ok(Duration::from_millis(ms))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
        parse_span(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_in_utc_with_milliseconds() {
        assert_eq!(Millis(1_769_860_800_123).to_string(), "2026-01-31T12:00:00.123Z");
        assert_eq!("2026-01-31T13:00:00.123+01:00".parse(), Ok(Millis(1_769_860_800_123)));
    }

    #[test]
    fn the_steady_clock_goes_on_and_catches_up_with_a_store() {
        let before = Millis::steady();
        let ahead = before.plus(Duration::from_hours(1));
        Millis::steady_from(ahead);
        Millis::steady_from(before);
        let after = Millis::steady();
        assert!(after >= ahead && after.since(ahead) < Duration::from_mins(1), "{after}");
    }

    #[test]
    fn spans_take_a_unit_or_mean_milliseconds() {
        assert_eq!(parse_span("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_span("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_span("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_span("1500"), Ok(Duration::from_millis(1_500)));
        for wrong in ["", "s", "-1s", "1w", "1e9d", "ten"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }
}
