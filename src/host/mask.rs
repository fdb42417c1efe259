//! Masks: secrets are replaced wherever a run's words are kept.
//!
//! Found are the value itself and the forms in which it slips out unnoticed: escaped in JSON,
//! percent-encoded, in base64 at any offset, in hexadecimal. A script that wants to give its secret
//! away can still do so; the mask is for accidents.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::Value;

use crate::{domain::LogLine, sandbox::RunReport};

/// Replaces the secrets of one script.
#[derive(Debug)]
pub(crate) struct Mask {
    patterns: AhoCorasick,
    /// What stands for each pattern.
    stand_ins: Vec<String>,
}

impl Mask {
    /// `None`: there is nothing to mask.
    pub(crate) fn of(secrets: &[(String, Arc<str>)]) -> Option<Self> {
        let (mut patterns, mut stand_ins) = (Vec::new(), Vec::new());
        for (name, value) in secrets {
            for form in forms(value) {
                patterns.push(form);
                stand_ins.push(format!("[secret {name}]"));
            }
        }
        if patterns.is_empty() {
            return None;
        }
        let patterns =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns);
        // Fails for gigabytes of patterns; secrets are short and a script has few.
        Some(Self { patterns: patterns.ok()?, stand_ins })
    }

    pub(crate) fn text(&self, text: &mut String) {
        if self.patterns.is_match(text.as_str()) {
            *text = self.patterns.replace_all(text, &self.stand_ins);
        }
    }

    /// `None`: there is nothing to replace.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.patterns
            .is_match(bytes)
            .then(|| self.patterns.replace_all_bytes(bytes, &self.stand_ins))
    }

    /// A JSON text stays one: only what is inside of texts, keys and numbers is replaced.
    pub(crate) fn json(&self, text: &mut String) {
        if !self.patterns.is_match(text.as_str()) {
            return;
        }
        let masked = serde_json::from_str::<Value>(text).map(|value| self.value(value));
        *text = masked.map_or_else(|_| "null".to_owned(), |value| value.to_string());
    }

    fn value(&self, value: Value) -> Value {
        let masked = |mut text: String| {
            self.text(&mut text);
            text
        };
        match value {
            Value::String(text) => Value::String(masked(text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, value)| (masked(name), self.value(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Number(number) if self.patterns.is_match(&number.to_string()) => {
                Value::String(masked(number.to_string()))
            }
            other => other,
        }
    }

    /// Everything of a run that people read afterwards. What it emits and keeps in `sdk.kv` is the
    /// script's own doing, and stays.
    pub(crate) fn report(&self, report: &mut RunReport) {
        match &mut report.outcome {
            Ok(result) => self.json(result),
            Err(error) => {
                self.text(&mut error.message);
                if let Some(stack) = &mut error.stack {
                    self.text(stack);
                }
            }
        }
        for LogLine { message, .. } in &mut report.logs {
            self.text(message);
        }
    }
}

/// The forms in which a value is looked for.
fn forms(value: &str) -> Vec<String> {
    let escaped = Value::from(value).to_string();
    let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let mut forms = vec![
        value.to_owned(),
        escaped[1..escaped.len() - 1].to_owned(),
        encoded,
        value.bytes().map(percent).collect(),
        value.bytes().map(|byte| format!("{byte:02x}")).collect(),
    ];
    for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        for offset in 0..3 {
            // Three bytes make four characters: what the neighbours share in is left out.
            let text = engine.encode([&[0; 2][..offset], value.as_bytes()].concat());
            let from = [0, 2, 3][offset];
            let whole = (offset + value.len()) * 8 / 6;
            forms.push(text[from..whole].to_owned());
        }
    }
    forms.sort();
    forms.dedup();
    forms
}

/// As `encodeURIComponent` does it.
fn percent(byte: u8) -> String {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
        b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "p\"ss/w+rd é";

    fn mask() -> Mask {
        Mask::of(&[("key".into(), VALUE.into()), ("pin".into(), "12345678".into())]).expect("two")
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        let hidden = |text: &str| {
            let mut masked = text.to_owned();
            mask().text(&mut masked);
            assert!(masked.contains("[secret key]"), "{text:?} became {masked:?}");
            masked
        };
        assert_eq!(hidden(&format!("is {VALUE}!")), "is [secret key]!");
        hidden(&Value::from(VALUE).to_string());
        hidden("https://x/?key=p%22ss%2Fw%2Brd+%C3%A9");
        hidden("https://x/?key=p%22ss%2Fw%2Brd%20%C3%A9");
        for user in ["", "a", "ab", "abc", "user:"] {
            for end in ["", "z", "zz"] {
                let text = format!("{user}{VALUE}{end}");
                hidden(&format!(
                    "Basic {}",
                    base64::engine::general_purpose::STANDARD.encode(&text)
                ));
                hidden(&URL_SAFE_NO_PAD.encode(&text));
            }
        }
    }

    #[test]
    fn a_masked_result_is_still_json() {
        let masked = |text: &str| {
            let mut text = text.to_owned();
            mask().json(&mut text);
            serde_json::from_str::<Value>(&text).expect("JSON")
        };
        assert_eq!(masked(r#"{"n":12345678}"#), serde_json::json!({ "n": "[secret pin]" }));
        let result = serde_json::json!({ VALUE: [VALUE, 1.5] });
        let expected = serde_json::json!({ "[secret key]": ["[secret key]", 1.5] });
        assert_eq!(masked(&result.to_string()), expected);
        let mut untouched = r#"{"a":1e400}"#.to_owned();
        mask().json(&mut untouched);
        assert_eq!(untouched, r#"{"a":1e400}"#);
    }
}
