//! The real binary as a child process, in a process group of its own so that a kill takes all of it.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
};

use super::wait::{PATIENCE, until};

pub(crate) struct Server {
    child: Option<Child>,
    /// Data folder and everything else that survives a kill. Goes with the test.
    home: tempfile::TempDir,
    port: u16,
    environment: Vec<(String, String)>,
    /// Where the log goes, if not into the home.
    stderr: Option<std::path::PathBuf>,
}

impl Server {
    /// Lays out a home with `config` as its `tripline.toml`, and starts nothing yet.
    ///
    /// `[server] listen` and `[storage]` come as environment, so `config` may hold anything else.
    pub(crate) fn new(config: &str, store_url: Option<&str>) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        fs::write(home.path().join("tripline.toml"), config).unwrap();
        let port = free_port();
        let data = home.path().join("data");
        let url = store_url.map_or_else(
            || format!("sqlite://{}", data.join("tripline.db").display()),
            str::to_owned,
        );
        let environment = vec![
            ("TRIPLINE_SERVER__LISTEN".to_owned(), format!("127.0.0.1:{port}")),
            ("TRIPLINE_STORAGE__URL".to_owned(), url),
            ("TRIPLINE_STORAGE__DATA".to_owned(), data.display().to_string()),
        ];
        Self { child: None, home, port, environment, stderr: None }
    }

    /// One more variable for every start from now on.
    pub(crate) fn env(&mut self, name: &str, value: impl Into<String>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Where the log goes instead, from the next start on.
    pub(crate) fn log_to(&mut self, path: &str) {
        self.stderr = Some(path.into());
    }

    /// Starts the process and does not wait for it.
    pub(crate) fn launch(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tripline"))
            .arg("serve")
            .current_dir(self.home.path())
            .envs(self.environment.iter().cloned())
            .env("NO_COLOR", "1")
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(
                self.stderr
                    .as_ref()
                    .map_or(log, |path| fs::File::options().append(true).open(path).unwrap()),
            )
            .process_group(0)
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
    }

    /// Starts and waits until the server says it is ready.
    pub(crate) async fn start(&mut self) {
        self.launch();
        self.ready().await;
    }

    pub(crate) async fn ready(&mut self) {
        let url = format!("{}/readyz", self.url());
        let client = super::api::http();
        let answered = until(PATIENCE, async || {
            let exited = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            match (exited, client.get(&url).send().await) {
                // Ends the wait: a process that is gone will not answer later either.
                (Some(status), _) => Ok(Err(status)),
                (None, Ok(answer)) if answer.status().is_success() => Ok(Ok(())),
                (None, other) => Err(format!("{other:?}")),
            }
        })
        .await;
        match answered {
            Ok(Ok(())) => {}
            Ok(Err(status)) => panic!("the server ended at start ({status}):\n{}", self.log()),
            Err(last) => panic!("not ready in {PATIENCE:?}: {last}\n{}", self.log()),
        }
    }

    /// SIGKILL to the whole process tree, as a crash of the machine would look from inside.
    pub(crate) fn kill(&mut self) {
        if self.child.is_some() {
            self.signal("KILL");
            self.wait();
        }
    }

    /// How the process ended by itself, which it has to do soon.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running server");
        super::eventually("the end of the server", async || child.try_wait().unwrap().ok_or(()))
            .await
    }

    /// Of the server's own process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Signals the process group, the lanes included.
    pub(crate) fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("a running server");
        // The group outlives its leader while a lane is alive; one that is gone is no failure.
        let _ = Command::new("kill")
            .args([&format!("-{name}"), "--", &format!("-{}", child.id())])
            .status();
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.take().expect("a running server").wait().unwrap()
    }

    /// Runs a command beside it: with its configuration, its address and, if there is one, its
    /// admin's token. Answers the exit code and what it printed.
    pub(crate) fn cli(&self, args: &[&str]) -> (i32, String) {
        outcome(self.command(args))
    }

    /// The same while the test goes on.
    pub(crate) async fn cli_meanwhile(&self, args: &[&str]) -> (i32, String) {
        let command = self.command(args);
        tokio::task::spawn_blocking(move || outcome(command)).await.unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let token = fs::read_to_string(self.data().join("admin.token")).unwrap_or_default();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tripline"));
        command
            .args(args)
            .current_dir(self.home.path())
            .envs(self.environment.iter().cloned())
            .env("NO_COLOR", "1")
            .env("TRIPLINE_URL", self.url())
            .env("TRIPLINE_TOKEN", token.trim())
            .stdin(std::process::Stdio::null());
        command
    }

    /// Starts it and waits for the end that it must come to: what it says.
    pub(crate) fn refuses_to_start(&mut self) -> String {
        self.launch();
        let status = self.wait();
        assert!(!status.success(), "it started and stopped:\n{}", self.log());
        self.log()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where the store and the admin token lie.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The token that the first start made.
    pub(crate) fn admin_token(&self) -> String {
        let path = self.data().join("admin.token");
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), self.log()))
            .trim()
            .to_owned()
    }

    /// All that the server wrote.
    pub(crate) fn whole_log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The last lines the server wrote, and why it panicked, if it did: a backtrace is longer.
    pub(crate) fn log(&self) -> String {
        let text = self.whole_log();
        let lines: Vec<_> = text.lines().collect();
        let last = lines.len().saturating_sub(60);
        let panics = (0..last).filter(|&at| lines[at].contains(" panicked at "));
        let why = panics.flat_map(|at| lines[at..last.min(at + 3)].iter().copied());
        why.chain(lines[last..].iter().copied()).collect::<Vec<_>>().join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("server.log")
    }
}

fn outcome(mut command: Command) -> (i32, String) {
    let output = command.output().expect("the binary starts");
    let text = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("it was not killed");
    (code, String::from_utf8_lossy(&text).into_owned())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("-- the server's last lines --\n{}", self.log());
        }
    }
}

/// A port that was free a moment ago. It stays the same over restarts, so that publishers need not
/// be told; below the range that the kernel gives to connections, so that it is still free then.
fn free_port() -> u16 {
    std::iter::repeat_with(|| rand::random_range(10_000..32_000))
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("the iterator is endless")
}
