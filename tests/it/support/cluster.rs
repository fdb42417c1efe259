//! A PostgreSQL of the test's own, which may be restarted, stopped and have its sessions killed.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};

use super::eventually;

pub(crate) struct Cluster {
    /// Of `initdb` and `pg_ctl`.
    programs: PathBuf,
    home: tempfile::TempDir,
    port: u16,
    /// Whom it runs as when we are root, which PostgreSQL refuses.
    user: Option<u32>,
}

impl Cluster {
    /// `None` where there is no PostgreSQL to be had; says so aloud, and in CI that fails.
    pub(crate) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("SKIPPED: no initdb below /usr/lib/postgresql");
            assert!(std::env::var_os("CI").is_none(), "in CI no test is skipped");
            return None;
        };
        let cluster = Self::new(programs);
        cluster.run("initdb", &["-U", "tripline", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]);
        cluster.control(&["start"]);
        Some(cluster)
    }

    /// Another server that has all of this one's commits before they are answered, and takes none
    /// itself until it is [promoted](Self::promote).
    pub(crate) async fn standby(&self) -> Self {
        let standby = Self::new(self.programs.clone());
        let port = self.port.to_string();
        standby.run("pg_basebackup", &["-h", "127.0.0.1", "-p", &port, "-U", "tripline", "-R"]);
        standby.control(&["start"]);
        let mut admin = PgConnection::connect(&self.url()).await.unwrap();
        for sql in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
            raw_sql(sql).execute(&mut admin).await.unwrap();
        }
        eventually("the standby to follow in step", async || {
            let state = "SELECT sync_state FROM pg_stat_replication";
            let state: Option<String> =
                sqlx::query_scalar(state).fetch_optional(&mut admin).await.unwrap();
            if state.as_deref() == Some("sync") { Ok(()) } else { Err(state) }
        })
        .await;
        standby
    }

    /// The standby takes commits from now on.
    pub(crate) fn promote(&self) {
        self.control(&["promote"]);
    }

    fn new(programs: PathBuf) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let is_root = fs::metadata("/proc/self").is_ok_and(|own| {
            use std::os::unix::fs::MetadataExt;
            own.uid() == 0
        });
        let user = is_root.then_some(NOBODY);
        if let Some(user) = user {
            chown(home.path(), Some(user), Some(user)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { programs, home, port, user }
    }

    /// Of a database that is there from the start.
    pub(crate) fn url(&self) -> String {
        self.url_through(self.port)
    }

    /// The same through a proxy.
    pub(crate) fn url_through(&self, port: u16) -> String {
        format!("postgres://tripline@127.0.0.1:{port}/postgres")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// As a crash of the server and its start; returns once it takes connections.
    pub(crate) fn restart_at_once(&self) {
        self.control(&["-m", "immediate", "restart"]);
    }

    /// As a crash of the server that nobody starts again.
    pub(crate) fn stop_at_once(&self) {
        self.control(&["-m", "immediate", "stop"]);
    }

    pub(crate) fn start_again(&self) {
        self.control(&["start"]);
    }

    /// Drops all connections but ours.
    pub(crate) async fn end_sessions(&self) {
        const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let mut admin = PgConnection::connect(&self.url()).await.unwrap();
        raw_sql(AssertSqlSafe(END.to_owned())).execute(&mut admin).await.unwrap();
    }

    /// `STOP` or `CONT` to the server and all of its processes.
    pub(crate) fn signal(&self, name: &str) {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let postmaster = file.lines().next().expect("a process id").to_owned();
        let mut pids = children_of(&postmaster);
        pids.push(postmaster);
        // One that ends meanwhile is no failure.
        let _ = Command::new("kill").arg(format!("-{name}")).args(pids).status();
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn control(&self, args: &[&str]) {
        let options =
            format!("-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories=", self.port);
        let log = self.home.path().join("log");
        let mut all = vec!["-s", "-w", "-l", log.to_str().unwrap(), "-o", &options];
        all.extend(args);
        self.run("pg_ctl", &all);
    }

    fn run(&self, program: &str, args: &[&str]) {
        let program = self.programs.join(program);
        let mut command = match self.user {
            None => Command::new(&program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={user}"), format!("--regid={user}")]);
                command.arg("--clear-groups").arg(&program);
                command
            }
        };
        let log = self.home.path().join("programs.log");
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        let ended = command
            .arg("-D")
            .arg(self.data())
            .args(args)
            .current_dir(self.home.path())
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .status()
            .unwrap();
        assert!(ended.success(), "{}: {}", program.display(), self.log());
    }

    fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.home.path().join(name)).unwrap_or_default();
        read("programs.log") + &read("log")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test may have stopped it.
        if self.data().join("postmaster.pid").exists() {
            self.signal("CONT");
            self.stop_at_once();
        }
    }
}

/// `nobody`, on every Linux.
const NOBODY: u32 = 65_534;

/// The newest PostgreSQL's, as Debian lays them out.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

fn children_of(parent: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let is_child = |path: &Path| {
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        // After the name in parentheses, which may hold anything: the state, then the parent.
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(parent)
    };
    processes
        .filter(|process| is_child(&process.path()))
        .map(|process| process.file_name().to_string_lossy().into_owned())
        .collect()
}
