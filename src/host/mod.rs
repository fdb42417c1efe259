//! Answers scripts: what a run asks beyond its lane, and what becomes of what it wrote.
//!
//! Lives on the core thread. `ledger` decides which reads still hold when a run ends, `run` answers
//! one run's questions, `modules` finds what scripts import, `recording` keeps what they were answered and answers a rerun from it, `fetch`
//! makes requests, `vault` keeps the secrets and `mask` hides them from those who read of runs.

mod fetch;
mod ledger;
mod mask;
mod modules;
mod recording;
mod run;
mod vault;

pub use self::fetch::NoHost;
#[cfg(any(test, fuzzing))]
pub(crate) use self::fetch::fuzz as fuzz_allow_list;
pub use self::modules::Source;
pub use self::recording::{Told, Unreadable};
pub use self::vault::{SecretInfo, VaultError};
pub(crate) use self::{
    fetch::{AllowList, Fetcher, Reach},
    ledger::{CommitError, Ledger, Quotas},
    mask::Mask,
    modules::{Choice, LinkError, Linked, Versions, imported, link},
    recording::{Call, Recorded, Recording, Step, steps},
    run::{Doors, Grants, ROOM_KIB, RunHost},
    vault::{KeyCheck, Vault, check_key},
};
