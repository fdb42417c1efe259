//! What JSON text the product takes: one rule for every door, so that no store and no script ever
//! sees what another cannot hold.

/// Why a JSON text is refused although it is JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("nested deeper than {max} levels")]
    TooDeep { max: usize },
    #[error("the character U+0000 at byte {at}")]
    Nul { at: usize },
    #[error("half a surrogate pair (\\ud800 to \\udfff) at byte {at}")]
    LoneSurrogate { at: usize },
}

/// Checks a text that is known to be valid JSON: nesting, NUL, and lone surrogates.
///
/// PostgreSQL's text holds no NUL, UTF-8 no surrogates: both are refused at the door, in keys and
/// values alike, whichever store is behind it. One pass, no recursion.
pub fn check_text(text: &[u8], depth_max: usize) -> Result<(), TextError> {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        match text[at] {
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return Err(TextError::TooDeep { max: depth_max });
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = check_string(text, at + 1)?,
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// From the byte after the opening quote to the closing one, whose position it returns.
fn check_string(text: &[u8], mut at: usize) -> Result<usize, TextError> {
    while at < text.len() {
        match text[at] {
            b'"' => return Ok(at),
            b'\\' if text.get(at + 1) == Some(&b'u') => match unit(text, at) {
                0 => return Err(TextError::Nul { at }),
                0xd800..=0xdbff => {
                    let low = unit(text, at + 6);
                    if text.get(at + 6) != Some(&b'\\') || !(0xdc00..=0xdfff).contains(&low) {
                        return Err(TextError::LoneSurrogate { at });
                    }
                    at += 12;
                }
                0xdc00..=0xdfff => return Err(TextError::LoneSurrogate { at }),
                _ => at += 6,
            },
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Ok(at)
}

/// The UTF-16 unit of the `\uXXXX` at `at`; something harmless where there is none.
fn unit(text: &[u8], at: usize) -> u32 {
    let digits = text.get(at + 2..at + 6).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(u32::from(b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_pass_and_halves_do_not() {
        assert_eq!(check_text(br#"{"a":"\ud83d\ude00 \u00e4"}"#, 8), Ok(()));
        assert_eq!(check_text(br#"["\ud83d"]"#, 8), Err(TextError::LoneSurrogate { at: 2 }));
        assert_eq!(check_text(br#"["\ud83d\u0041"]"#, 8), Err(TextError::LoneSurrogate { at: 2 }));
        assert_eq!(check_text(br#"["\ude00"]"#, 8), Err(TextError::LoneSurrogate { at: 2 }));
        assert_eq!(check_text(br#"{"\ud800":1}"#, 8), Err(TextError::LoneSurrogate { at: 2 }));
    }

    #[test]
    fn nul_is_found_and_an_escaped_backslash_is_not_an_escape() {
        assert_eq!(check_text(br#"["a\u0000"]"#, 8), Err(TextError::Nul { at: 3 }));
        assert_eq!(check_text(br#"["a\\u0000"]"#, 8), Ok(()));
        assert_eq!(check_text(br#"["\\\u0000"]"#, 8), Err(TextError::Nul { at: 4 }));
    }

    #[test]
    fn nesting_counts_what_is_open_and_brackets_in_strings_are_text() {
        assert_eq!(check_text(b"[[[]],[[]]]", 3), Ok(()));
        assert_eq!(check_text(b"[[[[]]]]", 3), Err(TextError::TooDeep { max: 3 }));
        assert_eq!(check_text(br#"["[[[[[[","{{{\"{"]"#, 1), Ok(()));
    }
}
