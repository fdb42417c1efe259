//! Regular expressions of `match()` and `search()`: I-Regexp (RFC 9485), in linear time.

use super::ast::Pattern;

/// Bounds a compiled expression, in bytes. Filters live in memory by the hundred thousand.
const COMPILED_BYTES_MAX: usize = 128 * 1024;

impl Pattern {
    /// Compiles a pattern; the error says what is wrong with it in one line.
    ///
    /// The engine knows all of I-Regexp and more (`\d`, `(?i)`, anchors), and no back references.
    pub(crate) fn compile(source: &str, whole: bool) -> Result<Self, String> {
        // Alone first: `a)|(b` is wrong, though it would be right between our parentheses.
        let alone = build(source)?;
        let regex = if whole { build(&format!(r"\A(?:{source})\z"))? } else { alone };
        Ok(Self { source: source.into(), whole, regex })
    }
}

fn build(source: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(source)
        // I-Regexp: `.` is any character but the two that end lines.
        .crlf(true)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(64)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                format!(
                    "the regular expression needs more than {COMPILED_BYTES_MAX} bytes compiled"
                )
            }
            // The engine draws a picture over several lines; the last says what is wrong.
            other => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default();
                format!("wrong regular expression: {}", last.trim_start_matches("error: "))
            }
        })
}
