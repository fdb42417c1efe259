//! The JSON API as a client sees it.

use std::{sync::Once, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::Value;

/// A client with an address and a token. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The body as JSON; a string when it was none, null when there was none.
    pub(crate) body: Value,
}

impl Api {
    pub(crate) fn new(base: String, token: String) -> Self {
        Self { http: http(), base, token }
    }

    /// The same server with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// `Err` when the connection failed: the request may or may not have taken effect.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> reqwest::Result<Answer> {
        let mut request =
            self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        let body = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        };
        Ok(Answer { status, body })
    }

    pub(crate) async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        match self.send(method.clone(), path, body).await {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.request(Method::GET, path, None).await.ok(path)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        self.request(Method::POST, path, Some(body)).await.ok(path)
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Value {
        self.request(Method::PATCH, path, Some(body)).await.ok(path)
    }

    pub(crate) async fn delete(&self, path: &str) -> Value {
        self.request(Method::DELETE, path, None).await.ok(path)
    }

    /// Every item of a list, page after page. `path` may carry a query.
    pub(crate) async fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        self.each(path, |item| items.push(item)).await;
        items
    }

    /// All items of a list, for lists that are too long to be held.
    pub(crate) async fn each(&self, path: &str, mut look: impl FnMut(Value)) {
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut next = format!("{path}{joint}limit=1000");
        loop {
            let mut page = self.get(&next).await;
            let items = std::mem::take(page["items"].as_array_mut().expect("a list has items"));
            items.into_iter().for_each(&mut look);
            match page["next"].as_str() {
                Some(cursor) => next = format!("{path}{joint}limit=1000&cursor={cursor}"),
                None => return,
            }
        }
    }
}

impl Answer {
    /// The body of a success; fails the test otherwise.
    #[track_caller]
    pub(crate) fn ok(self, path: &str) -> Value {
        assert!(self.status.is_success(), "{path}: {} {:#}", self.status, self.body);
        self.body
    }

    /// Asserts a refusal: its status and the stable `code` of the problem.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:#}", self.body);
        assert_eq!(self.body["code"], code, "{:#}", self.body);
        self.body
    }
}

pub(crate) fn http() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    // A second test of the same process finds it installed.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    // A test that thinks for long does not hear that the server hangs up what is idle.
    let client = reqwest::Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(2));
    client.build().expect("a client without special needs")
}
