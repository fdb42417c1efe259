//! `tripline run` and `tripline check`: a script on this machine, without a server.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use super::client::coloured;
use crate::{
    domain::{
        DataEncoding, Envelope, Event, EventId, Language, Lineage, Millis, RunId, ScriptId, Seq,
        SubscriptionId, json::check_text,
    },
    sandbox::{
        ContextOwner, ContextSpec, IdempotencyKey, Isolation, Nobody, Program, Report, Run,
        RunFacts, RunKey, RunLimits, RunReport, Sandbox, SandboxConfig,
    },
};

#[derive(Args)]
pub(super) struct RunArgs {
    /// Script, .ts or .js
    script: PathBuf,
    /// Event: a file with an event ({"type","data",…}) or with a bare payload
    #[arg(long, value_name = "FILE")]
    event: PathBuf,
    /// Event type, when the file holds a bare payload
    #[arg(long = "type", value_name = "TYPE", default_value = "test.event")]
    event_type: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct CheckArgs {
    /// Scripts, .ts or .js
    #[arg(required = true)]
    scripts: Vec<PathBuf>,
}

/// Language and name of a script file.
pub(super) fn script_file(path: &Path) -> anyhow::Result<(String, Language)> {
    let language = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ts" | "mts") => Language::Typescript,
        Some("js" | "mjs") => Language::Javascript,
        _ => bail!("{}: expected a .ts or .js file", path.display()),
    };
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("script");
    Ok((name.to_owned(), language))
}

fn compile(path: &Path) -> anyhow::Result<(String, Program)> {
    let (name, language) = script_file(path)?;
    let source = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    match Program::compile(&name, language, &source) {
        Ok(program) => Ok((name, program)),
        Err(error) => bail!(
            "{}:{}:{}: {}\n{}",
            path.display(),
            error.line,
            error.column,
            error.message,
            error.frame
        ),
    }
}

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<()> {
    let mut wrong = 0;
    for path in &args.scripts {
        match compile(path) {
            Ok((_, program)) => {
                for warning in program.warnings() {
                    let (line, column) = (warning.line, warning.column);
                    println!("{}:{line}:{column}: warning: {}", path.display(), warning.message);
                }
                println!("{}: {}", path.display(), coloured("right", "32"));
            }
            Err(error) => {
                wrong += 1;
                eprintln!("{error}");
            }
        }
    }
    if wrong > 0 {
        bail!("{wrong} of {} scripts do not compile", args.scripts.len())
    } else {
        Ok(())
    }
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let (name, program) = compile(&args.script)?;
    let event = read_event(&args.event, &args.event_type)?;
    let program = Arc::new(program);
    let report = actix::System::new().block_on(run_once(name, Arc::clone(&program), event))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&as_json(&report))?);
    } else {
        print(&report, &program);
    }
    if report.outcome.is_err() { bail!("the run failed") } else { Ok(()) }
}

/// An event from a file: an object with a `type` is an event, anything else a payload.
fn read_event(path: &Path, event_type: &str) -> anyhow::Result<Event> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let value: Value =
        serde_json::from_str(&text).with_context(|| format!("{} holds no JSON", path.display()))?;
    check_text(text.as_bytes(), 64).with_context(|| path.display().to_string())?;
    let text_of = |name: &str| value.get(name).and_then(Value::as_str).map(Arc::<str>::from);
    let is_event = value.get("type").is_some_and(Value::is_string) && value.get("data").is_some();
    let (event_type, data) = if is_event {
        (text_of("type").unwrap_or_default(), value["data"].to_string())
    } else {
        (event_type.into(), text)
    };
    let now = Millis::now();
    let attribute = |name: &str| if is_event { text_of(name) } else { None };
    Ok(Event {
        seq: Seq::ZERO,
        uid: EventId::numbered(now, Seq::ZERO, 0),
        accepted_at: now,
        envelope: Envelope {
            id: attribute("id"),
            source: attribute("source").unwrap_or_else(|| "/tripline/run".into()),
            event_type,
            subject: attribute("subject"),
            time: attribute("time"),
            datacontenttype: None,
            dataschema: None,
            extensions: None,
            encoding: DataEncoding::Json,
        },
        data: Bytes::from(data),
        lineage: Lineage::default(),
    })
}

/// One run on a thread of this process: the author's own script on the author's own machine.
async fn run_once(name: String, program: Arc<Program>, event: Event) -> anyhow::Result<RunReport> {
    let config =
        SandboxConfig { isolation: Isolation::Thread, count: 1, ..SandboxConfig::default() };
    let sandbox = Sandbox::start(config).await?;
    let spec = ContextSpec {
        owner: ContextOwner {
            subscription: SubscriptionId(uuid::Uuid::nil()),
            subscription_name: "run".into(),
            script: ScriptId(uuid::Uuid::nil()),
            script_name: name.into(),
            script_version: 0,
        },
        program,
        limits: RunLimits::default(),
    };
    let run = Run {
        key: RunKey(1),
        event: Arc::new(event),
        data: None,
        facts: RunFacts {
            run_id: RunId::fresh(),
            attempt: 1,
            max_attempts: 1,
            replayed: false,
            idempotency_key: IdempotencyKey::OfDelivery,
        },
        emits_within_loop_limits: u32::MAX,
        loop_message: None,
        alone: false,
        record: false,
        tape: None,
    };
    let report = sandbox.try_out(spec, run, Rc::new(Nobody)).await;
    sandbox.stop();
    match report {
        Report::Finished(report) => Ok(*report),
        Report::Crashed(key, error) => Ok(RunReport::unfinished(key, error)),
        Report::Returned(_) | Report::Asked(_) => bail!("the run was interrupted; try again"),
        Report::Broken(reason) => bail!("the sandbox cannot be built: {reason}"),
    }
}

fn as_json(report: &RunReport) -> Value {
    let (result, error) = match &report.outcome {
        Ok(result) => (serde_json::from_str(result).unwrap_or(Value::Null), Value::Null),
        Err(error) => (Value::Null, json!(error)),
    };
    json!({
        "outcome": if report.outcome.is_ok() { "succeeded" } else { "failed" },
        "result": result,
        "error": error,
        "logs": report.logs,
        "emits": report.emits.iter().map(|emit| json!({
            "type": emit.event_type,
            "data": serde_json::from_str::<Value>(&emit.data).unwrap_or(Value::Null),
            "id": emit.id,
            "subject": emit.subject,
            "delay_ms": emit.delay.map(|delay| delay.as_millis() as u64),
        })).collect::<Vec<_>>(),
        "warnings": report.warnings,
        "duration_ms": report.duration.as_secs_f64() * 1_000.0,
        "cpu_ms": report.cpu.as_secs_f64() * 1_000.0,
    })
}

fn print(report: &RunReport, program: &Program) {
    for line in &report.logs {
        println!("{} {}", coloured(&format!("{:?}", line.level).to_lowercase(), "2"), line.message);
    }
    for emit in &report.emits {
        let delay = emit.delay.map_or_else(String::new, |delay| format!(" after {delay:?}"));
        println!("{} {}{delay} {}", coloured("emit", "36"), emit.event_type, emit.data);
    }
    for warning in &report.warnings {
        println!("{} {warning}", coloured("warning", "33"));
    }
    let took = format!("{:.2} ms", report.duration.as_secs_f64() * 1_000.0);
    match &report.outcome {
        Ok(result) => println!("{} in {took}: {result}", coloured("succeeded", "32")),
        Err(error) => {
            println!(
                "{} in {took}: {}: {}",
                coloured("failed", "31"),
                error.kind.as_str(),
                error.message
            );
            if let Some(stack) = &error.stack {
                if let Some(frame) = program.frame_of(stack) {
                    println!("{frame}");
                }
                println!("{}", coloured(stack, "2"));
            }
        }
    }
}
