//! Statements of the write path.
//!
//! Parameters are `?1` where SQLite alone runs it or [`dollars`] translates it for PostgreSQL, and
//! `$1` in the few that both run as they stand: to SQLite that is a name, numbered by appearance.

/// The statement with PostgreSQL's parameters.
pub(super) fn dollars(sql: &str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(sql.replace('?', "$"))
}

pub(super) const STATE: &str = "SELECT epoch, batch, seq, run, watermark, accepted_at, unclean_stops, event_bytes, run_bytes \
     FROM journal_state WHERE id = 1";

/// A store that was not stopped in order counts one more unclean stop.
pub(super) const CLAIM: &str = "UPDATE journal_state SET epoch = epoch + 1, \
     unclean_stops = CASE WHEN clean = TRUE THEN 0 ELSE unclean_stops + 1 END, clean = FALSE WHERE id = 1";

pub(super) const RELEASE: &str =
    "UPDATE journal_state SET clean = TRUE WHERE id = 1 AND epoch = $1";

pub(super) const ADVANCE: &str = "UPDATE journal_state SET batch = $1, seq = $2, run = $3, \
     watermark = $4, accepted_at = $5, \
     unclean_stops = CASE WHEN $6 THEN 0 ELSE unclean_stops END, event_bytes = $7, run_bytes = $8 \
     WHERE id = 1 AND epoch = $9 AND batch = $1 - 1";

// What follows writes one row, and only SQLite writes rows one by one.

pub(super) const EVENT: &str = "INSERT INTO events (seq, uid, id, source, type, subject, time, \
     datacontenttype, dataschema, extensions, encoding, data, accepted_at, cause_event, \
     cause_subscription, hop, spread, checksum) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";

pub(super) const SIZE_MARK: &str = "INSERT INTO size_marks (kind, upto, bytes) VALUES (?1, ?2, ?3) \
     ON CONFLICT (kind, upto) DO UPDATE SET bytes = excluded.bytes";

pub(super) const KEY_BLOCK: &str = "INSERT INTO key_blocks (batch, entries) VALUES (?1, ?2)";

pub(super) const KEY_SEGMENT: &str = "INSERT INTO key_segments (id, count, first_seq, last_seq, newest, \
     filter) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

pub(super) const KEY_SEGMENTS: &str =
    "SELECT id, count, first_seq, last_seq, newest, filter FROM key_segments ORDER BY id";

pub(super) const KEY_PAGE: &str =
    "INSERT INTO key_pages (segment, first_key, entries) VALUES (?1, ?2, ?3)";

/// The page of a segment that has the key, if the segment has it.
pub(super) const KEY_PAGE_OF: &str = "SELECT entries FROM key_pages WHERE segment = ?1 \
     AND first_key <= ?2 ORDER BY first_key DESC LIMIT 1";

pub(super) const BLOCK: &str = "INSERT INTO outcome_blocks (batch, at, count, bytes, top_seq, watermark) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

pub(super) const LATE: &str =
    "INSERT INTO outcome_late (subscription, max_seq, batch, min_seq) VALUES (?1, ?2, ?3, ?4)";

pub(super) const RUN: &str = "INSERT INTO runs (number, id, event, seq, subscription, script, \
     script_version, attempt, replay, failed, error_kind, error_message, error_stack, result, logs, \
     warnings, started_at, duration_us, cpu_us, queued_us, emitted) VALUES (?1, ?2, ?3, ?4, ?5, ?6, \
     ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)";

pub(super) const RECORDING: &str = "INSERT INTO recordings (number, content) VALUES (?1, ?2)";

pub(super) const DELIVERY: &str = "INSERT OR REPLACE INTO deliveries (id, event, seq, subscription, \
     status, attempts, next_at, error_kind, error_message, error_stack, first_failed_at, \
     script_version, letter, replay, data, pinned_version, crashes_alone, bulk) VALUES (?1, ?2, ?3, \
     ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";

pub(super) const SCHEDULED: &str = "INSERT INTO scheduled (id, due_at, created_at, event_id, source, \
     type, subject, time, datacontenttype, dataschema, extensions, encoding, data, cause_event, \
     cause_subscription, hop, spread) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
     ?13, ?14, ?15, ?16, ?17)";

pub(super) const KV_SIZE: &str = "SELECT octet_length(key) + octet_length(value) FROM kv \
     WHERE namespace = ?1 AND key = ?2";

pub(super) const KV_SET: &str = "INSERT INTO kv (namespace, key, value, expires_at, updated_at) \
     VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, \
     expires_at = excluded.expires_at, updated_at = excluded.updated_at";

pub(super) const KV_REMOVE: &str = "DELETE FROM kv WHERE namespace = ?1 AND key = ?2";

// What follows is rare enough to be written row by row on both.

/// Not a change of the subscription: its revision stays.
pub(super) const CURSOR: &str = "UPDATE subscriptions SET cursor = ?2 WHERE id = ?1";

pub(super) const KV_SPACE: &str = "INSERT INTO kv_spaces (namespace, keys, bytes) VALUES (?1, ?2, ?3) \
     ON CONFLICT (namespace) DO UPDATE SET keys = kv_spaces.keys + excluded.keys, \
     bytes = kv_spaces.bytes + excluded.bytes";

pub(super) const LETTER_REPLAYED: &str =
    "UPDATE dead_letters SET status = 'replayed', revision = revision + 1 WHERE id = ?1";

pub(super) const SUBSCRIPTION_CREATE: &str = "INSERT INTO subscriptions (id, name, script, \
     script_version, event_type, filter, is_active, retry_policy, concurrency, ordering, \
     ordering_key, on_dead, limits, from_seq, paused, suspended, cursor, created_at, updated_at, \
     revision) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, NULL, \
     ?16, ?17, ?17, 1)";

pub(super) const SUBSCRIPTION_UPDATE: &str = "UPDATE subscriptions SET name = ?2, script = ?3, \
     script_version = ?4, event_type = ?5, filter = ?6, is_active = ?7, retry_policy = ?8, \
     concurrency = ?9, ordering = ?10, ordering_key = ?11, on_dead = ?12, limits = ?13, \
     from_seq = ?14, updated_at = ?15, revision = revision + 1 WHERE id = ?1";

pub(super) const SUBSCRIPTION_STATE: &str = "UPDATE subscriptions SET paused = ?2, suspended = ?3, \
     updated_at = ?4, revision = revision + 1 WHERE id = ?1";

/// Two changes before the next event share their seq: the later one holds.
pub(super) const DEFINITION: &str = "INSERT INTO subscription_definitions (subscription, from_seq, \
     script, definition) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (subscription, from_seq) DO UPDATE \
     SET script = excluded.script, definition = excluded.definition";
