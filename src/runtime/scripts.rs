//! Scripts, as the API and embedding applications handle them: save with a check, try out.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::LocalBoxFuture;

use super::{Runtime, Stopped, subscriptions};
use crate::{
    actors::core::Core,
    domain::{
        DataEncoding, Envelope, Event, EventId, Kind, Language, Limits, Lineage, Millis, RunId,
        Script, ScriptId, Seq, SubscriptionId, SubscriptionState, recent::FAILURE_STEPS,
    },
    host::{self, AllowList, Choice, Grants, LinkError, Linked, NoHost, RunHost, Source},
    sandbox::{
        Answer, CompileError, ContextOwner, ContextSpec, Host, IdempotencyKey, Question, Report,
        Run, RunFacts, RunKey, RunLimits, RunReport,
    },
    store,
    traces::Thread,
};

/// The way to scripts.
#[derive(Clone)]
pub struct Scripts(pub(super) Runtime);

/// Why a script was not saved or not tried out.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("there is no script {0}")]
    NotFound(ScriptId),
    #[error(transparent)]
    Compile(CompileError),
    /// A module's new source does not fit one that imports it.
    #[error("`{0}` imports it, and would not compile any more: {1}")]
    Importer(String, CompileError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<LinkError> for SaveError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Compile(error) => Self::Compile(error),
            LinkError::Store(error) => Self::Store(error),
        }
    }
}

/// What a source is tried out on.
#[derive(Clone, Debug)]
pub struct TestInput {
    pub name: String,
    pub source: String,
    pub language: Language,
    /// A stored event, or one made up from `event_type` and `data`.
    pub event: TestEvent,
    pub limits: Limits,
    /// Makes the requests of `fetch`; else they are held back and shown, too.
    pub fetch: bool,
    /// Whose keys and secrets it reads; `None`: those of nobody.
    pub script: Option<ScriptId>,
}

/// The event of a test run.
#[derive(Clone, Debug)]
pub enum TestEvent {
    Stored(Box<Event>),
    Made { event_type: String, data: Bytes },
}

/// How a test run came out; nothing of it was kept.
#[derive(Clone, Debug)]
pub struct TestOutcome {
    pub report: RunReport,
    /// Requests that it made or would have made: method and URL.
    pub fetches: Vec<(String, String)>,
}

/// Answers a test run: like any other, but for requests to the outside.
struct TestHost {
    run: RunHost,
    fetch: bool,
    fetches: RefCell<Vec<(String, String)>>,
}

impl Host for TestHost {
    fn answer(&self, question: Question) -> LocalBoxFuture<'static, Answer> {
        if let Question::Fetch(request) = &question {
            self.fetches.borrow_mut().push((request.method.clone(), request.url.clone()));
            if !self.fetch {
                let refusal = "fetch: held back in a test run (`\"fetch\": true` has it made)";
                return Box::pin(std::future::ready(Answer::Refused(refusal.into())));
            }
        }
        self.run.answer(question)
    }
}

/// Longest source, in bytes.
pub const SOURCE_BYTES_MAX: usize = 1 << 20;

/// Most hosts in a script's allow-list.
const HOSTS_MAX: usize = 100;

/// Checks the hosts that a script may fetch from.
pub fn check_fetch_allow(hosts: &[String]) -> Result<(), NoHost> {
    if hosts.len() > HOSTS_MAX {
        return Err(NoHost::TooMany(HOSTS_MAX));
    }
    AllowList::parse(hosts).map(drop)
}

/// What the subscriptions of a script are doing.
#[derive(Clone, Debug)]
pub struct ScriptActivity {
    pub active: u64,
    pub paused: u64,
    pub suspended: u64,
    pub inactive: u64,
    /// Failed attempts, since the process started; see [`Recent::failures`].
    pub failures: [u32; FAILURE_STEPS],
}

impl ScriptActivity {
    const NONE: Self =
        Self { active: 0, paused: 0, suspended: 0, inactive: 0, failures: [0; FAILURE_STEPS] };
}

impl Scripts {
    /// What all scripts with subscriptions are doing.
    pub async fn activity(&self) -> Result<HashMap<ScriptId, ScriptActivity>, Stopped> {
        let look = |core: Rc<Core>| {
            let now = Millis::now();
            let mut found = HashMap::<ScriptId, ScriptActivity>::new();
            for slot in core.slots.borrow().values() {
                let activity = found.entry(slot.script.get()).or_insert(ScriptActivity::NONE);
                match subscriptions::state(&core, slot) {
                    SubscriptionState::Active => activity.active += 1,
                    SubscriptionState::Paused => activity.paused += 1,
                    SubscriptionState::Suspended => activity.suspended += 1,
                    SubscriptionState::Inactive => activity.inactive += 1,
                }
                if let Some(recent) = &slot.tally.borrow().recent {
                    let steps = activity.failures.iter_mut().zip(recent.failures(now));
                    steps.for_each(|(sum, failed)| *sum = sum.saturating_add(failed));
                }
            }
            found
        };
        self.0.0.core.call(move |core, _| Box::pin(std::future::ready(look(core)))).await
    }

    /// Compiles a source with the modules that it imports; what saving checks. Answers the names of
    /// all of these.
    pub async fn check(&self, source: Source) -> Result<Vec<String>, SaveError> {
        let linked = self.link(source, &Choice::default()).await?;
        Ok(host::imported(&linked.modules))
    }

    pub(super) async fn link(&self, source: Source, choice: &Choice) -> Result<Linked, SaveError> {
        Ok(host::link(self.0.store(), source, choice).await?)
    }

    /// Checks that whoever imports a module still compiles with a new source of it.
    pub async fn check_importers(&self, id: ScriptId, source: Source) -> Result<(), SaveError> {
        let importers = self.0.store().scripts().importers(&source.name).await?;
        let choice = Choice { instead: Some((id, source)), ..Choice::default() };
        for importer in importers {
            let Script { name, kind, language, source: text, .. } = importer;
            let importer = Source { name: name.clone(), kind, language, text };
            if let Err(SaveError::Compile(error)) = self.link(importer, &choice).await {
                return Err(SaveError::Importer(name, error));
            }
        }
        Ok(())
    }

    /// The script's subscriptions, and those of whoever imports it, load it anew: their next attempt
    /// runs what was saved.
    pub async fn saved(&self, script: &Script) -> Result<(), SaveError> {
        let mut ids = vec![script.id];
        let is_module = script.kind == Kind::Module;
        if is_module {
            let importers = self.0.store().scripts().importers(&script.name).await?;
            ids.extend(importers.into_iter().map(|importer| importer.id));
        }
        self.0
            .0
            .core
            .call(move |core, _| {
                Box::pin(async move {
                    if is_module {
                        core.programs.module_saved();
                    }
                    for id in ids {
                        crate::actors::supervisor::script_changed(&core, id);
                    }
                })
            })
            .await?;
        Ok(())
    }

    /// Runs a source once, with its effects held back and shown.
    pub async fn try_out(&self, input: TestInput) -> Result<TestOutcome, SaveError> {
        let source = Source {
            name: input.name.clone(),
            kind: Kind::Script,
            language: input.language,
            text: input.source,
        };
        let program = Arc::new(self.link(source, &Choice::default()).await?.program);
        let event = match input.event {
            TestEvent::Stored(event) => *event,
            TestEvent::Made { event_type, data } => made_event(&event_type, data),
        };
        let defaults = self.0.config().run_limits();
        let limits = RunLimits {
            cpu: input.limits.cpu_ms.map_or(defaults.cpu, Duration::from_millis),
            wall: input.limits.wall_ms.map_or(defaults.wall, Duration::from_millis),
            heap_bytes: input
                .limits
                .memory_bytes
                .and_then(|bytes| usize::try_from(bytes).ok())
                .unwrap_or(defaults.heap_bytes),
            ..defaults
        };
        let nobody = SubscriptionId(uuid::Uuid::nil());
        let spec = ContextSpec {
            owner: ContextOwner {
                subscription: nobody,
                subscription_name: "test".into(),
                script: input.script.unwrap_or(ScriptId(uuid::Uuid::nil())),
                script_name: input.name.into(),
                script_version: 0,
            },
            program,
            limits,
        };
        let run = Run {
            key: RunKey(0),
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
        let grants = Arc::new(self.grants(input.script).await?);
        let mask = grants.mask(&self.0.0.vault);
        let fetch = input.fetch;
        let (report, fetches) = self
            .0
            .0
            .core
            .call(move |core, _| {
                Box::pin(async move {
                    let run_host = core.host(&grants, BTreeSet::new(), Thread::default());
                    let host =
                        Rc::new(TestHost { run: run_host, fetch, fetches: RefCell::default() });
                    let report =
                        core.sandbox.try_out(spec, run, Rc::clone(&host) as Rc<dyn Host>).await;
                    (report, host.fetches.take())
                })
            })
            .await?;
        let (mut report, mut fetches) = (as_run(report), fetches);
        if let Some(mask) = mask {
            mask.report(&mut report);
            fetches.iter_mut().for_each(|(_, url)| mask.text(url));
        }
        Ok(TestOutcome { report, fetches })
    }

    /// What the script may use now.
    async fn grants(&self, script: Option<ScriptId>) -> Result<Grants, SaveError> {
        let Some(id) = script else {
            return Ok(Grants::of(ScriptId(uuid::Uuid::nil()), Vec::new(), &[]));
        };
        let found = self.0.store().scripts().find(id).await?.ok_or(SaveError::NotFound(id))?;
        Ok(Grants::of(id, found.secrets, &found.fetch_allow))
    }
}

/// A test run ends like any other; what would run again is an error that says why.
pub(super) fn as_run(report: Report) -> RunReport {
    use crate::domain::{ErrorKind, RunError};
    let failed = |kind, message: String| {
        RunReport::unfinished(RunKey(0), RunError { kind, message, stack: None })
    };
    match report {
        Report::Finished(report) => *report,
        Report::Crashed(_, error) => RunReport::unfinished(RunKey(0), error),
        Report::Returned(_) | Report::Asked(_) => {
            failed(ErrorKind::HostCrash, "the lane was stopped; try again".into())
        }
        Report::Broken(reason) => failed(ErrorKind::HostCrash, reason),
    }
}

fn made_event(event_type: &str, data: Bytes) -> Event {
    let now = Millis::now();
    Event {
        seq: Seq::ZERO,
        uid: EventId::numbered(now, Seq::ZERO, rand::random()),
        accepted_at: now,
        envelope: Envelope {
            id: None,
            source: "/tripline/test".into(),
            event_type: event_type.into(),
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            extensions: None,
            encoding: DataEncoding::Json,
        },
        data,
        lineage: Lineage::default(),
    }
}
