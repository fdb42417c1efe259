//! An event's way through a subscription: success, retries, dead letters, replay, crashes.

use reqwest::Method;
use serde_json::json;

use crate::support::TestRuntime;

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
