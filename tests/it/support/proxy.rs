//! A network that can be cut: what is connected falls silent, and nobody is told.

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct Proxy {
    port: u16,
    cuts: watch::Sender<u64>,
}

impl Proxy {
    /// Passes connections on to a port of this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (cuts, _) = watch::channel(0);
        let new = cuts.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, port, new.subscribe()));
            }
        });
        Self { port: own, cuts }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Nothing that is connected now ever hears from the other side again; new connections work.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn pass(mut near: TcpStream, port: u16, mut cut: watch::Receiver<u64>) {
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
        _ = cut.changed() => {}
    }
    // Both stay open: neither side learns of it.
    std::future::pending::<()>().await;
}
