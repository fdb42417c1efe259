//! Behaviour through the public doors: one test binary, one module per capability.

#![allow(clippy::unwrap_used)] // a test that unwraps nothing useful fails, as it should

mod alerts;
mod api;
mod backup;
mod canary;
mod changes;
mod charts;
mod crashes;
mod dashboard;
mod delivery;
mod documents;
mod erase;
mod faults;
mod fetch;
mod github;
mod headers;
mod hooks;
mod hostile;
mod imports;
mod injection;
mod kv;
mod lanes;
mod ledger;
mod matching;
mod metrics;
mod modules;
mod packaging;
mod readme;
mod reruns;
mod roles;
mod secrets;
mod store;
mod support;
mod traces;
mod upgrade;
mod verify;
mod watching;
mod wire;
mod years;
