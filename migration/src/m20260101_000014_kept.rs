//! What is kept, counted as it comes and goes: nobody has to count a million rows to tell.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::sql::run(manager, TABLES).await?;
        crate::sql::run(manager, PRESENT).await?;
        // As they stand: what is in the bodies of triggers has braces of no meaning here.
        let triggers = match manager.get_database_backend() {
            DbBackend::Postgres => postgres_triggers(),
            _ => sqlite_triggers(),
        };
        manager.get_connection().execute_unprepared(&triggers).await?;
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

const TABLES: &str = "
    -- Bytes of all events and runs that were ever written: sizes are differences of these.
    ALTER TABLE journal_state ADD COLUMN event_bytes {int} NOT NULL DEFAULT 0;
    ALTER TABLE journal_state ADD COLUMN run_bytes {int} NOT NULL DEFAULT 0;

    -- What the sum was when the log had reached `upto`: kind 0 events by seq, 1 runs by number; 2 and 3,
    -- one row each: up to where they were removed.
    CREATE TABLE size_marks (
        kind   {int} NOT NULL,
        upto   {int} NOT NULL,
        bytes  {int} NOT NULL,
        PRIMARY KEY (kind, upto)
    ) {keyed};

    -- Both are kept by triggers on dead_letters.
    CREATE TABLE letter_counts (
        subscription  {uuid} NOT NULL,
        status        TEXT NOT NULL,
        count         {int} NOT NULL,
        bytes         {int} NOT NULL,
        PRIMARY KEY (subscription, status)
    ) {keyed};
    CREATE TABLE letter_groups (
        status         TEXT NOT NULL,
        subscription   {uuid} NOT NULL,
        fingerprint    TEXT NOT NULL,
        error_kind     TEXT NOT NULL,
        event_type     TEXT NOT NULL,
        script         {uuid} NOT NULL,
        count          {int} NOT NULL,
        -- The latest, cut; and the span of deaths since the group was last empty.
        message        TEXT NOT NULL,
        first_died_at  {int} NOT NULL,
        last_died_at   {int} NOT NULL,
        PRIMARY KEY (status, subscription, fingerprint, error_kind, event_type, script)
    ) {keyed};

    -- By triggers on audit.
    CREATE TABLE audit_size (
        id     {int} PRIMARY KEY CHECK (id = 1),
        count  {int} NOT NULL,
        bytes  {int} NOT NULL
    ) {keyed};

    -- With the status within: a list of the dead must not walk over a million discarded ones.
    DROP INDEX dead_letters_subscription;
    DROP INDEX dead_letters_fingerprint;
    DROP INDEX dead_letters_event_type;
    CREATE INDEX dead_letters_subscription ON dead_letters (subscription, status, died_at, id);
    CREATE INDEX dead_letters_fingerprint ON dead_letters (fingerprint, status, died_at, id);
    CREATE INDEX dead_letters_event_type ON dead_letters (event_type, status, died_at, id);
";

/// Counts what there is, once.
const PRESENT: &str = "
    INSERT INTO size_marks (kind, upto, bytes)
        SELECT 0, upto, CAST(SUM(bytes) OVER (ORDER BY upto) AS BIGINT) FROM (SELECT MAX(seq) AS upto,
        SUM(octet_length(data) + 300) AS bytes FROM events GROUP BY seq / 4096) AS slices;
    INSERT INTO size_marks (kind, upto, bytes)
        SELECT 1, upto, CAST(SUM(bytes) OVER (ORDER BY upto) AS BIGINT) FROM (SELECT MAX(number) AS upto,
        SUM(COALESCE(octet_length(result), 0) + COALESCE(octet_length(logs), 0)
        + COALESCE(octet_length(error_message), 0) + COALESCE(octet_length(error_stack), 0) + 300) AS bytes
        FROM runs GROUP BY number / 4096) AS slices;
    UPDATE journal_state SET
        event_bytes = (SELECT COALESCE(MAX(bytes), 0) FROM size_marks WHERE kind = 0),
        run_bytes = (SELECT COALESCE(MAX(bytes), 0) FROM size_marks WHERE kind = 1);
    INSERT INTO letter_counts (subscription, status, count, bytes)
        SELECT subscription, status, COUNT(*), CAST(SUM(400 + octet_length(error_message)
        + COALESCE(octet_length(error_stack), 0) + COALESCE(octet_length(data), 0)) AS BIGINT)
        FROM dead_letters GROUP BY subscription, status;
    INSERT INTO letter_groups (status, subscription, fingerprint, error_kind, event_type, script, count,
        message, first_died_at, last_died_at)
        SELECT status, subscription, fingerprint, error_kind, event_type, script, COUNT(*),
        MAX(substr(error_message, 1, 1000)), MIN(died_at), MAX(died_at) FROM dead_letters
        GROUP BY status, subscription, fingerprint, error_kind, event_type, script;
    INSERT INTO audit_size (id, count, bytes)
        SELECT 1, COUNT(*), CAST(COALESCE(SUM(150 + octet_length(actor) + octet_length(action)
        + octet_length(target) + COALESCE(octet_length(detail), 0)), 0) AS BIGINT) FROM audit;
";

/// Bytes of a letter and of a line of the audit trail, `row.` before each column.
fn letter_bytes(row: &str) -> String {
    format!(
        "400 + octet_length({row}.error_message) + COALESCE(octet_length({row}.error_stack), 0) \
         + COALESCE(octet_length({row}.data), 0)"
    )
}

fn audit_bytes(row: &str) -> String {
    format!(
        "150 + octet_length({row}.actor) + octet_length({row}.action) + octet_length({row}.target) \
         + COALESCE(octet_length({row}.detail), 0)"
    )
}

/// Row by row: SQLite has no triggers for statements.
fn sqlite_triggers() -> String {
    let came = format!(
        "INSERT INTO letter_counts (subscription, status, count, bytes)
            VALUES (NEW.subscription, NEW.status, 1, {bytes})
            ON CONFLICT (subscription, status) DO UPDATE SET count = count + 1,
            bytes = bytes + excluded.bytes;
        INSERT INTO letter_groups (status, subscription, fingerprint, error_kind, event_type, script,
            count, message, first_died_at, last_died_at)
            VALUES (NEW.status, NEW.subscription, NEW.fingerprint, NEW.error_kind, NEW.event_type,
            NEW.script, 1, substr(NEW.error_message, 1, 1000), NEW.died_at, NEW.died_at)
            ON CONFLICT (status, subscription, fingerprint, error_kind, event_type, script)
            DO UPDATE SET count = count + 1, message = excluded.message,
            first_died_at = MIN(first_died_at, excluded.first_died_at),
            last_died_at = MAX(last_died_at, excluded.last_died_at);",
        bytes = letter_bytes("NEW"),
    );
    let went = format!(
        "UPDATE letter_counts SET count = count - 1, bytes = bytes - ({bytes})
            WHERE subscription = OLD.subscription AND status = OLD.status;
        DELETE FROM letter_counts
            WHERE subscription = OLD.subscription AND status = OLD.status AND count <= 0;
        UPDATE letter_groups SET count = count - 1 WHERE {group};
        DELETE FROM letter_groups WHERE {group} AND count <= 0;",
        bytes = letter_bytes("OLD"),
        group = "status = OLD.status AND subscription = OLD.subscription \
                 AND fingerprint = OLD.fingerprint AND error_kind = OLD.error_kind \
                 AND event_type = OLD.event_type AND script = OLD.script",
    );
    format!(
        "CREATE TRIGGER letters_came AFTER INSERT ON dead_letters BEGIN {came} END;
        CREATE TRIGGER letters_went AFTER DELETE ON dead_letters BEGIN {went} END;
        CREATE TRIGGER letters_changed AFTER UPDATE OF status, subscription, script, event_type,
            fingerprint, error_kind, error_message, error_stack, data ON dead_letters
            BEGIN {went} {came} END;
        CREATE TRIGGER audit_came AFTER INSERT ON audit BEGIN
            UPDATE audit_size SET count = count + 1, bytes = bytes + {audit_new}; END;
        CREATE TRIGGER audit_went AFTER DELETE ON audit BEGIN
            UPDATE audit_size SET count = count - 1, bytes = bytes - ({audit_old}); END;",
        audit_new = audit_bytes("NEW"),
        audit_old = audit_bytes("OLD"),
    )
}

/// Once for each statement, however many rows it takes.
fn postgres_triggers() -> String {
    let came = format!(
        "INSERT INTO letter_counts AS kept (subscription, status, count, bytes)
            SELECT subscription, status, COUNT(*), SUM({bytes}) FROM came
            GROUP BY subscription, status
            ON CONFLICT (subscription, status) DO UPDATE SET count = kept.count + excluded.count,
            bytes = kept.bytes + excluded.bytes;
        INSERT INTO letter_groups AS kept (status, subscription, fingerprint, error_kind, event_type,
            script, count, message, first_died_at, last_died_at)
            SELECT status, subscription, fingerprint, error_kind, event_type, script, COUNT(*),
            MAX(substr(error_message, 1, 1000)), MIN(died_at), MAX(died_at) FROM came
            GROUP BY status, subscription, fingerprint, error_kind, event_type, script
            ON CONFLICT (status, subscription, fingerprint, error_kind, event_type, script)
            DO UPDATE SET count = kept.count + excluded.count, message = excluded.message,
            first_died_at = LEAST(kept.first_died_at, excluded.first_died_at),
            last_died_at = GREATEST(kept.last_died_at, excluded.last_died_at);",
        bytes = letter_bytes("came"),
    );
    let went = format!(
        "UPDATE letter_counts AS kept SET count = kept.count - gone.count,
            bytes = kept.bytes - gone.bytes FROM (SELECT subscription, status, COUNT(*) AS count,
            SUM({bytes}) AS bytes FROM went GROUP BY subscription, status) AS gone
            WHERE kept.subscription = gone.subscription AND kept.status = gone.status;
        DELETE FROM letter_counts AS kept USING went WHERE kept.subscription = went.subscription
            AND kept.status = went.status AND kept.count <= 0;
        UPDATE letter_groups AS kept SET count = kept.count - gone.count FROM (SELECT status,
            subscription, fingerprint, error_kind, event_type, script, COUNT(*) AS count FROM went
            GROUP BY status, subscription, fingerprint, error_kind, event_type, script) AS gone
            WHERE {same_gone};
        DELETE FROM letter_groups AS kept USING went WHERE {same_went} AND kept.count <= 0;",
        bytes = letter_bytes("went"),
        same_gone = same("gone"),
        same_went = same("went"),
    );
    let trigger = |name: &str, table: &str, on: &str, tables: &str, body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $body$
                BEGIN {body} RETURN NULL; END $body$;
            CREATE TRIGGER {name} AFTER {on} ON {table} REFERENCING {tables}
                FOR EACH STATEMENT EXECUTE FUNCTION {name}();"
        )
    };
    let audit = |from: &str, sign: &str| {
        format!(
            "UPDATE audit_size SET count = audit_size.count {sign} sums.count,
                bytes = audit_size.bytes {sign} sums.bytes FROM (SELECT COUNT(*) AS count,
                COALESCE(SUM({bytes}), 0) AS bytes FROM {from}) AS sums;",
            bytes = audit_bytes(from),
        )
    };
    let letters = "dead_letters";
    [
        trigger("letters_came", letters, "INSERT", "NEW TABLE AS came", &came),
        trigger("letters_went", letters, "DELETE", "OLD TABLE AS went", &went),
        trigger(
            "letters_changed",
            letters,
            "UPDATE",
            "OLD TABLE AS went NEW TABLE AS came",
            &format!("{went} {came}"),
        ),
        trigger("audit_came", "audit", "INSERT", "NEW TABLE AS came", &audit("came", "+")),
        trigger("audit_went", "audit", "DELETE", "OLD TABLE AS went", &audit("went", "-")),
    ]
    .join("\n")
}

/// The group is that of a row of the other table.
fn same(other: &str) -> String {
    ["status", "subscription", "fingerprint", "error_kind", "event_type", "script"]
        .map(|column| format!("kept.{column} = {other}.{column}"))
        .join(" AND ")
}
