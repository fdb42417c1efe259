//! Why a text is no filter, in words for its author.

/// A filter, or the key path of a subscription, that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct Error {
    /// Where, in characters from 1. One beyond the last character means the end.
    pub column: usize,
    /// What is wrong, with the text in question.
    pub message: String,
    /// What would have been right there.
    pub expected: String,
    /// How to write what was probably meant.
    pub hint: Option<String>,
}

impl Error {
    /// `offset` is in bytes of `source`.
    pub(crate) fn at(source: &str, offset: usize, message: String, expected: &str) -> Self {
        let column = source.char_indices().take_while(|(at, _)| *at < offset).count() + 1;
        Self { column, message, expected: expected.to_owned(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
