//! How runs end: what they said, what they leave behind, what becomes of their deliveries.

use std::{collections::BTreeSet, rc::Rc, sync::Arc, time::Duration};

use actix::prelude::*;
use futures::future::{AbortHandle, Abortable};
use serde_json::json;

use super::{Delivery, Effects, InFlight, OpenQuestion, SubscriptionActor};
use crate::{
    actors::{
        journal::{Emission, KeyWrites, Request, RowChange, Settlement},
        supervisor,
    },
    domain::{
        Cause, DataEncoding, DeliveryId, Envelope, ErrorKind, Lineage, Millis, NewEvent, OnDead,
        RunError, RunLog, block::Outcome,
    },
    host::{CommitError, Grants, Recording, RunHost},
    sandbox::{Asked, Emit, Host as _, IdempotencyKey, KvWrite, Report, RunFacts, RunReport},
    store::journal::{DeliveryRow, EventKey},
    traces::{Attributes, Begun, Thread},
};

/// Runs of one attempt that may lose what they read to other runs.
const CONFLICTS_MAX: u32 = 5;
/// Requests waiting for the journal above which runs that succeeded silently are sampled.
const SAMPLE_ABOVE: u64 = 20_000;
/// Under that pressure one run of so many is kept.
const SAMPLE_ONE_OF: u64 = 16;

impl SubscriptionActor {
    pub(super) fn report(&mut self, report: Report, ctx: &mut Context<Self>) {
        match report {
            Report::Finished(report) => match self.landed(report.key) {
                // What it answered was made of the payload, and so is what it would leave behind.
                Some(in_flight) if self.core.is_erased(&in_flight.delivery.event) => {
                    self.end_erased(&in_flight.delivery);
                }
                Some(in_flight) => self.finished(in_flight, *report),
                None => {}
            },
            Report::Returned(key) => {
                if let Some(in_flight) = self.landed(key) {
                    self.queue.push_front(in_flight.delivery);
                }
            }
            Report::Crashed(key, error) => {
                if let Some(in_flight) = self.landed(key) {
                    let mut report = RunReport::unfinished(key, error);
                    report.duration = in_flight.sent.elapsed();
                    self.finished(in_flight, report);
                }
            }
            Report::Asked(asked) => {
                self.asked(asked, ctx);
                return;
            }
            Report::Broken(reason) => {
                self.lanes.clear();
                let mut returned: Vec<InFlight> =
                    std::mem::take(&mut self.in_flight).into_values().collect();
                returned.sort_by_key(|in_flight| std::cmp::Reverse(in_flight.delivery.event.seq));
                for in_flight in returned {
                    self.queue.push_front(in_flight.delivery);
                }
                self.crash(ctx, reason);
                return;
            }
        }
        self.pump(ctx);
        self.read_on(ctx);
    }

    /// Has a question answered; the run waits in its lane meanwhile.
    fn asked(&mut self, asked: Asked, ctx: &mut Context<Self>) {
        let Asked { key, call, question } = asked;
        let core = Rc::clone(&self.core);
        let Some(in_flight) = self.in_flight.get_mut(&key) else { return };
        self.slot.tally.borrow_mut().host_calls += 1;
        self.slot.meters().host_calls.increment(1);
        let InFlight { delivery, grants, lane, host, questions, trace, .. } = in_flight;
        let lane = *lane;
        let host = host.get_or_insert_with(|| {
            let thread = Thread::of(&core.doors.tracer, trace.as_deref(), &delivery.event);
            core.host(grants, delivery.contested.clone(), thread)
        });
        let (abort, registration) = AbortHandle::new_pair();
        questions.push(OpenQuestion(abort));
        let answer = Abortable::new(host.answer(question), registration);
        ctx.spawn(answer.into_actor(self).map(move |answer, actor, _| {
            if let (Ok(answer), Some(lane)) = (answer, actor.lane(lane)) {
                lane.handle.answer(key, call, answer);
            }
        }));
    }

    fn finished(&mut self, in_flight: InFlight, mut report: RunReport) {
        let recording = self.recording(&in_flight, &mut report);
        let InFlight {
            mut delivery, version, grants, mask, facts, sent, sent_at, host, trace, ..
        } = in_flight;
        let script = grants.script;
        if let Some(mask) = mask {
            mask.report(&mut report);
        }
        let attempt = delivery.attempts() + 1;
        let waited = sent.duration_since(delivery.due) + report.waited;
        self.account(&report, waited);
        let outcome = report.outcome.and_then(|result| {
            let emits = self.emissions(&delivery, report.emits, trace.as_deref())?;
            Ok((result, emits))
        });
        // Last, for what is taken here is as good as committed.
        let outcome = match outcome {
            Ok((result, emits)) => match self.keys(&grants, host, report.kv) {
                Ok(kv) => Ok((result, Effects { emits, kv })),
                Err(CommitError::Conflict { namespace, .. })
                    if delivery.conflicts < CONFLICTS_MAX =>
                {
                    self.slot.tally.borrow_mut().kv_conflicts += 1;
                    self.slot.meters().kv_conflicts.increment(1);
                    delivery.conflicts += 1;
                    delivery.contested.insert(namespace);
                    self.queue.push_front(delivery);
                    return;
                }
                Err(error) => Err(RunError {
                    kind: ErrorKind::Exception,
                    message: format!("sdk.kv: {error}"),
                    stack: None,
                }),
            },
            Err(error) => Err(error),
        };
        let keep = outcome.is_err() || !report.logs.is_empty() || self.keeps_runs();
        let (result, effects, error) = match outcome {
            Ok((result, effects)) => (Some(result), effects, None),
            Err(error) => (None, Effects::default(), Some(error)),
        };
        let kept = keep.then(|| {
            Arc::new(RunLog {
                id: facts.run_id,
                event: delivery.event.uid,
                seq: delivery.event.seq,
                subscription: self.slot.id,
                script,
                script_version: version,
                attempt,
                replay: delivery.replay(),
                error: error.clone(),
                result,
                logs: report.logs,
                warnings: report.warnings,
                started_at: sent_at.plus(report.waited),
                duration: report.duration,
                cpu: report.cpu,
                queued: waited,
                emitted: Vec::new(),
                recording,
            })
        });
        let traced = trace.map(|trace| self.traced(*trace, &delivery, &facts, waited, &effects));
        let ended = traced.as_ref().and_then(|_| error.clone());
        let is_dead = match error {
            None => {
                self.succeed(delivery, version, report.duration, kept, effects);
                false
            }
            Some(error) => {
                self.fail(delivery, version, report.duration, kept, error, report.retry_after)
            }
        };
        if let Some((span, attributes)) = traced {
            self.core.doors.tracer.ran(span, &self.slot.name.borrow(), attributes, ended, is_dead);
        }
    }

    /// What a run's span says of it. What it emitted is recorded here.
    fn traced(
        &self,
        span: Begun,
        delivery: &Delivery,
        facts: &RunFacts,
        waited: Duration,
        effects: &Effects,
    ) -> (Begun, Attributes) {
        let emits = effects.emits.iter().map(|emission| &emission.event);
        self.core.doors.tracer.emitted(&span, emits);
        let event = &delivery.event;
        let attributes = vec![
            ("tripline.run.id", json!(facts.run_id)),
            ("tripline.run.attempt", json!(facts.attempt)),
            ("tripline.run.queued_ms", json!(waited.as_secs_f64() * 1_000.0)),
            ("tripline.subscription.id", json!(self.slot.id)),
            ("tripline.replay", json!(delivery.replay())),
            ("cloudevents.event_id", json!(event.id())),
            ("cloudevents.event_type", json!(*event.envelope.event_type)),
            ("tripline.event.uid", json!(event.uid)),
        ];
        (span, attributes)
    }

    /// What a run needs to run again, if its lane has kept its part and all of it is not too much.
    fn recording(&self, in_flight: &InFlight, report: &mut RunReport) -> Option<Vec<u8>> {
        let tape = report.tape.take()?;
        let room = self.core.config.script.record_room();
        if room == 0 {
            return None;
        }
        let calls = in_flight.host.as_ref().map_or_else(|| Some(Vec::new()), RunHost::calls)?;
        let row = in_flight.delivery.row.as_ref();
        let mut recording = Recording {
            script_name: self.program.as_ref().map_or("", |program| &program.name).to_owned(),
            subscription_name: self.slot.name.borrow().to_string(),
            limits: self.limits(),
            max_attempts: in_flight.facts.max_attempts,
            idempotency_key: match &in_flight.facts.idempotency_key {
                IdempotencyKey::OfDelivery => None,
                IdempotencyKey::Own(key) => Some(key.to_string()),
            },
            emits_within_loop_limits: in_flight.emits_within_loop_limits,
            loop_message: in_flight.loop_message.as_ref().map(ToString::to_string),
            data: row.and_then(|row| row.data.clone()),
            calls,
            emits: report.emits.clone(),
            kv: report.kv.clone(),
            tape,
            modules: self.program.as_ref().map_or_else(Vec::new, |program| program.modules.clone()),
        };
        recording.mask(in_flight.mask.as_deref());
        recording.encode(room)
    }

    /// Takes what a successful run wrote, if what it read still holds.
    fn keys(
        &self,
        grants: &Arc<Grants>,
        host: Option<RunHost>,
        writes: Vec<KvWrite>,
    ) -> Result<KeyWrites, CommitError> {
        let host = match host {
            Some(host) => host,
            None if writes.is_empty() => return Ok(KeyWrites::default()),
            None => self.core.host(grants, BTreeSet::new(), Thread::default()),
        };
        let (clock, changes) = host.commit(writes)?;
        Ok(KeyWrites { clock, changes })
    }

    fn keeps_runs(&mut self) -> bool {
        self.runs += 1;
        let keep =
            self.core.journal.waiting() < SAMPLE_ABOVE || self.runs.is_multiple_of(SAMPLE_ONE_OF);
        if !keep {
            self.slot.tally.borrow_mut().sampled += 1;
        }
        keep
    }

    fn account(&mut self, report: &RunReport, waited: Duration) {
        self.pace = (self.pace * 7 + report.duration) / 8;
        let meters = self.slot.meters();
        meters.duration.record(report.duration.as_secs_f64());
        meters.cpu.record(report.cpu.as_secs_f64());
        meters.waited.record(waited.as_secs_f64());
        let mut tally = self.slot.tally.borrow_mut();
        tally.cpu_us += u64::try_from(report.cpu.as_micros()).unwrap_or(0);
        tally.waited_us += u64::try_from(waited.as_micros()).unwrap_or(0);
        tally.wall_us += u64::try_from(report.duration.as_micros()).unwrap_or(0);
        tally.heap_bytes = report.heap_bytes;
        tally.recent.get_or_insert_default().ran(Millis::now(), report.duration);
    }

    /// What a successful run emits, as events to be.
    fn emissions(
        &self,
        delivery: &Delivery,
        emits: Vec<Emit>,
        trace: Option<&Begun>,
    ) -> Result<Vec<Emission>, RunError> {
        if emits.is_empty() {
            return Ok(Vec::new());
        }
        let event = &delivery.event;
        let id = DeliveryId::of(event.uid, self.slot.id);
        let replay = delivery.replay();
        let spread = event
            .lineage
            .spread
            .saturating_mul(u64::from(delivery.fanout.max(1)))
            .saturating_mul(emits.len() as u64);
        let source: Arc<str> = format!("/tripline/subscriptions/{}", self.slot.id).into();
        let lineage = Lineage {
            cause: Some(Cause { event: event.uid, subscription: self.slot.id }),
            hop: event.lineage.hop + 1,
            spread,
        };
        if lineage.hop > self.core.config.limits.max_hops
            || spread > self.core.config.limits.max_spread
        {
            // The lane refuses these; one that does not is not trusted.
            return Err(RunError {
                kind: ErrorKind::HopLimit,
                message: self.loop_message(event),
                stack: None,
            });
        }
        let thread = Thread::of(&self.core.doors.tracer, trace, event);
        let emission = |(ordinal, emit): (usize, Emit)| {
            let chosen = emit.id.is_some();
            let id = emit.id.unwrap_or_else(|| format!("{id}.{replay}.{ordinal}"));
            let event = NewEvent {
                envelope: Envelope {
                    id: Some(id.into()),
                    source: Arc::clone(&source),
                    event_type: emit.event_type.into(),
                    subject: emit.subject.map(Into::into),
                    time: None,
                    datacontenttype: None,
                    dataschema: None,
                    extensions: thread.child().1.map(|context| context.extend(None)),
                    encoding: DataEncoding::Json,
                },
                data: emit.data.into(),
                lineage: lineage.clone(),
            };
            let key = if chosen { EventKey::of(&event) } else { None };
            let due_at = emit.delay.map(|delay| Millis::steady().plus(delay));
            Emission { event, key, due_at }
        };
        Ok(emits.into_iter().enumerate().map(emission).collect())
    }

    /// Ends a delivery whose payload was erased: a person wanted it so, hence discarded. A run that
    /// is under way leaves nothing behind.
    pub(super) fn end_erased(&mut self, delivery: &Delivery) {
        let row = delivery.row.as_ref().map_or(RowChange::None, |row| RowChange::Done(row.id));
        let none = Effects::default();
        self.settle(delivery, Outcome::Discarded, 0, Duration::ZERO, None, none, row);
        self.let_go(delivery);
        self.free_key(delivery.key.as_ref());
    }

    fn succeed(
        &mut self,
        delivery: Delivery,
        version: u32,
        duration: Duration,
        run: Option<Arc<RunLog>>,
        effects: Effects,
    ) {
        self.slot.meters().succeeded.increment(1);
        {
            let mut tally = self.slot.tally.borrow_mut();
            tally.succeeded += 1;
            tally.breaker.succeeded(Millis::steady());
        }
        let row = match &delivery.row {
            Some(row) => RowChange::Done(row.id),
            None => RowChange::None,
        };
        self.settle(&delivery, Outcome::Succeeded, version, duration, run, effects, row);
        self.let_go(&delivery);
        self.free_key(delivery.key.as_ref());
    }

    /// True if it is dead, false if it is tried again.
    pub(super) fn fail(
        &mut self,
        delivery: Delivery,
        version: u32,
        duration: Duration,
        run: Option<Arc<RunLog>>,
        error: RunError,
        retry_after: Option<Duration>,
    ) -> bool {
        let policy = &self.definition().retry_policy;
        let failed = policy.failed(error.kind, delivery.attempts(), retry_after, rand::random());
        let (dead, now) = (failed.wait.is_none(), Millis::now());
        let old = delivery.row.as_deref();
        let row = DeliveryRow {
            script_version: version,
            ..DeliveryRow::failed(
                old,
                &delivery.event,
                self.slot.id,
                failed,
                error.clone(),
                now,
                Millis::steady(),
            )
        };
        {
            let mut tally = self.slot.tally.borrow_mut();
            tally.last_error = Some(format!("{}: {}", error.kind.as_str(), error.message));
            tally.recent.get_or_insert_default().failed(now);
            if dead {
                self.slot.meters().dead.increment(1);
                tally.dead += 1;
                if error.kind != ErrorKind::Expired {
                    tally.breaker.died(row.first_failed_at.unwrap_or(now).by_steady());
                }
            } else {
                self.slot.meters().failed.increment(1);
                tally.failed += 1;
            }
        }
        let outcome = if dead { Outcome::Dead } else { Outcome::Retrying };
        let row = RowChange::Upsert(Box::new(row));
        self.settle(&delivery, outcome, version, duration, run, Effects::default(), row);
        self.let_go(&delivery);
        if dead {
            self.died(&delivery, &error);
        } else {
            // The scheduler hears of it from the commit. Its key stays blocked until then.
            self.slot.rows_waiting.set(self.slot.rows_waiting.get() + 1);
        }
        dead
    }

    /// Strict order may stop here, and so may a breaker.
    fn died(&mut self, delivery: &Delivery, error: &RunError) {
        let definition = self.definition();
        let strict_stop = delivery.key.is_some() && definition.on_dead == OnDead::Suspend;
        let limit = self.core.config.supervisor.breaker.dead_letters;
        let tripped = self.slot.tally.borrow().breaker.tripped(limit);
        if strict_stop {
            let reason = format!(
                "strict order: the delivery of event {} is dead ({}: {})",
                delivery.event.uid,
                error.kind.as_str(),
                error.message
            );
            self.suspend(reason);
        } else if let Some(in_a_row) = tripped {
            self.suspend(format!(
                "circuit breaker: {in_a_row} dead letters in a row, the last one {}: {}",
                error.kind.as_str(),
                error.message
            ));
        }
        self.free_key(delivery.key.as_ref());
    }

    fn suspend(&mut self, reason: String) {
        supervisor::suspend(&self.core, &self.slot, reason);
    }

    /// A delivery that failed before it could run.
    pub(super) fn fail_unrun(&mut self, delivery: Delivery, version: u32, error: RunError) {
        let now = Millis::now();
        let run = Arc::new(RunLog {
            id: self.core.next_run(now),
            event: delivery.event.uid,
            seq: delivery.event.seq,
            subscription: self.slot.id,
            script: self.definition().script,
            script_version: version,
            attempt: delivery.attempts() + 1,
            replay: delivery.replay(),
            error: Some(error.clone()),
            result: None,
            logs: Vec::new(),
            warnings: Vec::new(),
            started_at: now,
            duration: Duration::ZERO,
            cpu: Duration::ZERO,
            queued: delivery.due.elapsed(),
            emitted: Vec::new(),
            recording: None,
        });
        self.fail(delivery, version, Duration::ZERO, Some(run), error, None);
    }

    #[allow(clippy::too_many_arguments)] // one call per field of the settlement
    pub(super) fn settle(
        &self,
        delivery: &Delivery,
        outcome: Outcome,
        script_version: u32,
        duration: Duration,
        run: Option<Arc<RunLog>>,
        effects: Effects,
        row: RowChange,
    ) {
        let counted = self.slot.feed.borrow().holds_watermark(delivery.row.is_some());
        self.core.journal.submit(Request::Settle(Box::new(Settlement {
            seq: delivery.event.seq,
            event: delivery.event.uid,
            subscription: self.slot.id,
            outcome,
            script_version,
            attempt: delivery.attempts()
                + u32::from(run.is_some() || outcome == Outcome::Succeeded),
            replay: delivery.replay(),
            duration,
            counted,
            late: !counted,
            run,
            emits: effects.emits,
            kv: effects.kv,
            row,
            letter: delivery.row.as_ref().and_then(|row| row.letter),
        })));
    }

    /// The delivery is not in hand any more.
    pub(super) fn let_go(&self, delivery: &Delivery) {
        self.core.release(&delivery.event);
        if delivery.row.is_some() {
            self.slot.rows_in_hand.set(self.slot.rows_in_hand.get().saturating_sub(1));
        } else {
            self.slot.feed.borrow_mut().settle(delivery.event.seq);
        }
    }
}
