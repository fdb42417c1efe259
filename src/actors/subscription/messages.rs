//! What a subscription is told, and what it does then.

use std::{rc::Rc, sync::Arc, time::Duration};

use actix::prelude::*;
use tracing::info;

use super::{Compiled, Delivery, Effects, SubscriptionActor};
use crate::{
    actors::journal::RowChange,
    domain::{Definition, Event, Seq, block::Outcome},
    sandbox::Report,
    store::journal::{DeliveryRow, RowStatus},
};

/// The way in; same thread only.
#[derive(Clone)]
pub(crate) struct SubscriptionHandle(pub(super) Addr<SubscriptionActor>);

impl SubscriptionHandle {
    /// Hands a fresh delivery over. The caller has entered it into the slot's window: when the actor
    /// is gone (it is being restarted), its restart reads it again.
    pub(crate) fn deliver(&self, deliver: Deliver) {
        // `do_send` ignores the mailbox bound: the router has looked at the slot, which counts what
        // is in hand, reports included, and that is the bound (`limits.mailbox`).
        self.0.do_send(deliver);
    }

    /// A message that must not be lost to a full mailbox and comes rarely.
    fn tell<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        SubscriptionActor: Handler<M>,
    {
        // `do_send` ignores the bound: these are few, and bounded by their senders.
        self.0.do_send(message);
    }

    pub(crate) fn due(&self, due: Due) {
        self.tell(due);
    }

    pub(crate) fn changed(&self, from: Seq, definition: Definition) {
        self.tell(Changed { from, definition });
    }

    pub(crate) fn script_changed(&self) {
        self.tell(ScriptChanged);
    }

    /// State changed, memory came free, or it fell behind: look what there is to do.
    pub(crate) fn wake(&self) {
        self.tell(Wake);
    }

    /// Forget what is queued: a cursor covers it.
    pub(crate) fn drop_queue(&self) {
        self.tell(DropQueue);
    }

    pub(crate) fn discard(&self) {
        self.tell(Discard);
    }

    pub(crate) fn stop(&self) {
        self.tell(Stop);
    }

    pub(crate) fn is_gone(&self) -> bool {
        !self.0.connected()
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Deliver {
    pub(crate) event: Arc<Event>,
    /// How many deliveries the event has, this one included.
    pub(crate) fanout: u32,
}

/// A delivery with a row is due: a retry, a replay, a suspect.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Due {
    pub(crate) row: Box<DeliveryRow>,
    /// `None`: the event is gone, which retention does not do.
    pub(crate) event: Arc<Event>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Changed {
    from: Seq,
    definition: Definition,
}

#[derive(Message)]
#[rtype(result = "()")]
struct ScriptChanged;

#[derive(Message)]
#[rtype(result = "()")]
struct Wake;

#[derive(Message)]
#[rtype(result = "()")]
struct DropQueue;

#[derive(Message)]
#[rtype(result = "()")]
struct Discard;

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Deliver> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, deliver: Deliver, ctx: &mut Context<Self>) {
        let culprit = Arc::clone(&deliver.event);
        self.guarded(ctx, Some(culprit), |actor, ctx| {
            let Deliver { event, fanout } = deliver;
            // A cursor was set while this was on its way: the log has it.
            if !actor.slot.holds(event.seq) {
                return;
            }
            if !actor.core.faults.panic_on.is_empty()
                && actor.core.faults.panic_on.iter().any(|t| **t == *event.envelope.event_type)
            {
                panic!("planted: event type {}", event.envelope.event_type);
            }
            actor.take(event, fanout);
            actor.pump(ctx);
        });
    }
}

impl Handler<Due> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, due: Due, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| {
            let Due { row, event } = due;
            actor.core.hold(&event);
            let key = actor.key_of(&event);
            let fanout = actor.core.fanout(&event);
            let slot = &actor.slot;
            slot.rows_in_hand.set(slot.rows_in_hand.get() + 1);
            slot.rows_waiting.set(slot.rows_waiting.get().saturating_sub(1));
            let holds_its_key = row.attempts > 0 || row.status == RowStatus::Suspect;
            let delivery = Delivery::new(event, Some(row), key, fanout);
            match &delivery.key {
                // A retry or suspect never let go of its key; a replay queues up like anybody else.
                Some(key) if holds_its_key => {
                    actor.blocked.entry(Rc::clone(key)).or_default();
                    actor.queue.push_back(delivery);
                }
                _ => actor.enqueue(delivery),
            }
            actor.pump(ctx);
        });
    }
}

impl Handler<Report> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, report: Report, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| actor.report(report, ctx));
    }
}

impl Handler<Changed> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, changed: Changed, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| {
            let Changed { from, definition } = changed;
            let before = actor.definition();
            let other_script = before.script != definition.script
                || before.script_version != definition.script_version
                || before.limits != definition.limits;
            actor.definitions.insert(from, Compiled::of(definition));
            actor.forget_definitions();
            if other_script {
                actor.retire_program();
            }
            actor.pump(ctx);
            actor.read_on(ctx);
        });
    }
}

impl Handler<ScriptChanged> for SubscriptionActor {
    type Result = ();

    /// Whichever version it runs: rights and secrets are the script's.
    fn handle(&mut self, _: ScriptChanged, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| {
            actor.retire_program();
            actor.pump(ctx);
        });
    }
}

impl Handler<Wake> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| {
            actor.pump(ctx);
            actor.read_on(ctx);
        });
    }
}

impl Handler<DropQueue> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, _: DropQueue, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| {
            actor.drop_waiting();
            if actor.slot.runs() {
                // A backfill: its rows were dropped with all else, and nobody will resume it.
                actor.core.release_rows(actor.slot.id);
            }
            actor.pump(ctx);
            actor.read_on(ctx);
        });
    }
}

impl Handler<Discard> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, _: Discard, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| {
            let blocked = std::mem::take(&mut actor.blocked);
            let flying = std::mem::take(&mut actor.in_flight);
            let all: Vec<Delivery> = std::mem::take(&mut actor.queue)
                .into_iter()
                .chain(blocked.into_values().flatten())
                .chain(flying.into_values().map(|in_flight| in_flight.delivery))
                .collect();
            info!(subscription = %actor.slot.id, deliveries = all.len(), "deliveries discarded");
            for delivery in all {
                let row =
                    delivery.row.as_ref().map_or(RowChange::None, |row| RowChange::Done(row.id));
                actor.settle(
                    &delivery,
                    Outcome::Discarded,
                    0,
                    Duration::ZERO,
                    None,
                    Effects::default(),
                    row,
                );
                actor.let_go(&delivery);
            }
            actor.lanes.clear();
            ctx.stop();
        });
    }
}

impl Handler<Stop> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
