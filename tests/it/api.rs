//! The HTTP API at its edges: roles, refusals, preconditions, sessions, bulk operations.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{TestRuntime, eventually};

#[tokio::test]
async fn a_revoked_token_opens_nothing_any_more() {
    let rt = TestRuntime::start().await;
    let token = rt.post("/api/v1/tokens", &json!({ "name": "short", "role": "viewer" })).await;
    let api = rt.with_token(token["secret"].as_str().expect("a secret"));
    api.get("/api/v1/scripts").await;
    rt.delete(&format!("/api/v1/tokens/{}", token["id"].as_str().expect("an id"))).await;
    api.request(Method::GET, "/api/v1/scripts", None).await.refused(401, "unauthorized");
    let listed = rt.get("/api/v1/tokens").await;
    assert!(!listed.to_string().contains(token["secret"].as_str().expect("a secret")));
}

#[tokio::test]
async fn wrong_input_names_the_field_and_what_was_expected() {
    let rt = TestRuntime::start().await;
    let ask = async |path: &str, body: Value| rt.request(Method::POST, path, Some(&body)).await;
    let unknown = json!({ "name": "a", "source": "1", "language": "javascript", "sorce": 1 });
    let problem = ask("/api/v1/scripts", unknown).await.refused(422, "invalid_field");
    assert_eq!(problem["field"], "sorce");
    let broken = json!({ "name": "a", "source": "let = (", "language": "typescript" });
    let problem = ask("/api/v1/scripts", broken).await.refused(422, "compile_error");
    assert_eq!((&problem["line"], &problem["field"]), (&json!(1), &json!("source")));
    let problem = ask("/api/v1/filters/check", json!({ "filter": "$.n = 1" }))
        .await
        .refused(422, "filter_invalid");
    assert_eq!(
        (&problem["column"], &problem["hint"]),
        (&json!(5), &json!("write `==` to compare"))
    );
    let problem = ask("/api/v1/events", json!([{ "type": "a" }, { "typ": "b" }]))
        .await
        .refused(422, "invalid_field");
    assert_eq!((&problem["index"], &problem["field"]), (&json!(1), &json!("typ")));
    rt.request(Method::GET, "/api/v1/runs?limit=1001", None).await.refused(422, "invalid_field");
    rt.request(Method::GET, "/api/v1/runs/nonsense", None).await.refused(404, "not_found");
    rt.request(Method::GET, "/api/v1/nothing", None).await.refused(404, "not_found");
    let problem = rt.request(Method::PUT, "/api/v1/scripts/x", None).await;
    assert_eq!(problem.refused(405, "method_not_allowed")["expected"], "DELETE, GET, PATCH");
    assert!(
        rt.get("/api/v1/events").await["items"].as_array().is_some_and(Vec::is_empty),
        "all or nothing"
    );
}

#[tokio::test]
async fn an_outdated_change_is_refused_and_a_script_in_use_stays() {
    let rt = TestRuntime::start().await;
    let new =
        json!({ "name": "one", "source": "export default () => 1", "language": "javascript" });
    let script = rt.post("/api/v1/scripts", &new).await;
    rt.request(Method::POST, "/api/v1/scripts", Some(&new)).await.refused(409, "name_taken");
    let path = format!("/api/v1/scripts/{}", script["id"].as_str().expect("an id"));
    let patch = |etag: &'static str, name: &'static str| {
        let request = http().patch(rt.server.url() + &path).bearer_auth(rt.server.admin_token());
        request.header(header::IF_MATCH, etag).json(&json!({ "name": name })).send()
    };
    assert_eq!(patch("\"1\"", "two").await.expect("an answer").status(), StatusCode::OK);
    assert_eq!(
        patch("\"1\"", "three").await.expect("an answer").status(),
        StatusCode::PRECONDITION_FAILED
    );
    assert_eq!(rt.get(&path).await["name"], "two");
    let new = json!({ "name": "s", "script_id": script["id"], "event_type": "a" });
    let subscription = rt.post("/api/v1/subscriptions", &new).await;
    let problem = rt.request(Method::DELETE, &path, None).await.refused(409, "in_use");
    assert_eq!(problem["count"], 1);
    rt.delete(&format!("/api/v1/subscriptions/{}", subscription["id"].as_str().expect("an id")))
        .await;
    rt.delete(&path).await;
}

#[tokio::test]
async fn a_session_writes_from_its_own_pages_only() {
    let rt = TestRuntime::start().await;
    let (http, url) = (http(), rt.server.url());
    let login = http
        .post(format!("{url}/api/v1/session"))
        .json(&json!({ "token": rt.server.admin_token() }));
    let login = login.send().await.expect("an answer");
    let cookie = login.headers()[header::SET_COOKIE].to_str().expect("text").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a value").to_owned();
    let publish = async |origin: &str| {
        let request = http.post(format!("{url}/api/v1/events")).header(header::COOKIE, &cookie);
        let request = request.header(header::ORIGIN, origin).json(&json!({ "type": "a" }));
        request.send().await.expect("an answer").status()
    };
    assert_eq!(publish(&url).await, StatusCode::ACCEPTED);
    assert_eq!(publish("https://elsewhere.example").await, StatusCode::FORBIDDEN);
    let logout = http.delete(format!("{url}/api/v1/session")).header(header::COOKIE, &cookie);
    let logout = logout.header(header::ORIGIN, &url).send().await.expect("an answer");
    assert_eq!(logout.status(), StatusCode::NO_CONTENT);
    assert_eq!(publish(&url).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn letters_are_replayed_in_bulk_and_counted() {
    let rt = TestRuntime::start().await;
    let source = "export default () => { throw new Error('broken') }";
    rt.subscription("bad").on("order.*").script(source).attempts(1, 1).add().await;
    for n in 0..3 {
        rt.publish("order.paid", json!({ "n": n })).await;
    }
    let count = "/api/v1/dead-letters/count?status=dead";
    three("letters", &rt, count, "count").await;
    let groups = rt.get("/api/v1/dead-letters/groups").await;
    assert_eq!(groups["items"][0]["count"], 3);
    let script = &rt.get("/api/v1/scripts").await["items"][0];
    let path = format!("/api/v1/scripts/{}", script["id"].as_str().expect("an id"));
    rt.patch(&path, &json!({ "source": "export default () => 1" })).await;
    let filter = json!({ "subscription_id": rt.id_of("bad") });
    let bulk = rt.post("/api/v1/dead-letters/replay", &filter).await;
    assert_eq!(bulk["total"], 3);
    let bulk = format!("/api/v1/bulk/{}", bulk["id"].as_str().expect("an id"));
    let replayed = "/api/v1/dead-letters/count?status=replayed";
    three("replayed letters", &rt, replayed, "count").await;
    three("letters taken", &rt, &bulk, "done").await;
}

/// A group says which scripts to mend, each letter can be tried on a mended source, and a bulk
/// discard can be taken back.
#[tokio::test]
async fn a_group_is_tried_out_discarded_and_restored() {
    let rt = TestRuntime::start().await;
    let source = "export default (p) => { if (!p.ok) throw new Error('broken'); return p.n }";
    rt.subscription("bad").on("order.*").script(source).attempts(1, 1).add().await;
    for n in 0..3 {
        rt.publish("order.paid", json!({ "n": n })).await;
    }
    three("letters", &rt, "/api/v1/dead-letters/count?status=dead", "count").await;
    let script = rt.get("/api/v1/scripts").await["items"][0]["id"].clone();
    let groups = rt.get("/api/v1/dead-letters/groups").await;
    assert_eq!(groups["items"][0]["scripts"], json!([script]));

    let test = format!("/api/v1/scripts/{}/test", script.as_str().expect("an id"));
    let letter = rt.get("/api/v1/dead-letters").await["items"][0].clone();
    let of_letter = json!({ "letter_id": letter["id"] });
    assert_eq!(rt.post(&test, &of_letter).await["error"]["message"], "broken");
    let mended = "export default (p) => p.n";
    let out = rt.post(&test, &json!({ "letter_id": letter["id"], "source": mended })).await;
    assert_eq!(
        (&out["result"], &out["event_id"]),
        (&letter["event"]["data"]["n"], &letter["event_id"])
    );
    let both = json!({ "letter_id": letter["id"], "data": 1 });
    assert_eq!(rt.request(Method::POST, &test, Some(&both)).await.status, 422);

    let activity = rt.get("/api/v1/scripts/activity").await;
    let of_script = &activity["items"][0];
    assert_eq!((&of_script["script_id"], &of_script["active"]), (&script, &json!(1)));
    let failures = of_script["failures"].as_array().expect("a list");
    assert_eq!(failures.last(), Some(&json!(3)));
    let subscription = rt.get(&format!("/api/v1/subscriptions/{}", rt.id_of("bad"))).await;
    assert!(subscription["activity"]["p99_ms"].as_f64().is_some_and(|p99| p99 > 0.0));
    assert!(subscription["activity"]["runs_per_s"].as_f64().is_some_and(|rate| rate > 0.0));

    let bulk = rt.post("/api/v1/dead-letters/discard", &json!({})).await;
    three("discarded", &rt, "/api/v1/dead-letters/count?status=discarded", "count").await;
    let undo =
        rt.post("/api/v1/dead-letters/restore", &json!({ "discarded_by": bulk["id"] })).await;
    assert_eq!((&undo["action"], &undo["total"]), (&json!("restore"), &json!(3)));
    three("restored", &rt, "/api/v1/dead-letters/count?status=dead", "count").await;
    let wrong = json!({ "status": "dead" });
    let refused = rt.request(Method::POST, "/api/v1/dead-letters/restore", Some(&wrong)).await;
    assert_eq!(refused.status, 422);
}

/// Waits until a member of an answer is 3.
async fn three(what: &str, rt: &TestRuntime, path: &str, member: &str) {
    eventually(what, async || {
        let answer = rt.get(path).await;
        if answer[member] == 3 { Ok(()) } else { Err(answer) }
    })
    .await;
}

/// A client for requests that the harness does not make; its TLS is the harness's.
fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client without special needs")
}

/// Events that nobody listens to are the first sign of a mistyped pattern.
#[tokio::test]
async fn events_that_no_subscription_took_can_be_searched() {
    let rt = TestRuntime::start().await;
    rt.subscription("ship").on("order.*").filter("$.paid").script("null").add().await;
    let taken = rt.publish("order.paid", json!({ "paid": true })).await;
    let filtered_out = rt.publish("order.paid", json!({})).await;
    let misspelt = rt.publish("odrer.paid", json!({ "paid": true })).await;
    rt.delivery_of(&taken, "ship").await.succeeded();

    let uids = |items: Vec<Value>| -> Vec<Value> {
        items.into_iter().map(|event| event["uid"].clone()).collect()
    };
    let unmatched = uids(rt.all("/api/v1/events?unmatched=true").await);
    assert_eq!(unmatched, [misspelt, filtered_out]);
    assert_eq!(rt.all("/api/v1/events?unmatched=true&type=order.*").await.len(), 1);
}

/// Ids say nothing to a person: what a screen lists comes with its name.
#[tokio::test]
async fn lists_for_people_carry_names() {
    let rt = TestRuntime::start().await;
    let emit = "export default () => sdk.events.emit('order.shipped', {})";
    rt.subscription("ship").on("order.paid").script(emit).add().await;
    rt.publish("order.paid", json!({})).await;
    let shipped = rt.events("order.shipped", 1).await;

    let event = rt.get(&format!("/api/v1/events/{}", shipped[0]["uid"].as_str().unwrap())).await;
    let emitter = event["cause"]["subscription_id"].as_str().unwrap();
    assert_eq!(event["emitters"], json!({ emitter: "ship" }));
    let stats = rt.get("/api/v1/stats").await;
    assert_eq!(stats["subscriptions"]["top"][0]["subscription_name"], "ship");
    let audit = rt.all("/api/v1/audit").await;
    let named = |action: &str| {
        let entry = audit.iter().find(|entry| entry["action"] == action).expect("an entry");
        entry["target_name"].clone()
    };
    assert_eq!(named("subscription.create"), "ship");
    assert!(named("script.create").is_string());

    // Nor do those of what is gone.
    let token = rt.post("/api/v1/tokens", &json!({ "name": "deploys", "role": "editor" })).await;
    let path = format!("/api/v1/tokens/{}", token["id"].as_str().unwrap());
    rt.request(Method::DELETE, &path, None).await.ok(&path);
    let path = format!("/api/v1/subscriptions/{}", rt.id_of("ship"));
    rt.request(Method::DELETE, &path, None).await.ok(&path);
    let audit = rt.all("/api/v1/audit").await;
    for (action, name) in
        [("token.create", "deploys"), ("token.revoke", "deploys"), ("subscription.delete", "ship")]
    {
        let entry = audit.iter().find(|entry| entry["action"] == action).expect("an entry");
        assert_eq!(entry["target_name"], name, "{entry}");
    }
}

/// Guesses are slowed down per address, so that nobody else is locked out by them.
#[tokio::test]
async fn an_address_that_guesses_has_to_wait() {
    let rt = TestRuntime::start().await;
    let from = |address: &str| {
        let client = reqwest::Client::builder().no_proxy();
        client.local_address(address.parse::<std::net::IpAddr>().ok()).build().expect("a client")
    };
    let log_in = async |client: &reqwest::Client, token: String| {
        let request = client.post(rt.server.url() + "/api/v1/session");
        request.json(&json!({ "token": token })).send().await.expect("an answer")
    };
    let (guesser, other) = (from("127.0.0.1"), from("127.0.0.2"));
    for guess in 0..10 {
        let answer = log_in(&guesser, format!("trl_aaaaaaaa_{guess}")).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{guess}");
    }
    // The right token, too: the answer must not tell that this guess would have been good.
    let answer = log_in(&guesser, rt.server.admin_token()).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 =
        answer.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(log_in(&other, rt.server.admin_token()).await.status(), StatusCode::OK);
    rt.get("/api/v1/stats").await;
}

/// No body makes the server go down into itself: sizes and depth end where the limits say.
#[tokio::test]
async fn deep_and_large_bodies_are_refused_wherever_they_are_sent() {
    let rt = TestRuntime::start().await;
    let http = http();
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let send = async |method: Method, path: &str, body: String| {
        let request = http.request(method, rt.server.url() + path).body(body);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let answer = request.bearer_auth(rt.server.admin_token()).send().await;
        answer.expect("an answer").status().as_u16()
    };
    let script = json!({ "name": "s", "source": "1", "language": "javascript" });
    let id = rt.post("/api/v1/scripts", &script).await["id"].as_str().expect("an id").to_owned();
    let places = [
        (Method::POST, "/api/v1/events".to_owned(), r#"{"type":"a","data":@}"#),
        (Method::POST, "/api/v1/events".to_owned(), r#"[{"type":"a","data":@}]"#),
        (Method::PUT, "/api/v1/kv/space/key".to_owned(), r#"{"value":@}"#),
        (Method::POST, format!("/api/v1/scripts/{id}/test"), r#"{"data":@}"#),
        (Method::POST, "/api/v1/filters/check".to_owned(), r#"{"filter":"$.a","events":[@]}"#),
        (Method::POST, "/api/v1/subscriptions".to_owned(), "@"),
    ];
    for (method, path, body) in places {
        for depth in [200, 100_000] {
            let status = send(method.clone(), &path, body.replace('@', &nested(depth))).await;
            assert!([400, 422].contains(&status), "{method} {path} {depth} deep: {status}");
        }
        let large = format!("\"{}\"", "x".repeat(17 << 20));
        let status = send(method.clone(), &path, body.replace('@', &large)).await;
        assert_eq!(status, 413, "{method} {path}");
    }
    let event = |depth: usize| format!(r#"{{"type":"a","data":{}}}"#, nested(depth));
    assert_eq!(send(Method::POST, "/api/v1/events", event(64)).await, 202);
    assert_eq!(send(Method::POST, "/api/v1/events", event(65)).await, 422);
}

/// Members by their order would be anybody's guess.
#[tokio::test]
async fn an_array_is_no_object() {
    let rt = TestRuntime::start().await;
    let script = json!({ "name": "a", "language": "javascript", "source": "1" });
    let script = rt.post("/api/v1/scripts", &script).await["id"].clone();
    let whole = json!([script, "a", "order.*"]);
    let inner =
        json!({ "name": "a", "script_id": script, "event_type": "a", "retry_policy": [3, 1] });
    for (body, field) in [(whole, Value::Null), (inner, json!("retry_policy"))] {
        let answer = rt.request(Method::POST, "/api/v1/subscriptions", Some(&body)).await;
        assert_eq!((answer.status.as_u16(), &answer.body["field"]), (422, &field), "{answer:?}");
        assert_eq!(answer.body["expected"], "an object", "{answer:?}");
    }
}
