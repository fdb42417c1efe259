//! Secrets: what one may be called, and how long it is.

/// Shortest secret: shorter ones cannot be masked without hiding what is none.
pub const VALUE_BYTES_MIN: usize = 8;
pub const VALUE_BYTES_MAX: usize = 16 << 10;

/// Why a text is no name of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret's name has 1 to 64 letters, digits, `-`, `_` and `.`, and begins with a letter")]
pub struct NoName;

/// Why a text is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret has {VALUE_BYTES_MIN} to {VALUE_BYTES_MAX} bytes and no NUL")]
pub struct NoValue;

pub fn check_name(name: &str) -> Result<(), NoName> {
    let follows = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let well_formed = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(follows);
    if well_formed { Ok(()) } else { Err(NoName) }
}

pub fn check_value(value: &str) -> Result<(), NoValue> {
    let fits = (VALUE_BYTES_MIN..=VALUE_BYTES_MAX).contains(&value.len());
    if fits && !value.contains('\0') { Ok(()) } else { Err(NoValue) }
}
