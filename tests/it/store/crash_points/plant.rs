//! Failures planted in the database itself: a trigger for each statement of the commit path, which
//! counts the statements of a commit and fails the one that was asked for.

use std::{
    collections::BTreeSet,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use regex::Regex;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tripline::store::journal::CommitError;

use crate::{
    store::support::Db,
    support::{Dump, PATIENCE},
};

/// What writes outside of commits: taking the store over and letting it go, and the sealing of keys,
/// which is a transaction of its own.
const NOT_OF_A_COMMIT: [&str; 4] = [
    "UPDATE journal_state.epoch",
    "UPDATE journal_state.clean",
    "INSERT key_segments",
    "INSERT key_pages",
];

/// Every statement that writes in a commit, as the sources of the journal have them: the verb, the
/// table, and of an update the first column.
pub(super) fn statements(db: &Db) -> BTreeSet<String> {
    let of_database = if db.is_sqlite() { "sqlite.rs" } else { "postgres_rows.rs" };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/journal");
    let write = Regex::new(
        r"(?:INSERT(?: OR REPLACE)? INTO|DELETE FROM) (?<table>[a-z_]+)|UPDATE (?<updated>[a-z_]+) SET (?<column>[a-z_]+)",
    );
    let write = write.unwrap();
    let mut found = BTreeSet::new();
    for file in ["statements.rs", of_database] {
        let source = std::fs::read_to_string(folder.join(file)).unwrap();
        for write in write.captures_iter(&source) {
            let verb = write[0].split(' ').next().unwrap();
            found.insert(match (write.name("table"), write.name("updated")) {
                (Some(table), _) => format!("{verb} {}", table.as_str()),
                (_, Some(table)) => format!("{verb} {}.{}", table.as_str(), &write["column"]),
                _ => unreachable!("one of the two alternatives matched"),
            });
        }
    }
    for other in NOT_OF_A_COMMIT {
        assert!(found.remove(other), "{other} is not in the sources any more");
    }
    found
}

/// How a statement fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Failure {
    /// The database refuses the row.
    Refused,
    /// The disk of the database fails.
    Io,
    /// The database has no room.
    Full,
    /// The database drops the connection.
    Lost,
    /// It never returns: somebody has to kill the process.
    Hangs,
}

impl Failure {
    /// Those that this database can be made to meet at a statement. What SQLite's disk does to it is
    /// the business of `tests/it/faults`.
    pub(super) fn all(db: &Db) -> &'static [Self] {
        if db.is_sqlite() {
            &[Self::Refused]
        } else {
            &[Self::Refused, Self::Io, Self::Full, Self::Lost]
        }
    }

    /// An error that names what it means, or a word that the trigger knows.
    const fn word(self) -> &'static str {
        match self {
            Self::Refused => "23514",
            Self::Io => "58030",
            Self::Full => "53100",
            Self::Lost => "lost",
            Self::Hangs => "hangs",
        }
    }

    #[track_caller]
    pub(super) fn assert_told(self, error: &CommitError, is_commit: bool) {
        let right = match (self, is_commit) {
            (Self::Full, _) => matches!(error, CommitError::Full),
            (Self::Refused, false) => matches!(error, CommitError::Statement(_)),
            // Of a COMMIT nobody knows.
            _ => matches!(error, CommitError::Unknown(_)),
        };
        assert!(right, "{self:?} was told as {error:?}");
    }
}

const POSTGRES: &str = "
    CREATE SEQUENCE planted_met;
    CREATE TABLE planted (at BIGINT NOT NULL, kind TEXT NOT NULL);
    INSERT INTO planted VALUES (0, '');
    CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE kind TEXT;
    BEGIN
        SELECT p.kind INTO kind FROM planted p WHERE p.at = nextval('planted_met');
        IF kind = 'lost' THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
            PERFORM pg_sleep(5);
        ELSIF kind = 'hangs' THEN
            PERFORM pg_advisory_lock(77, hashtext(current_schema()));
        ELSIF kind IS NOT NULL THEN
            RAISE EXCEPTION 'planted at %', TG_ARGV[0] USING ERRCODE = kind;
        END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER planted_commit AFTER UPDATE ON journal_state
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION planted('COMMIT');";

/// `forever` has rows without end. The deferred foreign key is only found to be broken by COMMIT.
const SQLITE: &str = "
    CREATE TABLE planted (met INTEGER NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL);
    INSERT INTO planted VALUES (0, 0, '');
    CREATE VIEW forever AS
        WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c;
    CREATE TABLE planted_parent (id INTEGER PRIMARY KEY);
    CREATE TABLE planted_child
        (id INTEGER REFERENCES planted_parent (id) DEFERRABLE INITIALLY DEFERRED);
    CREATE TRIGGER planted_commit AFTER UPDATE ON journal_state
        WHEN (SELECT at = -1 FROM planted) BEGIN INSERT INTO planted_child VALUES (1); END;";

/// Puts a trigger at each of the statements; none fails yet.
pub(super) fn prepare(db: &Db, statements: &BTreeSet<String>) {
    db.tamper(if db.is_sqlite() { SQLITE } else { POSTGRES });
    for (number, statement) in statements.iter().enumerate() {
        let (verb, what) = statement.split_once(' ').unwrap();
        let (event, table) = match what.split_once('.') {
            Some((table, column)) => (format!("{verb} OF {column}"), table),
            None => (verb.to_owned(), what),
        };
        let trigger = format!("CREATE TRIGGER planted_{number} BEFORE {event} ON {table}");
        db.tamper(&if db.is_sqlite() {
            format!(
                "{trigger} BEGIN
                    UPDATE planted SET met = met + 1;
                    SELECT RAISE(ABORT, 'planted at {statement}')
                        FROM planted WHERE met = at AND kind <> 'hangs';
                    SELECT CASE WHEN (SELECT met = at AND kind = 'hangs' FROM planted)
                        THEN (SELECT count(*) FROM forever) END;
                END"
            )
        } else {
            format!("{trigger} FOR EACH STATEMENT EXECUTE FUNCTION planted('{statement}')")
        });
    }
}

/// The `at`-th statement from now on fails; 0: none does. On SQLite -1 is the COMMIT, which a
/// PostgreSQL counts as the last statement.
pub(super) fn plant(db: &Db, at: i64, failure: Failure) {
    let kind = failure.word();
    db.tamper(&if db.is_sqlite() {
        format!("UPDATE planted SET met = 0, at = {at}, kind = '{kind}'")
    } else {
        format!("UPDATE planted SET at = {at}, kind = '{kind}'; ALTER SEQUENCE planted_met RESTART")
    });
}

/// What the store holds, without what starts and plants count.
pub(super) fn dump(db: &Db) -> Dump {
    let dump = match db.file() {
        Some(file) => Dump::of_sqlite(file),
        None => db.wait(Dump::of_postgres(&db.url)),
    };
    dump.without_table("planted").without("journal_state", &["epoch", "clean", "unclean_stops"])
}

/// Waits until the victim's commit hangs where [`Failure::Hangs`] was planted; false: it hung
/// nowhere, and the victim has ended.
pub(super) fn wait_for_hang(db: &Db, victim: &mut Child) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let mut in_a_row = 0;
    while in_a_row < db.file().map_or(1, |_| LOOKS) {
        if let Some(ended) = victim.try_wait().unwrap() {
            assert!(ended.success(), "the victim failed: {ended}");
            return false;
        }
        assert!(Instant::now() < deadline, "the victim neither hangs nor ends");
        let hangs = match db.file() {
            Some(file) => is_locked(file),
            None => db.wait(waits_for_lock(&db.url)),
        };
        in_a_row = if hangs { in_a_row + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(4));
    }
    true
}

/// Nobody but a commit that hangs holds SQLite's lock over so many looks.
const LOOKS: u32 = 25;

fn is_locked(file: &Path) -> bool {
    let looker = rusqlite::Connection::open(file).unwrap();
    looker.busy_timeout(Duration::ZERO).unwrap();
    looker.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_err()
}

async fn waits_for_lock(url: &str) -> bool {
    const WAITS: &str = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' \
        AND NOT granted AND classid = 77 AND objid = hashtext(current_schema())::oid";
    let mut looker = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(WAITS).fetch_one(&mut looker).await.unwrap()
}

/// On PostgreSQL holds what [`Failure::Hangs`] waits for, as long as it lives.
pub(super) fn hold_hangs(db: &Db) -> Option<PgConnection> {
    db.file().is_none().then(|| {
        db.wait(async {
            let mut holder = PgConnection::connect(&db.url).await.unwrap();
            let lock = "SELECT pg_advisory_lock(77, hashtext(current_schema()))";
            sqlx::raw_sql(AssertSqlSafe(lock.to_owned())).execute(&mut holder).await.unwrap();
            holder
        })
    })
}
