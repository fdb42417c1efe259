//! `tripline restore FILE`: a backup becomes the store of a stopped server.

use std::{fs::File, io::BufReader, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::{ServeArgs, backup::bar};
use crate::{
    config::Config,
    host::{KeyCheck, check_key},
    store::backup::{self, Checked, Loaded, Target},
};

#[derive(Args)]
pub(super) struct RestoreArgs {
    /// File that `tripline backup` wrote
    file: PathBuf,
    /// Replace the store that is there
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: ServeArgs,
}

pub(super) fn run(args: &RestoreArgs) -> anyhow::Result<()> {
    let config = args.place.load()?.config;
    let checked = check(args)?;
    // On PostgreSQL too: the key and the admin's token go there.
    std::fs::create_dir_all(config.data_dir())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let loaded = runtime.block_on(load(args, &config, &checked))?;
    let key_file = config.secrets_key_file();
    let key = check_key(&key_file, &loaded.secrets);
    if args.json {
        let opens = matches!(key, Ok(KeyCheck::Opens | KeyCheck::NotNeeded));
        let rows: u64 = loaded.end.rows.values().sum();
        println!(
            "{}",
            json!({ "rows": rows, "marker": loaded.header.marker, "secrets": loaded.secrets.len(), "secrets_open": opens })
        );
        return Ok(());
    }
    say(&config, &loaded);
    let shown = key_file.display();
    let count = loaded.secrets.len();
    match key {
        Ok(KeyCheck::NotNeeded) => {}
        Ok(KeyCheck::Opens) => println!("the key in {shown} opens all {count} secrets"),
        Ok(KeyCheck::Missing) => println!(
            "WARNING: {count} secrets are sealed and their key is not here: put it back as {shown} \
             before the start, or set the secrets anew"
        ),
        Ok(KeyCheck::Another { closed }) => println!(
            "WARNING: the key in {shown} is another one: it does not open {closed} of {count} secrets"
        ),
        Err(error) => println!("WARNING: {count} secrets are sealed, and {error}"),
    }
    Ok(())
}

/// Reads the whole file before anything is touched.
fn check(args: &RestoreArgs) -> anyhow::Result<Checked> {
    let file = open(args)?;
    let bar = bar(file.get_ref().metadata()?.len(), "checking");
    let checked = backup::check(file, |at| bar.set_position(at))
        .with_context(|| args.file.display().to_string())?;
    bar.finish_and_clear();
    Ok(checked)
}

async fn load(args: &RestoreArgs, config: &Config, checked: &Checked) -> anyhow::Result<Loaded> {
    let target = Target::at(&config.storage.url).await.context("stop the server first")?;
    if target.is_taken && !args.force {
        bail!("{} holds a store already: --force replaces it", place(config));
    }
    let rows: u64 = checked.end.rows.values().sum();
    let style =
        indicatif::ProgressStyle::with_template("restoring [{bar:30}] {pos}/{len} rows {eta}")
            .expect("a template");
    let bar = indicatif::ProgressBar::new(rows).with_style(style);
    let loaded = target.load(open(args)?, |rows| bar.set_position(rows)).await?;
    bar.finish_and_clear();
    Ok(loaded)
}

fn say(config: &Config, loaded: &Loaded) {
    let rows: u64 = loaded.end.rows.values().sum();
    let marker = loaded.header.marker;
    println!(
        "{} is restored: {rows} rows of {}, up to event {}",
        place(config),
        loaded.header.created_at,
        marker.seq
    );
    println!("what was handled is handled; what was pending runs after the start");
    let token = crate::api::admin_token_path(&config.data_dir());
    if !token.exists() {
        println!("tokens are those of the backup; {} is not in it", token.display());
    }
}

/// Without a password.
fn place(config: &Config) -> String {
    match config.storage.url.strip_prefix("sqlite://") {
        Some(path) => path.to_owned(),
        None => "the database".to_owned(),
    }
}

fn open(args: &RestoreArgs) -> anyhow::Result<BufReader<File>> {
    let file = File::open(&args.file)
        .with_context(|| format!("{} cannot be read", args.file.display()))?;
    Ok(BufReader::with_capacity(1 << 20, file))
}
