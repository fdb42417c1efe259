//! Disks and databases that fail, and clocks that jump: nothing is falsely acknowledged, nobody
//! waits, and the server heals by itself.
//!
//! By default a part of the calls, restarts and kills that a release is tested with; `make soak`
//! runs them all. `TRIPLINE_FAULT_CALLS` is the number of calls of the disk that fail in turn.

mod bulk;
mod clock;
mod disk;
mod load;
mod postgres;
mod posts;
mod recovery;
mod rows;
mod start;
