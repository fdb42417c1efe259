//! The log of keys on PostgreSQL; see `keys`.

use std::collections::HashMap;

use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use super::{
    CommitError, EventKey, KnownEvent,
    keys::{self, Filter, KeyIndex, Place, Sealed, Segment},
    postgres_rows::unknown,
    statements::{self, dollars},
};
use crate::{
    domain::{EventId, Millis, Seq},
    store::encode,
};

/// Segments that one call of [`forget`] looks at.
const LOOKS: usize = 4;

pub(super) async fn load(db: &mut PgConnection) -> Result<KeyIndex, CommitError> {
    let blocks: Vec<Vec<u8>> = sqlx::query_scalar("SELECT entries FROM key_blocks ORDER BY batch")
        .fetch_all(&mut *db)
        .await
        .map_err(unknown)?;
    let rows = sqlx::query(statements::KEY_SEGMENTS).fetch_all(db).await.map_err(unknown)?;
    let mut segments = Vec::with_capacity(rows.len());
    for row in rows {
        let number = |index: usize| row.try_get::<i64, _>(index).map_err(unknown);
        let filter: Vec<u8> = row.try_get(5).map_err(unknown)?;
        segments.push(Segment {
            id: number(0)?,
            count: usize::try_from(number(1)?).unwrap_or_default(),
            first_seq: Seq(encode::unsigned(number(2)?)),
            last_seq: Seq(encode::unsigned(number(3)?)),
            newest: Millis(number(4)?),
            filter: Filter::from_bytes(&filter).ok_or_else(keys::damaged)?,
        });
    }
    Ok(KeyIndex::load(blocks, segments))
}

pub(super) async fn known(
    db: &mut PgConnection,
    index: &KeyIndex,
    keys: &[EventKey],
    forget: Millis,
) -> Result<Vec<Option<KnownEvent>>, CommitError> {
    let mut found: Vec<Option<KnownEvent>> = vec![None; keys.len()];
    // Which key to look for in which segment, the newest segment of each key first.
    let (mut of, mut segments, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    for (at, key) in keys.iter().enumerate() {
        match index.place(key) {
            Place::Nowhere => {}
            Place::Tail(known) => found[at] = Some(known),
            Place::Segments(ids) => {
                for id in ids {
                    of.push(at);
                    segments.push(id);
                    wanted.push(&key.key[..]);
                }
            }
        }
    }
    if !of.is_empty() {
        let rows = sqlx::query(
            "SELECT w.n, p.entries FROM UNNEST($1::bigint[], $2::bytea[]) WITH ORDINALITY AS w (segment, key, n) \
             CROSS JOIN LATERAL (SELECT entries FROM key_pages WHERE segment = w.segment \
             AND first_key <= w.key ORDER BY first_key DESC LIMIT 1) p ORDER BY w.n",
        )
        .bind(segments)
        .bind(wanted)
        .fetch_all(&mut *db)
        .await
        .map_err(unknown)?;
        for row in rows {
            let n: i64 = row.try_get(0).map_err(unknown)?;
            let page: &[u8] = row.try_get(1).map_err(unknown)?;
            let at = of[usize::try_from(n - 1).unwrap_or_default()];
            found[at] = found[at].or_else(|| keys::find(page, &keys[at].key));
        }
    }
    forget_old(db, &mut found, forget).await?;
    Ok(found)
}

/// Those that were accepted before `forget` and are not stored any more become unknown.
async fn forget_old(
    db: &mut PgConnection,
    found: &mut [Option<KnownEvent>],
    forget: Millis,
) -> Result<(), CommitError> {
    let is_old = |known: &KnownEvent| known.uid.accepted_at() < forget;
    let old: Vec<i64> = found
        .iter()
        .flatten()
        .filter(|known| is_old(known))
        .map(|known| encode::int(known.uid.seq().0))
        .collect();
    if old.is_empty() {
        return Ok(());
    }
    let stored: Vec<(i64, Uuid)> =
        sqlx::query_as("SELECT seq, uid FROM events WHERE seq = ANY($1)")
            .bind(old)
            .fetch_all(db)
            .await
            .map_err(unknown)?;
    let stored: HashMap<i64, Uuid> = stored.into_iter().collect();
    for slot in found {
        let gone = |known: &KnownEvent| {
            let EventId(uid) = known.uid;
            is_old(known) && stored.get(&encode::int(known.uid.seq().0)) != Some(&uid)
        };
        if slot.as_ref().is_some_and(gone) {
            *slot = None;
        }
    }
    Ok(())
}

/// Writes the segment in place of the blocks up to its batch.
pub(super) async fn seal(db: &mut PgConnection, sealed: &Sealed) -> Result<(), CommitError> {
    let mut transaction = db.begin().await.map_err(unknown)?;
    write(&mut transaction, sealed).await?;
    sqlx::query("DELETE FROM key_blocks WHERE batch <= $1")
        .bind(sealed.segment.id)
        .execute(&mut *transaction)
        .await
        .map_err(unknown)?;
    transaction.commit().await.map_err(unknown)
}

async fn write(db: &mut PgConnection, sealed: &Sealed) -> Result<(), CommitError> {
    let segment = &sealed.segment;
    sqlx::query(dollars(statements::KEY_SEGMENT))
        .bind(segment.id)
        .bind(encode::int(segment.count as u64))
        .bind(encode::int(segment.first_seq.0))
        .bind(encode::int(segment.last_seq.0))
        .bind(segment.newest.0)
        .bind(segment.filter.to_bytes())
        .execute(&mut *db)
        .await
        .map_err(unknown)?;
    sqlx::query(
        "INSERT INTO key_pages (segment, first_key, entries) \
         SELECT $1, * FROM UNNEST($2::bytea[], $3::bytea[])",
    )
    .bind(segment.id)
    .bind(sealed.pages.iter().map(|(first, _)| &first[..]).collect::<Vec<_>>())
    .bind(sealed.pages.iter().map(|(_, entries)| &entries[..]).collect::<Vec<_>>())
    .execute(db)
    .await
    .map_err(unknown)?;
    Ok(())
}

/// See [`super::JournalStore::forget`].
pub(super) async fn forget(
    db: &mut PgConnection,
    index: &mut KeyIndex,
    before: Millis,
) -> Result<u64, CommitError> {
    let mut forgotten = 0;
    for old in index.old(before, LOOKS) {
        let stored: Vec<i64> =
            sqlx::query_scalar("SELECT seq FROM events WHERE seq BETWEEN $1 AND $2 ORDER BY seq")
                .bind(encode::int(old.first_seq.0))
                .bind(encode::int(old.last_seq.0))
                .fetch_all(&mut *db)
                .await
                .map_err(unknown)?;
        if !old.is_worth_forgetting(stored.len()) {
            continue;
        }
        let pages: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT entries FROM key_pages WHERE segment = $1")
                .bind(old.id)
                .fetch_all(&mut *db)
                .await
                .map_err(unknown)?;
        let left = old.left(&pages, &stored);
        let mut transaction = db.begin().await.map_err(unknown)?;
        for sql in
            ["DELETE FROM key_pages WHERE segment = $1", "DELETE FROM key_segments WHERE id = $1"]
        {
            sqlx::query(sql).bind(old.id).execute(&mut *transaction).await.map_err(unknown)?;
        }
        if let Some(left) = &left {
            write(&mut transaction, left).await?;
        }
        transaction.commit().await.map_err(unknown)?;
        let left = left.map(|left| left.segment);
        forgotten += (old.count - left.as_ref().map_or(0, |left| left.count)) as u64;
        index.replace(old.id, left);
    }
    Ok(forgotten)
}
