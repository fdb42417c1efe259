//! A network that can be cut: what is connected falls silent, and nobody is told; or a connection is
//! lost at a COMMIT.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct Proxy {
    port: u16,
    to: Arc<AtomicU16>,
    cuts: watch::Sender<u64>,
    losses: Losses,
}

/// A connection that ends at a COMMIT.
#[derive(Clone, Copy)]
pub(crate) enum Loss {
    /// The server has not heard of it.
    Before,
    /// It is done, and its answer does not come.
    After,
}

type Losses = Arc<Mutex<VecDeque<Loss>>>;

impl Proxy {
    /// Passes connections on to a port of this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (cuts, _) = watch::channel(0);
        let (new, losses) = (cuts.clone(), Losses::default());
        let to = Arc::new(AtomicU16::new(port));
        let of_new = Arc::clone(&to);
        let of_all = Arc::clone(&losses);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let port = of_new.load(Ordering::Relaxed);
                tokio::spawn(pass(near, port, new.subscribe(), Arc::clone(&of_all)));
            }
        });
        Self { port: own, to, cuts, losses }
    }

    /// The connections of the next COMMITs are lost, one each.
    pub(crate) fn lose(&self, losses: &[Loss]) {
        self.losses.lock().unwrap().extend(losses);
    }

    pub(crate) fn has_lost_all(&self) -> bool {
        self.losses.lock().unwrap().is_empty()
    }

    /// New connections go to another port.
    pub(crate) fn lead_to(&self, port: u16) {
        self.to.store(port, Ordering::Relaxed);
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Nothing that is connected now ever hears from the other side again; new connections work.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn pass(near: TcpStream, port: u16, mut cut: watch::Receiver<u64>, losses: Losses) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let mut ends = (near, far);
    tokio::select! {
        _ = copy(&mut ends, &losses) => return,
        _ = cut.changed() => {}
    }
    // Both stay open: neither side learns of it.
    std::future::pending::<()>().await;
}

async fn copy((near, far): &mut (TcpStream, TcpStream), losses: &Losses) -> io::Result<()> {
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.split(), far.split());
    let (mut asked, mut answer) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            length = from_near.read(&mut asked) => match length? {
                0 => return Ok(()),
                length => {
                    let part = &asked[..length];
                    let is_commit = part.windows(6).any(|word| word == b"COMMIT");
                    let loss = losses.lock().unwrap().pop_front_if(|_| is_commit);
                    if matches!(loss, Some(Loss::Before)) {
                        return Ok(());
                    }
                    to_far.write_all(part).await?;
                    if loss.is_some() {
                        // It has answered once anything comes.
                        return from_far.read(&mut answer).await.map(drop);
                    }
                }
            },
            length = from_far.read(&mut answer) => match length? {
                0 => return Ok(()),
                length => to_near.write_all(&answer[..length]).await?,
            },
        }
    }
}
