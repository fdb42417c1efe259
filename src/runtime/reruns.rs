//! Reruns: a recorded run again, offline, on the original source or an edited one.

use std::{rc::Rc, sync::Arc};

use super::{
    Runtime,
    scripts::{SaveError, TestOutcome, as_run},
};
use crate::{
    domain::{Event, EventId, Kind, Language, LogLine, RunError, RunId, RunLog, ScriptId},
    host::{Choice, Grants, Recorded, Recording, Source, Step, Told, Unreadable, steps},
    sandbox::{
        ContextOwner, ContextSpec, Host, IdempotencyKey, Question, Run, RunFacts, RunKey,
        RunReport, Tape, tape::Made,
    },
    store,
};

/// The way to reruns.
#[derive(Clone)]
pub struct Reruns(pub(super) Runtime);

/// A source other than that of the recorded run.
#[derive(Clone, Debug)]
pub struct Edited {
    pub source: String,
    /// `None`: that of the original.
    pub language: Option<Language>,
}

/// How a rerun came out; nothing of it was kept.
#[derive(Clone, Debug)]
pub struct Rerun {
    pub outcome: TestOutcome,
    /// The first call to the host that was not the recorded one.
    pub difference: Option<FirstDifference>,
    /// What else is not as it was.
    pub differs: Vec<Aspect>,
    /// What it did in order, as its author would write it.
    pub steps: Vec<String>,
}

/// A call to the host, counted from 1, as it was recorded and as it is now. `None`: there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstDifference {
    pub number: usize,
    pub recorded: Option<String>,
    pub rerun: Option<String>,
}

/// A part of what comes out of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    Outcome,
    Logs,
    Emits,
    Kv,
}

/// Why there is no rerun.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    #[error("there is no run {0}")]
    NotFound(RunId),
    /// It succeeded (and `script.record` is "failed"), was killed with its lane, or was too long.
    #[error(
        "run {0} was not recorded: recorded are failed runs (or all, with `script.record = \"all\"`) \
         that ended in their lane and fit into `script.record_bytes`"
    )]
    NotRecorded(RunId),
    #[error("run {0} cannot run again: {1}")]
    Unreadable(RunId, Unreadable),
    #[error("run {0} cannot run again: its event {1} was removed by retention")]
    NoEvent(RunId, EventId),
    #[error("run {0} cannot run again: version {2} of script {1} is gone")]
    NoSource(RunId, ScriptId, u32),
    #[error(transparent)]
    Save(#[from] SaveError),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Reruns {
    /// What a recorded run asked of the host, in order, and what it heard. `None`: it was not
    /// recorded, or in a form that this version cannot read.
    pub async fn calls(&self, id: RunId) -> Result<Option<Vec<Told>>, store::Error> {
        let bytes = self.0.store().recordings().find(id).await?;
        let recording = bytes.and_then(|bytes| Recording::decode(&bytes).ok());
        Ok(recording.map(|recording| recording.told()))
    }

    /// Runs a recorded run again; with `edited` on that source instead.
    pub async fn rerun(&self, id: RunId, edited: Option<Edited>) -> Result<Rerun, RerunError> {
        let store = self.0.store();
        let run = store.runs().find(id).await?.ok_or(RerunError::NotFound(id))?;
        let bytes = store.recordings().find(id).await?.ok_or(RerunError::NotRecorded(id))?;
        let recording =
            Recording::decode(&bytes).map_err(|error| RerunError::Unreadable(id, error))?;
        let event = store.events().find(run.event).await?;
        let event = event.ok_or(RerunError::NoEvent(id, run.event))?;
        let (source, language) = self.source(&run, edited).await?;
        let source = Source {
            name: recording.script_name.clone(),
            kind: Kind::Script,
            language,
            text: source,
        };
        let recorded = recording.modules.iter().cloned().collect();
        let choice = Choice { recorded, ..Choice::default() };
        let program = Arc::new(self.0.scripts().link(source, &choice).await?.program);
        let spec = ContextSpec {
            owner: ContextOwner {
                subscription: run.subscription,
                subscription_name: recording.subscription_name.as_str().into(),
                script: run.script,
                script_name: recording.script_name.as_str().into(),
                script_version: run.script_version,
            },
            program,
            limits: recording.limits,
        };
        let again = again(&recording, &run, Arc::new(event));
        let grants = match store.scripts().find(run.script).await? {
            Some(script) => Grants::of(script.id, script.secrets, &script.fetch_allow),
            None => Grants::of(run.script, Vec::new(), &[]),
        };
        let vault = Arc::clone(&self.0.0.vault);
        let mask = grants.mask(&vault).map(Arc::new);
        let (calls, masked) = (recording.calls.clone(), mask.clone());
        let (report, questions) = self
            .0
            .0
            .core
            .call(move |core, _| {
                Box::pin(async move {
                    let host =
                        Rc::new(Recorded::new(calls).with_secrets(Arc::new(grants), vault, masked));
                    let asked = Rc::clone(&host) as Rc<dyn Host>;
                    let report = core.sandbox.try_out(spec, again, asked).await;
                    (report, host.questions())
                })
            })
            .await
            .map_err(SaveError::from)?;
        let mut report = as_run(report);
        if let Some(mask) = &mask {
            mask.report(&mut report);
            report.emits.iter_mut().for_each(|emit| mask.json(&mut emit.data));
            for value in report.kv.iter_mut().filter_map(|write| write.value.as_mut()) {
                mask.json(value);
            }
        }
        let outcome = match (&run.error, &run.result) {
            (Some(error), _) => Err(error.clone()),
            (None, result) => Ok(result.clone().unwrap_or_else(|| "null".to_owned())),
        };
        let then = Then { outcome: &outcome, logs: &run.logs };
        Ok(Rerun::of(&recording, &then, report, questions))
    }

    async fn source(
        &self,
        run: &RunLog,
        edited: Option<Edited>,
    ) -> Result<(String, Language), RerunError> {
        let scripts = self.0.store().scripts();
        let original = scripts.version(run.script, run.script_version).await?;
        match (edited, original) {
            (Some(Edited { source, language }), original) => {
                let language = language.or(original.map(|version| version.language));
                Ok((source, language.unwrap_or(Language::Typescript)))
            }
            (None, Some(version)) => Ok((version.source, version.language)),
            (None, None) => Err(RerunError::NoSource(run.id, run.script, run.script_version)),
        }
    }
}

/// The recorded run as a request.
fn again(recording: &Recording, run: &RunLog, event: Arc<Event>) -> Run {
    Run {
        key: RunKey(0),
        event,
        data: recording.data.clone().map(Into::into),
        facts: RunFacts {
            run_id: run.id,
            attempt: run.attempt,
            max_attempts: recording.max_attempts,
            replayed: run.replay > 0,
            idempotency_key: match &recording.idempotency_key {
                Some(key) => IdempotencyKey::Own(key.as_str().into()),
                None => IdempotencyKey::OfDelivery,
            },
        },
        emits_within_loop_limits: recording.emits_within_loop_limits,
        loop_message: recording.loop_message.as_deref().map(Into::into),
        alone: false,
        record: true,
        tape: Some(Arc::new(recording.tape.clone())),
    }
}

/// How the recorded run came out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Then<'a> {
    pub(crate) outcome: &'a Result<String, RunError>,
    pub(crate) logs: &'a [LogLine],
}

impl Rerun {
    /// Compares what came out. `questions` are those of the rerun, in order.
    pub(crate) fn of(
        recording: &Recording,
        then: &Then<'_>,
        mut report: RunReport,
        questions: Vec<Question>,
    ) -> Self {
        let fetches = questions.iter().filter_map(|question| match question {
            Question::Fetch(request) => Some((request.method.clone(), request.url.clone())),
            _ => None,
        });
        let fetches = fetches.collect();
        // A rerun that was killed with its lane has none: then its calls are all that is known.
        let tape = report.tape.take().unwrap_or_else(|| {
            let made = questions.iter().map(|_| Made::Question).collect();
            Tape { made, ..Tape::default() }
        });
        let (before, now) = (recording.steps(), steps(&tape, questions, report.emits.clone()));
        let difference = first_difference(&before, &now);
        let aspects = [
            (Aspect::Outcome, store::as_stored(&report.outcome) == *then.outcome),
            (Aspect::Logs, report.logs == then.logs),
            (Aspect::Emits, report.emits == recording.emits),
            (Aspect::Kv, report.kv == recording.kv),
        ];
        let differs = aspects.into_iter().filter(|(_, same)| !same).map(|(aspect, _)| aspect);
        Self {
            difference,
            differs: differs.collect(),
            steps: now.iter().map(ToString::to_string).collect(),
            outcome: TestOutcome { report, fetches },
        }
    }

    /// Logs, outcome, calls and writes are those of the recorded run.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.differs.is_empty() && self.difference.is_none()
    }
}

fn first_difference(before: &[Step], now: &[Step]) -> Option<FirstDifference> {
    let at = (0..before.len().max(now.len())).find(|&at| before.get(at) != now.get(at))?;
    let shown = |steps: &[Step]| steps.get(at).map(ToString::to_string);
    Some(FirstDifference { number: at + 1, recorded: shown(before), rerun: shown(now) })
}
