//! The writer: one thread, one connection, group commit.
//!
//! Takes whatever waits, writes it as one transaction, then answers everybody. A statement that
//! fails costs only the request it belongs to: the batch is split until that one stands alone. A
//! COMMIT that fails closes the intake; the store is opened again and asked whether the commit is
//! there. If it is not, publishers are told (503), and everything else is written again: the
//! outcomes are still in memory, so no delivery has to run twice.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::Recipient;
use metrics::{Counter, Histogram};
use tracing::{error, info, warn};

use super::{
    assemble::{self, Assembled, Now},
    queue::{Intake, Queue},
    request::{KeyChanges, PublishError, Request, Told, WriteError},
};
use crate::{
    domain::{Millis, Seq, alert, block::Outcome, settle::Watermark},
    store::journal::{CommitError, JournalState, JournalStore},
};

/// How long the writer waits before it tries a store again that failed or is full.
const RETRY: Duration = Duration::from_millis(500);

/// Once the server is to stop, a store that fails has so long to come back.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// Without work for so long, the writer tidies the store once.
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// Outages within so long are told of together.
const OUTAGE_EVERY: Duration = Duration::from_secs(60);

/// Commits whose time of arrival is remembered.
const ARRIVALS: usize = 4_096;

/// Events that may be on their way to the router, in bytes, before it has to read them itself.
const ROUTER_BYTES_MAX: u64 = 32 << 20;

/// Where the journal stands, for readers on any thread.
#[derive(Debug, Default)]
pub struct Position {
    pub(super) seq: AtomicU64,
    pub(super) watermark: AtomicU64,
    pub(super) batch: AtomicU64,
    /// Bytes of events handed to the router and not yet routed.
    pub(super) handed_bytes: AtomicU64,
    /// Commits, and the time they took, in microseconds.
    pub(super) commits: AtomicU64,
    pub(super) commit_us: AtomicU64,
}

pub(crate) struct Writer {
    pub(super) store: Box<dyn JournalStore>,
    pub(super) queue: Arc<Queue>,
    pub(super) position: Arc<Position>,
    pub(super) state: JournalState,
    pub(super) watermark: Watermark,
    /// How long the key of an event is known that is not stored any more; `None`: for ever.
    pub(super) dedup: Option<Duration>,
    /// Somebody takes alert events.
    pub(super) alerts: Arc<AtomicBool>,
    /// The intake was closed, and nobody was told yet that it is open again.
    pub(super) outage: Option<Outage>,
    pub(super) outage_told: Option<Instant>,
    pub(super) surroundings: Surroundings,
    pub(super) instruments: Instruments,
    /// Of the latest commits: their last event, and when the first publish in them came.
    pub(super) arrivals: VecDeque<(Seq, Instant)>,
    /// Last event at the start, while what was unsettled then still is.
    pub(super) recovering: Option<Seq>,
}

/// A time, or several close together, in which the journal took no events.
#[derive(Debug)]
pub(super) struct Outage {
    began: Millis,
    intake: Intake,
    times: u64,
}

/// What the writer finds outside of store and queue; the simulation has its own.
pub(crate) struct Surroundings {
    /// Hears of each commit.
    pub(crate) told: Box<dyn Fn(Told) + Send>,
    pub(crate) now: Box<dyn Fn() -> Now + Send>,
    /// Makes ids unguessable.
    pub(crate) salt: Box<dyn Fn() -> u64 + Send>,
    pub(crate) pause: Box<dyn Fn(Duration) + Send>,
}

impl Surroundings {
    pub(super) fn real(told: Recipient<Told>) -> Self {
        Self {
            // `do_send` ignores the mailbox bound; the bytes in it are bounded where it is called.
            told: Box::new(move |message| told.do_send(message)),
            now: Box::new(Now::read),
            salt: Box::new(rand::random::<u64>),
            pause: Box::new(std::thread::sleep),
        }
    }
}

pub(super) struct Instruments {
    commit_seconds: Histogram,
    batch_size: Histogram,
    latency_seconds: Histogram,
    received: Counter,
    succeeded: Counter,
    dead: Counter,
    discarded: Counter,
}

impl Instruments {
    pub(super) fn new() -> Self {
        Self {
            commit_seconds: metrics::histogram!("tripline_journal_commit_seconds"),
            batch_size: metrics::histogram!("tripline_journal_batch_size"),
            latency_seconds: metrics::histogram!("tripline_delivery_latency_seconds"),
            received: metrics::counter!("tripline_events_received_total"),
            succeeded: processed("succeeded"),
            dead: processed("dead"),
            discarded: processed("discarded"),
        }
    }
}

fn processed(outcome: &'static str) -> Counter {
    metrics::counter!("tripline_events_processed_total", "outcome" => outcome)
}

/// How an attempt at a commit ended, beyond success.
enum Failure {
    /// Rolled back because of its content.
    Refused(String),
    /// Nothing was written; the same requests may be tried again.
    NotWritten(Intake),
    /// No commit will ever go through: another process owns the store, or the server is to stop and
    /// the store does not come back.
    Final(String),
}

impl Writer {
    /// Without a thread: whoever has it writes when it likes.
    #[cfg(test)]
    pub(crate) fn new(
        store: Box<dyn JournalStore>,
        state: JournalState,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            store,
            queue: Arc::new(Queue::new()),
            position: Arc::default(),
            watermark: Watermark::at(state.watermark),
            state,
            dedup: None,
            alerts: Arc::default(),
            outage: None,
            outage_told: None,
            surroundings,
            instruments: Instruments::new(),
            arrivals: VecDeque::new(),
            recovering: None,
        }
    }

    /// Runs until the queue is stopped and drained, or the store belongs to somebody else.
    pub(super) fn run(mut self) {
        let mut patience = Some(IDLE_AFTER);
        while let Some(requests) = self.queue.take(patience) {
            if requests.is_empty() {
                // Once for each time of rest.
                patience = None;
                self.tidy();
                continue;
            }
            patience = Some(IDLE_AFTER);
            if let Err(reason) = self.write(requests) {
                error!(%reason, "journal stopped");
                self.queue.set_intake(Intake::Stopped(reason));
                self.queue.stop();
                self.refuse_the_rest();
                return;
            }
        }
        if let Err(error) = self.flush_mark().and_then(|()| self.store.release()) {
            warn!(%error, "the store was not released cleanly; the next start recovers");
        }
        self.queue.set_intake(Intake::Stopped("the server has stopped".into()));
    }

    /// Nothing is to be written: the store may put its house in order.
    fn tidy(&mut self) {
        if let Err(error) = self.store.tidy() {
            warn!(%error, "the store could not be tidied; the next commit tells more");
        }
    }

    /// Writes all of them, whatever it takes. An error is final.
    pub(crate) fn write(&mut self, requests: Vec<Request>) -> Result<(), String> {
        let mut requests = requests;
        requests.retain(
            |request| !matches!(request, Request::Publish(publish) if publish.is_given_up()),
        );
        if requests.is_empty() {
            return Ok(());
        }
        loop {
            match self.attempt(&mut requests) {
                Ok(assembled) => {
                    self.answer(requests, assembled);
                    self.tell_of_outage();
                    return Ok(());
                }
                Err(Failure::Refused(reason)) if requests.len() == 1 => {
                    requests = requests
                        .into_iter()
                        .filter_map(|request| refuse(request, &reason))
                        .collect();
                    if requests.is_empty() {
                        return Ok(());
                    }
                }
                Err(Failure::Refused(_)) => {
                    let right = requests.split_off(requests.len() / 2);
                    self.write(requests)?;
                    return self.write(right);
                }
                Err(Failure::NotWritten(intake)) => {
                    requests = turn_publishers_away(requests, &intake);
                    self.close_intake(intake);
                    self.wait_for_store()?;
                    self.queue.set_intake(Intake::Open);
                    if requests.is_empty() {
                        return Ok(());
                    }
                }
                Err(Failure::Final(reason)) => return Err(reason),
            }
        }
    }

    fn attempt(&mut self, requests: &mut [Request]) -> Result<Assembled, Failure> {
        let keys = assemble::keys(requests);
        let known = if keys.is_empty() {
            Vec::new()
        } else {
            let now = (self.surroundings.now)().wall;
            let forget = self.dedup.map_or(Millis(i64::MIN), |age| now.minus(age));
            match self.store.known(&keys, forget) {
                Ok(known) => known,
                Err(error) => return Err(self.failed(error, self.state.batch + 1, requests)?),
            }
        };
        let mut assembled = assemble::assemble(
            requests,
            known,
            &self.state,
            self.watermark.mark(),
            (self.surroundings.now)(),
            &self.surroundings.salt,
        );
        assembled.commit.recovered = self.has_recovered();
        if !assembled.is_empty() {
            let started = Instant::now();
            if let Err(error) = self.store.commit(&assembled.commit) {
                // An unknown commit that turns out to be there falls through as a success.
                return match self.failed(error, assembled.commit.batch, requests) {
                    Err(Present) => {
                        self.advance(requests, &assembled);
                        Ok(assembled)
                    }
                    Ok(failure) => Err(failure),
                };
            }
            self.measure(started.elapsed(), requests, &assembled);
        }
        self.advance(requests, &assembled);
        Ok(assembled)
    }

    /// Sorts an error. `Err(Present)`: the commit numbered `batch` is in the store after all.
    ///
    /// Publishers hear at once when the store does not open again right away: whether their events
    /// were taken then shows when they post them again.
    fn failed(
        &mut self,
        error: CommitError,
        batch: u64,
        requests: &mut [Request],
    ) -> Result<Failure, Present> {
        match error {
            CommitError::Statement(reason) => Ok(Failure::Refused(reason)),
            CommitError::Full => {
                warn!("the disk of the store is full; intake is closed");
                Ok(Failure::NotWritten(Intake::DiskFull))
            }
            CommitError::Stale { .. } => Ok(Failure::Final(error.to_string())),
            CommitError::Unknown(reason) => {
                error!(%reason, batch, "a commit failed; intake is closed and the store opened again");
                let intake = Intake::Closed(format!("the store failed: {reason}"));
                self.close_intake(intake.clone());
                loop {
                    match self.store.reopen() {
                        Ok(state) if state.epoch != self.state.epoch => {
                            return Ok(Failure::Final(
                                CommitError::Stale { ours: self.state.epoch }.to_string(),
                            ));
                        }
                        Ok(state) if state.batch == batch => {
                            info!(batch, "the commit was written after all");
                            self.queue.set_intake(Intake::Open);
                            return Err(Present);
                        }
                        Ok(state) if state.batch == self.state.batch => {
                            return Ok(Failure::NotWritten(intake));
                        }
                        Ok(state) => return Ok(Failure::Final(self.elsewhere(&state))),
                        Err(stale @ CommitError::Stale { .. }) => {
                            return Ok(Failure::Final(stale.to_string()));
                        }
                        Err(error) => warn!(%error, "the store does not open yet"),
                    }
                    for request in &mut *requests {
                        if let Request::Publish(publish) = request {
                            let reason = "the store failed".to_owned();
                            publish.answer(Err(PublishError::Closed { reason }));
                        }
                    }
                    // The one place where the journal waits for the world: there is nothing to do
                    // but to try again, and publishers are answered by the closed intake meanwhile.
                    (self.surroundings.pause)(RETRY);
                    if let Some(reason) = self.gives_up() {
                        return Ok(Failure::Final(reason));
                    }
                }
            }
        }
    }

    fn close_intake(&mut self, intake: Intake) {
        let outage = self.outage.get_or_insert_with(|| Outage {
            began: Millis::now(),
            intake: intake.clone(),
            times: 0,
        });
        outage.times += u64::from(self.queue.intake() == Intake::Open);
        self.queue.set_intake(intake);
    }

    /// Events are taken again. A store that fails time and again is told of once a minute.
    fn tell_of_outage(&mut self) {
        let told = self.outage_told;
        let is_due = |_: &mut Outage| told.is_none_or(|told| told.elapsed() >= OUTAGE_EVERY);
        let Some(outage) = self.outage.take_if(is_due) else { return };
        let (code, detail) = match &outage.intake {
            Intake::DiskFull => ("disk_full", "the disk of the store was full"),
            Intake::Closed(reason) => ("store_failed", reason.as_str()),
            Intake::Open | Intake::Stopped(_) => return,
        };
        if self.alerts.load(Relaxed) {
            self.outage_told = Some(Instant::now());
            let event =
                alert::opened(code, detail, outage.began, Millis::now(), outage.times.max(1));
            self.queue.submit(Request::Alert(Box::new(event)));
        }
    }

    /// The server is to stop, and has waited for its store for long enough: what is not written
    /// runs again after the next start.
    fn gives_up(&self) -> Option<String> {
        let waited = self.queue.stopping_for().is_some_and(|since| since > STOP_PATIENCE);
        waited.then(|| "the store failed until the server was to stop".to_owned())
    }

    /// The store came back, but not as it was left: one that another one stands in for, perhaps.
    fn elsewhere(&self, state: &JournalState) -> String {
        format!(
            "the store came back at batch {}, and was left at {}: it is a copy from another time, and \
             what came since is not in it",
            state.batch, self.state.batch
        )
    }

    /// Returns once an empty commit goes through.
    fn wait_for_store(&mut self) -> Result<(), String> {
        loop {
            (self.surroundings.pause)(RETRY);
            if let Some(reason) = self.gives_up() {
                return Err(reason);
            }
            let mark = self.mark();
            match self.store.commit(&mark.commit) {
                Ok(()) => {
                    self.advance(&[], &mark);
                    return Ok(());
                }
                Err(error @ CommitError::Stale { .. }) => return Err(error.to_string()),
                Err(CommitError::Unknown(_)) => match self.store.reopen() {
                    Ok(state) if state.epoch != self.state.epoch => {
                        return Err(CommitError::Stale { ours: self.state.epoch }.to_string());
                    }
                    // Written after all, by this try or by one before it: the numbers are the same.
                    Ok(state) if state.batch == mark.commit.batch => {
                        self.advance(&[], &mark);
                        self.state.accepted_at = self.state.accepted_at.max(state.accepted_at);
                        return Ok(());
                    }
                    Ok(state) if state.batch == self.state.batch => {}
                    Ok(state) => return Err(self.elsewhere(&state)),
                    Err(error @ CommitError::Stale { .. }) => return Err(error.to_string()),
                    Err(error) => warn!(%error, "the store does not open yet"),
                },
                Err(error) => warn!(%error, "the store does not take commits yet"),
            }
        }
    }

    /// Writes the mark, which also proves that the store takes commits.
    pub(crate) fn flush_mark(&mut self) -> Result<(), CommitError> {
        let mark = self.mark();
        self.store.commit(&mark.commit)?;
        self.advance(&[], &mark);
        Ok(())
    }

    /// A commit of nothing but numbers: the watermark, as it is by now.
    fn mark(&self) -> Assembled {
        let now = (self.surroundings.now)();
        let mut assembled =
            assemble::assemble(&[], Vec::new(), &self.state, self.watermark.mark(), now, || 0);
        assembled.commit.recovered = self.has_recovered();
        assembled
    }

    /// None of the deliveries that a crash left unsettled took the process down again.
    fn has_recovered(&self) -> bool {
        self.recovering.is_some_and(|upto| self.watermark.mark() >= upto)
    }

    /// The commit is on disk: numbers and watermark follow it.
    fn advance(&mut self, requests: &[Request], assembled: &Assembled) {
        let commit = &assembled.commit;
        if !assembled.is_empty() || requests.is_empty() {
            self.state.batch = commit.batch;
            self.state.seq = commit.seq;
            self.state.run = commit.run;
            self.state.accepted_at = commit.accepted_at;
            self.state.event_bytes = commit.event_bytes;
            self.state.run_bytes = commit.run_bytes;
            if commit.recovered {
                self.recovering = None;
            }
        }
        for request in requests {
            match request {
                Request::Routed { seq, open } => self.watermark.routed(*seq, *open),
                Request::Settle(settlement) if settlement.counted => {
                    self.watermark.settled(settlement.seq);
                }
                Request::Cover(cover) => {
                    for &seq in &cover.counted {
                        self.watermark.settled(seq);
                    }
                }
                _ => {}
            }
        }
        self.state.watermark = self.watermark.mark();
        self.position.seq.store(self.state.seq.0, Relaxed);
        self.position.watermark.store(self.state.watermark.0, Relaxed);
        self.position.batch.store(self.state.batch, Relaxed);
    }

    fn measure(&mut self, took: Duration, requests: &[Request], assembled: &Assembled) {
        self.instruments.commit_seconds.record(took.as_secs_f64());
        self.instruments.batch_size.record(requests.len() as f64);
        self.instruments.received.increment(assembled.commit.events.len() as u64);
        self.position.commits.fetch_add(1, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.position.commit_us.fetch_add(micros, Relaxed);
        self.queue.commit_us.store(micros, Relaxed);
        let arrived = requests.iter().find_map(|request| match request {
            Request::Publish(publish) => Some(publish.arrived),
            _ => None,
        });
        if !assembled.commit.events.is_empty() {
            if self.arrivals.len() == ARRIVALS {
                self.arrivals.pop_front();
            }
            self.arrivals.push_back((assembled.commit.seq, arrived.unwrap_or_else(Instant::now)));
        }
        let now = Instant::now();
        for entry in &assembled.outcomes {
            match entry.outcome {
                Outcome::Succeeded => self.instruments.succeeded.increment(1),
                Outcome::Dead => self.instruments.dead.increment(1),
                Outcome::Discarded => self.instruments.discarded.increment(1),
                Outcome::Retrying | Outcome::Noted => continue,
            }
            let commit = self.arrivals.partition_point(|(last, _)| *last < entry.seq);
            // What came before the commits that are remembered waited for its time on purpose, or
            // since before this start: it would say nothing about how fast this process is.
            let remembered = commit > 0 || self.arrivals.len() < ARRIVALS;
            if let Some((_, arrived)) = self.arrivals.get(commit).filter(|_| remembered) {
                self.instruments.latency_seconds.record(now.duration_since(*arrived).as_secs_f64());
            }
        }
    }

    fn answer(&mut self, requests: Vec<Request>, assembled: Assembled) {
        if !assembled.is_empty() {
            let mut committed = assembled.committed();
            let bytes: usize = committed.events.iter().map(|event| event.weight()).sum();
            if self.position.handed_bytes.load(Relaxed) > ROUTER_BYTES_MAX {
                committed.events.clear();
            } else {
                self.position.handed_bytes.fetch_add(bytes as u64, Relaxed);
            }
            (self.surroundings.told)(Told(Arc::new(committed)));
        }
        let next = assembled.commit.seq.next();
        let mut answers = assembled.answers.into_iter();
        for request in requests {
            // A receiver that is gone has hung up: its answer interests nobody.
            match request {
                Request::Publish(mut publish) => {
                    if let Some(answer) = answers.next() {
                        publish.answer(answer);
                    }
                }
                Request::Change(change) => {
                    let _ = change.reply.send(Ok(next));
                }
                Request::Keys(KeyChanges { reply, .. }) | Request::Cancel(_, reply) => {
                    let _ = reply.send(Ok(()));
                }
                Request::Forget(before, reply) => {
                    let forgotten = self.store.forget(before);
                    let _ = reply.send(forgotten.map_err(|e| WriteError::Refused(e.to_string())));
                }
                Request::Tidy => self.tidy(),
                Request::Barrier(reply) => {
                    let _ = reply.send(());
                }
                _ => {}
            }
        }
    }

    fn refuse_the_rest(&self) {
        while let Some(requests) = self.queue.take(None) {
            for request in requests {
                refuse(request, "the journal has stopped");
            }
        }
    }
}

/// The commit whose outcome was unknown is in the store.
struct Present;

impl From<Present> for Failure {
    /// A look-up of keys is no commit; "present" then only says that the store works again.
    fn from(_: Present) -> Self {
        Self::NotWritten(Intake::Closed("the store was opened again".into()))
    }
}

/// Answers one request that the store will not take, ever. What a run left behind and nobody can
/// store ends as a dead letter that says so: that one is returned, to be written instead.
fn refuse(request: Request, reason: &str) -> Option<Request> {
    match request {
        Request::Settle(settlement) => {
            let substitute = settlement.unstorable(reason);
            if substitute.is_none() {
                error!(
                    reason,
                    seq = settlement.seq.0,
                    "the store refused an outcome without content"
                );
            }
            return substitute.map(|substitute| Request::Settle(Box::new(substitute)));
        }
        Request::Publish(mut publish) => {
            publish.answer(Err(PublishError::Refused(reason.into())));
        }
        Request::Change(change) => {
            let _ = change.reply.send(Err(WriteError::Refused(reason.into())));
        }
        Request::Keys(KeyChanges { reply, .. }) | Request::Cancel(_, reply) => {
            let _ = reply.send(Err(WriteError::Refused(reason.into())));
        }
        Request::Forget(_, reply) => {
            let _ = reply.send(Err(WriteError::Refused(reason.into())));
        }
        other => {
            error!(reason, request = ?other, "the store refused a record of the journal's own")
        }
    }
    None
}

/// Publishers hear at once that nothing was accepted; all others wait for the store.
fn turn_publishers_away(requests: Vec<Request>, intake: &Intake) -> Vec<Request> {
    let error = match intake {
        Intake::DiskFull => PublishError::DiskFull,
        Intake::Closed(reason) | Intake::Stopped(reason) => {
            PublishError::Closed { reason: reason.clone() }
        }
        Intake::Open => PublishError::Busy,
    };
    let mut kept = Vec::new();
    for request in requests {
        match request {
            Request::Publish(mut publish) => publish.answer(Err(error.clone())),
            other => kept.push(other),
        }
    }
    kept
}
