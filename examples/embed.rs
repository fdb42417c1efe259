//! Tripline inside another actix application: publish, and see the script's run.
//!
//! `cargo run --example embed` starts a runtime in a temporary folder, saves a handler, subscribes
//! it, publishes one event and prints what the handler returned. Lanes are threads here: an
//! embedding binary does not know the `lane` command unless its `main` calls
//! `tripline::sandbox::become_lane_if_asked` first.

use std::{sync::Arc, time::Duration};

use tripline::{
    Runtime,
    config::{Config, Isolation},
    domain::{
        DataEncoding, Definition, Envelope, Kind, Language, Limits, Lineage, NewEvent, OnDead,
        Ordering, RetryPolicy, TypePattern,
    },
    runtime::NewSubscription,
    store::NewScript,
};

const HANDLER: &str = r#"
export default (payment: { amount: number }) => ({ gross: Math.round(payment.amount * 120) / 100 });
"#;

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("tripline-embed-{}", std::process::id()));
    let mut config = Config::default();
    config.storage.data = folder.clone();
    config.storage.url = format!("sqlite://{}/tripline.db", folder.display());
    config.lanes.isolation = Isolation::Thread;
    let runtime = Runtime::builder(config).start().await?;

    let script = runtime
        .store()
        .scripts()
        .create(NewScript {
            name: "gross".into(),
            description: None,
            language: Language::Typescript,
            source: HANDLER.into(),
            secrets: Vec::new(),
            fetch_allow: Vec::new(),
            kind: Kind::Script,
            imports: Vec::new(),
            note: None,
            by: None,
        })
        .await?;
    let definition = Definition {
        script: script.id,
        script_version: None,
        event_type: TypePattern::parse("finance.*")?,
        filter: Some("$.amount > 10".into()),
        is_active: true,
        retry_policy: RetryPolicy::default(),
        concurrency: 1,
        ordering: Ordering::Relaxed,
        ordering_key: None,
        on_dead: OnDead::Suspend,
        limits: Limits::default(),
    };
    let subscription = runtime
        .subscriptions()
        .create(NewSubscription { name: "gross".into(), definition, paused: false })
        .await?;

    let accepted = runtime.publish(vec![payment(r#"{"amount": 99.5}"#)]).await?;
    println!("accepted {}", accepted[0].uid);
    let status = loop {
        let statuses = runtime.subscriptions().statuses().await?;
        match statuses.get(&subscription.id) {
            Some(status) if status.succeeded > 0 => break status.clone(),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    println!("handled: {} succeeded in {} us", status.succeeded, status.wall_us);

    runtime.stop(Duration::from_secs(5)).await;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn payment(json: &str) -> NewEvent {
    NewEvent {
        envelope: Envelope {
            id: None,
            source: Arc::from("/shop"),
            event_type: Arc::from("finance.PaymentCreated"),
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            extensions: None,
            encoding: DataEncoding::Json,
        },
        data: json.to_owned().into(),
        lineage: Lineage::default(),
    }
}
