//! A running server, over HTTP: commands about one never open its store.

use std::{io::IsTerminal as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// A download may take so long, and be silent for so long.
const DOWNLOAD_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Which server, and as whom.
#[derive(Args, Clone)]
pub(super) struct ServerArgs {
    /// Address of the server
    #[arg(long, global = true, env = "TRIPLINE_URL", default_value = "http://127.0.0.1:7070")]
    pub(super) server: String,
    /// Token [default: the file `admin.token` in the data folder, for a local server]
    #[arg(long, global = true, env = "TRIPLINE_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// Data folder of a local server, for its admin token
    #[arg(long, global = true, value_name = "DIR", default_value = "data")]
    pub(super) data_dir: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// One server and one token.
pub(super) struct Client {
    http: reqwest::Client,
    server: String,
    token: String,
}

impl Client {
    pub(super) fn new(args: &ServerArgs) -> anyhow::Result<Self> {
        // Only an error when another provider was installed before: that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .user_agent(concat!("tripline/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let token = match &args.token {
            Some(token) => token.trim().to_owned(),
            None => {
                let path = args.data_dir.join("admin.token");
                let text = std::fs::read_to_string(&path).with_context(|| {
                    format!(
                        "no token: set TRIPLINE_TOKEN, give --token, or name the server's data folder \
                         with --data-dir ({} cannot be read)",
                        path.display()
                    )
                })?;
                text.trim().to_owned()
            }
        };
        Ok(Self { http, server: args.server.trim_end_matches('/').to_owned(), token })
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(super) async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let url = format!("{}/api/v1{path}", self.server);
        let mut request = self.http.request(method, &url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let text = response.text().await?;
        if status.is_success() {
            return Ok(serde_json::from_str(&text).unwrap_or(Value::Null));
        }
        Err(problem(status, &text))
    }

    /// What a `POST` streams, piece by piece.
    pub(super) async fn download(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let url = format!("{}/api/v1{path}", self.server);
        let request = self.http.post(&url).bearer_auth(&self.token).timeout(DOWNLOAD_MAX);
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(problem(status, &response.text().await?));
        }
        loop {
            let piece = tokio::time::timeout(SILENCE_MAX, response.chunk()).await;
            match piece.context("the server has sent nothing for two minutes")?? {
                Some(piece) => take(&piece)?,
                None => return Ok(()),
            }
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        if error.is_connect() {
            return anyhow!(
                "no server answers at {}; start one with `tripline serve`, or name it with --server",
                self.server
            );
        }
        anyhow!("{error}")
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// A text that is not below `/api/v1`.
    pub(super) async fn text(&self, url: &str) -> anyhow::Result<String> {
        let request = self.http.get(url).bearer_auth(&self.token);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let (status, text) = (response.status(), response.text().await?);
        if status.is_success() { Ok(text) } else { Err(problem(status, &text)) }
    }

    /// All pages of a list, up to `limit` items.
    pub(super) async fn list(&self, path: &str, limit: usize) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = None::<String>;
        while items.len() < limit {
            let separator = if path.contains('?') { '&' } else { '?' };
            let mut page = format!("{path}{separator}limit={}", (limit - items.len()).min(1_000));
            if let Some(cursor) = &cursor {
                page.push_str(&format!("&cursor={}", encode(cursor)));
            }
            let answer = self.get(&page).await?;
            items.extend(answer["items"].as_array().cloned().unwrap_or_default());
            match answer["next"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        Ok(items)
    }

    /// The id of a thing that is named by its id or by its name.
    pub(super) async fn id_of(&self, collection: &str, name: &str) -> anyhow::Result<String> {
        if uuid::Uuid::parse_str(name).is_ok() {
            return Ok(name.to_owned());
        }
        let all = self.list(&format!("/{collection}"), usize::MAX).await?;
        let found =
            all.iter().find(|item| item["name"] == name).and_then(|item| item["id"].as_str());
        found.map(str::to_owned).ok_or_else(|| {
            anyhow!("there is no {} named \"{name}\"", collection.trim_end_matches('s'))
        })
    }
}

/// What the server said, as one readable error.
fn problem(status: StatusCode, text: &str) -> anyhow::Error {
    let problem: Value = serde_json::from_str(text).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or(text);
    let mut message = match status {
        StatusCode::UNAUTHORIZED => {
            format!("{detail}; the admin's token is in the file admin.token of the data folder")
        }
        _ => detail.to_owned(),
    };
    if let Some(index) = problem["index"].as_u64() {
        message = format!("item {index}: {message}");
    }
    if let Some(hint) = problem["hint"].as_str() {
        message.push('\n');
        message.push_str(hint);
    }
    anyhow!("{message} ({})", status.as_u16())
}

/// Percent-encodes a query's value.
pub(super) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Runs a command's requests.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// JSON given as text, as `@FILE`, or as `-` for standard input.
pub(super) fn read_json(text: &str) -> anyhow::Result<Value> {
    let text = match text.strip_prefix('@') {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?
        }
        None if text == "-" => std::io::read_to_string(std::io::stdin())?,
        None => text.to_owned(),
    };
    serde_json::from_str(&text).context("the data is no JSON")
}

/// Prints rows under headings; columns are as wide as they need to be.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", padded.join("  ").trim_end());
    };
    line(headings.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
}

/// Text in a colour, on a terminal that wants colours.
pub(super) fn coloured(text: &str, code: &str) -> String {
    let wanted = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if wanted { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Refuses what a person has not confirmed, where nobody can be asked.
pub(super) fn confirm(what: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("{what}: say --yes to go on");
    }
    eprint!("{what}. Go on? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case("y") { Ok(()) } else { bail!("nothing was done") }
}
