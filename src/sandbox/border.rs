//! What may cross the border between a script and the rest: sizes, depths, forms.
//!
//! The lane checks to tell the author at the right line; the parent checks again, because the
//! lane runs hostile code and may say anything.

use serde::de::IgnoredAny;

use super::{Emit, RunLimits, RunReport, call::KV_BYTES_MAX};
use crate::domain::{ErrorKind, RunError, TypePattern};

/// Deepest nesting of a value that leaves a script. serde_json refuses 128, and lists and
/// envelopes add a few levels of their own.
pub const DEPTH_MAX: usize = 100;

/// Sum of one run's emitted data: what a report may grow to, whatever `emits` allows.
pub const EMITS_BYTES_MAX: usize = 16 << 20;

/// Longest `id` and `subject` of an emit, in bytes.
pub const ATTRIBUTE_BYTES_MAX: usize = 1_024;

/// Longest error message and stack that are kept, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 8 << 10;
pub const STACK_BYTES_MAX: usize = 16 << 10;

/// Counted for each line of log beyond its text, so that empty lines are not free.
pub const LOG_LINE_BYTES: usize = 32;

/// Why an emit is refused, in words for the script's author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("event type `{0}`: {1}")]
    Type(String, String),
    #[error("data of `{event_type}` has {bytes} bytes: the limit is {limit}")]
    TooLong { event_type: String, bytes: usize, limit: usize },
    #[error("data of `{0}`: {1}")]
    Data(String, JsonFault),
    #[error("{0} of `{1}`: expected 1 to {ATTRIBUTE_BYTES_MAX} bytes without control characters")]
    Attribute(&'static str, String),
}

/// Why a JSON text may not leave a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    #[error("nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    #[error("a text with a NUL character or half a surrogate pair, which no database keeps")]
    Unstorable,
    #[error("expected an object")]
    NoObject,
    #[error("no JSON")]
    Malformed,
}

impl Emit {
    /// Checks form and size; the JSON itself is taken on trust.
    pub fn check(&self, limits: &RunLimits) -> Result<(), Refusal> {
        let short = || self.event_type.chars().take(80).collect::<String>();
        match TypePattern::parse(&self.event_type) {
            Ok(pattern) if pattern.is_of_runtime() => {
                return Err(Refusal::Type(
                    short(),
                    "expected one that does not begin with tripline: those are the runtime's own"
                        .into(),
                ));
            }
            Ok(pattern) if pattern.is_exact() => {}
            Ok(_) => return Err(Refusal::Type(short(), "expected a name, found a pattern".into())),
            Err(error) => return Err(Refusal::Type(short(), error.to_string())),
        }
        if self.event_type.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Refusal::Type(
                short(),
                "expected no blanks and no control characters".into(),
            ));
        }
        for (name, value) in [("id", &self.id), ("subject", &self.subject)] {
            if let Some(value) = value
                && (value.is_empty()
                    || value.len() > ATTRIBUTE_BYTES_MAX
                    || value.chars().any(char::is_control))
            {
                return Err(Refusal::Attribute(name, short()));
            }
        }
        if self.data.len() > limits.emit_bytes {
            return Err(Refusal::TooLong {
                event_type: short(),
                bytes: self.data.len(),
                limit: limits.emit_bytes,
            });
        }
        if !self.data.starts_with(['{', '[']) {
            return Err(Refusal::Data(short(), JsonFault::NoObject));
        }
        check_json(&self.data).map_err(|fault| Refusal::Data(short(), fault))
    }
}

/// Depth and storable texts of a JSON text that is known to be well-formed.
pub fn check_json(text: &str) -> Result<(), JsonFault> {
    let bytes = text.as_bytes();
    let (mut depth, mut in_string, mut i) = (0_usize, false, 0);
    while let Some(&byte) = bytes.get(i) {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                let unit = hex4(bytes, i);
                match unit {
                    Some(0) => return Err(JsonFault::Unstorable),
                    Some(0xD800..=0xDBFF)
                        if matches!(hex4(bytes, i + 6), Some(0xDC00..=0xDFFF)) =>
                    {
                        i += 6
                    }
                    Some(0xD800..=0xDFFF) => return Err(JsonFault::Unstorable),
                    _ => {}
                }
                i += if unit.is_some() { 5 } else { 1 };
            }
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(JsonFault::TooDeep);
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        i += 1;
    }
    Ok(())
}

/// The UTF-16 unit of the `\uXXXX` at `at`.
fn hex4(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

impl RunReport {
    /// What the parent takes of a lane's report: an outcome within the limits, or a refusal of it.
    ///
    /// A report that an honest lane would not send ends the run as `host_crash`, without effects.
    #[must_use]
    pub fn checked(mut self, limits: &RunLimits) -> Self {
        if let Some(fault) = self.fault(limits) {
            self.outcome = Err(RunError {
                kind: ErrorKind::HostCrash,
                message: format!("the lane reported what a run may not do: {fault}"),
                stack: None,
            });
            self.emits.clear();
            self.kv.clear();
            self.logs.clear();
            self.warnings.clear();
            self.retry_after = None;
            self.tape = None;
        }
        self
    }

    fn fault(&self, limits: &RunLimits) -> Option<String> {
        let logged: usize = self.logs.iter().map(|line| line.message.len() + LOG_LINE_BYTES).sum();
        // The mark that says where the log was cut comes on top.
        if logged > limits.log_bytes + 1_024 {
            return Some(format!("{logged} bytes of logs"));
        }
        if self.tape.as_ref().is_some_and(|tape| !tape.is_bounded()) {
            return Some("more on its tape than is kept".into());
        }
        if self.emits.len() > limits.emits as usize {
            return Some(format!("{} emits", self.emits.len()));
        }
        if self.emits.iter().map(|emit| emit.data.len()).sum::<usize>() > EMITS_BYTES_MAX {
            return Some(format!("more than {EMITS_BYTES_MAX} bytes of emits"));
        }
        for emit in &self.emits {
            if let Err(refusal) = emit.check(limits) {
                return Some(refusal.to_string());
            }
            if serde_json::from_str::<IgnoredAny>(&emit.data).is_err() {
                return Some(
                    Refusal::Data(emit.event_type.clone(), JsonFault::Malformed).to_string(),
                );
            }
        }
        self.kv_fault(limits).or_else(|| self.outcome_fault(limits))
    }

    fn kv_fault(&self, limits: &RunLimits) -> Option<String> {
        if self.kv.len() > limits.kv_writes as usize {
            return Some(format!("{} writes", self.kv.len()));
        }
        let values = self.kv.iter().filter_map(|write| write.value.as_ref());
        if values.clone().map(String::len).sum::<usize>() > KV_BYTES_MAX {
            return Some(format!("more than {KV_BYTES_MAX} bytes of values"));
        }
        if let Some(refusal) = self.kv.iter().find_map(|write| write.check(limits).err()) {
            return Some(refusal);
        }
        values
            .clone()
            .any(|value| serde_json::from_str::<IgnoredAny>(value).is_err())
            .then(|| "a value that is no JSON".into())
    }

    fn outcome_fault(&self, limits: &RunLimits) -> Option<String> {
        match &self.outcome {
            Ok(result) if result.len() > limits.result_bytes => {
                Some(format!("result of {} bytes", result.len()))
            }
            Ok(result)
                if result != "null" && serde_json::from_str::<IgnoredAny>(result).is_err() =>
            {
                Some("a result that is no JSON".into())
            }
            Err(error)
                if error.message.len() > MESSAGE_BYTES_MAX + 16
                    || error
                        .stack
                        .as_ref()
                        .is_some_and(|stack| stack.len() > STACK_BYTES_MAX + 16) =>
            {
                Some("an error message beyond its limit".into())
            }
            _ => None,
        }
    }
}

/// Cuts a text at a character's border and marks the cut.
#[must_use]
pub fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sandbox::RunKey;

    fn emit(event_type: &str, data: &str) -> Emit {
        Emit {
            event_type: event_type.into(),
            data: data.into(),
            id: None,
            subject: None,
            delay: None,
        }
    }

    fn report(emits: Vec<Emit>) -> RunReport {
        RunReport {
            key: RunKey(1),
            outcome: Ok("null".into()),
            retry_after: None,
            logs: Vec::new(),
            emits,
            kv: Vec::new(),
            warnings: Vec::new(),
            duration: Duration::ZERO,
            cpu: Duration::ZERO,
            waited: Duration::ZERO,
            heap_bytes: 0,
            tape: None,
        }
    }

    #[test]
    fn emits_need_a_type_and_an_object() {
        let limits = RunLimits::default();
        assert_eq!(emit("order.paid", "{}").check(&limits), Ok(()));
        for (event_type, data) in
            [("", "{}"), ("a..b", "{}"), ("a.*", "{}"), ("a b", "{}"), ("a", "1"), ("a", "\"{\"")]
        {
            assert!(emit(event_type, data).check(&limits).is_err(), "{event_type:?} {data}");
        }
        let short = RunLimits { emit_bytes: 4, ..limits };
        assert!(matches!(
            emit("a", "[1,2]").check(&short),
            Err(Refusal::TooLong { bytes: 5, limit: 4, .. })
        ));
    }

    #[test]
    fn half_a_surrogate_pair_and_nul_are_refused() {
        for good in [r#""\ud83d\ude00""#, r#""\\u0000""#, r#""\\\\ud800""#, r#"{"a":"\"\u0001"}"#] {
            assert_eq!(check_json(good), Ok(()), "{good}");
        }
        for bad in [r#""\ud83d""#, r#""\ude00\ud83d""#, r#""\u0000""#, r#"["\\\u0000"]"#] {
            assert_eq!(check_json(bad), Err(JsonFault::Unstorable), "{bad}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_of_texts() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(check_json(&nested(DEPTH_MAX)), Ok(()));
        assert_eq!(check_json(&nested(DEPTH_MAX + 1)), Err(JsonFault::TooDeep));
        assert_eq!(check_json(&format!("\"{}\"", "[".repeat(500))), Ok(()));
    }

    #[test]
    fn a_dishonest_report_has_no_effects() {
        let limits = RunLimits::default();
        assert!(report(vec![emit("a", "{}")]).checked(&limits).outcome.is_ok());
        for forged in [vec![emit("a", "{")], vec![emit("a", "{}"); 101], vec![emit("*", "{}")]] {
            let checked = report(forged).checked(&limits);
            assert_eq!(checked.outcome.map_err(|error| error.kind), Err(ErrorKind::HostCrash));
            assert!(checked.emits.is_empty());
        }
    }

    #[test]
    fn cutting_respects_characters() {
        assert_eq!(cut("añb".into(), 2), "a…");
        assert_eq!(cut("ab".into(), 2), "ab");
    }
}
