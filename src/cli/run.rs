//! `tripline run` and `tripline check`: a script on this machine, without a server.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use futures::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::coloured;
use crate::{
    domain::{
        DataEncoding, Envelope, Event, EventId, Language, Lineage, LogLine, Millis, RunError,
        RunId, ScriptId, Seq, SubscriptionId, json::check_text,
    },
    host::{self, Call, Recording},
    runtime::{Rerun, Then},
    sandbox::{
        Answer, CompileError, ContextOwner, ContextSpec, Host, IdempotencyKey, Isolation, Nobody,
        Program, Question, Report, Run, RunFacts, RunKey, RunLimits, RunReport, Sandbox,
        SandboxConfig,
        program::{Linker, Unit, Wanted},
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
    /// Write what the run met to a file, for `tripline rerun FILE`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
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

/// A script from a file, with the modules that it imports.
struct Compiled {
    name: String,
    program: Program,
    modules: Vec<LocalModule>,
}

/// A module from a file.
#[derive(Clone, Serialize, Deserialize)]
struct LocalModule {
    /// The name under which it is imported.
    specifier: String,
    language: Language,
    source: String,
}

/// Modules are looked for in the script's folder: `lib/money` in `lib/money.ts` or `lib/money.js`.
fn compile(path: &Path) -> anyhow::Result<Compiled> {
    let (name, language) = script_file(path)?;
    let source = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut modules = Vec::new();
    let program = link(&name, language, &source, |wanted| {
        let of = |language: Language| {
            let file = folder.join(format!("{}.{}", wanted.name, language.extension()));
            let source = std::fs::read_to_string(file).ok()?;
            Some(LocalModule { specifier: wanted.specifier.clone(), language, source })
        };
        let found = of(Language::Typescript).or_else(|| of(Language::Javascript));
        modules.extend(found.clone());
        found.ok_or_else(|| {
            format!("there is neither {0}.ts nor {0}.js beside the script", wanted.name)
        })
    });
    match program {
        Ok(program) => Ok(Compiled { name, program, modules }),
        Err(error) => bail!(
            "{}:{}:{}: {}\n{}",
            // Its name on this machine, if it is the script's own.
            if error.file == format!("{name}.{}", language.extension()) {
                path.display().to_string()
            } else {
                error.file
            },
            error.line,
            error.column,
            error.message,
            error.frame
        ),
    }
}

fn link(
    name: &str,
    language: Language,
    source: &str,
    mut find: impl FnMut(&Wanted) -> Result<LocalModule, String>,
) -> Result<Program, CompileError> {
    let mut linker = Linker::new(Unit::script(name, language, source)?);
    while let Some(wanted) = linker.wanted()? {
        let module = find(&wanted).map_err(|why| linker.missing(&wanted, &why))?;
        let unit = Unit::module(&wanted.specifier, module.language, &module.source)?;
        linker.provide(wanted, Arc::new(unit))?;
    }
    linker.link()
}

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<()> {
    let mut wrong = 0;
    for path in &args.scripts {
        match compile(path) {
            Ok(Compiled { program, .. }) => {
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
    let Compiled { name, program, modules } = compile(&args.script)?;
    let event = read_event(&args.event, &args.event_type)?;
    let program = Arc::new(program);
    let run = local_run(event);
    let facts = run.facts.clone();
    let event = Arc::clone(&run.event);
    let host = Rc::new(Answered::default());
    let asked = Rc::clone(&host) as Rc<dyn Host>;
    let mut report =
        actix::System::new().block_on(run_once(name.clone(), Arc::clone(&program), run, asked))?;
    if let Some(path) = &args.record {
        let recorded = (&args.script, &*name, modules);
        record(path, recorded, &event, &facts, &mut report, host.calls.take())?;
    }
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

/// Answers as [`Nobody`] does, and keeps what was asked.
#[derive(Default)]
struct Answered {
    calls: RefCell<Vec<Call>>,
}

impl Host for Answered {
    fn answer(&self, question: Question) -> LocalBoxFuture<'static, Answer> {
        let answer = Nobody::answers(&question);
        self.calls.borrow_mut().push(Call { question, answer: Some(answer.clone()) });
        Box::pin(std::future::ready(answer))
    }
}

/// A run in a file: all that it takes to run it again.
#[derive(Serialize, Deserialize)]
pub(super) struct Recorded {
    /// Of the form of this file.
    version: u32,
    name: String,
    language: Language,
    source: String,
    modules: Vec<LocalModule>,
    event: RecordedEvent,
    recording: Recording,
    run_id: RunId,
    outcome: Result<String, RunError>,
    logs: Vec<LogLine>,
}

#[derive(Serialize, Deserialize)]
struct RecordedEvent {
    uid: EventId,
    accepted_at: Millis,
    id: Option<Arc<str>>,
    source: Arc<str>,
    r#type: Arc<str>,
    subject: Option<Arc<str>>,
    time: Option<Arc<str>>,
    /// JSON text.
    data: String,
}

const RECORDED_VERSION: u32 = 1;

fn record(
    path: &Path,
    (script, name, modules): (&PathBuf, &str, Vec<LocalModule>),
    event: &Event,
    facts: &RunFacts,
    report: &mut RunReport,
    calls: Vec<Call>,
) -> anyhow::Result<()> {
    let Some(tape) = report.tape.take() else {
        bail!("the run cannot be recorded: it read its clock or chance too often, or was killed");
    };
    let (_, language) = script_file(script)?;
    let envelope = &event.envelope;
    let recorded = Recorded {
        version: RECORDED_VERSION,
        name: name.to_owned(),
        language,
        source: std::fs::read_to_string(script)?,
        modules,
        event: RecordedEvent {
            uid: event.uid,
            accepted_at: event.accepted_at,
            id: envelope.id.clone(),
            source: Arc::clone(&envelope.source),
            r#type: Arc::clone(&envelope.event_type),
            subject: envelope.subject.clone(),
            time: envelope.time.clone(),
            data: String::from_utf8_lossy(&event.data).into_owned(),
        },
        recording: Recording {
            script_name: name.to_owned(),
            subscription_name: LOCAL_SUBSCRIPTION.into(),
            limits: RunLimits::default(),
            max_attempts: facts.max_attempts,
            idempotency_key: None,
            emits_within_loop_limits: u32::MAX,
            loop_message: None,
            data: None,
            calls,
            emits: report.emits.clone(),
            kv: report.kv.clone(),
            tape,
            modules: Vec::new(),
        },
        run_id: facts.run_id,
        outcome: report.outcome.clone(),
        logs: report.logs.clone(),
    };
    let text = serde_json::to_string_pretty(&recorded)?;
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

impl Recorded {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let recorded: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is no file of `tripline run --record`", path.display()))?;
        if recorded.version != RECORDED_VERSION {
            bail!(
                "{}: form {} of another version of Tripline, expected {RECORDED_VERSION}",
                path.display(),
                recorded.version
            );
        }
        Ok(recorded)
    }

    /// Runs it again, on the source in a file if one is given.
    pub(super) fn again(self, source: Option<&Path>) -> anyhow::Result<Value> {
        let program = match source {
            Some(path) => compile(path)?.program,
            None => {
                let find = |wanted: &Wanted| {
                    let same = |module: &&LocalModule| module.specifier == wanted.specifier;
                    let found = self.modules.iter().find(same).cloned();
                    found.ok_or_else(|| "it was not recorded".to_owned())
                };
                link(&self.name, self.language, &self.source, find)
                    .map_err(|error| anyhow::anyhow!("the recorded source: {error}"))?
            }
        };
        let RecordedEvent { uid, accepted_at, id, source, r#type, subject, time, data } =
            self.event;
        let event = Event {
            seq: Seq::ZERO,
            uid,
            accepted_at,
            envelope: Envelope {
                id,
                source,
                event_type: r#type,
                subject,
                time,
                datacontenttype: None,
                dataschema: None,
                extensions: None,
                encoding: DataEncoding::Json,
            },
            data: Bytes::from(data),
            lineage: Lineage::default(),
        };
        let mut run = local_run(event);
        run.facts.run_id = self.run_id;
        run.tape = Some(Arc::new(self.recording.tape.clone()));
        let host = Rc::new(host::Recorded::new(self.recording.calls.clone()));
        let asked = Rc::clone(&host) as Rc<dyn Host>;
        let program = Arc::new(program);
        let report = actix::System::new().block_on(run_once(self.name, program, run, asked))?;
        let then = Then { outcome: &self.outcome, logs: &self.logs };
        let rerun = Rerun::of(&self.recording, &then, report, host.questions());
        let mut shown = as_json(&rerun.outcome.report);
        shown["same"] = json!(rerun.is_same());
        shown["differs"] = json!(rerun.differs);
        shown["first_difference"] = rerun.difference.map_or(Value::Null, |found| {
            json!({ "call": found.number, "recorded": found.recorded, "rerun": found.rerun })
        });
        shown["steps"] = json!(rerun.steps);
        Ok(shown)
    }
}

const LOCAL_SUBSCRIPTION: &str = "run";

fn local_run(event: Event) -> Run {
    Run {
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
        record: true,
        tape: None,
    }
}

/// One run on a thread of this process: the author's own script on the author's own machine.
async fn run_once(
    name: String,
    program: Arc<Program>,
    run: Run,
    host: Rc<dyn Host>,
) -> anyhow::Result<RunReport> {
    let config =
        SandboxConfig { isolation: Isolation::Thread, count: 1, ..SandboxConfig::default() };
    let sandbox = Sandbox::start(config).await?;
    let spec = ContextSpec {
        owner: ContextOwner {
            subscription: SubscriptionId(uuid::Uuid::nil()),
            subscription_name: LOCAL_SUBSCRIPTION.into(),
            script: ScriptId(uuid::Uuid::nil()),
            script_name: name.into(),
            script_version: 0,
        },
        program,
        limits: RunLimits::default(),
    };
    let report = sandbox.try_out(spec, run, host).await;
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
