//! `tripline emit`: publishes one event.

use clap::Args;
use serde_json::{Map, Value};

use super::client::{Client, ServerArgs, block_on, read_json};

#[derive(Args)]
pub(super) struct EmitArgs {
    /// Event type, such as finance.PaymentCreated
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// Payload: JSON, @FILE, or - for standard input
    #[arg(long, default_value = "{}")]
    data: String,
    /// Id of the event: publishing it again changes nothing
    #[arg(long)]
    id: Option<String>,
    /// Where it comes from [default: the server's]
    #[arg(long)]
    source: Option<String>,
    /// What it is about
    #[arg(long)]
    subject: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: &EmitArgs) -> anyhow::Result<()> {
    let mut event = Map::new();
    event.insert("type".into(), args.event_type.clone().into());
    event.insert("data".into(), read_json(&args.data)?);
    let optional = [("id", &args.id), ("source", &args.source), ("subject", &args.subject)];
    for (name, value) in optional {
        if let Some(value) = value {
            event.insert(name.into(), value.clone().into());
        }
    }
    let client = Client::new(&args.server)?;
    let answer = block_on(client.post("/events", &Value::Object(event)))?;
    if args.server.json {
        println!("{answer}");
    } else {
        let uid = answer["ids"][0].as_str().unwrap_or_default();
        let known = answer["duplicates"].as_u64() == Some(1);
        println!("{uid}{}", if known { "  (seen before, not delivered again)" } else { "" });
    }
    Ok(())
}
