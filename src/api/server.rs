//! The HTTP server's settings, in one place.

use std::{net::SocketAddr, time::Duration};

use actix_web::{App, HttpServer, dev::ServerHandle, web::Data};

use super::{Doors, configure};
use crate::Runtime;

/// Time for a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Connections one worker serves at once; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 10_000;

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
            .max_connections(CONNECTIONS_MAX)
            .shutdown_timeout(grace)
            .disable_signals()
            .bind(address)?;
    let addresses = server.addrs();
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Ok(Server { addresses, handle })
}

/// Half the cores: the others run scripts (measured: a second worker gains nothing on two).
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}
