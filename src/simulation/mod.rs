//! Simulation: the decisions of the durable core under every order of things, and every crash.
//!
//! The real state machines (`domain::{feed, settle, history, changes, recovery, retry, breaker,
//! restart}`), the real assembly of commits and the real writer run against a store in memory, whose
//! process can die before and after each commit. One seed is one history: who publishes, who is
//! paused, which run fails, what is lost. An oracle that knows only what was acknowledged and what is
//! on disk says whether a promise was broken.
//!
//! `TRIPLINE_SIMULATION_SEEDS` sets how many seeds run (2,000), `TRIPLINE_SIMULATION_SEED` runs one.
//! `tests/mutants` holds planted bugs that these seeds must find.

mod disk;
mod oracle;
mod process;
mod script;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs the seeds that leave `part` when divided by `parts`.
fn simulate(part: u64, parts: u64) {
    if let Some(seed) = number("TRIPLINE_SIMULATION_SEED") {
        World::new(seed).run();
        return;
    }
    let seeds = number("TRIPLINE_SIMULATION_SEEDS").unwrap_or(SEEDS);
    for seed in (0..seeds).filter(|seed| seed % parts == part) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| World::new(seed).run())) {
            eprintln!("seed {seed} broke a promise: TRIPLINE_SIMULATION_SEED={seed} runs it alone");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn no_history_breaks_a_promise_even_seeds() {
    simulate(0, 2);
}

#[test]
fn no_history_breaks_a_promise_odd_seeds() {
    simulate(1, 2);
}
