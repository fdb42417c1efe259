//! Starting what may start: programs, runtimes, limits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use tracing::warn;

use super::{Delivery, InFlight, Lane, PIPELINE, SubscriptionActor};
use crate::{
    actors::programs::{LoadError, Loaded},
    config::Record,
    domain::{ErrorKind, Event, Millis, Ordering, RunError, Span},
    sandbox::{ContextOwner, ContextSpec, IdempotencyKey, Run, RunFacts, RunKey, RunLimits},
};

/// Above this mean duration of a run nothing is queued ahead: another context may be free sooner.
const PIPELINE_RUN_MAX: Duration = Duration::from_millis(5);

impl SubscriptionActor {
    /// Starts what may start.
    pub(super) fn pump(&mut self, ctx: &mut Context<Self>) {
        if !self.slot.runs() || self.core.draining.get() || self.queue.is_empty() {
            return;
        }
        let Some(program) = self.program.clone() else {
            self.load(None, ctx);
            return;
        };
        let now = Millis::now();
        while let Some(delivery) = self.queue.front() {
            if self.core.is_erased(&delivery.event) {
                let delivery = self.queue.pop_front().expect("the front was just seen");
                self.end_erased(&delivery);
                continue;
            }
            if let Some(error) = self.expired(delivery) {
                let delivery = self.queue.pop_front().expect("the front was just seen");
                self.fail(delivery, program.version, Duration::ZERO, None, error, None);
                continue;
            }
            let wanted = delivery.pinned_version().filter(|&version| version != program.version);
            let is_alone = delivery.is_alone();
            if self.is_held(now, ctx) {
                return;
            }
            let pinned = wanted.map(|version| self.pinned(version).ok_or(version)).transpose();
            let program = match &pinned {
                Ok(pinned) => pinned.as_ref().unwrap_or(&program),
                Err(version) => return self.load(Some(*version), ctx),
            };
            let one_is_alone = || self.in_flight.values().any(|flying| flying.delivery.is_alone());
            if !self.in_flight.is_empty() && (is_alone || one_is_alone()) {
                return;
            }
            let Some(lane) = self.free_lane(program, ctx) else { return };
            let delivery = self.queue.pop_front().expect("the front was just seen");
            self.count_start();
            self.start(delivery, lane, program, now);
        }
    }

    /// The program of another version than ours, for a replay that wants it, if it is loaded.
    fn pinned(&self, version: u32) -> Option<Arc<Loaded>> {
        self.pinned.clone().filter(|pinned| pinned.version == version)
    }

    /// The error of a delivery that waited too long. Whoever replays a letter wants it to run.
    fn expired(&self, delivery: &Delivery) -> Option<RunError> {
        let age = self.definition().limits.expires_after?;
        let waited = Millis::at_least().since(delivery.event.accepted_at);
        if waited <= age.0 || delivery.replay() > 0 {
            return None;
        }
        Some(RunError {
            kind: ErrorKind::Expired,
            message: format!(
                "could not start within limits.expires_after ({age}): its event was accepted {} ago",
                Span(Duration::from_secs(waited.as_secs()))
            ),
            stack: None,
        })
    }

    fn count_start(&mut self) {
        if self.definition().limits.rate_limit.is_some() {
            self.rate.start(Instant::now());
        }
    }

    /// Whether the rate limit holds the next run back; if so, it goes on by itself.
    fn is_held(&mut self, now: Millis, ctx: &mut Context<Self>) -> bool {
        let Some(limit) = self.definition().limits.rate_limit else {
            self.rate.clear();
            self.slot.held_until.set(None);
            return false;
        };
        let wait = self.rate.wait(&limit, Instant::now());
        let until = wait.map(|wait| now.plus(wait));
        if let Some(wait) = wait
            && (self.slot.held_until.get() > until || self.goes_on.is_none())
        {
            let again = ctx.run_later(wait, |actor, ctx| {
                actor.goes_on = None;
                actor.guarded(ctx, None, |actor, ctx| {
                    actor.pump(ctx);
                    actor.read_on(ctx);
                });
            });
            if let Some(later) = self.goes_on.replace(again) {
                ctx.cancel_future(later);
            }
        }
        self.slot.held_until.set(until);
        until.is_some()
    }

    /// The runtime with the least to do, if it may take one more; opens one while there are fewer
    /// than `concurrency`.
    fn free_lane(&mut self, program: &Arc<Loaded>, ctx: &mut Context<Self>) -> Option<u32> {
        let definition = self.definition();
        let deep = definition.ordering == Ordering::Relaxed && self.pace < PIPELINE_RUN_MAX;
        let depth = if deep { PIPELINE } else { 1 };
        let concurrency = definition.concurrency as usize;
        let current = || self.lanes.iter().filter(|lane| lane.version == program.version);
        let best =
            current().min_by_key(|lane| lane.in_flight).map(|lane| (lane.id, lane.in_flight));
        match best {
            Some((id, 0)) => Some(id),
            _ if current().count() < concurrency => Some(self.open_lane(program, ctx)),
            Some((id, in_flight)) if in_flight < depth => Some(id),
            _ => None,
        }
    }

    fn open_lane(&mut self, program: &Loaded, ctx: &mut Context<Self>) -> u32 {
        let handle = self.core.sandbox.open(self.spec(program), ctx.address().recipient());
        self.lanes_opened += 1;
        let id = self.lanes_opened;
        self.lanes.push(Lane { id, handle, version: program.version, in_flight: 0 });
        id
    }

    pub(super) fn lane(&mut self, id: u32) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.id == id)
    }

    pub(super) fn limits(&self) -> RunLimits {
        let own = self.definition().limits;
        let defaults = self.core.config.run_limits();
        RunLimits {
            cpu: own.cpu_ms.map_or(defaults.cpu, Duration::from_millis),
            wall: own.wall_ms.map_or(defaults.wall, Duration::from_millis),
            heap_bytes: own
                .memory_bytes
                .and_then(|bytes| usize::try_from(bytes).ok())
                .unwrap_or(defaults.heap_bytes),
            ..defaults
        }
    }

    fn spec(&self, program: &Loaded) -> ContextSpec {
        ContextSpec {
            owner: ContextOwner {
                subscription: self.slot.id,
                subscription_name: Arc::clone(&self.slot.name.borrow()),
                script: program.script,
                script_name: Arc::clone(&program.name),
                script_version: program.version,
            },
            program: Arc::clone(&program.program),
            limits: self.limits(),
        }
    }

    fn start(&mut self, delivery: Delivery, lane: u32, program: &Loaded, now: Millis) {
        let version = program.version;
        let (key, run) = (self.core.next_key(), self.core.next_run(now));
        let policy = &self.definition().retry_policy;
        let row = delivery.row.as_ref();
        let event = &delivery.event;
        let limits = &self.core.config.limits;
        let spread = event.lineage.spread.saturating_mul(u64::from(delivery.fanout.max(1)));
        let within = if event.lineage.hop >= limits.max_hops {
            0
        } else {
            limits.max_spread / spread.max(1)
        };
        let within = u32::try_from(within).unwrap_or(u32::MAX);
        let facts = RunFacts {
            run_id: run,
            attempt: delivery.attempts() + 1,
            max_attempts: policy.max_attempts,
            replayed: delivery.replay() > 0,
            idempotency_key: match row.filter(|row| row.data.is_some()) {
                Some(row) => {
                    let key = format!("{}:{}:{}", row.event, row.subscription, row.replay);
                    IdempotencyKey::Own(key.into())
                }
                None => IdempotencyKey::OfDelivery,
            },
        };
        // The message is needed only near the limit; the common run carries none.
        let loop_message =
            (within < self.core.config.script.emits).then(|| self.loop_message(event).into());
        let request = Run {
            key,
            event: Arc::clone(event),
            data: row.and_then(|row| row.data.clone()).map(Into::into),
            facts: facts.clone(),
            emits_within_loop_limits: within,
            loop_message: Option::clone(&loop_message),
            alone: delivery.is_alone(),
            record: self.core.config.script.record == Record::All,
            tape: None,
        };
        let trace = self.core.doors.tracer.run(&delivery.event).map(Box::new);
        let in_flight = InFlight {
            delivery,
            version,
            grants: Arc::clone(&program.grants),
            mask: program.mask(&self.core.doors.vault),
            lane,
            facts,
            emits_within_loop_limits: within,
            loop_message,
            sent: Instant::now(),
            sent_at: now,
            host: None,
            trace,
            questions: Vec::new(),
        };
        self.in_flight.insert(key, in_flight);
        self.slot.in_flight.set(self.in_flight.len() as u32);
        if let Some(lane) = self.lane(lane) {
            lane.in_flight += 1;
            lane.handle.run(request);
        }
    }

    pub(super) fn loop_message(&self, event: &Event) -> String {
        let cause = event.lineage.cause.map_or_else(
            || "a published event".to_owned(),
            |cause| format!("event {} through subscription {}", cause.event, cause.subscription),
        );
        let limits = &self.core.config.limits;
        format!(
            "an emit of subscription \"{}\" on {} (hop {}, spread {}), caused by {cause}, would pass \
             limits.max_hops ({}) or limits.max_spread ({})",
            self.slot.name.borrow(),
            event.envelope.event_type,
            event.lineage.hop,
            event.lineage.spread,
            limits.max_hops,
            limits.max_spread,
        )
    }

    /// Loads our program, or the one of a version that a replay wants. What waits for it waits in the
    /// queue, where a pause and a crash find it.
    fn load(&mut self, wanted: Option<u32>, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.loading, true) {
            return;
        }
        let definition = self.definition();
        let script = definition.script;
        let version = wanted.or(definition.script_version);
        let programs = self.core.programs.clone();
        let revision = self.program_revision;
        let load = async move { programs.load(script, version).await };
        ctx.spawn(load.into_actor(self).map(move |loaded, actor, ctx| {
            actor.guarded(ctx, None, |actor, ctx| {
                actor.loading = false;
                match loaded {
                    // What it was loaded for has changed meanwhile.
                    _ if actor.program_revision != revision => {}
                    Ok(program) if wanted.is_some() => actor.pinned = Some(program),
                    Ok(program) => actor.program = Some(program),
                    Err(LoadError::Store(error)) => {
                        warn!(subscription = %actor.slot.id, %error, "the script cannot be read yet");
                        ctx.run_later(Duration::from_millis(500), |actor, ctx| actor.pump(ctx));
                        return;
                    }
                    Err(error) => actor.cannot_load(wanted, &error),
                }
                actor.pump(ctx);
                actor.read_on(ctx);
            });
        }));
    }

    /// A script that does not compile (the API refuses those, a version may be gone) is the script's
    /// failure: every delivery that waits for it takes an attempt.
    fn cannot_load(&mut self, wanted: Option<u32>, error: &LoadError) {
        let failure =
            RunError { kind: ErrorKind::Compile, message: error.to_string(), stack: None };
        let version = wanted.or(self.definition().script_version).unwrap_or_default();
        let (failed, others): (Vec<Delivery>, Vec<Delivery>) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(|delivery| wanted.is_none() || delivery.pinned_version() == wanted);
        self.queue = others.into();
        for delivery in failed {
            self.fail_unrun(delivery, version, failure.clone());
        }
    }

    pub(super) fn landed(&mut self, key: RunKey) -> Option<InFlight> {
        let in_flight = self.in_flight.remove(&key)?;
        self.slot.in_flight.set(self.in_flight.len() as u32);
        let current = self.program.as_ref().map(|program| program.version);
        if let Some(lane) = self.lane(in_flight.lane) {
            lane.in_flight -= 1;
            if lane.in_flight == 0 && Some(lane.version) != current {
                self.lanes.retain(|lane| lane.id != in_flight.lane);
            }
        }
        Some(in_flight)
    }

    /// The next delivery loads the program anew; contexts with runs in them go when those end.
    pub(super) fn retire_program(&mut self) {
        (self.program, self.pinned) = (None, None);
        self.program_revision += 1;
        // Versions name contexts: one that must not be used any more gets a number nobody has.
        for lane in &mut self.lanes {
            lane.version = u32::MAX;
        }
        self.lanes.retain(|lane| lane.in_flight > 0);
    }
}
