//! The HTTP server's settings, in one place.

use std::{net::SocketAddr, time::Duration};

use actix_web::{App, HttpServer, dev::ServerHandle, web::Data};

use super::{Doors, configure};
use crate::Runtime;

/// Time for a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Connections that all workers serve at once; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 10_000;
/// File descriptors for everything else: the store, lanes, fetches.
const DESCRIPTORS_KEPT: u64 = 512;
/// Fewer descriptors are worth a warning: a thousand slow clients could use them up.
const DESCRIPTORS_WANTED: u64 = 4_096;

/// A server that is bound and runs.
pub struct Server {
    pub addresses: Vec<SocketAddr>,
    pub handle: ServerHandle,
}

/// Binds `address` and serves in the background of the current system.
///
/// # Errors
/// When the address is taken or not ours.
pub fn bind(runtime: &Runtime, doors: Data<Doors>, address: SocketAddr) -> std::io::Result<Server> {
    let grace = runtime.config().server.shutdown_grace.0.as_secs();
    let runtime = runtime.clone();
    let server =
        HttpServer::new(move || App::new().configure(configure(runtime.clone(), doors.clone())))
            .workers(workers())
            .client_request_timeout(HEAD_TIMEOUT)
            .keep_alive(KEEP_ALIVE)
            .max_connections((connections() / workers()).max(16))
            .shutdown_timeout(grace)
            .disable_signals()
            .bind(address)?;
    let addresses = server.addrs();
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Ok(Server { addresses, handle })
}

/// As many connections as there are file descriptors for; raises the limit of those as far as the
/// process may.
fn connections() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    // No limit at all.
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if descriptors < DESCRIPTORS_WANTED {
        tracing::warn!(
            descriptors,
            wanted = DESCRIPTORS_WANTED,
            "few files may be open at once (ulimit -n): connections beyond that wait"
        );
    }
    let free = descriptors.saturating_sub(DESCRIPTORS_KEPT).max(descriptors / 4);
    usize::try_from(free).map_or(CONNECTIONS_MAX, |free| free.min(CONNECTIONS_MAX))
}

/// Half the cores: the others run scripts (measured: a second worker gains nothing on two).
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}
