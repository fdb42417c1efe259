//! Short texts without an allocation of their own.

use std::ops::Deref;

/// Longest text kept in place, in bytes.
const SHORT_MAX: usize = 22;

/// A string literal of a filter. Short ones lie within the expression tree: verifying one of
/// 100,000 filters costs a trip to memory for each pointer that it follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<str>),
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short { length, bytes }
            }
            _ => Self::Long(text.into()),
        }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            // Made of a `str` above, so it is one.
            Self::Short { length, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*length)]).unwrap_or_default()
            }
            Self::Long(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_any_length_come_back() {
        for length in [0, 1, 21, 22, 23, 300] {
            let text = "x".repeat(length);
            assert_eq!(&*Text::from(text.as_str()), text);
        }
        assert_eq!(&*Text::from("ééééééééééé"), "ééééééééééé");
    }
}
