//! An event's way through a subscription: success, retries, dead letters, replay, crashes.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::{Database, TestRuntime, eventually};

/// One script's endless loop must not cost its neighbours their events.
#[tokio::test]
async fn a_looping_script_dead_letters_and_its_neighbours_still_run() {
    let rt = TestRuntime::start().await;
    rt.subscription("spin").on("order.*").script("while (true) {}").attempts(1, 10).add().await;
    let ship = "await sdk.events.emit('ship.requested', sdk.events.current())";
    rt.subscription("ship").on("order.*").script(ship).add().await;

    rt.publish("order.paid", json!({ "order": 7 })).await;

    rt.delivery("ship").await.succeeded().after(1);
    rt.dead_letter("spin").await.because("timeout");
    let emitted = rt.events("ship.requested", 1).await;
    assert_eq!(emitted[0]["data"], json!({ "order": 7 }));
    assert_eq!(emitted[0]["hop"], 1);
}

#[tokio::test]
async fn a_failed_attempt_is_retried_and_leaves_nothing_behind() {
    let rt = TestRuntime::start().await;
    let source = "
        export default async function (payload, context) {
            await sdk.events.emit('part.made', { attempt: context.attempt });
            if (context.attempt < 3) throw new Error('not yet');
            return context.attempt;
        }";
    rt.subscription("parts").on("part.wanted").script(source).attempts(3, 20).add().await;

    rt.publish("part.wanted", json!({})).await;

    rt.delivery("parts").await.succeeded().after(3).returned(&json!(3));
    let made = rt.events("part.made", 1).await;
    assert_eq!(made[0]["data"], json!({ "attempt": 3 }));
}

#[tokio::test]
async fn a_permanent_error_dies_at_once_and_replays_with_an_edited_payload() {
    let rt = TestRuntime::start().await;
    let source = "
        export default (payment) => {
            if (!payment.amount) throw new sdk.PermanentError('no amount');
            return payment.amount;
        }";
    rt.subscription("book").on("payment.*").filter("$.kind == 'card'").script(source).add().await;

    rt.publish("payment.made", json!({ "kind": "card" })).await;
    rt.delivery("book").await.dead().after(1);
    let letter = rt.dead_letter("book").await.because("permanent").saying("no amount");

    let path = format!("/api/v1/dead-letters/{}", letter.id());
    rt.post(&format!("{path}/replay"), &json!({ "data": { "kind": "card", "amount": 5 } })).await;
    crate::support::eventually("the letter to be replayed", async || {
        let letter = rt.get(&path).await;
        if letter["status"] == "replayed" { Ok(()) } else { Err(letter) }
    })
    .await;
    rt.request(Method::POST, &format!("{path}/replay"), Some(&json!({})))
        .await
        .refused(409, "not_dead");
    // A list for people need not carry what each of them was about.
    let list = async |query: &str| {
        rt.get(&format!("/api/v1/dead-letters{query}")).await["items"][0].clone()
    };
    let whole = list("").await;
    assert_eq!(whole["event"]["data"]["kind"], "card");
    assert_eq!(whole["edited_data"]["amount"], 5);
    let light = list("?data=false").await;
    assert_eq!(light["event"]["uid"], whole["event"]["uid"]);
    assert!(light["event"]["data"].is_null() && light["edited_data"].is_null(), "{light:#}");
}

#[tokio::test]
async fn what_matches_while_paused_runs_after_the_resume_even_across_a_crash() {
    let mut rt = TestRuntime::start().await;
    let added =
        rt.subscription("later").on("job.*").script("export default (job) => job.n").add().await;
    let path = format!("/api/v1/subscriptions/{}", added["id"].as_str().unwrap());
    rt.post(&format!("{path}/pause"), &json!({})).await;
    let first = rt.publish("job.queued", json!({ "n": 1 })).await;

    rt.crash().await;
    assert_eq!(rt.get(&path).await["state"], "paused");
    rt.patch(&path, &json!({ "retry_policy": { "max_attempts": 7 } })).await;
    rt.post(&format!("{path}/resume"), &json!({})).await;

    rt.delivery_of(&first, "later").await.succeeded().returned(&json!(1));
    rt.delete(&path).await;
    rt.request(Method::GET, &path, None).await.refused(404, "not_found");
}

#[tokio::test]
async fn an_event_posted_twice_runs_once_and_another_payload_under_its_id_is_refused() {
    let rt = TestRuntime::start().await;
    rt.subscription("once").on("order.*").script("export default (order) => order.n").add().await;
    let event = |n: u64| json!({ "specversion": "1.0", "type": "order.paid", "source": "/shop", "id": "a", "data": { "n": n } });

    let first = rt.post("/api/v1/events", &event(1)).await;
    let again = rt.post("/api/v1/events", &event(1)).await;
    assert_eq!(first["accepted"], 1);
    assert_eq!((&again["duplicates"], &again["ids"]), (&json!(1), &first["ids"]));
    rt.request(Method::POST, "/api/v1/events", Some(&event(2))).await.refused(409, "id_reused");

    let done = rt.delivery_of(first["ids"][0].as_str().unwrap(), "once").await.succeeded();
    assert_eq!(done.runs.len(), 1);
}

#[tokio::test]
async fn a_publisher_token_publishes_and_nothing_else() {
    let rt = TestRuntime::start().await;
    let made = rt.post("/api/v1/tokens", &json!({ "name": "shop", "role": "publisher" })).await;
    let shop = rt.with_token(made["secret"].as_str().expect("a new token is shown once"));

    shop.post("/api/v1/events", &json!({ "type": "order.paid", "data": {} })).await;
    shop.request(Method::GET, "/api/v1/events", None).await.refused(403, "forbidden");
    rt.with_token("no such token")
        .request(Method::GET, "/api/v1/events", None)
        .await
        .refused(401, "unauthorized");
}

#[tokio::test]
async fn a_rate_limit_spreads_the_runs_and_shows_what_it_holds_back() {
    let rt = TestRuntime::start().await;
    rt.subscription("slow")
        .on("mail.*")
        .with("limits", json!({ "rate_limit": { "runs": 3, "per": "1s" } }))
        .add()
        .await;
    let path = format!("/api/v1/subscriptions/{}", rt.id_of("slow"));
    assert_eq!(rt.get(&path).await["limits"]["rate_limit"], json!({ "runs": 3, "per": "1s" }));

    let started = std::time::Instant::now();
    let mails: Vec<_> = (0..8).map(|n| json!({ "type": "mail.due", "data": { "n": n } })).collect();
    rt.post("/api/v1/events", &json!(mails)).await;
    eventually("a run that is held back", async || {
        let activity = rt.get(&path).await["activity"].clone();
        if activity["rate_limited_until"].is_string() { Ok(()) } else { Err(activity) }
    })
    .await;
    eventually("all to have run", async || {
        let activity = rt.get(&path).await["activity"].clone();
        if activity["succeeded"] == 8 { Ok(()) } else { Err(activity) }
    })
    .await;
    // Three at once, three a second later, and the last two a second after that.
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());

    // Without the limit everything goes at once, what was held back included.
    let mails: Vec<_> = (0..20).map(|_| json!({ "type": "mail.due", "data": {} })).collect();
    rt.post("/api/v1/events", &json!(mails)).await;
    rt.patch(&path, &json!({ "limits": { "rate_limit": null } })).await;
    eventually("all to have run without a limit", async || {
        let activity = rt.get(&path).await["activity"].clone();
        if activity["succeeded"] == 28 { Ok(()) } else { Err(activity) }
    })
    .await;
    assert!(rt.get(&path).await["activity"]["rate_limited_until"].is_null());
    let wrong = json!({ "limits": { "rate_limit": { "runs": 0, "per": "1s" } } });
    let refused =
        rt.request(Method::PATCH, &path, Some(&wrong)).await.refused(422, "invalid_field");
    assert_eq!(refused["field"], "limits.rate_limit.runs");
}

#[tokio::test]
async fn a_delivery_that_is_too_old_dies_as_expired_and_runs_when_replayed() {
    let rt = TestRuntime::with(Database::Sqlite, "[supervisor.breaker]\ndead_letters = 1\n").await;
    rt.subscription("fresh")
        .on("quote.*")
        .script("export default (quote) => quote.n")
        .with("limits", json!({ "expires_after": "1s" }))
        .with("paused", json!(true))
        .add()
        .await;
    let path = format!("/api/v1/subscriptions/{}", rt.id_of("fresh"));
    let uid = rt.publish("quote.made", json!({ "n": 1 })).await;
    let accepted = std::time::Instant::now();
    eventually("the event to grow old", async || {
        let age = accepted.elapsed();
        if age > Duration::from_millis(1_100) { Ok(()) } else { Err(age) }
    })
    .await;
    rt.post(&format!("{path}/resume"), &json!({})).await;

    rt.delivery_of(&uid, "fresh").await.dead().after(0);
    let letter = rt.dead_letter("fresh").await.because("expired").saying("expires_after (1s)");
    rt.publish("quote.made", json!({ "n": 2 })).await;
    rt.delivery("fresh").await.succeeded();
    // Not a failure of the script: the breaker, at one letter here, does not count it.
    assert_eq!(rt.get(&path).await["state"], "active");

    let letter = format!("/api/v1/dead-letters/{}", letter.id());
    rt.post(&format!("{letter}/replay"), &json!({})).await;
    eventually("the replay to succeed", async || {
        let letter = rt.get(&letter).await;
        if letter["status"] == "replayed" { Ok(()) } else { Err(letter) }
    })
    .await;
    rt.delivery_of(&uid, "fresh").await.succeeded().returned(&json!(1));
    let past = json!({ "from": "2020-01-01T00:00:00Z", "dry_run": true });
    let refused = rt
        .request(Method::POST, &format!("{path}/backfill"), Some(&past))
        .await
        .refused(422, "invalid_field");
    assert_eq!(refused["field"], "from");
}

/// Retries come due together, so letters may follow each other although most events succeed.
#[tokio::test]
async fn the_breaker_waits_for_deaths_without_a_success_since_they_began() {
    let rt = TestRuntime::with(Database::Sqlite, "[supervisor.breaker]\ndead_letters = 3\n").await;
    let source = "export default (job) => { if (job.fails) throw new Error('always'); }";
    rt.subscription("jobs").on("job.*").script(source).attempts(2, 100).add().await;
    let path = format!("/api/v1/subscriptions/{}", rt.id_of("jobs"));
    let batch = |fails: &[bool]| {
        let job = |fails: &bool| json!({ "type": "job.due", "data": { "fails": fails } });
        json!(fails.iter().map(job).collect::<Vec<_>>())
    };
    let letters = async |count: u64| {
        eventually("all letters", async || {
            let path = format!("/api/v1/dead-letters/count?subscription_id={}", rt.id_of("jobs"));
            let found = rt.get(&path).await;
            if found["count"] == count { Ok(()) } else { Err(found) }
        })
        .await;
    };

    rt.post("/api/v1/events", &batch(&[true, true, true, true, false])).await;
    letters(4).await;
    assert_eq!(rt.get(&path).await["state"], "active");

    rt.post("/api/v1/events", &batch(&[true, true, true])).await;
    letters(7).await;
    let shown = eventually("the breaker", async || {
        let shown = rt.get(&path).await;
        if shown["state"] == "suspended" { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert!(shown["state_reason"].as_str().unwrap().contains("circuit breaker: 3"), "{shown}");
}
