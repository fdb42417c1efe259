//! `tripline serve`: the server, until a signal ends it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

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
    println!("Tripline {} serves on http://{address}", env!("CARGO_PKG_VERSION"));
    if let Some(code) = doors.login_code().filter(|_| cfg!(feature = "dashboard")) {
        println!("  dashboard:   http://{}/#code={code}", reachable(address));
        println!("               (logs in once, within ten minutes)");
    }
    println!("  admin token: {}", api::admin_token_path(&data).display());
    println!("  API:         http://{address}/api/docs");
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
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
    Ok(())
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
