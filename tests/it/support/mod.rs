//! The harness: a real server with its own data, spoken to through its public HTTP API.
//!
//! [`TestRuntime`] starts one; its methods speak in events and outcomes and hide the waiting. What
//! waits polls up to [`PATIENCE`] and then fails with the last state seen.

mod api;
mod cluster;
mod collector;
mod dump;
mod expect;
mod postgres;
mod proxy;
mod runtime;
mod server;
mod wait;

pub(crate) use api::{Api, http};
pub(crate) use cluster::Cluster;
pub(crate) use collector::{Collector, Span};
pub(crate) use dump::Dump;
pub(crate) use expect::{Delivery, Letter};
pub(crate) use postgres::{Database, postgres_url};
pub(crate) use proxy::{Loss, Proxy};
pub(crate) use runtime::TestRuntime;
pub(crate) use server::Server;
pub(crate) use wait::{PATIENCE, eventually, until};
