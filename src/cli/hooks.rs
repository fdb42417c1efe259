//! Inbound webhooks of a server.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    client::{Client, ServerArgs, block_on, encode},
    resources::{show, show_list},
};

const FIELDS: [&str; 5] = ["name", "preset", "secrets", "event_type", "is_active"];

#[derive(Args)]
pub(super) struct Hooks {
    #[command(subcommand)]
    action: HookAction,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum HookAction {
    /// List the webhooks
    List,
    /// Show one, with the deliveries that it refused lately
    Get { name: String },
    /// Open /hooks/NAME for deliveries that are signed with a secret
    Create {
        name: String,
        /// standard_webhooks, github, stripe or hmac
        #[arg(long)]
        preset: String,
        /// Name of a secret whose signatures count; several while keys are rotated
        #[arg(long = "secret", required = true)]
        secrets: Vec<String>,
        /// Header of the signature, for hmac [default: x-signature]
        #[arg(long)]
        header: Option<String>,
        /// Type of the events, such as github.{header:x-github-event} [default: the preset's]
        #[arg(long, value_name = "TEMPLATE")]
        event_type: Option<String>,
        /// Subject of the events, such as {$.repository.full_name}
        #[arg(long, value_name = "TEMPLATE")]
        subject: Option<String>,
        /// Id of the events, by which a delivery is taken once [default: the preset's]
        #[arg(long, value_name = "TEMPLATE")]
        event_id: Option<String>,
        /// Replay window of signed times [default: 5m]
        #[arg(long)]
        tolerance: Option<String>,
    },
    /// Change the secrets whose signatures count
    Rotate {
        name: String,
        #[arg(long = "secret", required = true)]
        secrets: Vec<String>,
    },
    /// Take deliveries again
    Enable { name: String },
    /// Refuse all deliveries
    Disable { name: String },
    /// Close a webhook
    Remove { name: String },
}

pub(super) fn run(args: &Hooks) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let json = args.server.json;
    let path = |name: &str| format!("/hooks/{}", encode(name));
    block_on(async {
        let changed = match &args.action {
            HookAction::List => {
                show_list(&client.list("/hooks", usize::MAX).await?, json, &FIELDS);
                return Ok(());
            }
            HookAction::Get { name } => {
                let found = client.get(&path(name)).await?;
                show(&found, json, &FIELDS);
                if !json {
                    let refusals = found["activity"]["refusals"].as_array();
                    show_list(
                        refusals.map_or(&[], Vec::as_slice),
                        json,
                        &["at", "reason", "detail", "from"],
                    );
                }
                return Ok(());
            }
            HookAction::Create {
                name,
                preset,
                secrets,
                header,
                event_type,
                subject,
                event_id,
                tolerance,
            } => {
                let body = json!({
                    "name": name, "preset": preset, "secrets": secrets, "header": header,
                    "event_type": event_type, "subject": subject, "event_id": event_id,
                    "tolerance": tolerance,
                });
                client.post("/hooks", &body).await?
            }
            HookAction::Rotate { name, secrets } => {
                client.patch(&path(name), &json!({ "secrets": secrets })).await?
            }
            HookAction::Enable { name } => {
                client.patch(&path(name), &json!({ "is_active": true })).await?
            }
            HookAction::Disable { name } => {
                client.patch(&path(name), &json!({ "is_active": false })).await?
            }
            HookAction::Remove { name } => {
                client.delete(&path(name)).await?;
                println!("removed {name}");
                return Ok(());
            }
        };
        show(&changed, json, &FIELDS);
        Ok(())
    })
}
