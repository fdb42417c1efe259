//! Errors as RFC 9457 problems: the only place that knows status codes.

use std::fmt;

use actix_web::{
    HttpResponse, ResponseError,
    http::{Method, StatusCode},
};
use serde::Serialize;

use crate::{
    actors::journal::{PublishError, WriteError},
    domain::{event::PatternError, json::TextError},
    runtime::{
        BackupError, ChangeError, DeleteError, EraseError, Field, KeyError, RerunError, SaveError,
        SecretError, Stopped, VaultError,
    },
    store,
};

/// Stable codes: clients branch on these. Adding an error is adding a line here and in `describe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InvalidRequest,
    InvalidField,
    InvalidJson,
    UnsupportedMediaType,
    TooLarge,
    IdReused,
    FilterInvalid,
    CompileError,
    NotFound,
    NameTaken,
    InUse,
    Unfinished,
    NotDead,
    NotRecorded,
    Erased,
    Conflict,
    Outdated,
    Unauthorized,
    BadSignature,
    Forbidden,
    CrossOrigin,
    TooManyRequests,
    Backlog,
    Overloaded,
    TooSlow,
    Unavailable,
    DiskFull,
    MethodNotAllowed,
    Internal,
}

const fn describe(code: Code) -> (&'static str, StatusCode, &'static str) {
    match code {
        Code::InvalidRequest => {
            ("invalid_request", StatusCode::BAD_REQUEST, "The request cannot be read")
        }
        Code::InvalidField => {
            ("invalid_field", StatusCode::UNPROCESSABLE_ENTITY, "A field cannot be")
        }
        Code::InvalidJson => {
            ("invalid_json", StatusCode::BAD_REQUEST, "The body is no JSON that is taken")
        }
        Code::UnsupportedMediaType => (
            "unsupported_media_type",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The content type is not taken",
        ),
        Code::TooLarge => ("too_large", StatusCode::PAYLOAD_TOO_LARGE, "Too large"),
        Code::IdReused => ("id_reused", StatusCode::CONFLICT, "The event's id is in use"),
        Code::FilterInvalid => {
            ("filter_invalid", StatusCode::UNPROCESSABLE_ENTITY, "The filter is wrong")
        }
        Code::CompileError => {
            ("compile_error", StatusCode::UNPROCESSABLE_ENTITY, "The script does not compile")
        }
        Code::NotFound => ("not_found", StatusCode::NOT_FOUND, "There is no such thing"),
        Code::NameTaken => ("name_taken", StatusCode::CONFLICT, "The name is taken"),
        Code::InUse => ("in_use", StatusCode::CONFLICT, "It is in use"),
        Code::Unfinished => {
            ("unfinished_deliveries", StatusCode::CONFLICT, "Deliveries are unfinished")
        }
        Code::NotDead => ("not_dead", StatusCode::CONFLICT, "The letter is not dead"),
        Code::NotRecorded => ("not_recorded", StatusCode::CONFLICT, "The run cannot run again"),
        Code::Erased => ("erased", StatusCode::CONFLICT, "The payload was erased"),
        Code::Conflict => ("conflict", StatusCode::CONFLICT, "It does not fit the present state"),
        Code::Outdated => ("outdated", StatusCode::PRECONDITION_FAILED, "It was changed meanwhile"),
        Code::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED, "A token is needed"),
        Code::BadSignature => {
            ("bad_signature", StatusCode::UNAUTHORIZED, "The delivery is not signed as it must be")
        }
        Code::Forbidden => ("forbidden", StatusCode::FORBIDDEN, "The token may not do this"),
        Code::CrossOrigin => ("cross_origin", StatusCode::FORBIDDEN, "Another site asked"),
        Code::TooManyRequests => {
            ("too_many_requests", StatusCode::TOO_MANY_REQUESTS, "Too many requests")
        }
        Code::Backlog => ("backlog", StatusCode::TOO_MANY_REQUESTS, "Too many events wait"),
        Code::Overloaded => {
            ("overloaded", StatusCode::TOO_MANY_REQUESTS, "More comes than can be written")
        }
        Code::TooSlow => ("too_slow", StatusCode::REQUEST_TIMEOUT, "The body came too slowly"),
        Code::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "Not now"),
        Code::DiskFull => ("disk_full", StatusCode::INSUFFICIENT_STORAGE, "The disk is full"),
        Code::MethodNotAllowed => {
            ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED, "Not this method")
        }
        Code::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, "It failed"),
    }
}

/// A problem on its way to the client.
#[derive(Debug)]
pub struct ApiError(pub Box<Problem>);

/// RFC 9457 problem details.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:tripline:problem:` and the code.
    #[serde(rename = "type")]
    pub problem_type: String,
    pub title: String,
    pub status: u16,
    /// Stable; what programs branch on.
    pub code: String,
    pub detail: String,
    /// The field in question, with a dot per level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// 1-based position in a filter or a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// How to write what was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The item of a batch, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// How many of what stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip)]
    #[schema(ignore)]
    pub retry_after: Option<u64>,
}

impl ApiError {
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let (name, status, title) = describe(code);
        Self(Box::new(Problem {
            problem_type: format!("urn:tripline:problem:{name}"),
            title: title.into(),
            status: status.as_u16(),
            code: name.into(),
            detail: detail.into(),
            field: None,
            expected: None,
            line: None,
            column: None,
            hint: None,
            index: None,
            count: None,
            request_id: None,
            retry_after: None,
        }))
    }

    /// A field that cannot be, and what was expected of it.
    #[must_use]
    pub fn field(field: impl Into<String>, expected: impl Into<String>) -> Self {
        let (field, expected) = (field.into(), expected.into());
        // Some errors of the domain say the word themselves.
        let expected = expected.strip_prefix("expected ").map_or(expected.clone(), str::to_owned);
        let mut error = Self::new(Code::InvalidField, format!("{field}: expected {expected}"));
        error.0.field = Some(field);
        error.0.expected = Some(expected);
        error
    }

    #[must_use]
    pub fn not_found(what: &str, id: impl fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} {id}"))
    }

    /// A path that takes other methods only: `allowed`, as the `Allow` header lists them.
    #[must_use]
    pub fn method(method: &Method, allowed: String) -> Self {
        let detail = format!("{method} is not taken here; expected {allowed}");
        let mut error = Self::new(Code::MethodNotAllowed, detail);
        error.0.expected = Some(allowed);
        error
    }

    #[must_use]
    pub fn at_item(mut self, index: usize) -> Self {
        self.0.index = Some(index as u64);
        self
    }

    #[must_use]
    pub fn after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Details stay in the log; the client gets the request's id.
    pub fn internal(error: impl fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(Code::Internal, "the server failed; its log says more under this request's id")
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.content_type("application/problem+json");
        if let Some(seconds) = self.0.retry_after {
            response.insert_header(("Retry-After", seconds.to_string()));
        }
        if self.status_code() == StatusCode::METHOD_NOT_ALLOWED
            && let Some(allowed) = &self.0.expected
        {
            response.insert_header(("Allow", allowed.as_str()));
        }
        if self.0.code == "unauthorized" {
            response.insert_header(("WWW-Authenticate", "Bearer realm=\"tripline\""));
        }
        response.body(serde_json::to_vec(&self.0).unwrap_or_default())
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        match error {
            PublishError::IdReused { index, .. } => {
                Self::new(Code::IdReused, detail).at_item(index)
            }
            PublishError::Closed { .. } => Self::new(Code::Unavailable, detail).after(1),
            PublishError::Busy => Self::new(Code::Unavailable, detail).after(1),
            PublishError::Overloaded => Self::new(Code::Overloaded, detail).after(1),
            PublishError::DiskFull => Self::new(Code::DiskFull, detail).after(5),
            PublishError::Backlog { .. } => Self::new(Code::Backlog, detail).after(2),
            PublishError::Refused(_) => Self::internal(error),
        }
    }
}

impl From<EraseError> for ApiError {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Store(error) => error.into(),
            EraseError::Stopped(error) => error.into(),
            EraseError::Write(error) => error.into(),
        }
    }
}

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Busy => Self::new(Code::Conflict, error.to_string()),
            BackupError::NoRoom(detail) => Self::new(Code::DiskFull, detail).after(60),
            BackupError::Failed(error) => Self::internal(error),
        }
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Closed(_) => Self::new(Code::Unavailable, error.to_string()).after(1),
            WriteError::Refused(_) => Self::internal(error),
        }
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Full(detail) => Self::new(Code::Conflict, detail),
            KeyError::Write(error) => error.into(),
            KeyError::Stopped(error) => error.into(),
        }
    }
}

impl From<SecretError> for ApiError {
    fn from(error: SecretError) -> Self {
        let detail = error.to_string();
        match error {
            SecretError::Vault(VaultError::Name(expected)) => {
                Self::field("name", expected.to_string())
            }
            SecretError::Vault(VaultError::Value(expected)) => {
                Self::field("value", expected.to_string())
            }
            SecretError::Vault(VaultError::Missing(name)) => Self::not_found("secret", name),
            SecretError::Vault(VaultError::NoKey(_)) => Self::new(Code::Conflict, detail),
            SecretError::Vault(VaultError::KeyFile(_)) => Self::internal(detail),
            SecretError::Granted { scripts } => {
                let mut error = Self::new(Code::InUse, detail);
                error.0.count = Some(scripts);
                error
            }
            SecretError::OfHook(_) => Self::new(Code::InUse, detail),
            SecretError::Vault(VaultError::Store(error)) | SecretError::Store(error) => {
                error.into()
            }
            SecretError::Stopped(error) => error.into(),
        }
    }
}

impl From<Stopped> for ApiError {
    fn from(error: Stopped) -> Self {
        Self::new(Code::Unavailable, error.to_string()).after(1)
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        let code = match &error {
            store::Error::NotFound { .. } => Code::NotFound,
            store::Error::NameTaken { .. } => Code::NameTaken,
            store::Error::Outdated { .. } => Code::Outdated,
            store::Error::InUse { .. } => Code::InUse,
            store::Error::NotDead { .. } => Code::NotDead,
            store::Error::Erased { .. } => Code::Erased,
            store::Error::Full => Code::DiskFull,
            store::Error::Away(_) => {
                tracing::warn!(%error, "a request failed");
                let detail = "the database does not answer; ask again soon";
                return Self::new(Code::Unavailable, detail).after(1);
            }
            _ => return Self::internal(error),
        };
        let mut problem = Self::new(code, error.to_string());
        match error {
            store::Error::NameTaken { .. } => problem.0.field = Some("name".into()),
            store::Error::InUse { subscriptions } => problem.0.count = Some(subscriptions),
            _ => {}
        }
        if code == Code::DiskFull { problem.after(5) } else { problem }
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        let detail = error.to_string();
        match error {
            ChangeError::NotFound(_) => Self::new(Code::NotFound, detail),
            ChangeError::Invalid(field) => field.into(),
            ChangeError::NameTaken(_) => {
                let mut error = Self::new(Code::NameTaken, detail);
                error.0.field = Some("name".into());
                error
            }
            ChangeError::Outdated { .. } => Self::new(Code::Outdated, detail),
            ChangeError::Write(error) => error.into(),
            ChangeError::Store(error) => error.into(),
            ChangeError::Stopped(error) => error.into(),
        }
    }
}

impl From<Field> for ApiError {
    fn from(field: Field) -> Self {
        let mut error = Self::field(field.field, field.expected);
        if let Some(column) = field.column {
            let (name, status, title) = describe(Code::FilterInvalid);
            error.0.problem_type = format!("urn:tripline:problem:{name}");
            error.0.code = name.into();
            error.0.status = status.as_u16();
            error.0.title = title.into();
            error.0.column = u32::try_from(column).ok();
            error.0.hint = field.hint;
            if let Some(message) = field.message {
                error.0.detail = message;
            }
        }
        error
    }
}

impl From<DeleteError> for ApiError {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::Unfinished(count) => {
                let detail = format!(
                    "{count} deliveries are unfinished; wait for them, or discard them with ?discard=true"
                );
                let mut error = Self::new(Code::Unfinished, detail);
                error.0.count = Some(count);
                error
            }
            DeleteError::Change(error) => error.into(),
        }
    }
}

impl From<SaveError> for ApiError {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::NotFound(id) => Self::not_found("script", id),
            SaveError::Compile(compile) => {
                let mut error = Self::new(Code::CompileError, compile.message.clone());
                error.0.field = Some("source".into());
                error.0.line = Some(compile.line);
                error.0.column = Some(compile.column);
                error.0.hint = Some(compile.frame);
                error
            }
            SaveError::Importer(..) => {
                let mut error = Self::new(Code::CompileError, error.to_string());
                error.0.field = Some("source".into());
                error
            }
            SaveError::Store(error) => error.into(),
            SaveError::Stopped(error) => error.into(),
        }
    }
}

impl From<RerunError> for ApiError {
    fn from(error: RerunError) -> Self {
        let detail = error.to_string();
        match error {
            RerunError::NotFound(id) => Self::not_found("run", id),
            RerunError::NotRecorded(_)
            | RerunError::Unreadable(..)
            | RerunError::NoEvent(..)
            | RerunError::NoSource(..) => Self::new(Code::NotRecorded, detail),
            RerunError::Save(error) => error.into(),
            RerunError::Store(error) => error.into(),
        }
    }
}

impl From<PatternError> for ApiError {
    fn from(error: PatternError) -> Self {
        let expected =
            "an event type such as finance.PaymentCreated, or a pattern such as finance.*";
        let mut problem = Self::field("event_type", expected);
        problem.0.detail = format!("event_type: {error}");
        problem
    }
}

impl From<TextError> for ApiError {
    fn from(error: TextError) -> Self {
        let expected =
            "JSON without U+0000, without half surrogate pairs, and not nested too deeply";
        let mut problem = Self::field("data", expected);
        problem.0.detail = format!("data: {error}");
        problem
    }
}
