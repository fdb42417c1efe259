//! An OTLP collector over HTTP that keeps the spans it was sent; and whoever else is asked.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Answers 200 to every request, and remembers them.
#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// A span as OTLP's JSON has it.
#[derive(Clone, Debug)]
pub(crate) struct Span(pub(crate) Value);

impl Span {
    pub(crate) fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// The value of an attribute as a text.
    pub(crate) fn attribute(&self, name: &str) -> String {
        let all = self.0["attributes"].as_array().expect("a list");
        let found = all.iter().find(|one| one["key"] == name).map(|one| &one["value"]);
        let value = found.and_then(|value| value.as_object()?.values().next().cloned());
        value.map_or_else(String::new, |value| {
            value.as_str().map_or(value.to_string(), str::to_owned)
        })
    }

    #[track_caller]
    pub(crate) fn is_child_of(&self, parent: &Self) {
        assert_eq!(self.text("traceId"), parent.text("traceId"), "{self:#?}\n{parent:#?}");
        assert_eq!(self.text("parentSpanId"), parent.text("spanId"), "{self:#?}\n{parent:#?}");
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let collector = Self { address, requests: Arc::default() };
        let server = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        collector
    }

    /// One request a connection.
    async fn serve(self, mut stream: TcpStream) -> Option<()> {
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
                break end;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
        let headers: BTreeMap<String, String> = text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length: usize =
            headers.get("content-length").map_or(0, |length| length.parse().expect("a number"));
        while bytes.len() < head + 4 + length {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        let body = String::from_utf8_lossy(&bytes[head + 4..]).into_owned();
        self.requests.lock().expect("no panic").push(Request { path, headers, body });
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
        stream.write_all(answer.as_bytes()).await.ok()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
        self.requests()
            .iter()
            .filter(|request| request.path == "/v1/traces")
            .map(|request| serde_json::from_str::<Value>(&request.body).expect("JSON"))
            .flat_map(|body| list(&body, "resourceSpans"))
            .flat_map(|resource| list(&resource, "scopeSpans"))
            .flat_map(|scope| list(&scope, "spans"))
            .map(Span)
            .collect()
    }
}
