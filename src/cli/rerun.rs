//! `tripline rerun`: a recorded run again, on a server or from a file of `tripline run --record`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use super::{
    client::{Client, ServerArgs, coloured},
    run::{Recorded, script_file},
};

#[derive(Args)]
pub(super) struct RerunArgs {
    /// Id of a run on a server, or a file that `tripline run --record` has written
    run: String,
    /// Run this source instead of the recorded one
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Exits with 1 when the rerun is not the recorded run.
pub(super) fn run(args: &RerunArgs) -> anyhow::Result<()> {
    let file = Path::new(&args.run);
    let rerun = if file.is_file() {
        Recorded::read(file)?.again(args.source.as_deref())?
    } else {
        ask(args)?
    };
    if args.server.json {
        println!("{}", serde_json::to_string_pretty(&rerun)?);
    } else {
        print(&rerun);
    }
    if rerun["same"] == true { Ok(()) } else { bail!("the rerun is not the recorded run") }
}

fn ask(args: &RerunArgs) -> anyhow::Result<Value> {
    let mut body = json!({});
    if let Some(path) = &args.source {
        let (_, language) = script_file(path)?;
        let source = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        body = json!({ "source": source, "language": language });
    }
    let client = Client::new(&args.server)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(client.post(&format!("/runs/{}/rerun", args.run), &body))
}

fn print(rerun: &Value) {
    for line in rerun["logs"].as_array().into_iter().flatten() {
        let level = line["level"].as_str().unwrap_or_default();
        println!("{} {}", coloured(level, "2"), line["message"].as_str().unwrap_or_default());
    }
    for (number, step) in rerun["steps"].as_array().into_iter().flatten().enumerate() {
        println!("{} {}", coloured(&format!("call {}", number + 1), "36"), text(step));
    }
    match &rerun["error"] {
        Value::Null => println!("{}: {}", coloured("succeeded", "32"), rerun["result"]),
        error => {
            println!(
                "{}: {}: {}",
                coloured("failed", "31"),
                text(&error["kind"]),
                text(&error["message"])
            );
            if let Some(stack) = error["stack"].as_str() {
                println!("{}", coloured(stack, "2"));
            }
        }
    }
    if rerun["same"] == true {
        println!("{}", coloured("the same as recorded: logs, result and calls", "32"));
        return;
    }
    if let Some(first) = rerun["first_difference"].as_object() {
        println!("{} call {}:", coloured("first difference", "33"), first["call"]);
        println!("  recorded: {}", text(&first["recorded"]));
        println!("  rerun:    {}", text(&first["rerun"]));
    }
    let differs: Vec<&str> =
        rerun["differs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !differs.is_empty() {
        println!("{}: {}", coloured("differs", "33"), differs.join(", "));
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("(none)")
}
