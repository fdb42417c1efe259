//! What became of a delivery, and assertions that print the last state seen.

use serde_json::Value;

/// A delivery that has ended, with the runs that are kept of it.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) status: String,
    pub(crate) attempts: u64,
    /// Newest first, as the API lists them.
    pub(crate) runs: Vec<Value>,
}

impl Delivery {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.status, "succeeded", "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn dead(self) -> Self {
        assert_eq!(self.status, "dead", "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn after(self, attempts: u64) -> Self {
        assert_eq!(self.attempts, attempts, "{self:#?}");
        self
    }

    /// What the handler returned in its last run.
    #[track_caller]
    pub(crate) fn returned(self, result: &Value) -> Self {
        assert_eq!(&self.runs[0]["result"], result, "{self:#?}");
        self
    }
}

/// A dead letter.
#[derive(Debug)]
pub(crate) struct Letter(pub(crate) Value);

impl Letter {
    /// Asserts the error kind: `timeout`, `exception`, …
    #[track_caller]
    pub(crate) fn because(self, kind: &str) -> Self {
        assert_eq!(self.0["error_kind"], kind, "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn saying(self, text: &str) -> Self {
        let error = self.0["last_error"].as_str().unwrap_or_default();
        assert!(error.contains(text), "{error:?} does not say {text:?}");
        self
    }

    pub(crate) fn id(&self) -> &str {
        self.0["id"].as_str().expect("a letter has an id")
    }
}
