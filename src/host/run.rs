//! One run's questions, and its writes when it has ended.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures::future::LocalBoxFuture;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit, oneshot};

use super::{
    fetch::{AllowList, FetchError, Fetcher},
    ledger::{Clock, CommitError, Ledger, Range, Read, Reader},
    mask::Mask,
    recording::Call,
    vault::Vault,
};
use crate::{
    domain::{
        Millis, ScriptId,
        kv::{Change, Namespace, NoNamespace, PAGE_BYTES_MAX, Page, Span, Stored},
        trace::{TRACEPARENT, TRACESTATE, TraceContext},
    },
    sandbox::{
        Answer, Host, KvWrite, Question, Space, Ttl,
        call::{FetchRequest, KV_BYTES_MAX},
    },
    store::{self, Store},
    traces::{Thread, Tracer},
};

/// What runs are answered from.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) store: Store,
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) fetcher: Arc<Fetcher>,
    /// Memory for what the store answers at once, in KiB.
    pub(crate) room: Arc<Semaphore>,
    /// Most bytes of a recording; 0: nothing is recorded.
    pub(crate) record_bytes: usize,
    pub(crate) tracer: Tracer,
}

/// Memory for what the store answers at once, in KiB: 64 MiB, the shares of 64 lists.
pub(crate) const ROOM_KIB: usize = 64 << 10;

/// What a script may use, as of the version of it that runs.
#[derive(Clone, Debug)]
pub(crate) struct Grants {
    pub(crate) script: ScriptId,
    /// Names of secrets.
    pub(crate) secrets: Vec<String>,
    /// Hosts that it may fetch from.
    pub(crate) fetch: Arc<AllowList>,
}

impl Grants {
    /// Of a script as it was saved. Entries were checked then; what does not parse allows nothing.
    pub(crate) fn of(script: ScriptId, secrets: Vec<String>, fetch_allow: &[String]) -> Self {
        let fetch = AllowList::parse(fetch_allow).unwrap_or_default();
        Self { script, secrets, fetch: Arc::new(fetch) }
    }

    /// Hides the script's secrets, as they are now; `None` when it has none.
    pub(crate) fn mask(&self, vault: &Vault) -> Option<Mask> {
        let values = self.secrets.iter().filter_map(|name| Some((name.clone(), vault.get(name)?)));
        Mask::of(&values.collect::<Vec<_>>())
    }
}

/// Answers one run. Dropping it ends the run as far as others are concerned.
pub(crate) struct RunHost(Rc<Inner>);

struct Inner {
    grants: Arc<Grants>,
    doors: Doors,
    reader: Reader,
    /// Where the run lost before: it takes these turns before it reads anything.
    contested: BTreeSet<Namespace>,
    /// What its requests pass on of the trace it is part of.
    thread: Thread,
    /// Set once they are taken.
    turns: OnceCell<()>,
    notes: RefCell<Notes>,
}

#[derive(Default)]
struct Notes {
    reads: Vec<Read>,
    /// Where the run has asked to read.
    entered: BTreeSet<Namespace>,
    /// When what it has read would expire.
    expiries: HashMap<(Namespace, String), Option<Millis>>,
    /// What it was answered, for its recording; of no use once it is too long.
    calls: Vec<Call>,
    call_bytes: usize,
}

impl RunHost {
    /// For a run that lost conflicts in `contested` before.
    pub(crate) fn new(
        doors: &Doors,
        grants: &Arc<Grants>,
        contested: BTreeSet<Namespace>,
        thread: Thread,
    ) -> Self {
        Self(Rc::new(Inner {
            doors: doors.clone(),
            grants: Arc::clone(grants),
            reader: doors.ledger.reader(),
            contested,
            thread,
            turns: OnceCell::new(),
            notes: RefCell::default(),
        }))
    }

    /// What it asked and was answered; `None` when that is more than a recording may hold.
    pub(crate) fn calls(&self) -> Option<Vec<Call>> {
        let mut notes = self.0.notes.borrow_mut();
        (notes.call_bytes <= self.0.doors.record_bytes).then(|| std::mem::take(&mut notes.calls))
    }

    /// Takes what the run wrote, provided that what it read still holds.
    ///
    /// What is answered must be submitted to the journal before anything else is taken.
    pub(crate) fn commit(&self, writes: Vec<KvWrite>) -> Result<(Clock, Vec<Change>), CommitError> {
        let now = Millis::steady();
        let inner = &*self.0;
        // Namespaces were checked at the border.
        let changes: Vec<Change> =
            writes.into_iter().filter_map(|write| inner.change(write, now).ok()).collect();
        let reads = &inner.notes.borrow().reads;
        let clock = inner.doors.ledger.commit(Some(inner.reader), reads, &changes)?;
        Ok((clock, changes))
    }
}

impl Drop for RunHost {
    fn drop(&mut self) {
        self.0.doors.ledger.leave(self.0.reader);
    }
}

impl Host for RunHost {
    fn answer(&self, question: Question) -> LocalBoxFuture<'static, Answer> {
        let run = Rc::clone(&self.0);
        let call = run.note_question(&question);
        Box::pin(async move {
            let answer = match question {
                Question::KvGet { space, key } => run.get(space, key).await,
                Question::KvList { space, span, limit } => run.list(space, span, limit).await,
                Question::Secret { name } => run.secret(&name),
                Question::Fetch(request) => run.fetch(*request).await,
            };
            let answer = answer.unwrap_or_else(|refusal| Answer::Refused(refusal.to_string()));
            run.note_answer(call, &answer);
            answer
        })
    }
}

/// Why there is no answer, in words for the script's author.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Namespace(#[from] NoNamespace),
    /// The same for secrets that there are and that there are not.
    #[error("no secret `{0}` is granted to this script")]
    NotGranted(String),
    #[error("the secret `{0}` cannot be read now: the server lacks its key")]
    Locked(String),
    #[error("fetch: {0}")]
    Fetch(#[from] FetchError),
    #[error("the store cannot be read now: {0}")]
    Store(#[from] store::Error),
}

/// How long a run waits for others: whoever sits on a turn must not stop its neighbours.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The word that one may go on. Having waited long enough is one, too.
async fn heard(word: Option<oneshot::Receiver<()>>) {
    if let Some(word) = word {
        let _ = tokio::time::timeout(WAIT_MAX, word).await;
    }
}

/// Sends the trace along, unless the script says itself what to send.
fn pass_on(request: &mut FetchRequest, context: &TraceContext) {
    if request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(TRACEPARENT)) {
        return;
    }
    request.headers.push((TRACEPARENT.into(), context.to_string()));
    if let Some(state) = &context.state {
        request.headers.push((TRACESTATE.into(), state.to_string()));
    }
}

fn host_of(url: &str) -> String {
    let url = url::Url::parse(url).ok();
    url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

impl Inner {
    fn namespace(&self, space: &Space) -> Result<Namespace, NoNamespace> {
        match space {
            Space::Own => Ok(Namespace::Script(self.grants.script)),
            Space::Shared(name) => Namespace::shared(name),
        }
    }

    /// Its number, while there is room for it in a recording.
    fn note_question(&self, question: &Question) -> Option<usize> {
        let notes = &mut *self.notes.borrow_mut();
        notes.call_bytes += question.bytes();
        if notes.call_bytes > self.doors.record_bytes {
            notes.calls = Vec::new();
            return None;
        }
        notes.calls.push(Call { question: question.clone(), answer: None });
        Some(notes.calls.len() - 1)
    }

    fn note_answer(&self, call: Option<usize>, answer: &Answer) {
        let notes = &mut *self.notes.borrow_mut();
        notes.call_bytes += answer.bytes();
        if notes.call_bytes > self.doors.record_bytes {
            notes.calls = Vec::new();
        } else if let Some(call) = call.and_then(|call| notes.calls.get_mut(call)) {
            call.answer = Some(answer.clone());
        }
    }

    /// Waits while the namespace is somebody's turn.
    async fn enter(&self, namespace: &Namespace) {
        let take_turns = || async {
            for contested in &self.contested {
                heard(self.doors.ledger.take_turn(contested, self.reader)).await;
            }
        };
        self.turns.get_or_init(take_turns).await;
        let is_mine = self.contested.contains(namespace);
        if !is_mine && self.notes.borrow_mut().entered.insert(namespace.clone()) {
            heard(self.doors.ledger.enter(namespace, self.reader)).await;
        }
    }

    /// Waits until there is memory for an answer of the store. Reads are short, so nobody waits long.
    async fn room(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let share = u32::try_from(bytes / 1_024 + 1).unwrap_or(1);
        // The semaphore is never closed.
        self.doors.room.acquire_many(share).await.ok()
    }

    async fn get(&self, space: Space, key: String) -> Result<Answer, Refusal> {
        let namespace = self.namespace(&space)?;
        self.enter(&namespace).await;
        let now = Millis::steady();
        let what = Range::Key(key.clone());
        let (at, pending) = self.doors.ledger.read(&namespace, &what, self.reader);
        self.notes.borrow_mut().reads.push(Read { namespace: namespace.clone(), what, at });
        let _room = self.room(KV_BYTES_MAX).await;
        let stored = match pending.into_iter().next() {
            Some((_, written)) => written.filter(|stored| stored.lives(now)),
            None => {
                self.doors.store.kv().find(&namespace, &key, now).await?.map(|item| item.stored)
            }
        };
        let expires_at = stored.as_ref().and_then(|stored| stored.expires_at);
        self.notes.borrow_mut().expiries.insert((namespace, key), expires_at);
        Ok(Answer::Value(stored.map(|stored| stored.value.to_string())))
    }

    async fn list(&self, space: Space, span: Span, limit: u32) -> Result<Answer, Refusal> {
        let namespace = self.namespace(&space)?;
        self.enter(&namespace).await;
        let now = Millis::steady();
        let whole = Range::Part { span: span.clone(), upto: None };
        let (at, pending) = self.doors.ledger.read(&namespace, &whole, self.reader);
        let pending: Vec<(String, Option<Stored>)> = pending
            .into_iter()
            .map(|(key, stored)| (key, stored.filter(|stored| stored.lives(now))))
            .collect();
        let _room = self.room(PAGE_BYTES_MAX + KV_BYTES_MAX).await;
        let removed = pending.iter().filter(|(_, stored)| stored.is_none()).count();
        let asked = limit.saturating_add(u32::try_from(removed).unwrap_or(u32::MAX));
        let (items, more) = self.doors.store.kv().page(&namespace, &span, asked, now).await?;
        let items = items.into_iter().map(|item| (item.key, item.stored.value.to_string()));
        let changes = pending
            .iter()
            .map(|(key, stored)| (key.as_str(), stored.as_ref().map(|stored| &*stored.value)));
        let page = Page { items: items.collect(), more }.with(changes, limit as usize);
        let upto = page.items.last().map(|(key, _)| key.clone()).filter(|_| page.more);
        let what = Range::Part { span, upto };
        self.notes.borrow_mut().reads.push(Read { namespace, what, at });
        Ok(Answer::Page(page))
    }

    fn secret(&self, name: &str) -> Result<Answer, Refusal> {
        if !self.grants.secrets.iter().any(|granted| granted == name) {
            return Err(Refusal::NotGranted(name.to_owned()));
        }
        let value = self.doors.vault.get(name).ok_or_else(|| Refusal::Locked(name.to_owned()))?;
        Ok(Answer::Value(Some(value.to_string())))
    }

    async fn fetch(&self, mut request: FetchRequest) -> Result<Answer, Refusal> {
        let allow = Arc::clone(&self.grants.fetch);
        let (span, context) = self.thread.child();
        if let Some(context) = context {
            pass_on(&mut request, &context);
        }
        let asked = span.map(|span| (span, request.method.clone(), host_of(&request.url)));
        let response = self.doors.fetcher.fetch(allow, request).await;
        if let Some((span, method, host)) = asked {
            let status = response.as_ref().map(|response| response.status);
            self.thread.fetched(span, &method, host, status.map_err(ToString::to_string));
        }
        Ok(Answer::Fetched(Box::new(response?)))
    }

    fn change(&self, write: KvWrite, now: Millis) -> Result<Change, NoNamespace> {
        let KvWrite { space, key, value, ttl } = write;
        let at = (self.namespace(&space)?, key);
        let expires_at = match ttl {
            Ttl::Forever => None,
            Ttl::For(span) => Some(now.plus(span)),
            Ttl::Keep => self.notes.borrow().expiries.get(&at).copied().flatten(),
        };
        let (namespace, key) = at;
        let value = value.map(|value| Stored { value: value.into(), expires_at });
        Ok(Change { namespace, key, value })
    }
}
