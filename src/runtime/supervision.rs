//! The live supervision tree, and restarts by hand.

use std::collections::HashMap;

use serde::Serialize;

use super::{Runtime, Stopped};
use crate::{
    actors::supervisor::{Restart, Restarts},
    domain::{Millis, SubscriptionId},
};

/// The way to the actors.
#[derive(Clone)]
pub struct Supervision(pub(super) Runtime);

/// One actor, as `/api/v1/actors` shows it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ActorNode {
    pub id: String,
    pub kind: &'static str,
    pub name: String,
    /// `running`, `behind`, `paused`, `suspended`, `restarting`, `stopped`.
    pub state: &'static str,
    pub state_reason: Option<String>,
    /// Messages or deliveries it has in hand.
    pub mailbox: u64,
    pub restarts_in_window: u32,
    pub restarts: u32,
    /// When its supervisor starts it again, while it waits after a crash.
    #[schema(required = true)]
    pub restart_at: Option<Millis>,
    pub last_crash: Option<Crash>,
    pub restartable: bool,
    pub cpu_ms: f64,
    pub memory_bytes: u64,
    #[schema(no_recursion)]
    pub children: Vec<ActorNode>,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Crash {
    pub at: Millis,
    pub message: String,
}

impl ActorNode {
    fn plain(id: &str, kind: &'static str, connected: bool, mailbox: u64) -> Self {
        Self {
            id: id.into(),
            kind,
            name: id.into(),
            state: if connected { "running" } else { "stopped" },
            state_reason: None,
            mailbox,
            restarts_in_window: 0,
            restarts: 0,
            restart_at: None,
            last_crash: None,
            restartable: false,
            cpu_ms: 0.0,
            memory_bytes: 0,
            children: Vec::new(),
        }
    }
}

impl Supervision {
    /// The tree as it is now.
    pub async fn tree(&self) -> Result<ActorNode, Stopped> {
        let inner = &self.0.0;
        let addresses = &inner.addresses;
        let recent: HashMap<SubscriptionId, u32> =
            addresses.supervisor.send(Restarts).await.map_err(|_| Stopped)?.into_iter().collect();
        let (subscriptions, lanes) = inner
            .core
            .call(move |core, _| {
                Box::pin(async move {
                    let mut nodes: Vec<ActorNode> = core
                        .slots
                        .borrow()
                        .values()
                        .map(|slot| subscription_node(slot, recent.get(&slot.id).copied()))
                        .collect();
                    nodes.sort_by(|a, b| a.name.cmp(&b.name));
                    let lanes: Vec<ActorNode> =
                        core.sandbox.lanes().iter().map(lane_node).collect();
                    (nodes, lanes)
                })
            })
            .await?;
        let mut root = ActorNode::plain("tripline", "runtime", true, 0);
        let mut supervisor =
            ActorNode::plain("supervisor", "SupervisorActor", addresses.supervisor.connected(), 0);
        supervisor.children = subscriptions;
        let mut sandbox = ActorNode::plain("lanes", "Sandbox", true, 0);
        sandbox.children = lanes;
        let waiting = inner.journal.waiting();
        let routing = inner.journal.backlog();
        root.children = vec![
            ActorNode::plain("journal", "JournalActor", addresses.journal.connected(), waiting),
            ActorNode::plain("router", "RouterActor", addresses.router.connected(), routing),
            supervisor,
            ActorNode::plain("scheduler", "SchedulerActor", addresses.scheduler.connected(), 0),
            ActorNode::plain(
                "dead-letters",
                "DeadLetterActor",
                addresses.dead_letters.connected(),
                0,
            ),
            ActorNode::plain("live-feed", "LiveFeedActor", addresses.live.connected(), 0),
            sandbox,
        ];
        Ok(root)
    }

    /// Restarts a subscription's actor; its deliveries in hand run again, uncounted. False: there
    /// is no such actor, or it is not one that restarts by hand.
    pub async fn restart(&self, id: &str) -> Result<bool, Stopped> {
        let Ok(id) = id.parse::<SubscriptionId>() else { return Ok(false) };
        let known = self
            .0
            .0
            .core
            .call(move |core, _| Box::pin(async move { core.slot(id).is_some() }))
            .await?;
        if known {
            self.0.0.addresses.supervisor.send(Restart(id)).await.map_err(|_| Stopped)?;
        }
        Ok(known)
    }
}

fn subscription_node(
    slot: &crate::actors::core::Slot,
    restarts_in_window: Option<u32>,
) -> ActorNode {
    let tally = slot.tally.borrow();
    let suspended = slot.suspended.borrow();
    let state = if suspended.is_some() {
        "suspended"
    } else if slot.paused.get() {
        "paused"
    } else if slot.restart_at.get().is_some()
        || slot.handle.borrow().as_ref().is_none_or(|handle| handle.is_gone())
    {
        "restarting"
    } else if slot.is_live() {
        "running"
    } else {
        "behind"
    };
    ActorNode {
        id: slot.id.to_string(),
        kind: "SubscriptionActor",
        name: slot.name.borrow().to_string(),
        state,
        state_reason: suspended.clone(),
        mailbox: slot.in_hand() as u64,
        restarts_in_window: restarts_in_window.unwrap_or(0),
        restarts: tally.restarts,
        restart_at: slot.restart_at.get(),
        last_crash: tally
            .last_crash
            .as_ref()
            .map(|(at, message)| Crash { at: *at, message: message.clone() }),
        restartable: true,
        cpu_ms: tally.cpu_us as f64 / 1_000.0,
        memory_bytes: tally.heap_bytes,
        children: Vec::new(),
    }
}

fn lane_node(lane: &crate::sandbox::LaneInfo) -> ActorNode {
    use crate::sandbox::LaneState;
    let name = format!("lane-{}", lane.name);
    let mut node = ActorNode::plain(&name, "LaneActor", true, lane.in_flight as u64);
    node.state = match lane.state {
        LaneState::Cold => "cold",
        LaneState::Starting => "starting",
        LaneState::Up => "running",
        LaneState::Silent => "silent",
        LaneState::Down => "restarting",
        LaneState::Stopped => "stopped",
    };
    node.restarts = lane.restarts;
    node.state_reason = lane.last_crash.clone();
    node.cpu_ms = lane.cpu.as_secs_f64() * 1_000.0;
    node
}
