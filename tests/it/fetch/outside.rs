//! The world that scripts fetch from: servers that count who connects.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// One request a connection; what is answered follows from its path.
#[derive(Clone)]
pub(super) struct Outside {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Outside {
    /// On any port of `host`; `answer` gets the path.
    pub(super) async fn start(host: &str, answer: fn(&str) -> Vec<u8>) -> Self {
        let listener = TcpListener::bind((host, 0)).await.expect("a free port");
        let outside = Self {
            address: listener.local_addr().expect("an address"),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let server = outside.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                server.connections.fetch_add(1, SeqCst);
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read_buf(&mut head).await {
                        Ok(1..) => {}
                        _ => break,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                server.requests.lock().expect("no panic").push(head);
                let answer = answer(&path);
                // Whoever hung up needs no answer.
                let _ = stream.write_all(&answer).await;
                if answer.is_empty() {
                    // Never answers, and keeps the connection until the other side lets go.
                    tokio::spawn(async move { stream.read(&mut [0]).await });
                }
            }
        });
        outside
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    /// Heads of the requests so far, in lower case.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").iter().map(|head| head.to_lowercase()).collect()
    }
}

pub(super) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

pub(super) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}
