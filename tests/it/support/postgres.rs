//! Which database a server under test keeps its store in.

use std::{
    net::{TcpStream, ToSocketAddrs},
    sync::LazyLock,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};

/// Names the PostgreSQL that tests may fill; `tests/with-postgres` makes one and sets it.
const VARIABLE: &str = "TRIPLINE_TEST_POSTGRES_URL";
/// Where one is tried when nobody named one.
const DEFAULT: &str = "postgres://postgres@127.0.0.1:5432/postgres";

/// The PostgreSQL that tests may fill, if there is one. Says so aloud when not; in CI that fails.
pub(crate) fn postgres_url() -> Option<&'static str> {
    static URL: LazyLock<Option<String>> = LazyLock::new(|| {
        let named = std::env::var(VARIABLE).ok();
        let url = named.clone().unwrap_or_else(|| DEFAULT.to_owned());
        let parsed = url::Url::parse(&url).expect("a URL of a PostgreSQL");
        let address = (parsed.host_str().unwrap_or("127.0.0.1"), parsed.port().unwrap_or(5432));
        let answers = address
            .to_socket_addrs()
            .is_ok_and(|mut addresses| addresses.any(|at| TcpStream::connect(at).is_ok()));
        assert!(answers || named.is_none(), "{VARIABLE} names {url}, where nothing answers");
        if !answers {
            eprintln!("SKIPPED: no PostgreSQL at {url}; {VARIABLE} names another");
            assert!(std::env::var_os("CI").is_none(), "in CI no test is skipped");
        }
        answers.then_some(url)
    });
    URL.as_deref()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

impl Database {
    /// URL of a database that nobody else uses, or `None` for SQLite, which lies in the data folder.
    ///
    /// Advisory locks are per database, so every server gets its own.
    pub(crate) async fn create(self) -> Option<String> {
        if self == Self::Sqlite {
            return None;
        }
        let server = postgres_url().expect("asked for before with `available`");
        let name = format!("t_{}", uuid::Uuid::now_v7().simple());
        let mut admin = PgConnection::connect(server).await.expect("the test server answers");
        raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut admin)
            .await
            .unwrap();
        let (base, _) = server.rsplit_once('/').expect("a URL with a database");
        Some(format!("{base}/{name}"))
    }

    /// Whether tests can have this database here.
    pub(crate) fn available(self) -> bool {
        self == Self::Sqlite || postgres_url().is_some()
    }
}
