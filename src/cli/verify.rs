//! `tripline verify`: whether a stopped server's store is whole.

use anyhow::{Context as _, bail};
use clap::Args;

use super::{ServeArgs, client::table};
use crate::runtime::{Check, verify};

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: ServeArgs,
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let config = args.place.load()?.config;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let style = indicatif::ProgressStyle::with_template("events [{bar:30}] {pos}/{len} {eta}")
        .expect("a template");
    let bar = indicatif::ProgressBar::new(0).with_style(style);
    let looking = verify(&config.storage.url, |at, of| {
        bar.set_length(of);
        bar.set_position(at);
    });
    let checks =
        runtime.block_on(looking).context("a store is verified while its server is stopped")?;
    bar.finish_and_clear();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&checks)?);
    } else {
        show(&checks);
    }
    let wrong: u64 = checks.iter().map(|check| check.wrong).sum();
    if wrong > 0 {
        bail!("{wrong} findings: the store is damaged; restore a backup, or ask with this output");
    }
    Ok(())
}

fn show(checks: &[Check]) {
    let row =
        |check: &Check| vec![check.name.clone(), check.looked.to_string(), check.wrong.to_string()];
    table(&["check", "looked at", "wrong"], &checks.iter().map(row).collect::<Vec<_>>());
    for check in checks {
        for finding in &check.findings {
            println!("{}: {finding}", check.name);
        }
        let more = check.wrong - check.findings.len() as u64;
        if more > 0 {
            println!("{}: and {more} more", check.name);
        }
    }
}
