//! A running Tripline that a test speaks to in events and outcomes.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{Mutex, PoisonError},
};

use serde_json::{Map, Value, json};

use super::{Api, Database, Delivery, Letter, Server, eventually};

/// Ended for good: nothing moves a delivery on from these but a person.
const TERMINAL: [&str; 3] = ["succeeded", "dead", "discarded"];

pub(crate) struct TestRuntime {
    pub(crate) server: Server,
    pub(crate) api: Api,
    /// Ids by the name the test gave.
    subscriptions: Mutex<BTreeMap<String, String>>,
    last_published: Mutex<Option<String>>,
}

impl Deref for TestRuntime {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl TestRuntime {
    /// SQLite, default settings.
    pub(crate) async fn start() -> Self {
        Self::with(Database::Sqlite, "").await
    }

    /// `config` is the text of `tripline.toml`, without `[server] listen` and `[storage]`.
    pub(crate) async fn with(database: Database, config: &str) -> Self {
        let url = database.create().await;
        let mut server = Server::new(config, url.as_deref());
        server.start().await;
        Self::of(server)
    }

    /// Over a server that is ready.
    pub(crate) fn of(server: Server) -> Self {
        let api = Api::new(server.url(), server.admin_token());
        Self { server, api, subscriptions: Mutex::default(), last_published: Mutex::default() }
    }

    /// Kills the whole process tree and starts again over the same data.
    pub(crate) async fn crash(&mut self) {
        self.server.kill();
        self.server.start().await;
    }

    pub(crate) fn subscription(&self, name: &str) -> NewSubscription<'_> {
        NewSubscription {
            rt: self,
            name: name.to_owned(),
            source: "export default () => null".to_owned(),
            script_id: None,
            fields: Map::from_iter([("event_type".to_owned(), json!("**"))]),
        }
    }

    /// The id of a subscription that this test added.
    pub(crate) fn id_of(&self, name: &str) -> String {
        let known = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).unwrap_or_else(|| panic!("no subscription {name:?} was added")).clone()
    }

    /// Publishes one event and answers its uid.
    pub(crate) async fn publish(&self, event_type: &str, data: Value) -> String {
        let event = json!({ "type": event_type, "data": data });
        let answer = self.api.post("/api/v1/events", &event).await;
        let uid = answer["ids"][0].as_str().expect("an accepted event has a uid").to_owned();
        *self.last_published.lock().unwrap_or_else(PoisonError::into_inner) = Some(uid.clone());
        uid
    }

    /// What became of the event published last at `subscription`, once it has ended there.
    pub(crate) async fn delivery(&self, subscription: &str) -> Delivery {
        let last = self.last_published.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.delivery_of(&last.expect("an event was published"), subscription).await
    }

    pub(crate) async fn delivery_of(&self, event: &str, subscription: &str) -> Delivery {
        let id = self.id_of(subscription);
        let found = eventually(&format!("a delivery to {subscription} that ended"), async || {
            let event = self.api.get(&format!("/api/v1/events/{event}")).await;
            let mine = event["deliveries"]
                .as_array()
                .and_then(|all| all.iter().find(|one| one["subscription_id"] == id.as_str()));
            match mine {
                Some(one) if TERMINAL.iter().any(|status| one["status"] == *status) => {
                    Ok(one.clone())
                }
                _ => Err(event),
            }
        })
        .await;
        let runs = self.api.all(&format!("/api/v1/runs?subscription_id={id}")).await;
        Delivery {
            status: found["status"].as_str().unwrap_or_default().to_owned(),
            attempts: found["attempts"].as_u64().unwrap_or_default(),
            runs: runs.into_iter().filter(|run| run["event_id"] == event).collect(),
        }
    }

    /// The newest dead letter of `subscription`, once there is one that rests.
    pub(crate) async fn dead_letter(&self, subscription: &str) -> Letter {
        let id = self.id_of(subscription);
        eventually(&format!("a dead letter of {subscription}"), async || {
            let page = self.api.get(&format!("/api/v1/dead-letters?subscription_id={id}")).await;
            match &page["items"][0] {
                letter if letter["status"] == "dead" => Ok(Letter(letter.clone())),
                _ => Err(page),
            }
        })
        .await
    }

    /// Events of a type, once there are `count` of them; more fail the test.
    pub(crate) async fn events(&self, event_type: &str, count: usize) -> Vec<Value> {
        let found = eventually(&format!("{count} events of {event_type}"), async || {
            let all = self.api.all(&format!("/api/v1/events?type={event_type}")).await;
            if all.len() >= count { Ok(all) } else { Err(all.len()) }
        })
        .await;
        assert_eq!(found.len(), count, "events of {event_type}");
        found
    }
}

/// A subscription in the making; `add` creates its script and itself.
pub(crate) struct NewSubscription<'a> {
    rt: &'a TestRuntime,
    name: String,
    source: String,
    script_id: Option<String>,
    fields: Map<String, Value>,
}

impl NewSubscription<'_> {
    /// The event type or pattern; without it `**`.
    pub(crate) fn on(self, event_type: &str) -> Self {
        self.with("event_type", json!(event_type))
    }

    pub(crate) fn filter(self, filter: &str) -> Self {
        self.with("filter", json!(filter))
    }

    /// TypeScript source of its own script.
    pub(crate) fn script(mut self, source: &str) -> Self {
        self.source = source.to_owned();
        self
    }

    /// A script that exists already, instead of one of its own.
    pub(crate) fn using(mut self, script_id: &str) -> Self {
        self.script_id = Some(script_id.to_owned());
        self
    }

    /// So many attempts, `every_ms` apart.
    pub(crate) fn attempts(self, max: u32, every_ms: u64) -> Self {
        let backoff = json!({ "kind": "fixed", "initial_ms": every_ms, "max_ms": every_ms, "factor": 1.0, "jitter": 0.0 });
        self.with("retry_policy", json!({ "max_attempts": max, "backoff": backoff }))
    }

    /// Any other field of `POST /api/v1/subscriptions`.
    pub(crate) fn with(mut self, field: &str, value: Value) -> Self {
        self.fields.insert(field.to_owned(), value);
        self
    }

    /// Answers the subscription as the server shows it.
    pub(crate) async fn add(mut self) -> Value {
        let script_id = match self.script_id.take() {
            Some(id) => json!(id),
            None => {
                let script =
                    json!({ "name": self.name, "language": "typescript", "source": self.source });
                self.rt.api.post("/api/v1/scripts", &script).await["id"].clone()
            }
        };
        self.fields.insert("name".to_owned(), json!(self.name));
        self.fields.insert("script_id".to_owned(), script_id);
        let added = self.rt.api.post("/api/v1/subscriptions", &Value::Object(self.fields)).await;
        let id = added["id"].as_str().expect("a subscription has an id").to_owned();
        let mut known = self.rt.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(self.name, id);
        added
    }
}
