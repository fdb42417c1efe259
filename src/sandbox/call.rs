//! What a run may ask its parent, and what it hears.
//!
//! A run waits for an answer as it waits for a timer: its lane goes on with others. The lane checks
//! first, to tell the author at the right line; the parent checks again, and ends a lane that asks
//! what no honest lane would.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, display::Base64Display, engine::general_purpose::STANDARD};
use futures::future::LocalBoxFuture;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{RunKey, RunLimits, border::check_json};
use crate::domain::{
    kv::{self, Namespace, Page, Span},
    secret,
};

/// Questions of one run that may be open at once.
pub const OPEN_MAX: usize = 64;

/// Fetches among them.
pub const FETCHES_OPEN_MAX: usize = 6;

/// Lists of keys among them: each may bring [`kv::PAGE_BYTES_MAX`].
pub const LISTS_OPEN_MAX: usize = 4;

/// What a request may be, in bytes: its URL, its headers, its body.
pub const URL_BYTES_MAX: usize = 8 << 10;
pub const HEADERS_BYTES_MAX: usize = 64 << 10;
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Methods of a request.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Sum of the answers to one run, in bytes.
pub const ANSWERS_BYTES_MAX: usize = 16 << 20;

/// Sum of the values that one run writes, in bytes.
pub const KV_BYTES_MAX: usize = 4 << 20;

/// Names a question inside one run; the lane chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId(pub u32);

/// Whose keys a script means; which script that is, the parent knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Space {
    Own,
    Shared(Arc<str>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    KvGet { space: Space, key: String },
    KvList { space: Space, span: Span, limit: u32 },
    Secret { name: String },
    Fetch(Box<FetchRequest>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// JSON text of a key, `None` when there is none; or a secret as it is.
    Value(Option<String>),
    Page(Page),
    Fetched(Box<FetchResponse>),
    /// Why not, in words for the script's author.
    Refused(String),
}

/// A request to the outside, as the script wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRequest {
    pub method: String,
    pub url: String,
    /// Values hold one byte a character.
    pub headers: Vec<(String, String)>,
    pub body: Option<Blob>,
    pub redirect: Redirect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Redirect {
    Follow,
    /// A redirect is a failure.
    Error,
    /// A redirect is the answer.
    Manual,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchResponse {
    pub status: u16,
    pub status_text: String,
    /// After redirects.
    pub url: String,
    pub redirected: bool,
    pub headers: Vec<(String, String)>,
    pub body: Blob,
}

/// Bytes that travel as they are, and as base64 where people may read; serde would take a vector for a sequence of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(&Base64Display::new(&self.0, &STANDARD));
        }
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return STANDARD.decode(text).map(Self).map_err(D::Error::custom);
        }
        <&[u8]>::deserialize(deserializer).map(|bytes| Self(bytes.to_vec()))
    }
}

/// A question on its way to whoever answers for the run.
#[derive(Clone, Debug)]
pub struct Asked {
    pub key: RunKey,
    pub call: CallId,
    pub question: Question,
}

/// Answers what runs ask. One per run: it remembers what the run has read.
pub trait Host {
    fn answer(&self, question: Question) -> LocalBoxFuture<'static, Answer>;
}

/// Where there is nobody to ask: a store without keys, and no secrets.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl Nobody {
    #[must_use]
    pub fn answers(question: &Question) -> Answer {
        match question {
            Question::KvGet { .. } => Answer::Value(None),
            Question::KvList { .. } => Answer::Page(Page::default()),
            Question::Secret { .. } => {
                Answer::Refused("there are no secrets without a server".into())
            }
            Question::Fetch(_) => Answer::Refused("there is no fetch without a server".into()),
        }
    }
}

impl Host for Nobody {
    fn answer(&self, question: Question) -> LocalBoxFuture<'static, Answer> {
        Box::pin(std::future::ready(Self::answers(&question)))
    }
}

/// A write to the key-value store, held back until the run's outcome is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvWrite {
    pub space: Space,
    pub key: String,
    /// JSON text; `None` removes the key.
    pub value: Option<String>,
    pub ttl: Ttl,
}

/// How long a written value stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ttl {
    /// As long as the value before it would have.
    Keep,
    Forever,
    For(Duration),
}

impl Space {
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Own => Ok(()),
            Self::Shared(name) => {
                Namespace::shared(name).map(drop).map_err(|error| format!("`{name}`: {error}"))
            }
        }
    }
}

impl Question {
    /// Checks form and size.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::KvGet { space, key } => {
                space.check()?;
                kv::check_key(key).map_err(|error| error.to_string())
            }
            Self::KvList { space, span, limit } => {
                space.check()?;
                if span.prefix.len() > kv::KEY_BYTES_MAX
                    || span.after.as_ref().is_some_and(|after| after.len() > kv::KEY_BYTES_MAX)
                {
                    return Err(kv::NoKey.to_string());
                }
                if !(1..=kv::PAGE_ITEMS_MAX).contains(limit) {
                    return Err(format!("a list has 1 to {} items", kv::PAGE_ITEMS_MAX));
                }
                Ok(())
            }
            Self::Secret { name } => {
                secret::check_name(name).map_err(|error| format!("`{name}`: {error}"))
            }
            Self::Fetch(request) => request.check(),
        }
    }
}

impl FetchRequest {
    fn check(&self) -> Result<(), String> {
        let too_long = |what: &str, bytes: usize, limit: usize| {
            Err(format!("{what} of {bytes} bytes: the limit is {limit}"))
        };
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let body = self.body.as_ref().map_or(0, |body| body.0.len());
        if !METHODS.contains(&self.method.as_str()) {
            return Err(format!("expected a method of {METHODS:?}"));
        }
        match () {
            () if self.url.len() > URL_BYTES_MAX => {
                too_long("a URL", self.url.len(), URL_BYTES_MAX)
            }
            () if headers > HEADERS_BYTES_MAX => too_long("headers", headers, HEADERS_BYTES_MAX),
            () if body > BODY_BYTES_MAX => too_long("a body", body, BODY_BYTES_MAX),
            () => Ok(()),
        }
    }
}

impl Question {
    /// Bytes it is made of.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::KvGet { key, .. } => key.len(),
            Self::KvList { span, .. } => {
                span.prefix.len() + span.after.as_ref().map_or(0, String::len)
            }
            Self::Secret { name } => name.len(),
            Self::Fetch(request) => {
                let headers = request.headers.iter();
                request.url.len()
                    + request.body.as_ref().map_or(0, |body| body.0.len())
                    + headers.map(|(name, value)| name.len() + value.len()).sum::<usize>()
            }
        }
    }
}

impl Answer {
    /// Bytes it brings to the lane.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Value(value) => value.as_ref().map_or(0, String::len),
            Self::Page(page) => page.items.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Fetched(response) => {
                let headers = response.headers.iter();
                response.body.0.len()
                    + headers.map(|(name, value)| name.len() + value.len()).sum::<usize>()
            }
            Self::Refused(reason) => reason.len(),
        }
    }
}

impl KvWrite {
    /// Checks form and size; the JSON itself is taken on trust.
    pub fn check(&self, limits: &RunLimits) -> Result<(), String> {
        self.space.check()?;
        kv::check_key(&self.key).map_err(|error| error.to_string())?;
        let Some(value) = &self.value else { return Ok(()) };
        if value.len() > limits.kv_value_bytes {
            return Err(format!(
                "a value of {} bytes: the limit is {}",
                value.len(),
                limits.kv_value_bytes
            ));
        }
        check_json(value).map_err(|fault| fault.to_string())
    }
}
