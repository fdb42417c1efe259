//! The doors out of a runtime.
//!
//! Everything a script can learn or do beyond computing goes through [`Host`]: clock, chance,
//! console, emits, timers, and what only the parent can answer. [`Live`] is a run as it happens, or as
//! it once happened: its [`Senses`] are the real ones or those of a recording.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    super::{
        Emit, RunLimits,
        border::{EMITS_BYTES_MAX, LOG_LINE_BYTES, cut},
        call::{
            Answer, CallId, FETCHES_OPEN_MAX, KV_BYTES_MAX, KvWrite, LISTS_OPEN_MAX, OPEN_MAX,
            Question, Space, Ttl,
        },
        tape::{Made, Tape, Turn},
    },
    runtime::News,
    senses::{PlayedTurn, Senses},
};
use crate::domain::{
    LogLevel, LogLine,
    kv::{PAGE_ITEMS_MAX, Span},
};

/// Names a timer inside one run; what `setTimeout` returns.
pub(super) type TimerId = u32;

/// What a script can reach, and what the engine asks about it. One run at a time.
pub(super) trait Host {
    /// A run begins: nothing is left of the one before.
    fn begin(&self, limits: &RunLimits, loops: LoopBudget);
    /// The top level of the script's module runs, from the one to the other.
    fn begin_load(&self);
    fn end_load(&self);
    /// It is over: what it did. Open timers are cancelled.
    fn end(&self) -> Effects;
    /// What it has met; meaningful until the next one begins. `None` when that was too much.
    fn tape(&self, out_of_time: bool) -> Option<Tape>;
    /// It comes from a recording.
    fn is_played(&self) -> bool;

    /// Milliseconds since 1970.
    fn now(&self) -> f64;
    /// Milliseconds since some moment, never backwards.
    fn elapsed(&self) -> f64;
    /// Uniform in 0..1.
    fn random(&self) -> f64;
    /// Chance that nobody can guess: for keys and ids.
    fn fill_random(&self, bytes: &mut [u8]);

    /// False once the log is full: no need to format what would be dropped.
    fn log_has_room(&self) -> bool;
    fn log(&self, level: LogLevel, message: String);
    /// Takes an emit into the run's effects, or says why not.
    fn emit(&self, emit: Emit) -> Result<(), String>;

    /// What the run knows of a key: its own write, or what it has read. `None`: it must ask.
    fn kv_known(&self, space: &Space, key: &str) -> Option<Option<String>>;
    /// Takes a write into the run's effects, or says why not.
    fn kv_write(&self, write: KvWrite) -> Result<(), String>;
    /// Asks the parent; the answer comes by [`Host::answered`]. Or says why it may not.
    fn ask(&self, question: Question) -> Result<CallId, String>;
    /// What was asked since the last look.
    fn questions(&self) -> Vec<(CallId, Question)>;
    /// What the run goes on with when an answer has come; `None` when it has not asked this, or its
    /// turn has not come.
    fn answered(&self, call: CallId, answer: Answer) -> Option<News>;
    /// What it goes on with when it is woken; the timers that are due are taken by [`Host::due`].
    fn woken(&self) -> News;
    fn awaits_answer(&self) -> bool;

    fn sleep(&self, span: Duration) -> TimerId;
    fn cancel(&self, timer: TimerId);
    /// Takes the earliest timer whose time has come.
    fn due(&self, now: Instant) -> Option<TimerId>;
    /// When the earliest timer is due; `None` when there is none.
    fn next_due(&self) -> Option<Instant>;
    /// When to wake it: then, or at once, for a recording waits for nobody.
    fn wakes_at(&self) -> Option<Instant>;
}

/// How far a run may go on a chain of emits.
#[derive(Clone, Debug, Default)]
pub(super) struct LoopBudget {
    pub(super) emits: u32,
    /// Names the cycle.
    pub(super) message: Option<String>,
}

/// What a run did to the outside.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) logs: Vec<LogLine>,
    pub(super) emits: Vec<Emit>,
    pub(super) kv: Vec<KvWrite>,
    /// Set when an emit passed the loop limits: the run fails with this, whatever it caught.
    pub(super) looped: Option<String>,
}

/// A run as it happens: effects collected for the report.
pub(super) struct Live {
    senses: RefCell<Senses>,
    run: RefCell<RunState>,
    timers: RefCell<BTreeSet<(Instant, TimerId)>>,
    timers_made: Cell<TimerId>,
    /// Of these, those of earlier runs.
    timers_before: Cell<TimerId>,
    /// One has fired since the run was woken.
    fired: Cell<bool>,
    calls: RefCell<Calls>,
    calls_made: Cell<u32>,
    /// Of these, those of earlier runs.
    calls_before: Cell<u32>,
}

#[derive(Default)]
struct RunState {
    log_room: usize,
    log_bytes: usize,
    emits_max: u32,
    limits: RunLimits,
    emitted_bytes: usize,
    loops: LoopBudget,
    effects: Effects,
    /// Keys that were written or read, by what the run now takes them for.
    keys: BTreeMap<(Space, String), Key>,
    kv_bytes: usize,
    asked: u32,
    fetched: u32,
}

/// A key as the run knows it.
struct Key {
    value: Option<String>,
    /// It was written, to stay so long.
    written: Option<Ttl>,
}

/// Questions to the parent.
#[derive(Default)]
struct Calls {
    fresh: Vec<CallId>,
    open: BTreeMap<CallId, Question>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self::with(Senses::live())
    }

    /// A run from a recording.
    pub(super) fn playing(tape: Tape) -> Self {
        let timers_before = tape.timers_before;
        let host = Self::with(Senses::playing(tape));
        host.timers_made.set(timers_before);
        host
    }

    fn with(senses: Senses) -> Self {
        Self {
            senses: RefCell::new(senses),
            run: RefCell::default(),
            timers: RefCell::default(),
            timers_made: Cell::new(0),
            timers_before: Cell::new(0),
            fired: Cell::new(false),
            calls: RefCell::default(),
            calls_made: Cell::new(0),
            calls_before: Cell::new(0),
        }
    }

    /// What a played run goes on with next.
    fn next_turn(&self) -> Option<PlayedTurn> {
        let calls = self.calls.borrow();
        let open = |call: CallId| calls.open.contains_key(&call);
        self.senses.borrow_mut().next_turn(self.calls_before.get(), open, &self.timers.borrow())
    }

    /// The answer as the script is to see it, its own writes included; `None` when the run has not
    /// asked this.
    fn seen(&self, call: CallId, answer: Answer) -> Option<News> {
        let question = self.calls.borrow_mut().open.remove(&call)?;
        let run = &mut *self.run.borrow_mut();
        let answer = match (question, answer) {
            (Question::KvGet { space, key }, Answer::Value(value)) => {
                // What was written meanwhile is the newer truth.
                let known = run.keys.entry((space, key)).or_insert(Key { value, written: None });
                Answer::Value(known.value.clone())
            }
            (Question::KvList { space, span, limit }, Answer::Page(page)) => {
                let changes = run.changes(&space, &span);
                Answer::Page(page.with(changes, limit as usize))
            }
            (Question::Secret { .. }, answer @ Answer::Value(_))
            | (Question::Fetch(_), answer @ Answer::Fetched(_)) => answer,
            (_, Answer::Refused(reason)) => Answer::Refused(reason),
            _ => Answer::Refused("the answer does not fit the question".into()),
        };
        let number = call.0.wrapping_sub(self.calls_before.get());
        self.senses.borrow_mut().turned(Turn::Answer(number));
        Some(News::Answer(call, answer))
    }
}

impl RunState {
    /// What the run has written in a part of a namespace.
    fn changes(&self, space: &Space, span: &Span) -> impl Iterator<Item = (&str, Option<&str>)> {
        let written = self.keys.iter().filter(|(_, key)| key.written.is_some());
        written
            .filter(move |((of, key), _)| of == space && span.holds(key))
            .map(|((_, name), key)| (name.as_str(), key.value.as_deref()))
    }

    /// A list is asked for with items to spare for those that the run has removed.
    fn as_sent(&self, question: &Question) -> Question {
        let mut question = question.clone();
        if let Question::KvList { space, span, limit } = &mut question {
            let removed = self.changes(space, span).filter(|(_, value)| value.is_none()).count();
            let spare = u32::try_from(removed).unwrap_or(u32::MAX);
            *limit = limit.saturating_add(spare).min(PAGE_ITEMS_MAX);
        }
        question
    }
}

impl Host for Live {
    fn begin(&self, limits: &RunLimits, loops: LoopBudget) {
        let mut run = self.run.borrow_mut();
        run.log_room = limits.log_bytes;
        run.log_bytes = limits.log_bytes;
        run.emits_max = limits.emits;
        run.limits = *limits;
        run.emitted_bytes = 0;
        run.loops = loops;
        run.kv_bytes = 0;
        run.asked = 0;
        run.fetched = 0;
        self.calls_before.set(self.calls_made.get());
        self.timers_before.set(self.timers_made.get());
        self.senses.borrow_mut().begin_run(self.timers_made.get());
    }

    fn begin_load(&self) {
        self.senses.borrow_mut().begin_load();
    }

    fn end_load(&self) {
        self.timers_before.set(self.timers_made.get());
        self.senses.borrow_mut().begin_run(self.timers_made.get());
    }

    fn tape(&self, out_of_time: bool) -> Option<Tape> {
        let mut tape = self.senses.borrow().tape();
        tape.out_of_time = out_of_time;
        (!tape.is_cut()).then_some(tape)
    }

    fn is_played(&self) -> bool {
        self.senses.borrow().is_playing()
    }

    fn end(&self) -> Effects {
        self.timers.borrow_mut().clear();
        *self.calls.borrow_mut() = Calls::default();
        let run = &mut *self.run.borrow_mut();
        let mut effects = std::mem::take(&mut run.effects);
        let written = std::mem::take(&mut run.keys).into_iter();
        effects.kv = written
            .filter_map(|((space, key), Key { value, written })| {
                written.map(|ttl| KvWrite { space, key, value, ttl })
            })
            .collect();
        effects
    }

    fn now(&self) -> f64 {
        self.senses.borrow_mut().clock().0 as f64
    }

    fn elapsed(&self) -> f64 {
        self.senses.borrow_mut().elapsed() as f64 / 10.0
    }

    fn random(&self) -> f64 {
        self.senses.borrow_mut().random()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.senses.borrow_mut().fill_random(bytes);
    }

    fn log_has_room(&self) -> bool {
        self.run.borrow().log_room > 0
    }

    fn log(&self, level: LogLevel, message: String) {
        let run = &mut *self.run.borrow_mut();
        if run.log_room == 0 {
            return;
        }
        let at = self.senses.borrow_mut().clock();
        let cost = message.len() + LOG_LINE_BYTES;
        if cost <= run.log_room {
            run.log_room -= cost;
            run.effects.logs.push(LogLine { level, message, at });
            return;
        }
        let message = cut(message, run.log_room.saturating_sub(LOG_LINE_BYTES));
        run.effects.logs.push(LogLine { level, message, at });
        run.effects.logs.push(LogLine {
            level: LogLevel::Warn,
            message: format!("log cut: a run's limit is {} bytes", run.log_bytes),
            at,
        });
        run.log_room = 0;
    }

    fn emit(&self, emit: Emit) -> Result<(), String> {
        let run = &mut *self.run.borrow_mut();
        let name = |what: String| format!("sdk.events.emit: {what}");
        emit.check(&run.limits).map_err(|refusal| name(refusal.to_string()))?;
        let count = u32::try_from(run.effects.emits.len()).unwrap_or(u32::MAX);
        if count >= run.emits_max {
            return Err(name(format!(
                "a run may emit {} events, and this is one more",
                run.emits_max
            )));
        }
        if run.emitted_bytes + emit.data.len() > EMITS_BYTES_MAX {
            return Err(name(format!("a run may emit {EMITS_BYTES_MAX} bytes of data in all")));
        }
        if count >= run.loops.emits {
            let message = run.loops.message.clone().unwrap_or_else(|| {
                "the chain of emits that led here would pass limits.max_hops or limits.max_spread".into()
            });
            run.effects.looped = Some(message.clone());
            return Err(name(message));
        }
        run.emitted_bytes += emit.data.len();
        run.effects.emits.push(emit);
        self.senses.borrow_mut().made(Made::Emit);
        Ok(())
    }

    fn kv_known(&self, space: &Space, key: &str) -> Option<Option<String>> {
        let run = self.run.borrow();
        run.keys.get(&(space.clone(), key.to_owned())).map(|key| key.value.clone())
    }

    fn kv_write(&self, write: KvWrite) -> Result<(), String> {
        let run = &mut *self.run.borrow_mut();
        write.check(&run.limits)?;
        let size = |value: &Option<String>| value.as_ref().map_or(0, String::len);
        let KvWrite { space, key, value, ttl } = write;
        let at = (space, key);
        let before = run.keys.get(&at);
        let rewrites = before.and_then(|key| key.written);
        if rewrites.is_none() {
            let count = run.keys.values().filter(|key| key.written.is_some()).count();
            if count >= run.limits.kv_writes as usize {
                let limit = run.limits.kv_writes;
                return Err(format!("a run may write {limit} keys, and this is one more"));
            }
        }
        let freed = before.filter(|_| rewrites.is_some()).map_or(0, |key| size(&key.value));
        let bytes = run.kv_bytes - freed + size(&value);
        if bytes > KV_BYTES_MAX {
            return Err(format!("a run may write {KV_BYTES_MAX} bytes of values in all"));
        }
        run.kv_bytes = bytes;
        let ttl = match (ttl, rewrites) {
            (Ttl::Keep, Some(own)) => own,
            (ttl, _) => ttl,
        };
        self.senses.borrow_mut().made(Made::Write(at.1.clone()));
        run.keys.insert(at, Key { value, written: Some(ttl) });
        Ok(())
    }

    fn ask(&self, question: Question) -> Result<CallId, String> {
        question.check()?;
        let run = &mut *self.run.borrow_mut();
        let calls = &mut *self.calls.borrow_mut();
        if calls.open.len() >= OPEN_MAX {
            return Err(format!("{OPEN_MAX} calls are open, which is the limit: await them first"));
        }
        if run.asked >= run.limits.calls {
            let limit = run.limits.calls;
            return Err(format!("a run may make {limit} calls, and this is one more"));
        }
        if let Question::Fetch(_) = question {
            if run.fetched >= run.limits.fetches {
                let limit = run.limits.fetches;
                return Err(format!("a run may fetch {limit} times, and this is once more"));
            }
            let open =
                calls.open.values().filter(|open| matches!(open, Question::Fetch(_))).count();
            if open >= FETCHES_OPEN_MAX {
                return Err(format!("{FETCHES_OPEN_MAX} fetches are open: await them first"));
            }
            run.fetched += 1;
        }
        let lists = |open: &&Question| matches!(open, Question::KvList { .. });
        if lists(&&question) && calls.open.values().filter(lists).count() >= LISTS_OPEN_MAX {
            return Err(format!("{LISTS_OPEN_MAX} lists are open: await them first"));
        }
        run.asked += 1;
        // Never used again by this runtime: an answer that comes late finds nobody.
        let call = CallId(self.calls_made.get().wrapping_add(1));
        self.calls_made.set(call.0);
        calls.open.insert(call, question);
        calls.fresh.push(call);
        self.senses.borrow_mut().made(Made::Question);
        Ok(call)
    }

    fn questions(&self) -> Vec<(CallId, Question)> {
        let run = self.run.borrow();
        let calls = &mut *self.calls.borrow_mut();
        let fresh = std::mem::take(&mut calls.fresh).into_iter();
        fresh.filter_map(|call| Some((call, run.as_sent(calls.open.get(&call)?)))).collect()
    }

    fn answered(&self, call: CallId, answer: Answer) -> Option<News> {
        if !self.calls.borrow().open.contains_key(&call) {
            return None;
        }
        let held = self.senses.borrow_mut().hold(call, answer);
        match held {
            Some(answer) => self.seen(call, answer),
            None => self.next_turn().map(|_| self.woken()),
        }
    }

    fn woken(&self) -> News {
        self.fired.set(false);
        let Some(turn) = self.next_turn() else { return News::TimersDue };
        let answer = self.senses.borrow_mut().take_turn(&turn);
        match (turn, answer) {
            (PlayedTurn::Answer(call), Some(answer)) => {
                self.seen(call, answer).unwrap_or(News::TimersDue)
            }
            (PlayedTurn::OutOfTime, _) => News::OutOfTime,
            _ => News::TimersDue,
        }
    }

    fn awaits_answer(&self) -> bool {
        !self.calls.borrow().open.is_empty()
    }

    fn sleep(&self, span: Duration) -> TimerId {
        let id = self.timers_made.get().wrapping_add(1);
        self.timers_made.set(id);
        self.timers.borrow_mut().insert((Instant::now() + span, id));
        id
    }

    fn cancel(&self, timer: TimerId) {
        self.timers.borrow_mut().retain(|(_, id)| *id != timer);
    }

    fn due(&self, now: Instant) -> Option<TimerId> {
        let mut timers = self.timers.borrow_mut();
        let mut senses = self.senses.borrow_mut();
        let first = if senses.is_playing() {
            let is_set = |timer| timers.iter().any(|(_, id)| *id == timer);
            let fires = senses.fires(is_set)?;
            *timers.iter().find(|(_, id)| *id == fires)?
        } else {
            *timers.first().filter(|(at, _)| *at <= now)?
        };
        timers.remove(&first);
        let number = first.1.wrapping_sub(self.timers_before.get());
        let together = self.fired.replace(true);
        senses.turned(if together { Turn::AlsoTimer(number) } else { Turn::Timer(number) });
        Some(first.1)
    }

    fn wakes_at(&self) -> Option<Instant> {
        if self.is_played() {
            return self.next_turn().map(|_| Instant::now());
        }
        self.next_due()
    }

    fn next_due(&self) -> Option<Instant> {
        self.timers.borrow().first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emit() -> Emit {
        Emit { event_type: "a.b".into(), data: "{}".into(), id: None, subject: None, delay: None }
    }

    #[test]
    fn logs_are_cut_once_with_a_mark_and_refilled_by_the_next_run() {
        let host = Live::new();
        let limits = RunLimits { log_bytes: 100, ..RunLimits::default() };
        for _ in 0..2 {
            host.begin(&limits, LoopBudget { emits: 9, message: None });
            for _ in 0..1_000 {
                host.log(LogLevel::Info, "0123456789".into());
            }
            assert!(!host.log_has_room());
            let messages: Vec<String> =
                host.end().logs.into_iter().map(|line| line.message).collect();
            assert_eq!(
                messages,
                ["0123456789", "0123456789", "…", "log cut: a run's limit is 100 bytes"]
            );
        }
    }

    #[test]
    fn emits_beyond_the_loop_limits_leave_a_mark() {
        let host = Live::new();
        host.begin(
            &RunLimits::default(),
            LoopBudget { emits: 1, message: Some("a -> b -> a".into()) },
        );
        assert_eq!(host.emit(emit()), Ok(()));
        assert!(host.emit(emit()).is_err());
        let effects = host.end();
        assert_eq!((effects.emits.len(), effects.looped.as_deref()), (1, Some("a -> b -> a")));
    }

    #[test]
    fn timers_come_in_the_order_of_their_time_then_of_their_making() {
        let host = Live::new();
        let late = host.sleep(Duration::from_millis(50));
        let (first, second) = (host.sleep(Duration::ZERO), host.sleep(Duration::ZERO));
        host.cancel(second);
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!([host.due(now), host.due(now), host.due(now)], [Some(first), Some(late), None]);
    }
}
