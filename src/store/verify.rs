//! What can be wrong with a store that nobody serves, as far as its tables alone tell.

use std::path::Path;

use entity::{events, outcome_blocks};
use migration::Migrator;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Statement,
    sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use sea_orm_migration::MigratorTrait;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Error, Gate, Store, backup::Lock, encode, journal, owner::OwnerLock};
use crate::domain::{
    Event, Seq,
    block::{self, BlockEntry},
};

/// A stopped server's store, held so that none starts meanwhile, and only read.
pub struct Inspected {
    pub store: Store,
    _lock: Lock,
}

/// One way in which rows can contradict each other.
struct Rule {
    name: &'static str,
    /// Answers one text for each row that is wrong.
    sql: &'static str,
}

/// Texts that both databases can build are all they share; ids are shown as each shows them.
const RULES: [Rule; 11] = [
    Rule {
        name: "waiting deliveries have their event",
        sql: "SELECT 'row of event ' || d.seq FROM deliveries d \
              WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.seq = d.seq AND e.uid = d.event)",
    },
    Rule {
        name: "waiting deliveries have their subscription",
        sql: "SELECT 'row of event ' || d.seq FROM deliveries d WHERE d.status <> 'dying' \
              AND NOT EXISTS (SELECT 1 FROM subscriptions s WHERE s.id = d.subscription)",
    },
    Rule {
        name: "replays have their letter",
        sql: "SELECT 'row of event ' || d.seq FROM deliveries d WHERE d.letter IS NOT NULL \
              AND NOT EXISTS (SELECT 1 FROM dead_letters l WHERE l.id = d.letter)",
    },
    Rule {
        name: "letters that are replayed have their delivery",
        sql: "SELECT 'letter of event ' || l.seq FROM dead_letters l WHERE l.status = 'replaying' \
              AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.id = l.delivery)",
    },
    Rule {
        name: "dead letters have their event",
        sql: "SELECT 'letter of event ' || l.seq FROM dead_letters l \
              WHERE l.status IN ('dead', 'replaying') \
              AND NOT EXISTS (SELECT 1 FROM events e WHERE e.seq = l.seq AND e.uid = l.event)",
    },
    Rule {
        name: "letters have a status",
        sql: "SELECT 'letter of event ' || seq || ': ' || status FROM dead_letters \
              WHERE status NOT IN ('dead', 'replaying', 'replayed', 'discarded')",
    },
    Rule {
        name: "late ranges have their block",
        sql: "SELECT 'batch ' || r.batch FROM outcome_late r \
              WHERE NOT EXISTS (SELECT 1 FROM outcome_blocks b WHERE b.batch = r.batch)",
    },
    Rule {
        name: "recordings have their run",
        sql: "SELECT 'run ' || r.number FROM recordings r \
              WHERE NOT EXISTS (SELECT 1 FROM runs n WHERE n.number = r.number)",
    },
    Rule {
        name: "scripts have their newest version",
        sql: "SELECT 'script ' || s.name FROM scripts s WHERE NOT EXISTS \
              (SELECT 1 FROM script_versions v WHERE v.script = s.id AND v.version = s.version)",
    },
    Rule {
        name: "subscriptions have their definition",
        sql: "SELECT 'subscription ' || s.name FROM subscriptions s WHERE NOT EXISTS \
              (SELECT 1 FROM subscription_definitions d WHERE d.subscription = s.id AND d.from_seq = s.from_seq)",
    },
    Rule {
        name: "the journal is ahead of all it wrote",
        sql: "SELECT what FROM ( \
              SELECT 'watermark ' || watermark || ' is past event ' || seq AS what FROM journal_state WHERE watermark > seq \
              UNION ALL SELECT 'event ' || MAX(e.seq) FROM events e HAVING MAX(e.seq) > (SELECT seq FROM journal_state) \
              UNION ALL SELECT 'run ' || MAX(r.number) FROM runs r HAVING MAX(r.number) > (SELECT run FROM journal_state) \
              UNION ALL SELECT 'batch ' || MAX(b.batch) FROM outcome_blocks b HAVING MAX(b.batch) > (SELECT batch FROM journal_state) \
              UNION ALL SELECT 'batch ' || MAX(k.batch) FROM key_blocks k HAVING MAX(k.batch) > (SELECT batch FROM journal_state) \
              ) AS ahead",
    },
];

/// What each namespace holds, against what is written down of it. `{bytes}`: of keys and values.
const KEYS: &str = "SELECT COALESCE(s.namespace, k.namespace) || ': ' || COALESCE(k.keys, 0) \
     || ' keys of ' || COALESCE(k.bytes, 0) || ' bytes, written down as ' || COALESCE(s.keys, 0) \
     || ' of ' || COALESCE(s.bytes, 0) FROM kv_spaces s FULL OUTER JOIN \
     (SELECT namespace, COUNT(*) AS keys, CAST(SUM(octet_length(key) + octet_length(value)) AS BIGINT) AS bytes \
     FROM kv GROUP BY namespace) k ON k.namespace = s.namespace \
     WHERE COALESCE(s.keys, 0) <> COALESCE(k.keys, 0) OR COALESCE(s.bytes, 0) <> COALESCE(k.bytes, 0)";

/// Answers of one rule that are kept.
const ANSWERS: usize = 1_000;

impl Store {
    /// Opens a store to look at it: takes the owner's lock, changes nothing.
    ///
    /// # Errors
    /// [`Error::Owned`] when a server has it, [`Error::Refused`] without a store, or with another
    /// schema than this program's.
    pub async fn inspect(url: &str) -> Result<Inspected, Error> {
        let inspected = match url.strip_prefix("sqlite:") {
            Some(path) => {
                inspect_sqlite(Path::new(path.strip_prefix("//").unwrap_or(path))).await?
            }
            None => inspect_postgres(url).await?,
        };
        check_schema(&inspected.store.connection).await?;
        Ok(inspected)
    }

    /// What the database itself finds wrong with its files.
    pub async fn check_database(&self) -> Result<Vec<String>, Error> {
        if self.connection.get_database_backend() != DbBackend::Sqlite {
            // It checks what it reads, and refuses what dangles.
            return Ok(Vec::new());
        }
        let mut found = self.texts("PRAGMA integrity_check(100)").await?;
        found.retain(|line| line != "ok");
        let dangling = "SELECT \"table\" || ' refers to a row that is not there' \
                        FROM pragma_foreign_key_check";
        found.extend(self.texts(dangling).await?);
        Ok(found)
    }

    /// Rows that contradict each other, rule by rule.
    pub async fn contradictions(&self) -> Vec<(&'static str, Result<Vec<String>, Error>)> {
        let mut answers = Vec::new();
        for rule in &RULES {
            answers.push((rule.name, self.texts(rule.sql).await));
        }
        answers.push(("keys are counted", self.texts(KEYS).await));
        answers
    }

    async fn texts(&self, sql: &str) -> Result<Vec<String>, Error> {
        let statement = Statement::from_string(self.connection.get_database_backend(), sql);
        let rows = self.connection.patient().query_all_raw(statement).await?;
        let texts = rows.iter().take(ANSWERS).map(|row| row.try_get_by_index(0));
        Ok(texts.collect::<Result<_, _>>()?)
    }

    /// From which seq on every event is stored.
    pub async fn retained(&self) -> Result<Seq, Error> {
        let row = entity::journal_state::Entity::find_by_id(1).one(&self.connection).await?;
        let row = row.ok_or_else(|| Error::damaged("journal_state row", 1))?;
        Ok(Seq(encode::unsigned(row.retained)))
    }

    /// The events after `after`, at most `limit`: each read and held against its checksum, or why
    /// it was not.
    pub async fn checked_events(
        &self,
        after: Seq,
        limit: u64,
    ) -> Result<Vec<(Seq, Result<Event, String>)>, Error> {
        let page = || {
            events::Entity::find()
                .filter(events::Column::Seq.gt(encode::int(after.0)))
                .order_by_asc(events::Column::Seq)
                .limit(limit)
        };
        if let Ok(models) = page().all(&self.connection).await {
            return Ok(models.into_iter().map(checked).collect());
        }
        // One that cannot be read hides the others: read alone, each answers for itself.
        let seqs: Vec<i64> = page()
            .select_only()
            .column(events::Column::Seq)
            .into_tuple()
            .all(&self.connection)
            .await?;
        let mut found = Vec::with_capacity(seqs.len());
        for number in seqs {
            let seq = Seq(encode::unsigned(number));
            found.push(match events::Entity::find_by_id(number).one(&self.connection).await {
                Ok(Some(model)) => checked(model),
                Ok(None) => (seq, Err("cannot be found again".into())),
                Err(error) => (seq, Err(format!("cannot be read: {error}"))),
            });
        }
        Ok(found)
    }

    /// The outcome blocks after `after`, at most `limit`: what each holds, or what is wrong with it.
    pub async fn checked_blocks(
        &self,
        after: i64,
        limit: u64,
    ) -> Result<Vec<(i64, Result<Vec<BlockEntry>, String>)>, Error> {
        let models = outcome_blocks::Entity::find()
            .filter(outcome_blocks::Column::Batch.gt(after))
            .order_by_asc(outcome_blocks::Column::Batch)
            .limit(limit)
            .all(&self.connection)
            .await?;
        Ok(models.into_iter().map(|model| (model.batch, decoded(&model))).collect())
    }
}

fn checked(model: events::Model) -> (Seq, Result<Event, String>) {
    let (stored, known) = (model.checksum, (0..=3).contains(&model.encoding));
    let event = Event::from(model);
    let seq = event.seq;
    let wrong = if !encode::is_intact(&event, stored) {
        Some("its checksum is another: it was changed")
    } else if event.uid.seq() != seq {
        Some("its uid is of another event")
    } else if !known {
        Some("its encoding is unknown")
    } else {
        None
    };
    (seq, wrong.map_or(Ok(event), |wrong| Err(wrong.to_owned())))
}

fn decoded(model: &outcome_blocks::Model) -> Result<Vec<BlockEntry>, String> {
    let entries = block::decode(&model.bytes).map_err(|error| error.to_string())?;
    if entries.len() as u64 != encode::unsigned(model.count) {
        return Err(format!("it holds {} outcomes, not {}", entries.len(), model.count));
    }
    let (top, mark) = (encode::unsigned(model.top_seq), encode::unsigned(model.watermark));
    if mark > top {
        return Err(format!("its watermark {mark} is past its last event {top}"));
    }
    match entries.iter().find(|entry| entry.seq.0 > top) {
        Some(entry) => Err(format!("it settles event {}, which came after it", entry.seq)),
        None => Ok(entries),
    }
}

async fn inspect_sqlite(path: &Path) -> Result<Inspected, Error> {
    let refused = |error: &dyn std::fmt::Display| {
        Error::Refused(format!("cannot read {}: {error}", path.display()))
    };
    if !path.exists() {
        return Err(Error::Refused(format!("there is no store at {}", path.display())));
    }
    let lock = OwnerLock::take(path)?;
    let options =
        SqliteConnectOptions::new().filename(path).read_only(true).disable_statement_logging();
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
    let connection =
        sea_orm::SqlxSqliteConnector::from_sqlx_sqlite_pool(pool.map_err(|e| refused(&e))?);
    let store = Store::new(connection, Gate::default(), None, Some(path.to_owned()), None);
    Ok(Inspected { store, _lock: Lock::Sqlite { _held: lock } })
}

async fn inspect_postgres(url: &str) -> Result<Inspected, Error> {
    let refused = |error: &dyn std::fmt::Display| {
        Error::Refused(format!("cannot read the database: {error}"))
    };
    let options: PgConnectOptions = url.parse().map_err(|e: sqlx::Error| refused(&e))?;
    let options = options
        .application_name("tripline verify")
        .options([("default_transaction_read_only", "on")])
        .disable_statement_logging();
    let mut session = PgConnection::connect_with(&options).await.map_err(|e| refused(&e))?;
    journal::postgres::lock(&mut session).await.map_err(|e| Error::Owned(e.to_string()))?;
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options.clone()).await;
    let connection =
        sea_orm::SqlxPostgresConnector::from_sqlx_postgres_pool(pool.map_err(|e| refused(&e))?);
    let store = Store::new(connection, Gate::default(), None, None, Some(options));
    Ok(Inspected { store, _lock: Lock::Postgres(Box::new(session)) })
}

/// Only what this program would read and write may be judged by it.
async fn check_schema(connection: &impl ConnectionTrait) -> Result<(), Error> {
    let known: Vec<String> =
        Migrator::migrations().iter().map(|step| step.name().to_owned()).collect();
    let backend = connection.get_database_backend();
    let sql = "SELECT version FROM seaql_migrations ORDER BY version";
    let rows = connection.query_all_raw(Statement::from_string(backend, sql)).await;
    let rows = rows.map_err(|error| Error::Refused(format!("this is no store: {error}")))?;
    let applied = rows.iter().map(|row| row.try_get_by_index::<String>(0));
    let applied = applied.collect::<Result<Vec<_>, _>>()?;
    if applied == known {
        return Ok(());
    }
    Err(Error::Refused(match applied.iter().find(|step| !known.contains(step)) {
        Some(newer) => format!("the store was written by a newer version (schema step `{newer}`)"),
        None => "the store's schema is an older one: start the server once to bring it up to date"
            .to_owned(),
    }))
}
