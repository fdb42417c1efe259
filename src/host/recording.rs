//! Recordings: what a run needs to run again without the world around it.
//!
//! The lane keeps the tape (clock, chance, order), the parent what it answered; here both come
//! together, with the secrets masked. A rerun asks [`Recorded`], another host of the same kind.

use std::{cell::RefCell, collections::HashSet, sync::Arc};

use futures::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};

use super::{mask::Mask, modules::Versions, run::Grants, vault::Vault};
use crate::sandbox::{
    Answer, Emit, Host, KvWrite, Question, RunLimits, Space, Tape,
    call::{Blob, FetchResponse},
    tape::Made,
};

/// A run that can run again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Recording {
    pub(crate) script_name: String,
    pub(crate) subscription_name: String,
    pub(crate) limits: RunLimits,
    pub(crate) max_attempts: u32,
    /// `None`: that of its delivery.
    pub(crate) idempotency_key: Option<String>,
    pub(crate) emits_within_loop_limits: u32,
    pub(crate) loop_message: Option<String>,
    /// The payload it ran on, if that was not the event's.
    pub(crate) data: Option<String>,
    pub(crate) calls: Vec<Call>,
    pub(crate) emits: Vec<Emit>,
    pub(crate) kv: Vec<KvWrite>,
    pub(crate) tape: Tape,
    /// Of the program that ran.
    pub(crate) modules: Versions,
}

/// A question of a run, and what it heard; nothing when it ended first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) question: Question,
    pub(crate) answer: Option<Answer>,
}

/// Grows when the form of a recording changes: what this version cannot read it refuses.
const VERSION: u8 = 1;

/// Why a stored recording is none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("it was recorded by another version of Tripline (form {0}, this one reads {VERSION})")]
    Version(u8),
    #[error("the stored recording is damaged")]
    Damaged,
}

impl Recording {
    /// The stored form; `None` when it is longer than `bytes_max`.
    #[must_use]
    pub(crate) fn encode(&self, bytes_max: usize) -> Option<Vec<u8>> {
        let bytes = postcard::to_extend(self, vec![VERSION]).ok()?;
        (bytes.len() <= bytes_max).then_some(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| Unreadable::Damaged),
            Some((other, _)) => Err(Unreadable::Version(*other)),
            None => Err(Unreadable::Damaged),
        }
    }

    /// Hides secrets in everything that is kept. What `sdk.secrets` answered is not kept at all.
    pub(crate) fn mask(&mut self, mask: Option<&Mask>) {
        for call in &mut self.calls {
            if let (Question::Secret { .. }, Some(Answer::Value(value))) =
                (&call.question, &mut call.answer)
            {
                *value = None;
            }
            let Some(mask) = mask else { continue };
            mask_question(&mut call.question, mask);
            if let Some(answer) = &mut call.answer {
                mask_answer(answer, mask);
            }
        }
        if let Some(mask) = mask {
            self.emits.iter_mut().for_each(|emit| mask.json(&mut emit.data));
            self.kv.iter_mut().filter_map(|write| write.value.as_mut()).for_each(|v| mask.json(v));
        }
    }

    /// What the run did, in order.
    #[must_use]
    pub(crate) fn steps(&self) -> Vec<Step> {
        let questions = self.calls.iter().map(|call| call.question.clone()).collect();
        steps(&self.tape, questions, self.emits.clone())
    }

    /// What the run did in order, and what it heard, each in a line as a person reads it.
    #[must_use]
    pub(crate) fn told(&self) -> Vec<Told> {
        let mut calls = self.calls.iter();
        let tell = |step: &Step| {
            let call = if matches!(step, Step::Asked(_)) { calls.next() } else { None };
            Told { call: step.to_string(), answer: call.and_then(Call::told) }
        };
        self.steps().iter().map(tell).collect()
    }
}

/// A call to the host and its answer, each cut to a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// As the author would write it.
    pub call: String,
    /// `None`: nothing came back, as of an emit, or the run ended first.
    pub answer: Option<String>,
}

impl Call {
    fn told(&self) -> Option<String> {
        let text = match self.answer.as_ref()? {
            Answer::Value(_) if matches!(self.question, Question::Secret { .. }) => {
                "the secret".into()
            }
            Answer::Value(Some(json)) => json.clone(),
            Answer::Value(None) => "undefined".into(),
            Answer::Page(page) => {
                let more = if page.more { " and more" } else { "" };
                format!("{} keys{more}", page.items.len())
            }
            Answer::Fetched(response) => {
                let FetchResponse { status, status_text, body, .. } = &**response;
                format!("{status} {status_text}, {} bytes", body.0.len())
            }
            Answer::Refused(reason) => format!("refused: {reason}"),
        };
        Some(crate::sandbox::border::cut(text, STEP_BYTES_MAX))
    }
}

fn mask_question(question: &mut Question, mask: &Mask) {
    match question {
        Question::KvGet { key, .. } => mask.text(key),
        Question::KvList { span, .. } => {
            mask.text(&mut span.prefix);
            if let Some(after) = &mut span.after {
                mask.text(after);
            }
        }
        Question::Secret { .. } => {}
        Question::Fetch(request) => {
            mask.text(&mut request.url);
            request.headers.iter_mut().for_each(|(_, value)| mask.text(value));
            if let Some(body) = &mut request.body {
                mask_bytes(body, mask);
            }
        }
    }
}

fn mask_answer(answer: &mut Answer, mask: &Mask) {
    match answer {
        Answer::Value(Some(json)) => mask.json(json),
        Answer::Page(page) => {
            for (key, value) in &mut page.items {
                mask.text(key);
                mask.json(value);
            }
        }
        Answer::Fetched(response) => {
            mask.text(&mut response.url);
            response.headers.iter_mut().for_each(|(_, value)| mask.text(value));
            mask_bytes(&mut response.body, mask);
        }
        Answer::Refused(reason) => mask.text(reason),
        Answer::Value(None) => {}
    }
}

fn mask_bytes(bytes: &mut Blob, mask: &Mask) {
    if let Some(masked) = mask.bytes(&bytes.0) {
        bytes.0 = masked;
    }
}

/// Something that a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Asked(Question),
    Emitted(Emit),
    Wrote(String),
}

/// Puts what a run did into its order.
#[must_use]
pub(crate) fn steps(tape: &Tape, questions: Vec<Question>, emits: Vec<Emit>) -> Vec<Step> {
    let (mut questions, mut emits) = (questions.into_iter(), emits.into_iter());
    let step = |made: &Made| match made {
        // Asked as the run ended: nobody has heard that one.
        Made::Question => questions.next().map(Step::Asked),
        Made::Emit => emits.next().map(Step::Emitted),
        Made::Write(key) => Some(Step::Wrote(key.clone())),
    };
    tape.made.iter().filter_map(step).collect()
}

/// As the author would write it, cut to a line.
impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |space: &Space| match space {
            Space::Own => String::new(),
            Space::Shared(name) => format!(".namespace({name:?})"),
        };
        let text = match self {
            Self::Asked(Question::KvGet { space, key }) => {
                format!("sdk.kv{}.get({key:?})", of(space))
            }
            Self::Asked(Question::KvList { space, span, limit }) => format!(
                "sdk.kv{}.list({{ prefix: {:?}, after: {:?}, limit: {limit} }})",
                of(space),
                span.prefix,
                span.after.as_deref().unwrap_or_default()
            ),
            Self::Asked(Question::Secret { name }) => format!("sdk.secrets.get({name:?})"),
            Self::Asked(Question::Fetch(request)) => {
                let body = request.body.as_ref().map_or(0, |body| body.0.len());
                let with = if body > 0 { format!(", {body} bytes of body") } else { String::new() };
                format!("fetch({:?}, {}{with})", request.url, request.method)
            }
            Self::Emitted(emit) => format!("sdk.events.emit({:?}, {})", emit.event_type, emit.data),
            Self::Wrote(key) => format!("a write to the key {key:?}"),
        };
        f.write_str(&crate::sandbox::border::cut(text, STEP_BYTES_MAX))
    }
}

const STEP_BYTES_MAX: usize = 500;

/// Answers a rerun from what was answered then. Secrets are those of now: they are not recorded.
pub(crate) struct Recorded {
    calls: Vec<Call>,
    mask: Option<Arc<Mask>>,
    secrets: Option<(Arc<Grants>, Arc<Vault>)>,
    heard: RefCell<Heard>,
}

#[derive(Default)]
struct Heard {
    /// What the rerun asked, masked.
    questions: Vec<Question>,
    /// Recorded calls that were taken.
    taken: HashSet<usize>,
}

impl Recorded {
    /// Without a server there are no secrets.
    #[must_use]
    pub(crate) fn new(calls: Vec<Call>) -> Self {
        Self { calls, mask: None, secrets: None, heard: RefCell::default() }
    }

    pub(crate) fn with_secrets(
        self,
        grants: Arc<Grants>,
        vault: Arc<Vault>,
        mask: Option<Arc<Mask>>,
    ) -> Self {
        Self { mask, secrets: Some((grants, vault)), ..self }
    }

    /// What the rerun asked, in order.
    pub(crate) fn questions(&self) -> Vec<Question> {
        self.heard.borrow().questions.clone()
    }

    /// The recorded call that this question repeats: the one at its place if it is the same, else the
    /// first that is and that nobody has taken.
    fn repeats(&self, question: &Question) -> Option<&Call> {
        let heard = &mut *self.heard.borrow_mut();
        let place = heard.questions.len();
        let same = |&index: &usize| {
            !heard.taken.contains(&index)
                && self.calls.get(index).is_some_and(|call| call.question == *question)
        };
        let found = Some(place).filter(same).or_else(|| (0..self.calls.len()).find(same));
        heard.questions.push(question.clone());
        heard.taken.extend(found);
        found.and_then(|index| self.calls.get(index))
    }

    fn secret(&self, name: &str) -> Answer {
        let value = self.secrets.as_ref().and_then(|(grants, vault)| {
            let granted = grants.secrets.iter().any(|granted| granted == name);
            granted.then(|| vault.get(name)).flatten()
        });
        match value {
            Some(value) => Answer::Value(Some(value.to_string())),
            None => Answer::Refused(format!("the secret `{name}` cannot be read any more")),
        }
    }
}

impl Host for Recorded {
    fn answer(&self, question: Question) -> LocalBoxFuture<'static, Answer> {
        let mut masked = question;
        if let Some(mask) = &self.mask {
            mask_question(&mut masked, mask);
        }
        let answer = match (self.repeats(&masked), &masked) {
            (Some(Call { answer: Some(Answer::Value(_)), .. }), Question::Secret { name }) => {
                Some(self.secret(name))
            }
            (Some(call), _) => call.answer.clone(),
            (None, _) => Some(Answer::Refused(format!(
                "the recorded run did not make this call: {}",
                Step::Asked(masked)
            ))),
        };
        match answer {
            Some(answer) => Box::pin(std::future::ready(answer)),
            // The recorded run ended before it heard of this.
            None => Box::pin(std::future::pending()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_form_is_refused_by_name_and_damage_is_no_panic() {
        assert!(matches!(Recording::decode(&[9, 1, 2]), Err(Unreadable::Version(9))));
        for bytes in [&[][..], &[VERSION], &[VERSION, 255, 255, 255]] {
            assert!(matches!(Recording::decode(bytes), Err(Unreadable::Damaged)), "{bytes:?}");
        }
    }
}
