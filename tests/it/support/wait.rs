//! Waiting for what comes to pass: polls with a deadline, never a sleep that hopes.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// How long anything may take on a busy machine with an unoptimised build.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Asks `look` until it answers `Ok`, at most `patience`; the last `Err` is the state seen.
pub(crate) async fn until<T, E>(
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let deadline = Instant::now() + patience;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(last) if Instant::now() >= deadline => return Err(last),
            Err(_) => tokio::time::sleep(BETWEEN_LOOKS).await,
        }
    }
}

/// As [`until`] with [`PATIENCE`]; fails the test with the last state seen.
pub(crate) async fn eventually<T, E: Debug>(
    what: &str,
    look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    match until(PATIENCE, look).await {
        Ok(found) => found,
        Err(last) => panic!("{what} did not happen within {PATIENCE:?}; last seen: {last:#?}"),
    }
}
