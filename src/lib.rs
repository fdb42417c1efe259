//! Tripline: an event crosses the line, a script fires.

pub mod actors;
pub mod api;
pub mod cli;
pub mod config;
pub mod domain;
pub mod filter;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod host;
pub mod runtime;
pub mod sandbox;
#[cfg(test)]
mod simulation;
pub mod store;
pub mod telemetry;
mod traces;

pub use runtime::Runtime;
