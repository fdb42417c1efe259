//! The log of keys on SQLite; see `keys`.

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::{
    CommitError, EventKey, KnownEvent,
    keys::{self, Filter, KeyIndex, Place, Sealed, Segment},
    statements,
};
use crate::{
    domain::{Millis, Seq},
    store::encode,
};

/// Segments that one call of [`forget`] looks at.
const LOOKS: usize = 4;

pub(super) fn load(connection: &Connection) -> std::result::Result<KeyIndex, CommitError> {
    let read = || -> Result<_> {
        let mut blocks = connection.prepare("SELECT entries FROM key_blocks ORDER BY batch")?;
        let blocks = blocks.query_map([], |row| row.get(0))?.collect::<Result<Vec<Vec<u8>>>>()?;
        let mut segments = connection.prepare(statements::KEY_SEGMENTS)?;
        let segments = segments
            .query_map([], |row| {
                let filter: Vec<u8> = row.get(5)?;
                Ok(Filter::from_bytes(&filter).map(|filter| {
                    Ok(Segment {
                        id: row.get(0)?,
                        count: usize::try_from(row.get::<_, i64>(1)?).unwrap_or_default(),
                        first_seq: Seq(encode::unsigned(row.get(2)?)),
                        last_seq: Seq(encode::unsigned(row.get(3)?)),
                        newest: Millis(row.get(4)?),
                        filter,
                    })
                }))
            })?
            .collect::<Result<Vec<_>>>()?;
        let segments = segments.into_iter().map(Option::transpose).collect::<Result<Vec<_>>>()?;
        Ok((blocks, segments))
    };
    let (blocks, segments) = read().map_err(|error| CommitError::Unknown(error.to_string()))?;
    let segments = segments.into_iter().collect::<Option<Vec<_>>>().ok_or_else(keys::damaged)?;
    Ok(KeyIndex::load(blocks, segments))
}

pub(super) fn known(
    connection: &Connection,
    index: &KeyIndex,
    keys: &[EventKey],
    forget: Millis,
) -> Result<Vec<Option<KnownEvent>>> {
    keys.iter()
        .map(|key| {
            let found = match index.place(key) {
                Place::Nowhere => None,
                Place::Tail(known) => Some(known),
                Place::Segments(ids) => find(connection, &ids, key)?,
            };
            match found {
                Some(known) if known.uid.accepted_at() < forget => {
                    Ok(is_stored(connection, known)?.then_some(known))
                }
                found => Ok(found),
            }
        })
        .collect()
}

fn find(connection: &Connection, segments: &[i64], key: &EventKey) -> Result<Option<KnownEvent>> {
    let mut select = connection.prepare_cached(statements::KEY_PAGE_OF)?;
    for segment in segments {
        let page = select
            .query_row(params![segment, key.key], |row| row.get::<_, Vec<u8>>(0))
            .optional()?;
        if let Some(known) = page.and_then(|page| keys::find(&page, &key.key)) {
            return Ok(Some(known));
        }
    }
    Ok(None)
}

fn is_stored(connection: &Connection, known: KnownEvent) -> Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM events WHERE seq = ?1 AND uid = ?2")?
        .exists(params![encode::int(known.uid.seq().0), known.uid.0.as_bytes()])
}

/// Writes the segment in place of the blocks up to its batch.
pub(super) fn seal(connection: &Connection, sealed: &Sealed) -> Result<()> {
    let transaction = connection.unchecked_transaction()?;
    write(&transaction, sealed)?;
    transaction.execute("DELETE FROM key_blocks WHERE batch <= ?1", [sealed.segment.id])?;
    transaction.commit()
}

fn write(connection: &Connection, sealed: &Sealed) -> Result<()> {
    let segment = &sealed.segment;
    connection.execute(
        statements::KEY_SEGMENT,
        params![
            segment.id,
            encode::int(segment.count as u64),
            encode::int(segment.first_seq.0),
            encode::int(segment.last_seq.0),
            segment.newest.0,
            segment.filter.to_bytes(),
        ],
    )?;
    let mut insert = connection.prepare_cached(statements::KEY_PAGE)?;
    for (first_key, entries) in &sealed.pages {
        insert.execute(params![segment.id, first_key, entries])?;
    }
    Ok(())
}

/// See [`super::JournalStore::forget`].
pub(super) fn forget(connection: &Connection, index: &mut KeyIndex, before: Millis) -> Result<u64> {
    let mut forgotten = 0;
    for old in index.old(before, LOOKS) {
        let stored: Vec<i64> = connection
            .prepare_cached("SELECT seq FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq")?
            .query_map([encode::int(old.first_seq.0), encode::int(old.last_seq.0)], |row| {
                row.get(0)
            })?
            .collect::<Result<_>>()?;
        if !old.is_worth_forgetting(stored.len()) {
            continue;
        }
        let pages: Vec<Vec<u8>> = connection
            .prepare_cached("SELECT entries FROM key_pages WHERE segment = ?1")?
            .query_map([old.id], |row| row.get(0))?
            .collect::<Result<_>>()?;
        let left = old.left(&pages, &stored);
        let transaction = connection.unchecked_transaction()?;
        transaction.execute("DELETE FROM key_pages WHERE segment = ?1", [old.id])?;
        transaction.execute("DELETE FROM key_segments WHERE id = ?1", [old.id])?;
        if let Some(left) = &left {
            write(&transaction, left)?;
        }
        transaction.commit()?;
        let left = left.map(|left| left.segment);
        forgotten += (old.count - left.as_ref().map_or(0, |left| left.count)) as u64;
        index.replace(old.id, left);
    }
    Ok(forgotten)
}
