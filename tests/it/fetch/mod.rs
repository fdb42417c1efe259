//! `fetch`: what is allowed arrives, and what is not is never dialled.

mod outside;

use serde_json::{Value, json};

use self::outside::{Outside, answer, gzip};
use crate::support::{Database, Server, TestRuntime, eventually};

/// Fetches what the payload says, and tells what came.
const ASK: &str = "
    export default async ({ url, init, ms }) => {
        try {
            const response = await fetch(url, { ...init, signal: ms ? AbortSignal.timeout(ms) : undefined });
            return { status: response.status, text: (await response.text()).slice(0, 100), url: response.url };
        } catch (error) {
            return { error: `${error.name}: ${error.message}` };
        }
    }";

/// Lets scripts reach this machine's own addresses, which no default does.
const NEAR: &str = "[fetch]\nsubnets = [\"127.0.0.1/32\"]\n[script]\nfetch_bytes = 100000";

/// Adds the script that asks, with these hosts allowed.
async fn add(rt: &TestRuntime, allow: &[String]) -> String {
    let script =
        json!({ "name": "ask", "language": "javascript", "source": ASK, "fetch_allow": allow });
    let script = rt.post("/api/v1/scripts", &script).await;
    assert_eq!(script["fetch_allow"], json!(allow));
    let id = script["id"].as_str().expect("an id").to_owned();
    rt.subscription("ask").on("ask").using(&id).attempts(1, 1).add().await;
    id
}

async fn ask(rt: &TestRuntime, question: Value) -> Value {
    let event = rt.publish("ask", question).await;
    rt.delivery_of(&event, "ask").await.succeeded().runs[0]["result"].clone()
}

fn hello(path: &str) -> Vec<u8> {
    match path {
        "/bomb" => answer("200 OK", "content-encoding: gzip\r\n", &gzip(&vec![0; 50 << 20])),
        "/zipped" => answer("200 OK", "content-encoding: gzip\r\n", &gzip(b"unpacked")),
        "/long" => answer("200 OK", "", &vec![b'x'; 200_000]),
        "/endless" => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            .iter()
            .copied()
            .chain(
                "8000\r\n"
                    .bytes()
                    .chain(std::iter::repeat_n(b'x', 0x8000))
                    .chain("\r\n".bytes())
                    .collect::<Vec<_>>()
                    .repeat(8),
            )
            .collect(),
        "/headers" => answer("200 OK", &"x-many: 1\r\n".repeat(500), b""),
        "/silent" => Vec::new(),
        "/again" => answer("302 Found", "location: /again\r\n", b""),
        "/hello" => answer("301 Moved Permanently", "location: /there\r\n", b""),
        _ => answer("200 OK", "", b"hello"),
    }
}

#[tokio::test]
async fn what_is_allowed_arrives() {
    let near = Outside::start("127.0.0.1", hello).await;
    let rt = TestRuntime::with(Database::Sqlite, NEAR).await;
    add(&rt, &[format!("127.0.0.1:{}", near.port()), format!("localhost:{}", near.port())]).await;
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", near.port());

    let there = json!({ "status": 200, "text": "hello", "url": at("/there") });
    assert_eq!(ask(&rt, json!({ "url": at("/hello") })).await, there);
    let posted = json!({ "url": format!("http://localhost:{}/post", near.port()), "init": { "method": "POST", "body": "b", "headers": { "x-key": "1" } } });
    assert_eq!(ask(&rt, posted).await["status"], 200);
    let request = near.requests().pop().expect("a request");
    assert!(request.starts_with("post /post http/1.1\r\n"), "{request}");
    for header in [
        "x-key: 1\r\n",
        "content-length: 1\r\n",
        "content-type: text/plain;charset=utf-8\r\n",
        "accept-encoding: gzip\r\n",
    ] {
        assert!(request.contains(header), "{header:?} {request}");
    }
    assert!(!request.contains("referer"), "{request}");
    assert_eq!(ask(&rt, json!({ "url": at("/zipped") })).await["text"], "unpacked");
}

/// What is too much, too slow or goes round in circles ends with an error that says so.
#[tokio::test]
async fn hostile_answers_are_cut_short() {
    let near = Outside::start("127.0.0.1", hello).await;
    let rt = TestRuntime::with(Database::Sqlite, NEAR).await;
    add(&rt, &[format!("127.0.0.1:{}", near.port())]).await;
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", near.port());
    for (path, said) in [
        ("/bomb", "longer than 100000 bytes"),
        ("/long", "longer than 100000 bytes"),
        ("/endless", "longer than 100000 bytes"),
        ("/headers", "127.0.0.1"),
        ("/again", "more than 5 redirects"),
    ] {
        let ended = ask(&rt, json!({ "url": at(path) })).await;
        assert!(
            ended["error"].as_str().is_some_and(|error| error.contains(said)),
            "{path}: {ended}"
        );
    }
    let aborted = ask(&rt, json!({ "url": at("/silent"), "ms": 50 })).await;
    assert_eq!(aborted["error"], "TimeoutError: the time is over");
    let header = json!({ "url": at("/x"), "init": { "headers": { "Host": "elsewhere" } } });
    let refused = ask(&rt, header).await;
    assert!(
        refused["error"].as_str().is_some_and(|e| e.contains("not the script's to set")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_run_that_waits_for_an_answer_is_stopped_by_its_own_clock() {
    let near = Outside::start("127.0.0.1", hello).await;
    let rt = TestRuntime::with(Database::Sqlite, &format!("{NEAR}\nwall_ms = 300")).await;
    add(&rt, &[format!("127.0.0.1:{}", near.port())]).await;
    let url = format!("http://127.0.0.1:{}/silent", near.port());
    rt.publish("ask", json!({ "url": url })).await;
    rt.dead_letter("ask").await.because("timeout");
    assert_eq!(near.connections(), 1);
}

/// A lane that dies while a run waits in it: nobody is to blame, and the run goes again uncounted.
#[tokio::test]
async fn a_run_whose_lane_dies_while_it_waits_for_an_answer_goes_again() {
    let near = Outside::start("127.0.0.1", hello).await;
    let rt = TestRuntime::with(Database::Sqlite, NEAR).await;
    let url = format!("http://127.0.0.1:{}/silent", near.port());
    let source = format!(
        "export default async (_, context) => {{
            if (!(await sdk.kv.shared('gate').get('open'))) await fetch('{url}');
            return context.attempt;
        }}"
    );
    let allow = [format!("127.0.0.1:{}", near.port())];
    let script =
        json!({ "name": "wait", "language": "javascript", "source": source, "fetch_allow": allow });
    let script = rt.post("/api/v1/scripts", &script).await;
    let id = script["id"].as_str().expect("an id");
    rt.subscription("wait").on("go").using(id).attempts(1, 1).add().await;
    rt.publish("go", json!({})).await;
    eventually("the request", async || {
        if near.connections() == 1 { Ok(()) } else { Err(near.connections()) }
    })
    .await;

    let open = json!({ "value": true });
    let gate = "/api/v1/kv/gate/open";
    rt.request(reqwest::Method::PUT, gate, Some(&open)).await.ok(gate);
    let server = rt.get("/api/v1/stats").await["pid"].to_string();
    // Its children are its lanes.
    let killed = std::process::Command::new("pkill").args(["-KILL", "-P", &server]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    rt.delivery("wait").await.succeeded().after(1).returned(&json!(1));
}

/// Every way to write an address of this machine, allowed by the script and by nobody else.
#[tokio::test]
async fn what_the_operator_did_not_open_is_never_dialled() {
    let near = Outside::start("127.0.0.1", hello).await;
    let port = near.port();
    let proxy = Outside::start("127.0.0.1", hello).await;
    let mut server = Server::new("", None);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        server.env(name, format!("http://127.0.0.1:{}", proxy.port()));
    }
    server.start().await;
    let rt = TestRuntime::of(server);
    let hosts = [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "127.0.0.2",
        "[::]",
        "169.254.169.254",
    ];
    let allow: Vec<String> = hosts.iter().map(|host| format!("{host}:{port}")).collect();
    let script = add(&rt, &allow).await;
    for host in [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "127.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0x7f.1",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "0",
        "127.0.0.2",
        "[::]",
        "①②⑦.0.0.1",
        "169.254.169.254",
    ] {
        let ended = ask(&rt, json!({ "url": format!("http://{host}:{port}/") })).await;
        assert!(ended["error"].is_string(), "{host}: {ended}");
    }
    for url in [
        "file:///etc/passwd",
        "data:text/plain,x",
        "ftp://127.0.0.1/",
        "http://127.0.0.1@evil.example/",
    ] {
        assert!(ask(&rt, json!({ "url": url })).await["error"].is_string(), "{url}");
    }
    // A test run is no way around.
    let test = json!({ "data": { "url": format!("http://127.0.0.1:{port}/") }, "fetch": true });
    let out = rt.post(&format!("/api/v1/scripts/{script}/test"), &test).await;
    assert!(out["result"]["error"].is_string(), "{out:#}");
    assert_eq!((near.connections(), proxy.connections()), (0, 0));
}

#[tokio::test]
async fn what_the_script_does_not_name_is_never_dialled_not_even_by_a_redirect() {
    static FAR: std::sync::OnceLock<u16> = std::sync::OnceLock::new();
    let far = Outside::start("127.0.0.1", hello).await;
    FAR.set(far.port()).expect("set once");
    let near = Outside::start("127.0.0.1", |path| {
        let target = match path {
            "/port" => format!("http://127.0.0.1:{}/", FAR.get().expect("set")),
            "/name" => format!("http://localhost:{}/", FAR.get().expect("set")),
            "/file" => "file:///etc/passwd".to_owned(),
            _ => format!("http://127.0.0.2:{}/", FAR.get().expect("set")),
        };
        answer("307 Temporary Redirect", &format!("location: {target}\r\n"), b"")
    })
    .await;
    let rt = TestRuntime::with(Database::Sqlite, NEAR).await;
    let allow = [near.port(), far.port()].map(|port| format!("127.0.0.2:{port}"));
    add(&rt, &[&allow[..], &[format!("127.0.0.1:{}", near.port())]].concat()).await;
    for path in ["/port", "/name", "/file", "/subnet"] {
        let ended =
            ask(&rt, json!({ "url": format!("http://127.0.0.1:{}{path}", near.port()) })).await;
        assert!(ended["error"].is_string(), "{path}: {ended}");
    }
    let direct = ask(&rt, json!({ "url": format!("http://127.0.0.1:{}/", far.port()) })).await;
    assert_eq!(
        direct["error"],
        format!("Error: fetch: `127.0.0.1:{}` is not in the script's fetch_allow", far.port())
    );
    assert_eq!((near.connections(), far.connections()), (4, 0));
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    static NEXT: std::sync::OnceLock<u16> = std::sync::OnceLock::new();
    let next = Outside::start("127.0.0.1", hello).await;
    NEXT.set(next.port()).expect("set once");
    let near = Outside::start("127.0.0.1", |_| {
        let location = format!("location: http://127.0.0.1:{}/there\r\n", NEXT.get().expect("set"));
        answer("303 See Other", &location, b"")
    })
    .await;
    let rt = TestRuntime::with(Database::Sqlite, NEAR).await;
    add(&rt, &[near.port(), next.port()].map(|port| format!("127.0.0.1:{port}"))).await;
    let init = json!({ "method": "POST", "body": "b", "headers": { "authorization": "Bearer s", "cookie": "c=1", "x-other": "1" } });
    ask(&rt, json!({ "url": format!("http://127.0.0.1:{}/", near.port()), "init": init })).await;
    assert!(near.requests()[0].contains("authorization: bearer s"));
    let request = &next.requests()[0];
    assert!(request.starts_with("get /there "), "{request}");
    assert!(
        request.contains("x-other: 1")
            && !request.contains("authorization")
            && !request.contains("cookie"),
        "{request}"
    );
}

/// A certificate that nobody vouches for.
#[tokio::test]
async fn tls_is_verified() {
    use std::{
        io::{Read as _, Write as _},
        sync::Arc,
    };

    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

    let certificate = CertificateDer::from_pem_slice(include_bytes!("self-signed.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("self-signed.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        // What the client says once it trusts us: it must not.
        let said = stream.read(&mut [0; 1_024]);
        let _ = stream.write_all(&answer("200 OK", "", b"hello"));
        said.unwrap_or(0)
    });
    let rt = TestRuntime::with(Database::Sqlite, NEAR).await;
    add(&rt, &[format!("localhost:{port}")]).await;
    let ended = ask(&rt, json!({ "url": format!("https://localhost:{port}/") })).await;
    let error = ended["error"].as_str().unwrap_or_default();
    assert!(error.contains("certificate"), "{ended}");
    assert_eq!(server.join().unwrap(), 0, "nothing was sent");
}

#[tokio::test]
async fn a_test_run_holds_requests_back_unless_asked() {
    let near = Outside::start("127.0.0.1", hello).await;
    let rt = TestRuntime::with(Database::Sqlite, NEAR).await;
    let script = add(&rt, &[format!("127.0.0.1:{}", near.port())]).await;
    let url = format!("http://127.0.0.1:{}/x", near.port());
    let test = async |fetch: bool| {
        let body = json!({ "data": { "url": url }, "fetch": fetch });
        rt.post(&format!("/api/v1/scripts/{script}/test"), &body).await
    };
    let held = test(false).await;
    assert!(held["result"]["error"].as_str().is_some_and(|e| e.contains("held back")), "{held:#}");
    assert_eq!(held["fetches"], json!([{ "method": "GET", "url": url }]));
    assert_eq!(near.connections(), 0);
    assert_eq!(test(true).await["result"]["text"], "hello");
    assert_eq!(near.connections(), 1);
}

#[tokio::test]
async fn entries_that_name_no_host_are_refused_when_saved() {
    let rt = TestRuntime::start().await;
    for wrong in ["*", "https://api.example.com", "api.example.com/x", "*.10.0.0.1", ""] {
        let script =
            json!({ "name": "a", "language": "javascript", "source": "1", "fetch_allow": [wrong] });
        let answer = rt.request(reqwest::Method::POST, "/api/v1/scripts", Some(&script)).await;
        assert_eq!(answer.refused(422, "invalid_field")["field"], "fetch_allow", "{wrong}");
    }
}
