//! The subscriptions under test, and the changes made to them meanwhile.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, TestRuntime};

/// Emits before it throws: what a failed attempt emitted must never show.
const PARENT: &str = "
    export default async function (item, context) {
        for (let ordinal = 0; ordinal < item.children; ordinal++) {
            await sdk.events.emit('ledger.child', { publisher: item.publisher, n: item.n, ordinal });
        }
        if (item.fails_once && context.attempt === 1) throw new Error('the first attempt fails');
        return item.n;
    }";

const CHILD: &str = "
    export default async function (child) {
        if (child.ordinal === 0) await sdk.events.emit('ledger.grandchild', child);
    }";

const DOOMED: &str = "
    export default async function (item) {
        await sdk.events.emit('ledger.ghost', item);
        throw new Error(`item ${item.n} dies`);
    }";

const WAITS: &str = "
    export default async function (item) {
        await new Promise((wake) => setTimeout(wake, 400));
        return item.n;
    }";

const RETURNS: &str = "export default (payload) => payload.n";

pub(super) struct Workload {
    /// Handled by each of its matches exactly once, whatever happens: name and id.
    pub(super) keep: String,
    pub(super) parent: String,
    pub(super) child: String,
    pub(super) last: String,
    pub(super) doomed: String,
    pub(super) waits: String,
    pub(super) edited: String,
    pub(super) paused: String,
    /// Switched on and off: who can say what it matched; but each delivery ends.
    pub(super) toggled: String,
    script: String,
}

impl Workload {
    pub(super) async fn install(rt: &TestRuntime) -> Self {
        let items = "ledger.item";
        let keep = rt.subscription("keep").on(items).script(RETURNS).add().await;
        let script = keep["script_id"].as_str().expect("a script").to_owned();
        rt.subscription("parent").on(items).script(PARENT).attempts(3, 150).add().await;
        rt.subscription("child").on("ledger.child").script(CHILD).add().await;
        rt.subscription("last").on("ledger.grandchild").script(RETURNS).add().await;
        let doomed = rt.subscription("doomed").on(items).filter("$.dies == true");
        doomed.script(DOOMED).attempts(2, 150).add().await;
        let waits = rt.subscription("waits").on(items).filter("$.slow == true").script(WAITS);
        waits.with("concurrency", json!(8)).add().await;
        rt.subscription("edited").on(items).using(&script).add().await;
        rt.subscription("paused").on(items).filter("$.slow == true").using(&script).add().await;
        rt.subscription("toggled").on(items).using(&script).add().await;
        Self {
            keep: rt.id_of("keep"),
            parent: rt.id_of("parent"),
            child: rt.id_of("child"),
            last: rt.id_of("last"),
            doomed: rt.id_of("doomed"),
            waits: rt.id_of("waits"),
            edited: rt.id_of("edited"),
            paused: rt.id_of("paused"),
            toggled: rt.id_of("toggled"),
            script,
        }
    }

    /// Change number `step` of an endless round; `Err` when the connection broke under it.
    pub(super) async fn change(&self, api: &Api, step: usize) -> reqwest::Result<()> {
        let path = |id: &str, verb: &str| format!("/api/v1/subscriptions/{id}{verb}");
        let (method, path, body) = match step % 8 {
            0 => (Method::POST, path(&self.paused, "/pause"), Value::Null),
            1 => (Method::PATCH, path(&self.edited, ""), json!({ "concurrency": 2 })),
            2 => (Method::PATCH, path(&self.toggled, ""), json!({ "is_active": false })),
            3 => (Method::POST, path(&self.paused, "/resume"), Value::Null),
            4 => (Method::PATCH, path(&self.edited, ""), json!({ "concurrency": 1 })),
            5 => (Method::PATCH, path(&self.toggled, ""), json!({ "is_active": true })),
            6 => (Method::POST, path("", "").trim_end_matches('/').to_owned(), self.brief(step)),
            _ => return self.remove_brief(api).await,
        };
        let body = (!body.is_null()).then_some(body);
        api.send(method, &path, body.as_ref()).await.map(drop)
    }

    fn brief(&self, step: usize) -> Value {
        json!({ "name": format!("brief-{step}"), "script_id": self.script, "event_type": "ledger.item" })
    }

    /// Deletes every short-lived subscription, unfinished deliveries and all.
    async fn remove_brief(&self, api: &Api) -> reqwest::Result<()> {
        let list = api.send(Method::GET, "/api/v1/subscriptions?limit=1000", None).await?;
        let items = list.body["items"].as_array().cloned().unwrap_or_default();
        for one in items
            .iter()
            .filter(|one| one["name"].as_str().is_some_and(|name| name.starts_with("brief-")))
        {
            let id = one["id"].as_str().expect("a subscription has an id");
            api.send(Method::DELETE, &format!("/api/v1/subscriptions/{id}?discard=true"), None)
                .await?;
        }
        Ok(())
    }

    /// After the last kill: nothing paused, nothing short-lived.
    pub(super) async fn calm(&self, api: &Api) {
        self.remove_brief(api).await.expect("the server is up");
        api.request(Method::POST, &format!("/api/v1/subscriptions/{}/resume", self.paused), None)
            .await;
    }
}
