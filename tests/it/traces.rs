//! Traces: one event followed through everything it causes, out of the process and over a restart.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Collector, Database, Server, Span, TestRuntime, eventually, http};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn config(endpoint: &str) -> String {
    format!(
        "[telemetry]\notlp_endpoint = \"{endpoint}\"\notlp_headers = \"x-tenant=acme\"\n\
         [fetch]\nsubnets = [\"127.0.0.1/32\"]"
    )
}

/// Publishes with headers; answers the uid.
async fn publish(rt: &TestRuntime, event: &Value, headers: &[(&str, &str)]) -> String {
    let mut request = http()
        .post(rt.server.url() + "/api/v1/events")
        .bearer_auth(rt.server.admin_token())
        .json(event);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 202);
    answer.json::<Value>().await.unwrap()["ids"][0].as_str().unwrap().to_owned()
}

/// The only span of a name, once it is there.
async fn span(collector: &Collector, name: &str) -> Span {
    eventually(&format!("a span {name:?}"), async || {
        let all = collector.spans();
        let found: Vec<&Span> = all.iter().filter(|span| span.text("name") == name).collect();
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            _ => Err(all.iter().map(|span| span.text("name").to_owned()).collect::<Vec<_>>()),
        }
    })
    .await
}

/// publish → run → emit → second run → fetch, with a restart between the runs.
async fn follow(database: Database) {
    let collector = Collector::start().await;
    let outside = Collector::start().await;
    let url = database.create().await;
    let mut server = Server::new(&config(&format!("http://{}", collector.address)), url.as_deref());
    server.start().await;
    let mut rt = TestRuntime::of(server);
    let first = "export default (p, c) => { sdk.events.emit('order.paid', {}); return c.extensions.traceparent; }";
    rt.subscription("first").on("order.placed").script(first).add().await;
    let second = format!(
        "export default async () => (await fetch('http://{}/ask')).status",
        outside.address
    );
    let script = json!({ "name": "second", "language": "typescript", "source": second, "fetch_allow": [outside.address.to_string()] });
    let script = rt.post("/api/v1/scripts", &script).await["id"].as_str().unwrap().to_owned();
    rt.subscription("second").on("order.paid").using(&script).add().await;
    rt.post(&format!("/api/v1/subscriptions/{}/pause", rt.id_of("second")), &json!({})).await;

    let event = json!({ "type": "order.placed", "data": {} });
    let uid = publish(&rt, &event, &[("traceparent", PARENT), ("tracestate", "vendor=1")]).await;
    let published = span(&collector, "publish").await;
    let carried = format!("00-{TRACE}-{}-01", published.text("spanId"));
    rt.delivery_of(&uid, "first").await.succeeded().returned(&json!(carried));

    // What is stored carries on after a stop and a start.
    assert!(rt.server.stop().success());
    rt.server.start().await;
    rt.post(&format!("/api/v1/subscriptions/{}/resume", rt.id_of("second")), &json!({})).await;
    let paid = rt.events("order.paid", 1).await.remove(0);
    rt.delivery_of(paid["uid"].as_str().unwrap(), "second").await.succeeded().returned(&json!(200));

    assert_eq!(
        (published.text("traceId"), published.text("parentSpanId")),
        (TRACE, "00f067aa0ba902b7")
    );
    assert_eq!((published.text("traceState"), &published.0["kind"]), ("vendor=1", &json!(2)));
    span(&collector, "commit").await.is_child_of(&published);
    let first = span(&collector, "run first").await;
    first.is_child_of(&published);
    assert_eq!(
        (first.attribute("tripline.outcome"), first.attribute("tripline.run.attempt")),
        ("succeeded".into(), "1".into())
    );
    assert_eq!(first.attribute("cloudevents.event_type"), "order.placed");
    let emit = span(&collector, "emit order.paid").await;
    emit.is_child_of(&first);
    let second = span(&collector, "run second").await;
    second.is_child_of(&emit);
    let fetch = span(&collector, "fetch GET").await;
    fetch.is_child_of(&second);
    assert_eq!(fetch.attribute("http.response.status_code"), "200");
    let asked = outside.requests().remove(0);
    assert_eq!(asked.headers["traceparent"], format!("00-{TRACE}-{}-01", fetch.text("spanId")));
    assert_eq!(asked.headers["tracestate"], "vendor=1");
    for span in collector.spans() {
        let [start, end] =
            ["startTimeUnixNano", "endTimeUnixNano"].map(|f| span.text(f).parse::<u64>().unwrap());
        assert!(start <= end && start > 1_700_000_000_000_000_000, "{span:?}");
    }
    let docs = include_str!("../../docs/tracing.md");
    for span in collector.spans() {
        for attribute in span.0["attributes"].as_array().unwrap() {
            let name = format!("`{}`", attribute["key"].as_str().unwrap());
            assert!(docs.contains(&name), "docs/tracing.md does not name {name}");
        }
    }
    assert!(collector.requests().iter().all(|request| request.headers["x-tenant"] == "acme"));
    let metrics = rt.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("tripline_trace_spans_total{outcome=\"exported\"}"));
}

#[tokio::test]
async fn one_trace_from_publish_to_fetch_and_over_a_restart_on_sqlite() {
    follow(Database::Sqlite).await;
}

#[tokio::test]
async fn one_trace_from_publish_to_fetch_and_over_a_restart_on_postgres() {
    if Database::Postgres.available() {
        follow(Database::Postgres).await;
    }
}

#[tokio::test]
async fn attempts_and_deaths_are_spans_and_an_alert_is_of_the_same_trace() {
    let collector = Collector::start().await;
    let rt =
        TestRuntime::with(Database::Sqlite, &config(&format!("http://{}/", collector.address)))
            .await;
    rt.subscription("watch").on("tripline.**").add().await;
    let fails = "export default () => { throw new TypeError('no stock'); }";
    rt.subscription("fails").on("job.*").script(fails).attempts(2, 1).add().await;
    rt.publish("job.due", json!({})).await;
    rt.dead_letter("fails").await;
    // Nobody sent a trace: it begins here.
    let published = span(&collector, "publish").await;
    assert_eq!(published.text("parentSpanId"), "");
    let alerted = span(&collector, "run watch").await;
    alerted.is_child_of(&published);
    let death = span(&collector, "dead letter").await;
    let attempts: Vec<Span> =
        collector.spans().into_iter().filter(|span| span.text("name") == "run fails").collect();
    let outcomes: Vec<String> =
        attempts.iter().map(|run| run.attribute("tripline.outcome")).collect();
    assert_eq!(outcomes, ["retrying", "dead"]);
    for run in &attempts {
        run.is_child_of(&published);
        assert_eq!(run.attribute("error.type"), "exception");
        assert!(run.0["status"]["message"].as_str().unwrap().contains("no stock"));
    }
    death.is_child_of(&attempts[1]);
}

/// Nothing is exported, and what others sent goes on unchanged.
#[tokio::test]
async fn without_a_collector_and_unsampled_contexts_are_passed_on() {
    let outside = Collector::start().await;
    let collector = Collector::start().await;
    let unsampled = PARENT.replace("-01", "-00");
    for (config, parent) in [
        ("[fetch]\nsubnets = [\"127.0.0.1/32\"]".to_owned(), PARENT),
        (config(&format!("http://{}", collector.address)), unsampled.as_str()),
    ] {
        let rt = TestRuntime::with(Database::Sqlite, &config).await;
        let source = format!(
            "export default async () => {{ sdk.events.emit('b', {{}}); await fetch('http://{}/'); await fetch('http://{}/', {{ headers: {{ traceparent: 'mine' }} }}); }}",
            outside.address, outside.address
        );
        let script = json!({ "name": "asks", "language": "typescript", "source": source, "fetch_allow": [outside.address.to_string()] });
        let script = rt.post("/api/v1/scripts", &script).await["id"].as_str().unwrap().to_owned();
        rt.subscription("asks").on("a").using(&script).add().await;
        let before = outside.requests().len();
        let uid =
            publish(&rt, &json!({ "type": "a", "data": {} }), &[("traceparent", parent)]).await;
        rt.delivery_of(&uid, "asks").await.succeeded();
        let emitted = rt.events("b", 1).await.remove(0);
        assert_eq!(emitted["extensions"]["traceparent"], parent);
        let sent: Vec<String> = outside.requests()[before..]
            .iter()
            .map(|asked| asked.headers["traceparent"].clone())
            .collect();
        assert_eq!(sent, [parent, "mine"]);

        // An event's own context stays as it came; a header that is none is as good as none.
        let own = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "c", "traceparent": unsampled, "data": {} });
        let uid = publish(&rt, &own, &[("traceparent", PARENT)]).await;
        assert_eq!(rt.get(&format!("/api/v1/events/{uid}")).await["traceparent"], unsampled);
        if parent == PARENT {
            let uid =
                publish(&rt, &json!({ "type": "c", "data": {} }), &[("traceparent", "nonsense")])
                    .await;
            assert_eq!(rt.get(&format!("/api/v1/events/{uid}")).await["extensions"], json!({}));
        }
    }
    assert!(
        collector
            .spans()
            .iter()
            .all(|span| span.text("name") == "publish" || span.text("name") == "commit"),
        "{:?}",
        collector.spans()
    );
}

#[tokio::test]
async fn the_configuration_of_the_docs_starts() {
    let docs = include_str!("../../docs/tracing.md");
    let toml = docs.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let rt = TestRuntime::with(Database::Sqlite, toml).await;
    let config = rt.get("/api/v1/config").await.to_string();
    assert!(config.contains("http://127.0.0.1:4318"), "{config}");
}

/// A collector that is not there costs spans, and nothing else.
#[tokio::test]
async fn a_collector_that_is_away_slows_nobody() {
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rt = TestRuntime::with(Database::Sqlite, &config(&format!("http://{away}"))).await;
    rt.subscription("all").on("job.*").add().await;
    // More spans than the queue holds.
    let jobs: Vec<Value> =
        (0..10_000).map(|n| json!({ "type": "job.due", "data": { "n": n } })).collect();
    let answer = rt.request(Method::POST, "/api/v1/events", Some(&json!(jobs))).await.ok("jobs");
    let last = answer["ids"][9_999].as_str().unwrap().to_owned();
    rt.delivery_of(&last, "all").await.succeeded();
    eventually("dropped spans to be counted", async || {
        let metrics = rt.get("/metrics").await;
        let text = metrics.as_str().unwrap().to_owned();
        let dropped = text
            .lines()
            .find_map(|line| line.strip_prefix("tripline_trace_spans_total{outcome=\"dropped\"} "));
        match dropped.and_then(|count| count.parse::<u64>().ok()) {
            Some(1..) => Ok(()),
            _ => Err(text),
        }
    })
    .await;
}
