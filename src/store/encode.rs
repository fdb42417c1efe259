//! How domain values stand in columns: the words and packings that more than one table uses.

use std::borrow::Cow;

use sea_orm::sea_query::{Alias, Expr, ExprTrait, Func, LikeExpr, SimpleExpr};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::journal::RowStatus;
use crate::domain::{DataEncoding, Event, EventId, Millis, OnDead, Ordering};

/// Databases count in signed numbers. Ours never come near the end of either.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(super) fn small(value: i64) -> u32 {
    u32::try_from(unsigned(value)).unwrap_or(u32::MAX)
}

pub(super) fn micros(value: std::time::Duration) -> i64 {
    i64::try_from(value.as_micros()).unwrap_or(i64::MAX)
}

/// Text without NUL, which PostgreSQL's `text` cannot hold; both databases store the same.
///
/// For what scripts write, such as error messages. What publishers send is refused at the door.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// JSON text of a list, or `None` for an empty one: most runs log nothing.
pub(super) fn list<T: Serialize>(items: &[T]) -> Option<String> {
    (!items.is_empty()).then(|| json(items))
}

pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data has a JSON form")
}

pub(super) fn list_from<T: DeserializeOwned>(text: Option<&str>) -> Vec<T> {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Uids end to end, 16 bytes each; `None` for none.
pub(super) fn uids(ids: &[EventId]) -> Option<Vec<u8>> {
    (!ids.is_empty()).then(|| ids.iter().flat_map(|id| *id.0.as_bytes()).collect())
}

pub(super) fn uids_from(bytes: Option<&[u8]>) -> Vec<EventId> {
    let (ids, _) = bytes.unwrap_or_default().as_chunks::<16>();
    ids.iter().map(|id| EventId(Uuid::from_bytes(*id))).collect()
}

/// The code of an event whose payload was erased.
pub(super) const ERASED: i64 = 3;

pub(super) const fn encoding(encoding: DataEncoding) -> i64 {
    match encoding {
        DataEncoding::Json => 0,
        DataEncoding::Base64 => 1,
        DataEncoding::Absent => 2,
        DataEncoding::Erased(_) => ERASED,
    }
}

pub(super) const fn encoding_from(code: i64, erased_at: Option<i64>) -> DataEncoding {
    match code {
        1 => DataEncoding::Base64,
        2 => DataEncoding::Absent,
        ERASED => DataEncoding::Erased(Millis(match erased_at {
            Some(at) => at,
            None => 0,
        })),
        _ => DataEncoding::Json,
    }
}

impl RowStatus {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Dying => "dying",
            Self::Suspect => "suspect",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Retrying, Self::Dying, Self::Suspect]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

pub(super) const fn ordering(ordering: Ordering) -> &'static str {
    match ordering {
        Ordering::Relaxed => "relaxed",
        Ordering::Strict => "strict",
    }
}

pub(super) const fn on_dead(on_dead: OnDead) -> &'static str {
    match on_dead {
        OnDead::Suspend => "suspend",
        OnDead::Continue => "continue",
    }
}

/// "This column contains that text, in any case", the text taken as it is.
///
/// Which letters beyond ASCII have a case is the database's to say: SQLite knows of none, for
/// PostgreSQL it depends on the locale. So both spellings count.
pub(super) fn contains(column: &str, text: &str) -> SimpleExpr {
    let (ascii, all) = (text.to_ascii_lowercase(), text.to_lowercase());
    let found = like(column, &ascii);
    if ascii == all { found } else { found.or(like(column, &all)) }
}

/// "This column in lower case contains that text".
fn like(column: &str, text: &str) -> SimpleExpr {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    // LIKE itself ignores case on SQLite and minds it on PostgreSQL.
    Expr::expr(Func::lower(Expr::col(Alias::new(column)))).like(LikeExpr::new(pattern).escape('\\'))
}

/// Set in checksums over all that is kept of an event; those of the first stores lack it.
const WHOLE: i64 = 1 << 32;

/// CRC-32 over all that is kept of an event, and [`WHOLE`].
pub(super) fn checksum(event: &Event) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    content(&mut hasher, event);
    let (envelope, lineage) = (&event.envelope, &event.lineage);
    let texts = [
        &envelope.id,
        &envelope.subject,
        &envelope.time,
        &envelope.datacontenttype,
        &envelope.dataschema,
        &envelope.extensions,
    ];
    for text in texts {
        part(&mut hasher, text.as_deref().map(str::as_bytes));
    }
    let cause = lineage.cause.as_ref();
    part(&mut hasher, cause.map(|cause| &cause.event.0.as_bytes()[..]));
    part(&mut hasher, cause.map(|cause| &cause.subscription.0.as_bytes()[..]));
    let erased_at = match envelope.encoding {
        DataEncoding::Erased(at) => at.0,
        DataEncoding::Json | DataEncoding::Base64 | DataEncoding::Absent => 0,
    };
    let numbers = [
        event.accepted_at.0,
        encoding(envelope.encoding),
        erased_at,
        i64::from(lineage.hop),
        int(lineage.spread),
    ];
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    WHOLE | i64::from(hasher.finalize())
}

/// Whether the event is as it was when its checksum was stored. The first stores summed no more than
/// uid, source, type and payload.
pub(super) fn is_intact(event: &Event, stored: i64) -> bool {
    if stored & WHOLE != 0 {
        return stored == checksum(event);
    }
    let mut hasher = crc32fast::Hasher::new();
    content(&mut hasher, event);
    stored == i64::from(hasher.finalize())
}

fn content(hasher: &mut crc32fast::Hasher, event: &Event) {
    let envelope = &event.envelope;
    part(hasher, Some(event.uid.0.as_bytes()));
    part(hasher, Some(envelope.source.as_bytes()));
    part(hasher, Some(envelope.event_type.as_bytes()));
    part(hasher, Some(&event.data));
}

/// Its length comes first, so that nothing can move from one part to the next.
fn part(hasher: &mut crc32fast::Hasher, bytes: Option<&[u8]>) {
    let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
    hasher.update(&length.to_le_bytes());
    hasher.update(bytes.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_replaced_and_other_text_is_borrowed() {
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
        assert!(matches!(clean("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn uids_come_back_in_order() {
        let ids = [EventId::fresh(), EventId::fresh()];
        assert_eq!(uids_from(uids(&ids).as_deref()), ids);
        assert_eq!(uids(&[]), None);
        assert_eq!(uids_from(None), []);
    }

    #[test]
    fn every_status_has_its_own_word() {
        for status in
            [RowStatus::Pending, RowStatus::Retrying, RowStatus::Dying, RowStatus::Suspect]
        {
            assert_eq!(RowStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(RowStatus::parse("lost"), None);
    }
}
