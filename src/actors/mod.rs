//! Who is at work, and who sends what to whom.
//!
//! ```text
//! publishers ──► Journal (queue) ──► writer thread ── Told ───────► JournalActor
//!                   ▲                                                   │
//!                   │ Settle, Routed, Cover, Row, Keys                  ├─ Told ─► KeysActor (sdk.kv: what is committed, what expired)
//!                   │                                                   ├─ Told ─► RouterActor ── Deliver ─► SubscriptionActor
//!                   │                                                   ├─ Told ─► SchedulerActor ── Due ──► SubscriptionActor
//!                   └───────────── SubscriptionActor                    ├─ Told ─► DeadLetterActor ─ Admit ► SchedulerActor
//!                                       │  ▲                            └─ Told ─► LiveFeedActor ──► dashboards
//!                                   Run ▼  │ Report
//!                                     Sandbox (lanes)          SubscriptionActor ── Crashed ─► SupervisorActor
//! ```
//!
//! All actors but the writer live on one thread, the *core*: what they share (`core.rs`) needs no
//! locks, and a message between them costs tens of nanoseconds. Nothing on it blocks: the store is
//! read asynchronously, scripts run in lanes, commits on the writer's thread.

pub(crate) mod core;
pub(crate) mod dead_letter;
pub mod journal;
pub(crate) mod keys;
pub mod live_feed;
pub(crate) mod programs;
pub(crate) mod reader;
pub(crate) mod router;
pub(crate) mod scheduler;
pub(crate) mod subscription;
pub(crate) mod supervisor;
