//! `tripline scripts|subscriptions|events|runs|dead-letters|tokens`: what a server holds.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::{Client, ServerArgs, block_on, confirm, encode, read_json, table},
    run::script_file,
};

/// Filters and length of a list.
#[derive(Args)]
pub(super) struct ListArgs {
    /// Filter as NAME=VALUE, such as state=suspended; may be given more than once
    #[arg(long = "where", value_name = "NAME=VALUE")]
    filters: Vec<String>,
    /// Most items
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

impl ListArgs {
    fn path(&self, collection: &str) -> anyhow::Result<String> {
        let mut pairs = Vec::new();
        for filter in &self.filters {
            let (name, value) = filter.split_once('=').context("--where takes NAME=VALUE")?;
            pairs.push(format!("{}={}", encode(name), encode(value)));
        }
        let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
        Ok(format!("/{collection}{query}"))
    }

    /// The filters as the body of a bulk operation.
    fn body(&self) -> anyhow::Result<Value> {
        let mut body = serde_json::Map::new();
        for filter in &self.filters {
            let (name, value) = filter.split_once('=').context("--where takes NAME=VALUE")?;
            body.insert(name.into(), value.into());
        }
        Ok(body.into())
    }
}

#[derive(Args)]
pub(super) struct Scripts {
    #[command(subcommand)]
    action: ScriptAction,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum ScriptAction {
    /// List scripts
    List(ListArgs),
    /// Show a script with its source
    Show { script: String },
    /// Save a file as a script: a new one, or a new version of the one with its name
    Save {
        file: PathBuf,
        /// Name [default: the file's]
        #[arg(long)]
        name: Option<String>,
        /// Why it is saved
        #[arg(long)]
        note: Option<String>,
        /// Host that it may fetch from, in the place of those before; may be given several times
        #[arg(long, value_name = "HOST")]
        allow: Option<Vec<String>>,
        /// Others import it, by its name, such as `lib/money`
        #[arg(long)]
        module: bool,
    },
    /// List the versions of a script
    Versions { script: String },
    /// Delete a script that no subscription uses
    Delete { script: String },
}

pub(super) fn scripts(args: &Scripts) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let json = args.server.json;
    block_on(async {
        match &args.action {
            ScriptAction::List(list) => {
                let items = client.list(&list.path("scripts")?, list.limit).await?;
                show_list(
                    &items,
                    json,
                    &["id", "name", "kind", "language", "version", "updated_at"],
                );
            }
            ScriptAction::Show { script } => {
                let id = client.id_of("scripts", script).await?;
                let found = client.get(&format!("/scripts/{id}")).await?;
                if json {
                    println!("{found}");
                } else {
                    println!("{}", found["source"].as_str().unwrap_or_default());
                }
            }
            ScriptAction::Save { file, name, note, allow, module } => {
                let given = Given {
                    name: name.as_deref(),
                    note: note.as_deref(),
                    allow: allow.as_deref(),
                    module: *module,
                };
                let saved = save(&client, file, given).await?;
                show(&saved, json, &["id", "name", "version"]);
            }
            ScriptAction::Versions { script } => {
                let id = client.id_of("scripts", script).await?;
                let found = client.get(&format!("/scripts/{id}/versions")).await?;
                let items =
                    found["items"].as_array().or(found.as_array()).cloned().unwrap_or_default();
                show_list(&items, json, &["version", "created_at", "created_by", "note"]);
            }
            ScriptAction::Delete { script } => {
                let id = client.id_of("scripts", script).await?;
                client.delete(&format!("/scripts/{id}")).await?;
                println!("deleted {id}");
            }
        }
        Ok(())
    })
}

/// What is said of a script besides its file.
#[derive(Default)]
pub(super) struct Given<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) note: Option<&'a str>,
    pub(super) allow: Option<&'a [String]>,
    pub(super) module: bool,
}

/// Saves a file; unchanged source makes no version.
pub(super) async fn save(
    client: &Client,
    file: &std::path::Path,
    Given { name, note, allow, module }: Given<'_>,
) -> anyhow::Result<Value> {
    let (stem, language) = script_file(file)?;
    let name = name.unwrap_or(&stem);
    let source = std::fs::read_to_string(file)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    let mut body = json!({ "source": source, "language": language });
    if let Some(note) = note {
        body["note"] = note.into();
    }
    if let Some(hosts) = allow {
        body["fetch_allow"] = json!(hosts);
    }
    let all = client.list("/scripts", usize::MAX).await?;
    match all.iter().find(|script| script["name"] == name) {
        Some(known) if known["source"] == source && allow.is_none() => Ok(known.clone()),
        Some(known) => {
            let id = known["id"].as_str().unwrap_or_default();
            client.patch(&format!("/scripts/{id}"), &body).await
        }
        None => {
            body["name"] = name.into();
            if module {
                body["kind"] = "module".into();
            }
            client.post("/scripts", &body).await
        }
    }
}

#[derive(Args)]
pub(super) struct Subscriptions {
    #[command(subcommand)]
    action: SubscriptionAction,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum SubscriptionAction {
    /// List subscriptions
    List(ListArgs),
    /// Show a subscription
    Show { subscription: String },
    /// Subscribe a script to an event type
    Create {
        name: String,
        /// Script, by name or id
        #[arg(long)]
        script: String,
        /// Event type or pattern, such as finance.*
        #[arg(long = "type", value_name = "PATTERN")]
        event_type: String,
        /// Filter, such as '$.amount > 100'
        #[arg(long)]
        filter: Option<String>,
        /// Other fields as JSON, such as '{"concurrency":4}'
        #[arg(long, value_name = "JSON")]
        fields: Option<String>,
    },
    /// Keep what matches for later
    Pause { subscription: String },
    /// Go on where it stood
    Resume { subscription: String },
    /// Deliver stored events from a past time on
    Backfill {
        subscription: String,
        /// RFC 3339 time
        #[arg(long)]
        from: String,
        /// Only count
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what a changed filter or event type would take of the newest stored events
    Backtest {
        subscription: String,
        /// The changed filter; an empty one takes every event of the type
        #[arg(long)]
        filter: Option<String>,
        #[arg(long)]
        event_type: Option<String>,
        /// How many of the newest stored events to look at
        #[arg(long, default_value_t = 1_000)]
        last: u64,
    },
    /// Delete a subscription
    Delete {
        subscription: String,
        /// Discard its unfinished deliveries
        #[arg(long)]
        discard: bool,
    },
}

pub(super) fn subscriptions(args: &Subscriptions) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let json = args.server.json;
    let fields = ["id", "name", "event_type", "filter", "state", "state_reason"];
    block_on(async {
        let id_of = |name: &str| {
            let name = name.to_owned();
            let client = &client;
            async move { client.id_of("subscriptions", &name).await }
        };
        let answer = match &args.action {
            SubscriptionAction::List(list) => {
                let items = client.list(&list.path("subscriptions")?, list.limit).await?;
                show_list(&items, json, &["id", "name", "event_type", "filter", "state"]);
                return Ok(());
            }
            SubscriptionAction::Show { subscription } => {
                let id = id_of(subscription).await?;
                let found = client.get(&format!("/subscriptions/{id}")).await?;
                println!("{}", serde_json::to_string_pretty(&found)?);
                return Ok(());
            }
            SubscriptionAction::Create { name, script, event_type, filter, fields } => {
                let mut body = match fields {
                    Some(fields) => read_json(fields)?,
                    None => json!({}),
                };
                body["name"] = name.clone().into();
                body["script_id"] = client.id_of("scripts", script).await?.into();
                body["event_type"] = event_type.clone().into();
                if let Some(filter) = filter {
                    body["filter"] = filter.clone().into();
                }
                client.post("/subscriptions", &body).await?
            }
            SubscriptionAction::Pause { subscription } => {
                let id = id_of(subscription).await?;
                client.post(&format!("/subscriptions/{id}/pause"), &json!({})).await?
            }
            SubscriptionAction::Resume { subscription } => {
                let id = id_of(subscription).await?;
                client.post(&format!("/subscriptions/{id}/resume"), &json!({})).await?
            }
            SubscriptionAction::Backfill { subscription, from, dry_run } => {
                let id = id_of(subscription).await?;
                let body = json!({ "from": from, "dry_run": dry_run });
                let answer = client.post(&format!("/subscriptions/{id}/backfill"), &body).await?;
                show(&answer, json, &["matched", "scanned"]);
                return Ok(());
            }
            SubscriptionAction::Backtest { subscription, filter, event_type, last } => {
                let id = id_of(subscription).await?;
                let mut body = json!({ "last": last });
                if let Some(filter) = filter {
                    body["filter"] = Some(filter).filter(|text| !text.is_empty()).cloned().into();
                }
                if let Some(event_type) = event_type {
                    body["event_type"] = event_type.clone().into();
                }
                let answer = client.post(&format!("/subscriptions/{id}/backtest"), &body).await?;
                show_backtest(&answer, json);
                return Ok(());
            }
            SubscriptionAction::Delete { subscription, discard } => {
                let id = id_of(subscription).await?;
                let query = if *discard { "?discard=true" } else { "" };
                client.delete(&format!("/subscriptions/{id}{query}")).await?;
                println!("deleted {id}");
                return Ok(());
            }
        };
        show(&answer, json, &fields);
        Ok(())
    })
}

fn show_backtest(answer: &Value, as_json: bool) {
    if as_json {
        println!("{answer}");
        return;
    }
    for (title, kind) in
        [("newly matched", "newly_matched"), ("no longer matched", "no_longer_matched")]
    {
        println!("{title}: {}", answer[kind]["count"]);
        for example in answer[kind]["examples"].as_array().into_iter().flatten() {
            let why = &example["why_not"];
            println!(
                "  {}  {}  {}",
                example["event_id"].as_str().unwrap_or_default(),
                example["type"].as_str().unwrap_or_default(),
                why["clause"]
                    .as_str()
                    .map(|clause| format!("{clause} saw {}", why["value"]))
                    .unwrap_or_default(),
            );
        }
    }
    println!(
        "unchanged: {} matched, {} not; {} events looked at",
        answer["unchanged"]["matched"], answer["unchanged"]["unmatched"], answer["checked"]
    );
}

#[derive(Args)]
pub(super) struct Events {
    #[command(subcommand)]
    action: EventAction,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum EventAction {
    /// List events, newest first; filters: type, subject, source, from, until, filter
    List(ListArgs),
    /// Show an event with its deliveries
    Show { uid: String },
    /// Erase payloads for good: of one event, or of everything about a subject
    Erase {
        #[arg(required_unless_present = "subject", conflicts_with = "subject")]
        uid: Option<String>,
        #[arg(long)]
        subject: Option<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub(super) fn events(args: &Events) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    block_on(async {
        match &args.action {
            EventAction::List(list) => {
                let items = client.list(&list.path("events")?, list.limit).await?;
                show_list(
                    &items,
                    args.server.json,
                    &["uid", "type", "source", "subject", "accepted_at"],
                );
            }
            EventAction::Show { uid } => {
                let found = client.get(&format!("/events/{uid}")).await?;
                println!("{}", serde_json::to_string_pretty(&found)?);
            }
            EventAction::Erase { uid, subject, yes } => {
                confirm("payloads that are erased are gone for good", *yes)?;
                let erased = match uid {
                    Some(uid) => client.post(&format!("/events/{uid}/erase"), &json!({})).await?,
                    None => client.post("/events/erase", &json!({ "subject": subject })).await?,
                };
                show(&erased, args.server.json, &["events", "scheduled", "overwritten"]);
            }
        }
        Ok(())
    })
}

#[derive(Args)]
pub(super) struct Runs {
    #[command(subcommand)]
    action: RunAction,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum RunAction {
    /// List runs, newest first; filters: subscription_id, script_id, event_id, outcome, error_kind
    List(ListArgs),
    /// Show a run with its logs
    Show { id: String },
}

pub(super) fn runs(args: &Runs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    block_on(async {
        match &args.action {
            RunAction::List(list) => {
                let items = client.list(&list.path("runs")?, list.limit).await?;
                show_list(
                    &items,
                    args.server.json,
                    &["id", "outcome", "attempt", "duration_ms", "started_at"],
                );
            }
            RunAction::Show { id } => {
                let found = client.get(&format!("/runs/{id}")).await?;
                println!("{}", serde_json::to_string_pretty(&found)?);
            }
        }
        Ok(())
    })
}

#[derive(Args)]
pub(super) struct DeadLetters {
    #[command(subcommand)]
    action: LetterAction,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum LetterAction {
    /// List dead letters; filters: subscription_id, script_id, event_type, error_kind, text, status
    List(ListArgs),
    /// Group dead letters by their error
    Groups(ListArgs),
    /// Show a dead letter
    Show { id: String },
    /// Send one letter back to its subscription
    Replay {
        id: String,
        /// Another payload: JSON, @FILE, or -
        #[arg(long)]
        data: Option<String>,
        /// Run the version that failed instead of the current one
        #[arg(long)]
        original_version: bool,
    },
    /// Send all letters that match back, in the background
    ReplayAll {
        #[command(flatten)]
        list: ListArgs,
        /// Letters a second
        #[arg(long)]
        rate: Option<u32>,
        #[arg(long)]
        yes: bool,
    },
    /// End one letter without a run
    Discard { id: String },
    /// End all letters that match, in the background
    DiscardAll {
        #[command(flatten)]
        list: ListArgs,
        #[arg(long)]
        yes: bool,
    },
    /// Undo a discard
    Restore { id: String },
}

pub(super) fn dead_letters(args: &DeadLetters) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let json = args.server.json;
    block_on(async {
        match &args.action {
            LetterAction::List(list) => {
                let items = client.list(&list.path("dead-letters")?, list.limit).await?;
                let fields = [
                    "id",
                    "status",
                    "subscription_name",
                    "error_kind",
                    "attempts",
                    "died_at",
                    "last_error",
                ];
                show_list(&items, json, &fields);
            }
            LetterAction::Groups(list) => {
                let answer = client.get(&list.path("dead-letters/groups")?).await?;
                let items = answer["items"].as_array().cloned().unwrap_or_default();
                show_list(&items, json, &["count", "error_kind", "message", "last_died_at"]);
            }
            LetterAction::Show { id } => {
                let found = client.get(&format!("/dead-letters/{id}")).await?;
                println!("{}", serde_json::to_string_pretty(&found)?);
            }
            LetterAction::Replay { id, data, original_version } => {
                let mut body = json!({});
                if let Some(data) = data {
                    body["data"] = read_json(data)?;
                }
                if *original_version {
                    body["script_version"] = "original".into();
                }
                let letter = client.post(&format!("/dead-letters/{id}/replay"), &body).await?;
                show(&letter, json, &["id", "status", "subscription_name"]);
            }
            LetterAction::ReplayAll { list, rate, yes } => {
                let mut body = list.body()?;
                confirm(&format!("replay {} dead letters", count(&client, list).await?), *yes)?;
                if let Some(rate) = rate {
                    body["rate"] = (*rate).into();
                }
                follow(&client, client.post("/dead-letters/replay", &body).await?).await?;
            }
            LetterAction::Discard { id } => {
                client.delete(&format!("/dead-letters/{id}")).await?;
                println!("discarded {id}");
            }
            LetterAction::DiscardAll { list, yes } => {
                confirm(&format!("discard {} dead letters", count(&client, list).await?), *yes)?;
                follow(&client, client.post("/dead-letters/discard", &list.body()?).await?).await?;
            }
            LetterAction::Restore { id } => {
                let letter =
                    client.post(&format!("/dead-letters/{id}/restore"), &json!({})).await?;
                show(&letter, json, &["id", "status", "subscription_name"]);
            }
        }
        Ok(())
    })
}

async fn count(client: &Client, list: &ListArgs) -> anyhow::Result<u64> {
    let path = list.path("dead-letters/count")?;
    let separator = if path.contains('?') { '&' } else { '?' };
    let answer = client.get(&format!("{path}{separator}status=dead")).await?;
    Ok(answer["count"].as_u64().unwrap_or(0))
}

/// Shows the progress of a bulk operation until it ends.
async fn follow(client: &Client, operation: Value) -> anyhow::Result<()> {
    let id = operation["id"].as_str().unwrap_or_default().to_owned();
    let bar = indicatif::ProgressBar::new(operation["total"].as_u64().unwrap_or(0));
    loop {
        let now = client.get(&format!("/bulk/{id}")).await?;
        bar.set_position(now["done"].as_u64().unwrap_or(0));
        if now["state"] != "running" {
            bar.finish_and_clear();
            let (done, total) = (&now["done"], &now["total"]);
            println!("{}: {done} of {total}", now["state"].as_str().unwrap_or_default());
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[derive(Args)]
pub(super) struct Tokens {
    #[command(subcommand)]
    action: TokenAction,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum TokenAction {
    /// List tokens
    List,
    /// Make a token; it is shown once
    Create {
        name: String,
        /// publisher, viewer, editor or admin
        #[arg(long)]
        role: String,
        /// When it ends, RFC 3339
        #[arg(long)]
        expires_at: Option<String>,
        /// Requests a second at most [default: as many as the server takes]
        #[arg(long, value_name = "N")]
        requests_per_s: Option<u32>,
    },
    /// End a token at once
    Revoke { id: String },
}

pub(super) fn tokens(args: &Tokens) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let json = args.server.json;
    block_on(async {
        match &args.action {
            TokenAction::List => {
                let items = client.list("/tokens", usize::MAX).await?;
                show_list(
                    &items,
                    json,
                    &["id", "name", "role", "prefix", "expires_at", "last_used_at", "revoked_at"],
                );
            }
            TokenAction::Create { name, role, expires_at, requests_per_s } => {
                let body = json!({
                    "name": name, "role": role, "expires_at": expires_at,
                    "requests_per_s": requests_per_s,
                });
                let made = client.post("/tokens", &body).await?;
                if json {
                    println!("{made}");
                } else {
                    println!("{}", made["secret"].as_str().unwrap_or_default());
                }
            }
            TokenAction::Revoke { id } => {
                client.delete(&format!("/tokens/{id}")).await?;
                println!("revoked {id}");
            }
        }
        Ok(())
    })
}

#[derive(Args)]
pub(super) struct Kv {
    #[command(subcommand)]
    action: KvAction,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum KvAction {
    /// List namespaces, or the keys of one
    List {
        /// Id or name of a script, or the name of shared keys
        namespace: Option<String>,
        /// Only keys that begin so
        #[arg(long)]
        prefix: Option<String>,
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
    },
    /// Print a value
    Get { namespace: String, key: String },
    /// Set a key to a JSON value (JSON, @FILE or -)
    Set {
        namespace: String,
        key: String,
        value: String,
        /// How long it stays, such as 10m
        #[arg(long)]
        ttl: Option<String>,
    },
    /// Remove a key
    Remove { namespace: String, key: String },
}

/// The path of a namespace, which may be given as the name of a script.
async fn space_path(client: &Client, namespace: &str) -> anyhow::Result<String> {
    let script = client.id_of("scripts", namespace).await;
    Ok(format!("/kv/{}", script.unwrap_or_else(|_| encode(namespace))))
}

pub(super) fn kv(args: &Kv) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let json = args.server.json;
    block_on(async {
        match &args.action {
            KvAction::List { namespace: None, limit, .. } => {
                let items = client.list("/kv", *limit).await?;
                show_list(&items, json, &["namespace", "script", "keys", "bytes"]);
            }
            KvAction::List { namespace: Some(namespace), prefix, limit } => {
                let mut path = space_path(&client, namespace).await?;
                if let Some(prefix) = prefix {
                    path = format!("{path}?prefix={}", encode(prefix));
                }
                let items = client.list(&path, *limit).await?;
                show_list(&items, json, &["key", "value", "expires_at", "updated_at"]);
            }
            KvAction::Get { namespace, key } => {
                let space = space_path(&client, namespace).await?;
                let found = client.get(&format!("{space}/{}", encode(key))).await?;
                println!("{}", if json { &found } else { &found["value"] });
            }
            KvAction::Set { namespace, key, value, ttl } => {
                let space = space_path(&client, namespace).await?;
                let mut body = json!({ "value": read_json(value)? });
                if let Some(ttl) = ttl {
                    body["ttl"] = json!(ttl);
                }
                let set = client.put(&format!("{space}/{}", encode(key)), &body).await?;
                show(&set, json, &["key", "value", "expires_at"]);
            }
            KvAction::Remove { namespace, key } => {
                let space = space_path(&client, namespace).await?;
                client.delete(&format!("{space}/{}", encode(key))).await?;
                println!("removed {key}");
            }
        }
        Ok(())
    })
}

#[derive(Args)]
pub(super) struct Secrets {
    #[command(subcommand)]
    action: SecretAction,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum SecretAction {
    /// List the secrets, without what they are
    List,
    /// Set a secret to what standard input or a file holds; one line break at its end is left out
    Set {
        name: String,
        /// File with the secret [default: standard input]
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Grant a secret to a script
    Grant { name: String, script: String },
    /// Take a secret from a script
    Revoke { name: String, script: String },
    /// Remove a secret that is granted to no script
    Remove { name: String },
}

pub(super) fn secrets(args: &Secrets) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let json = args.server.json;
    block_on(async {
        match &args.action {
            SecretAction::List => {
                let items = client.list("/secrets", usize::MAX).await?;
                show_list(&items, json, &["name", "updated_at", "readable", "scripts"]);
            }
            SecretAction::Set { name, from } => {
                let mut value = match from {
                    Some(path) => std::fs::read_to_string(path)
                        .with_context(|| format!("{} cannot be read", path.display()))?,
                    None => std::io::read_to_string(std::io::stdin())?,
                };
                if value.ends_with('\n') {
                    value.pop();
                }
                let path = format!("/secrets/{}", encode(name));
                let set = client.put(&path, &json!({ "value": value })).await?;
                show(&set, json, &["name", "updated_at", "scripts"]);
            }
            SecretAction::Grant { name, script } => {
                let add = |secrets: &mut Vec<String>| {
                    if !secrets.contains(name) {
                        secrets.push(name.clone());
                    }
                };
                grant(&client, script, json, add).await?;
            }
            SecretAction::Revoke { name, script } => {
                grant(&client, script, json, |secrets| secrets.retain(|kept| kept != name)).await?;
            }
            SecretAction::Remove { name } => {
                client.delete(&format!("/secrets/{}", encode(name))).await?;
                println!("removed {name}");
            }
        }
        Ok(())
    })
}

/// Changes the secrets of a script.
async fn grant(
    client: &Client,
    script: &str,
    json: bool,
    change: impl FnOnce(&mut Vec<String>),
) -> anyhow::Result<()> {
    let path = format!("/scripts/{}", client.id_of("scripts", script).await?);
    let mut secrets: Vec<String> =
        serde_json::from_value(client.get(&path).await?["secrets"].take())?;
    change(&mut secrets);
    let changed = client.patch(&path, &json!({ "secrets": secrets })).await?;
    show(&changed, json, &["name", "secrets"]);
    Ok(())
}

pub(super) fn show_list(items: &[Value], json: bool, fields: &[&str]) {
    if json {
        println!("{}", Value::Array(items.to_vec()));
        return;
    }
    let rows: Vec<Vec<String>> =
        items.iter().map(|item| fields.iter().map(|field| cell(&item[field])).collect()).collect();
    table(fields, &rows);
}

pub(super) fn show(item: &Value, json: bool, fields: &[&str]) {
    if json {
        println!("{item}");
        return;
    }
    for field in fields {
        if !item[field].is_null() {
            println!("{field}: {}", cell(&item[field]));
        }
    }
}

/// One line of text, whatever the value holds.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let flat: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(80).collect();
    if text.chars().count() > 80 { format!("{flat}…") } else { flat }
}
