//! `tripline config check` and `tripline config show`.

use clap::{Args, Subcommand};

use super::ServeArgs;

#[derive(Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Say whether the configuration is right, and where it is not
    Check(ServeArgs),
    /// Show every value in force and where it came from
    Show {
        #[command(flatten)]
        settings: ServeArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    match &args.action {
        Action::Check(settings) => {
            settings.load()?;
            println!("the configuration is right");
        }
        Action::Show { settings, json } => {
            let entries = settings.load()?.entries();
            if *json {
                let items: Vec<serde_json::Value> = entries
                    .into_iter()
                    .map(|(key, value, source)| {
                        serde_json::json!({ "key": key, "value": value, "source": source })
                    })
                    .collect();
                println!("{}", serde_json::to_string_pretty(&items)?);
            } else {
                for (key, value, source) in entries {
                    println!("{key} = {value}  # {source}");
                }
            }
        }
    }
    Ok(())
}
