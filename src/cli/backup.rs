//! `tripline backup FILE`: a copy of a running server's store.

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::client::{Client, ServerArgs, block_on};
use crate::store::backup::{self, Checked};

#[derive(Args)]
pub(super) struct BackupArgs {
    /// File to write
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: &BackupArgs) -> anyhow::Result<()> {
    if args.file.exists() && !args.force {
        bail!("{} is there already: --force replaces it", args.file.display());
    }
    let partial = Partial::create(&args.file)?;
    let client = Client::new(&args.server)?;
    block_on(receive(&client, &partial))?;
    let file = File::open(&partial.path)?;
    let bar = bar(file.metadata()?.len(), "checking");
    let checked = backup::check(std::io::BufReader::with_capacity(1 << 20, file), |at| {
        bar.set_position(at);
    })?;
    bar.finish_and_clear();
    partial.keep(&args.file)?;
    say(args, &checked);
    Ok(())
}

async fn receive(client: &Client, partial: &Partial) -> anyhow::Result<()> {
    let bar = indicatif::ProgressBar::new_spinner().with_style(
        indicatif::ProgressStyle::with_template("{spinner} receiving {bytes} ({bytes_per_sec})")
            .expect("a template"),
    );
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let mut file = &partial.file;
    client
        .download("/storage/backup", |piece| {
            bar.inc(piece.len() as u64);
            file.write_all(piece)
                .with_context(|| format!("{} cannot be written", partial.path.display()))
        })
        .await?;
    bar.finish_and_clear();
    Ok(())
}

fn say(args: &BackupArgs, checked: &Checked) {
    let Checked { header, end, bytes } = checked;
    let rows: u64 = end.rows.values().sum();
    if args.server.json {
        let answer = json!({
            "file": args.file, "bytes": bytes, "rows": rows, "store": header.store,
            "version": header.version, "created_at": header.created_at, "marker": header.marker,
            "secrets": header.secrets, "sha256": end.sha256,
        });
        println!("{answer}");
        return;
    }
    let marker = header.marker;
    println!(
        "{}: {rows} rows in {}, up to event {} (batch {})",
        args.file.display(),
        indicatif::HumanBytes(*bytes),
        marker.seq,
        marker.batch
    );
    if header.secrets > 0 {
        println!(
            "{} secrets are sealed in it; their key is not: keep a copy of the server's secrets.key \
             elsewhere",
            header.secrets
        );
    }
}

/// A bar over so many bytes; nothing is drawn where nobody looks.
pub(super) fn bar(bytes: u64, what: &'static str) -> indicatif::ProgressBar {
    let style =
        indicatif::ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {eta}")
            .expect("a template");
    indicatif::ProgressBar::new(bytes).with_style(style).with_message(what)
}

/// The file under a name of its own until it is whole; removed if it never is.
struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    fn create(whole: &Path) -> anyhow::Result<Self> {
        let mut path = whole.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self { file, path })
    }

    fn keep(self, whole: &Path) -> anyhow::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, whole)?;
        let folder = whole.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it was kept.
        let _ = std::fs::remove_file(&self.path);
    }
}
