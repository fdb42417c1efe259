//! Requests as no client writes them: what is malformed, ambiguous or too large is refused, and
//! nothing that follows it on the connection is taken for a request.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use crate::support::{Database, TestRuntime};

/// A request that nobody sent, hidden behind another.
const HIDDEN: &str = "GET /healthz HTTP/1.1\r\nHost: hidden\r\n\r\n";

/// What the server answers to these bytes until it closes the connection; `Err` when it does not.
fn exchange(rt: &TestRuntime, bytes: &[u8]) -> Result<String, String> {
    let address = rt.server.url().replace("http://", "");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    // A server that has refused already need not read the rest.
    let _ = stream.write_all(bytes);
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&part[..read]),
            // Closed with bytes of ours unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(format!("{error}: {}", String::from_utf8_lossy(&answer))),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Asserts one refusal, an end of the connection, and nothing that tells about the server.
#[track_caller]
fn refused(rt: &TestRuntime, what: &str, bytes: &[u8], statuses: &[u16]) {
    let answer = exchange(rt, bytes).unwrap_or_else(|open| panic!("{what}: not closed: {open}"));
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    // A head that is still being sent when it is refused may cost the client the answer, too.
    let lost = answer.is_empty() && bytes.len() > 100_000;
    assert!(lost || status.is_some_and(|status| statuses.contains(&status)), "{what}: {answer:?}");
    assert!(
        answer.matches("HTTP/1.1 ").count() <= 1,
        "{what}: the hidden one was answered: {answer}"
    );
    let lower = answer.to_lowercase();
    assert!(!lower.contains("\r\nserver:") && !lower.contains("actix"), "{what}: {answer}");
}

fn publish(head: &str, body: &str) -> String {
    format!("POST /api/v1/events HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{body}{HIDDEN}")
}

/// Two that read a request differently see another end of it: the classic ways to disagree.
#[tokio::test]
async fn a_request_whose_length_is_ambiguous_is_refused() {
    let rt = TestRuntime::start().await;
    let chunked = "0\r\n\r\n";
    let cases = [
        ("both lengths", publish("Content-Length: 5\r\nTransfer-Encoding: chunked", chunked)),
        (
            "both lengths, the other way",
            publish("Transfer-Encoding: chunked\r\nContent-Length: 5", chunked),
        ),
        ("two lengths", publish("Content-Length: 0\r\nContent-Length: 40", "")),
        ("one length twice", publish("Content-Length: 2\r\nContent-Length: 2", "{}")),
        ("a list of lengths", publish("Content-Length: 2, 2", "{}")),
        ("a signed length", publish("Content-Length: +2", "{}")),
        ("a negative length", publish("Content-Length: -2", "{}")),
        ("a hexadecimal length", publish("Content-Length: 0x2", "{}")),
        ("an endless length", publish("Content-Length: 99999999999999999999", "{}")),
        (
            "two encodings",
            publish("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", chunked),
        ),
        ("a list of encodings", publish("Transfer-Encoding: gzip, chunked", chunked)),
        ("an unknown encoding", publish("Transfer-Encoding: xchunked", chunked)),
        ("identity", publish("Transfer-Encoding: identity\r\nContent-Length: 2", "{}")),
        ("a space before the colon", publish("Transfer-Encoding : chunked", chunked)),
        ("a folded header", publish("X-A: b\r\n Transfer-Encoding: chunked", "")),
        ("a folded encoding", publish("Transfer-Encoding:\r\n chunked", chunked)),
        (
            "chunks in HTTP/1.0",
            publish("Transfer-Encoding: chunked", chunked)
                .replace("HTTP/1.1\r\nHost: a", "HTTP/1.0\r\nHost: a"),
        ),
        ("two hosts", publish("Host: b\r\nContent-Length: 0", "")),
    ];
    for (what, request) in cases {
        refused(&rt, what, request.as_bytes(), &[400]);
    }
    // A cookie or a token is not asked for: what cannot be read is refused before anybody is.
    refused(&rt, "no host", b"GET /healthz HTTP/1.1\r\n\r\n", &[400]);
}

#[tokio::test]
async fn a_request_that_is_none_is_refused() {
    let rt = TestRuntime::start().await;
    let cases: [(&str, &[u8]); 9] = [
        ("nonsense", b"nonsense\r\n\r\n"),
        ("a method of signs", b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("no version", b"GET /healthz\r\nHost: a\r\n\r\n"),
        ("another version", b"GET /healthz HTTP/3.0\r\nHost: a\r\n\r\n"),
        ("HTTP/2 by prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("a header without a colon", b"GET /healthz HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n"),
        ("a header without a name", b"GET /healthz HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
        ("NUL in a header", b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n"),
        ("a lone CR in a header", b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: b\rX-C: d\r\n\r\n"),
    ];
    for (what, request) in cases {
        refused(&rt, what, request, &[400, 505]);
    }
    // Nobody outside may fill the log with errors.
    let log = rt.server.whole_log();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}

#[tokio::test]
async fn chunks_that_are_none_are_refused() {
    let rt = TestRuntime::start().await;
    let token = rt.server.admin_token();
    let cases = [
        ("no length", "x\r\n{}\r\n0\r\n\r\n"),
        ("an endless length", "ffffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        ("a signed length", "+2\r\n{}\r\n0\r\n\r\n"),
        ("a bare LF", "2\n{}\n0\n\n"),
        ("a longer chunk than it says", "2\r\n{}{}\r\n0\r\n\r\n"),
        ("an extension with a line of its own", "2;a\nb\r\n{}\r\n0\r\n\r\n"),
    ];
    for (what, body) in cases {
        let head = format!("Authorization: Bearer {token}\r\nTransfer-Encoding: chunked");
        refused(&rt, what, publish(&head, body).as_bytes(), &[400]);
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_at_its_head() {
    let rt =
        TestRuntime::with(Database::Sqlite, "[limits]\nbatch_bytes = 65536\nevent_bytes = 16384\n")
            .await;
    let token = rt.server.admin_token();
    let long = "a".repeat(1 << 20);
    let header = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: {long}\r\n\r\n");
    refused(&rt, "a header of a megabyte", header.as_bytes(), &[400, 413, 431]);
    let uri = format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n");
    refused(&rt, "a URI of a megabyte", uri.as_bytes(), &[400, 413, 414, 431]);
    let many = "X-A: b\r\n".repeat(200);
    let many = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    refused(&rt, "two hundred headers", many.as_bytes(), &[400, 413, 431]);

    // Not a byte of these bodies is sent: the announced length is enough.
    let announced = |path: &str, length: u64| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    for (path, length) in [
        ("/api/v1/events", 65_537),
        ("/api/v1/scripts", 5 << 20),
        ("/api/v1/session", 5 << 20),
        ("/api/v1/events", u64::MAX),
    ] {
        refused(&rt, path, announced(path, length).as_bytes(), &[413]);
    }
    // A length that is not announced is counted.
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let endless = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(3)
    );
    refused(&rt, "chunks without an end", endless.as_bytes(), &[413]);
    // Nobody without a token makes the server keep a body.
    let unknown = announced("/hooks/nothing", 1 << 30);
    refused(&rt, "a delivery to no hook", unknown.as_bytes(), &[404]);
}
