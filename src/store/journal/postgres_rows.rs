//! A commit's rows on PostgreSQL: columns as arrays, one statement a table.

use sqlx::{PgConnection, Postgres, query::Query};
use uuid::Uuid;

use super::{
    Commit, CommitError, DefinitionText, DeliveryRow, LateRange, Scheduled, SubscriptionChange,
    growth, must_exist,
    statements::{self, dollars},
};
use crate::{
    domain::{
        Definition, Event, EventId, Lineage, Millis, RunError, RunLog, Seq, SubscriptionId, kv,
    },
    store::encode,
};

type Statement<'q> = Query<'q, Postgres, sqlx::postgres::PgArguments>;

/// Payload bytes per statement: a message to the server ends at 1 GiB, and both sides hold it whole.
const STATEMENT_BYTES: usize = 16 << 20;
/// Rows per statement.
const STATEMENT_ROWS: usize = 5_000;

/// Collects one column of many rows.
macro_rules! column {
    ($rows:expr, $row:pat => $value:expr) => {
        $rows.iter().map(|$row| $value).collect::<Vec<_>>()
    };
}

pub(super) async fn write(db: &mut PgConnection, commit: &Commit) -> Result<(), CommitError> {
    for mark in &commit.marks {
        let statement = sqlx::query(dollars(statements::SIZE_MARK))
            .bind(mark.of.kind())
            .bind(encode::int(mark.upto))
            .bind(encode::int(mark.bytes));
        run(db, statement).await?;
    }
    for each in &commit.changes {
        change(db, each).await?;
    }
    for part in parts(&commit.events, |event| event.data.len()) {
        events(db, part).await?;
    }
    keys(db, commit).await?;
    outcomes(db, commit).await?;
    for part in parts(&commit.runs, |(run, _)| run.weight()) {
        runs(db, part).await?;
        recordings(db, part).await?;
    }
    for part in parts(&commit.rows, |row| row.data.as_ref().map_or(0, String::len)) {
        deliveries(db, part).await?;
    }
    let done = column!(commit.rows_done, id => id.0);
    delete(db, "DELETE FROM deliveries WHERE id = ANY($1)", done).await?;
    for part in parts(&commit.scheduled, |emit| emit.event.data.len()) {
        scheduled(db, part).await?;
    }
    let done = column!(commit.scheduled_done, id => id.0);
    delete(db, "DELETE FROM scheduled WHERE id = ANY($1)", done).await?;
    for (id, cursor) in &commit.cursors {
        let cursor = cursor.map(|seq| encode::int(seq.0));
        run(db, sqlx::query(dollars(statements::CURSOR)).bind(id.0).bind(cursor)).await?;
    }
    for part in parts(&commit.kv, |change| change.key.len() + value_of(change).map_or(0, str::len))
    {
        key_values(db, part, commit.at).await?;
    }
    for id in &commit.letters_replayed {
        run(db, sqlx::query(dollars(statements::LETTER_REPLAYED)).bind(id.0)).await?;
    }
    // Last, for a commit may change a subscription and then delete it. Its deliveries are settled by
    // requests of their own.
    for each in &commit.changes {
        if let SubscriptionChange::Delete { id, .. } = each {
            let deleted =
                run(db, sqlx::query("DELETE FROM subscriptions WHERE id = $1").bind(id.0)).await?;
            must_exist(*id, deleted)?;
        }
    }
    Ok(())
}

/// What a failing statement means. Nothing was written in any case but `Unknown`.
pub(super) fn classify(error: &sqlx::Error) -> CommitError {
    match error {
        sqlx::Error::Database(reason) => match reason.code().as_deref() {
            Some("53100") => CommitError::Full,
            // Data, constraints and limits of the program (row too big): this row's fault. A table or a
            // privilege that is gone (42) is nobody's.
            Some(code) if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => {
                CommitError::Statement(error.to_string())
            }
            _ => CommitError::Unknown(error.to_string()),
        },
        sqlx::Error::Encode(_) => CommitError::Statement(error.to_string()),
        _ => CommitError::Unknown(error.to_string()),
    }
}

/// An error outside a row: of the connection, or of COMMIT.
pub(super) fn unknown(error: sqlx::Error) -> CommitError {
    match classify(&error) {
        CommitError::Full => CommitError::Full,
        _ => CommitError::Unknown(error.to_string()),
    }
}

async fn run(db: &mut PgConnection, statement: Statement<'_>) -> Result<u64, CommitError> {
    let done = statement.execute(db).await.map_err(|error| classify(&error))?;
    Ok(done.rows_affected())
}

async fn delete(
    db: &mut PgConnection,
    sql: &'static str,
    ids: Vec<Uuid>,
) -> Result<(), CommitError> {
    if ids.is_empty() {
        return Ok(());
    }
    run(db, sqlx::query(sql).bind(ids)).await.map(drop)
}

/// Slices that one statement may carry.
fn parts<T>(items: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut parts, mut start, mut weight) = (Vec::new(), 0, 0);
    for (index, item) in items.iter().enumerate() {
        let more = bytes(item);
        if index > start && (weight + more > STATEMENT_BYTES || index - start >= STATEMENT_ROWS) {
            parts.push(&items[start..index]);
            (start, weight) = (index, 0);
        }
        weight += more;
    }
    if start < items.len() {
        parts.push(&items[start..]);
    }
    parts
}

async fn events(db: &mut PgConnection, rows: &[std::sync::Arc<Event>]) -> Result<(), CommitError> {
    let statement = sqlx::query(
        "INSERT INTO events (seq, uid, id, source, type, subject, time, datacontenttype, dataschema, \
         extensions, encoding, data, accepted_at, cause_event, cause_subscription, hop, spread, checksum) \
         SELECT * FROM UNNEST($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], \
         $7::text[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bytea[], $13::bigint[], \
         $14::uuid[], $15::uuid[], $16::bigint[], $17::bigint[], $18::bigint[])",
    )
    .bind(column!(rows, row => encode::int(row.seq.0)))
    .bind(column!(rows, row => row.uid.0))
    .bind(column!(rows, row => row.envelope.id.as_deref()))
    .bind(column!(rows, row => &*row.envelope.source))
    .bind(column!(rows, row => &*row.envelope.event_type))
    .bind(column!(rows, row => row.envelope.subject.as_deref()))
    .bind(column!(rows, row => row.envelope.time.as_deref()))
    .bind(column!(rows, row => row.envelope.datacontenttype.as_deref()))
    .bind(column!(rows, row => row.envelope.dataschema.as_deref()))
    .bind(column!(rows, row => row.envelope.extensions.as_deref()))
    .bind(column!(rows, row => encode::encoding(row.envelope.encoding)))
    .bind(column!(rows, row => &row.data[..]))
    .bind(column!(rows, row => row.accepted_at.0))
    .bind(column!(rows, row => cause_event(&row.lineage)))
    .bind(column!(rows, row => cause_subscription(&row.lineage)))
    .bind(column!(rows, row => i64::from(row.lineage.hop)))
    .bind(column!(rows, row => encode::int(row.lineage.spread)))
    .bind(column!(rows, row => encode::checksum(row)));
    run(db, statement).await.map(drop)
}

async fn keys(db: &mut PgConnection, commit: &Commit) -> Result<(), CommitError> {
    let Some(block) = super::keys::block(commit) else { return Ok(()) };
    let batch = encode::int(commit.batch);
    run(db, sqlx::query(dollars(statements::KEY_BLOCK)).bind(batch).bind(block)).await.map(drop)
}

async fn outcomes(db: &mut PgConnection, commit: &Commit) -> Result<(), CommitError> {
    let Some(block) = &commit.block else { return Ok(()) };
    let batch = encode::int(commit.batch);
    let statement = sqlx::query(dollars(statements::BLOCK))
        .bind(batch)
        .bind(commit.at.0)
        .bind(i64::from(block.count))
        .bind(&block.bytes)
        .bind(encode::int(commit.seq.0))
        .bind(encode::int(commit.watermark.0));
    run(db, statement).await?;
    let rows: &[LateRange] = &commit.late;
    if rows.is_empty() {
        return Ok(());
    }
    let statement = sqlx::query(
        "INSERT INTO outcome_late (subscription, max_seq, min_seq, batch) \
         SELECT *, $4 FROM UNNEST($1::uuid[], $2::bigint[], $3::bigint[])",
    )
    .bind(column!(rows, row => row.subscription.0))
    .bind(column!(rows, row => encode::int(row.max_seq.0)))
    .bind(column!(rows, row => encode::int(row.min_seq.0)))
    .bind(batch);
    run(db, statement).await.map(drop)
}

async fn runs(
    db: &mut PgConnection,
    rows: &[(std::sync::Arc<RunLog>, Vec<EventId>)],
) -> Result<(), CommitError> {
    let statement = sqlx::query(
        "INSERT INTO runs (number, id, event, seq, subscription, script, script_version, attempt, \
         replay, failed, error_kind, error_message, error_stack, result, logs, warnings, started_at, \
         duration_us, cpu_us, queued_us, emitted) SELECT * FROM UNNEST($1::bigint[], $2::uuid[], \
         $3::uuid[], $4::bigint[], $5::uuid[], $6::uuid[], $7::bigint[], $8::bigint[], $9::bigint[], \
         $10::boolean[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], \
         $16::text[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bytea[])",
    )
    .bind(column!(rows, (row, _) => encode::int(row.id.number())))
    .bind(column!(rows, (row, _) => row.id.0))
    .bind(column!(rows, (row, _) => row.event.0))
    .bind(column!(rows, (row, _) => encode::int(row.seq.0)))
    .bind(column!(rows, (row, _) => row.subscription.0))
    .bind(column!(rows, (row, _) => row.script.0))
    .bind(column!(rows, (row, _) => i64::from(row.script_version)))
    .bind(column!(rows, (row, _) => i64::from(row.attempt)))
    .bind(column!(rows, (row, _) => i64::from(row.replay)))
    .bind(column!(rows, (row, _) => row.error.is_some()))
    .bind(column!(rows, (row, _) => error_kind(row.error.as_ref())))
    .bind(column!(rows, (row, _) => error_message(row.error.as_ref())))
    .bind(column!(rows, (row, _) => error_stack(row.error.as_ref())))
    .bind(column!(rows, (row, _) => row.result.as_deref().map(encode::clean)))
    .bind(column!(rows, (row, _) => encode::list(&row.logs)))
    .bind(column!(rows, (row, _) => encode::list(&row.warnings)))
    .bind(column!(rows, (row, _) => row.started_at.0))
    .bind(column!(rows, (row, _) => encode::micros(row.duration)))
    .bind(column!(rows, (row, _) => encode::micros(row.cpu)))
    .bind(column!(rows, (row, _) => encode::micros(row.queued)))
    .bind(column!(rows, (_, emitted) => encode::uids(emitted)));
    run(db, statement).await.map(drop)
}

async fn recordings(
    db: &mut PgConnection,
    rows: &[(std::sync::Arc<RunLog>, Vec<EventId>)],
) -> Result<(), CommitError> {
    let recorded: Vec<(i64, &[u8])> = rows
        .iter()
        .filter_map(|(row, _)| Some((encode::int(row.id.number()), row.recording.as_deref()?)))
        .collect();
    if recorded.is_empty() {
        return Ok(());
    }
    let statement = sqlx::query(
        "INSERT INTO recordings (number, content) SELECT * FROM UNNEST($1::bigint[], $2::bytea[])",
    )
    .bind(column!(recorded, (number, _) => *number))
    .bind(column!(recorded, (_, content) => *content));
    run(db, statement).await.map(drop)
}

async fn deliveries(db: &mut PgConnection, rows: &[DeliveryRow]) -> Result<(), CommitError> {
    // One statement cannot update a row twice, and a commit may hold two states of one delivery:
    // the later one stands.
    let mut seen = std::collections::HashSet::with_capacity(rows.len());
    let mut rows: Vec<&DeliveryRow> = rows.iter().rev().filter(|row| seen.insert(row.id)).collect();
    rows.reverse();
    let statement = sqlx::query(
        "INSERT INTO deliveries (id, event, seq, subscription, status, attempts, next_at, error_kind, \
         error_message, error_stack, first_failed_at, script_version, letter, replay, data, \
         pinned_version, crashes_alone, bulk) SELECT * FROM UNNEST($1::uuid[], $2::uuid[], \
         $3::bigint[], $4::uuid[], $5::text[], $6::bigint[], $7::bigint[], $8::text[], $9::text[], \
         $10::text[], $11::bigint[], $12::bigint[], $13::uuid[], $14::bigint[], $15::text[], \
         $16::bigint[], $17::bigint[], $18::uuid[]) ON CONFLICT (id) DO UPDATE SET \
         status = excluded.status, attempts = excluded.attempts, next_at = excluded.next_at, \
         error_kind = excluded.error_kind, error_message = excluded.error_message, \
         error_stack = excluded.error_stack, first_failed_at = excluded.first_failed_at, \
         script_version = excluded.script_version, letter = excluded.letter, \
         replay = excluded.replay, data = excluded.data, pinned_version = excluded.pinned_version, \
         crashes_alone = excluded.crashes_alone, bulk = excluded.bulk",
    )
    .bind(column!(rows, row => row.id.0))
    .bind(column!(rows, row => row.event.0))
    .bind(column!(rows, row => encode::int(row.seq.0)))
    .bind(column!(rows, row => row.subscription.0))
    .bind(column!(rows, row => row.status.as_str()))
    .bind(column!(rows, row => i64::from(row.attempts)))
    .bind(column!(rows, row => row.next_at.0))
    .bind(column!(rows, row => error_kind(row.error.as_ref())))
    .bind(column!(rows, row => error_message(row.error.as_ref())))
    .bind(column!(rows, row => error_stack(row.error.as_ref())))
    .bind(column!(rows, row => row.first_failed_at.map(|at| at.0)))
    .bind(column!(rows, row => i64::from(row.script_version)))
    .bind(column!(rows, row => row.letter.map(|letter| letter.0)))
    .bind(column!(rows, row => i64::from(row.replay)))
    .bind(column!(rows, row => row.data.as_deref()))
    .bind(column!(rows, row => row.pinned_version.map(i64::from)))
    .bind(column!(rows, row => i64::from(row.crashes_alone)))
    .bind(column!(rows, row => row.bulk.map(|bulk| bulk.0)));
    run(db, statement).await.map(drop)
}

async fn scheduled(db: &mut PgConnection, rows: &[Scheduled]) -> Result<(), CommitError> {
    let statement = sqlx::query(
        "INSERT INTO scheduled (id, due_at, created_at, event_id, source, type, subject, time, \
         datacontenttype, dataschema, extensions, encoding, data, cause_event, cause_subscription, \
         hop, spread) SELECT * FROM UNNEST($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], \
         $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], \
         $12::bigint[], $13::bytea[], $14::uuid[], $15::uuid[], $16::bigint[], $17::bigint[])",
    )
    .bind(column!(rows, row => row.id.0))
    .bind(column!(rows, row => row.due_at.0))
    .bind(column!(rows, row => row.created_at.0))
    .bind(column!(rows, row => row.event.envelope.id.as_deref()))
    .bind(column!(rows, row => &*row.event.envelope.source))
    .bind(column!(rows, row => &*row.event.envelope.event_type))
    .bind(column!(rows, row => row.event.envelope.subject.as_deref()))
    .bind(column!(rows, row => row.event.envelope.time.as_deref()))
    .bind(column!(rows, row => row.event.envelope.datacontenttype.as_deref()))
    .bind(column!(rows, row => row.event.envelope.dataschema.as_deref()))
    .bind(column!(rows, row => row.event.envelope.extensions.as_deref()))
    .bind(column!(rows, row => encode::encoding(row.event.envelope.encoding)))
    .bind(column!(rows, row => &row.event.data[..]))
    .bind(column!(rows, row => cause_event(&row.event.lineage)))
    .bind(column!(rows, row => cause_subscription(&row.event.lineage)))
    .bind(column!(rows, row => i64::from(row.event.lineage.hop)))
    .bind(column!(rows, row => encode::int(row.event.lineage.spread)));
    run(db, statement).await.map(drop)
}

fn value_of(change: &kv::Change) -> Option<&str> {
    change.value.as_ref().map(|stored| &*stored.value)
}

async fn key_values(
    db: &mut PgConnection,
    rows: &[kv::Change],
    at: Millis,
) -> Result<(), CommitError> {
    let sizes = sqlx::query_as::<_, (String, String, i64)>(
        "SELECT kv.namespace, kv.key, (octet_length(kv.key) + octet_length(kv.value))::bigint \
         FROM kv JOIN UNNEST($1::text[], $2::text[]) AS wanted (namespace, key) \
         ON kv.namespace = wanted.namespace AND kv.key = wanted.key",
    )
    .bind(column!(rows, row => row.namespace.to_string()))
    .bind(column!(rows, row => row.key.as_str()))
    .fetch_all(&mut *db)
    .await
    .map_err(|error| classify(&error))?;
    let before = sizes.into_iter().map(|(space, key, bytes)| ((space, key), bytes)).collect();
    let (set, removed): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.value.is_some());
    let statement = sqlx::query(
        "INSERT INTO kv (namespace, key, value, expires_at, updated_at) \
         SELECT *, $5 FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[]) \
         ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, \
         expires_at = excluded.expires_at, updated_at = excluded.updated_at",
    )
    .bind(column!(set, row => row.namespace.to_string()))
    .bind(column!(set, row => row.key.as_str()))
    .bind(column!(set, row => value_of(row)))
    .bind(
        column!(set, row => row.value.as_ref().and_then(|stored| stored.expires_at).map(|at| at.0)),
    )
    .bind(at.0);
    run(db, statement).await?;
    let statement = sqlx::query(
        "DELETE FROM kv USING UNNEST($1::text[], $2::text[]) AS gone (namespace, key) \
         WHERE kv.namespace = gone.namespace AND kv.key = gone.key",
    )
    .bind(column!(removed, row => row.namespace.to_string()))
    .bind(column!(removed, row => row.key.as_str()));
    run(db, statement).await?;
    for (namespace, grown) in growth(rows, &before) {
        let statement = sqlx::query(dollars(statements::KV_SPACE));
        run(db, statement.bind(namespace).bind(grown.keys).bind(grown.bytes)).await?;
    }
    Ok(())
}

async fn change(db: &mut PgConnection, change: &SubscriptionChange) -> Result<(), CommitError> {
    match change {
        SubscriptionChange::Create { id, name, definition: new, paused, from, cursor, at } => {
            let text = DefinitionText::of(new);
            let statement = sqlx::query(dollars(statements::SUBSCRIPTION_CREATE));
            let statement = bind_definition(statement.bind(id.0).bind(name), new, *from, &text)
                .bind(paused)
                .bind(cursor.map(|seq| encode::int(seq.0)))
                .bind(at.0);
            run(db, statement).await?;
            definition(db, *id, new, *from, &text).await
        }
        SubscriptionChange::Update { id, name, definition: new, from, at } => {
            let text = DefinitionText::of(new);
            let statement = sqlx::query(dollars(statements::SUBSCRIPTION_UPDATE));
            let statement =
                bind_definition(statement.bind(id.0).bind(name), new, *from, &text).bind(at.0);
            must_exist(*id, run(db, statement).await?)?;
            definition(db, *id, new, *from, &text).await
        }
        SubscriptionChange::State { id, paused, suspended, at } => {
            let statement = sqlx::query(dollars(statements::SUBSCRIPTION_STATE))
                .bind(id.0)
                .bind(paused)
                .bind(suspended.as_deref().map(encode::clean))
                .bind(at.0);
            must_exist(*id, run(db, statement).await?)
        }
        SubscriptionChange::Delete { .. } => Ok(()),
    }
}

/// Parameters 3 to 14, the same in both statements.
fn bind_definition<'q>(
    statement: Statement<'q>,
    new: &'q Definition,
    from: Seq,
    text: &'q DefinitionText,
) -> Statement<'q> {
    statement
        .bind(new.script.0)
        .bind(new.script_version.map(i64::from))
        .bind(new.event_type.as_str())
        .bind(new.filter.as_deref())
        .bind(new.is_active)
        .bind(&text.retry_policy)
        .bind(i64::from(new.concurrency))
        .bind(encode::ordering(new.ordering))
        .bind(new.ordering_key.as_deref())
        .bind(encode::on_dead(new.on_dead))
        .bind(&text.limits)
        .bind(encode::int(from.0))
}

async fn definition(
    db: &mut PgConnection,
    id: SubscriptionId,
    new: &Definition,
    from: Seq,
    text: &DefinitionText,
) -> Result<(), CommitError> {
    let statement = sqlx::query(dollars(statements::DEFINITION))
        .bind(id.0)
        .bind(encode::int(from.0))
        .bind(new.script.0)
        .bind(&text.whole);
    run(db, statement).await.map(drop)
}

fn cause_event(lineage: &Lineage) -> Option<Uuid> {
    lineage.cause.map(|cause| cause.event.0)
}

fn cause_subscription(lineage: &Lineage) -> Option<Uuid> {
    lineage.cause.map(|cause| cause.subscription.0)
}

fn error_kind(error: Option<&RunError>) -> Option<&'static str> {
    error.map(|error| error.kind.as_str())
}

fn error_message(error: Option<&RunError>) -> Option<std::borrow::Cow<'_, str>> {
    error.map(|error| encode::clean(&error.message))
}

fn error_stack(error: Option<&RunError>) -> Option<std::borrow::Cow<'_, str>> {
    error.and_then(|error| error.stack.as_deref()).map(encode::clean)
}
