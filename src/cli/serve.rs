//! `tripline serve`: the server, until a signal ends it.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use super::ServeArgs;
use crate::{Runtime, api, config::Loaded, telemetry};

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let loaded = args.load()?;
    telemetry::start_log(&loaded.config.log).context("log.level")?;
    actix::System::new().block_on(serve(loaded))
}

async fn serve(loaded: Loaded) -> anyhow::Result<()> {
    let listen = loaded.config.server.listen;
    let grace = loaded.config.server.shutdown_grace.0;
    let data = loaded.config.data_dir();
    let runtime = Runtime::builder_from(loaded).start().await.context("cannot start")?;
    let doors = api::open_doors(&runtime).await.context("cannot read the tokens")?;
    let server = api::bind(&runtime, doors.clone(), listen)
        .with_context(|| format!("cannot serve on {listen} (server.listen)"))?;
    let address = server.addresses.first().copied().unwrap_or(listen);
    let mut greeting =
        format!("Tripline {} serves on http://{address}\n", env!("CARGO_PKG_VERSION"));
    if let Some(code) = doors.login_code().filter(|_| cfg!(feature = "dashboard")) {
        greeting += &format!("  dashboard:   http://{}/#code={code}\n", reachable(address));
        greeting += "               (logs in once, within ten minutes)\n";
    }
    greeting += &format!("  admin token: {}\n", api::admin_token_path(&data).display());
    greeting += &format!("  API:         http://{address}/api/docs\n");
    // Into a file on a full disk, perhaps: no reason not to serve.
    let _unseen = std::io::stdout().write_all(greeting.as_bytes());
    let mut terminate = signal(SignalKind::terminate())?;
    let failure = tokio::select! {
        _ = tokio::signal::ctrl_c() => None,
        _ = terminate.recv() => None,
        reason = runtime.failure() => Some(reason),
    };
    if let Some(reason) = &failure {
        error!(%reason, "the server ends, for it can take no more events");
    }
    info!("stopping: no more events are taken, runs in hand may end");
    // Connections end beside the runs: a live feed would hold the stop up for ever.
    let stop_http = server.handle.stop(true);
    runtime.stop(grace).await;
    tokio::select! {
        () = stop_http => {}
        () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
    }
    doors.close();
    info!("stopped");
    match failure {
        Some(reason) => bail!("{reason}"),
        None => Ok(()),
    }
}

/// An address to open: one that means "all of this machine's" cannot be.
fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let local: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(local, address.port())
}
