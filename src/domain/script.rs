//! Scripts: named sources with a history of versions.

use serde::{Deserialize, Serialize};

use super::{Millis, ScriptId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Typescript,
    Javascript,
}

impl Language {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Typescript => "typescript",
            Self::Javascript => "javascript",
        }
    }

    /// `ts` or `js`: the extension under which stack traces and files name the script.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Typescript => "ts",
            Self::Javascript => "js",
        }
    }
}

/// What a script is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Subscriptions run it.
    #[default]
    Script,
    /// Other scripts import it, by its name.
    Module,
}

impl Kind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Module => "module",
        }
    }
}

/// A script with its newest source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub id: ScriptId,
    pub name: String,
    pub description: Option<String>,
    pub language: Language,
    /// As the author wrote it.
    pub source: String,
    /// Counts from 1; every save of a source is a version.
    pub version: u32,
    pub created_at: Millis,
    pub updated_at: Millis,
    /// Names of the secrets that it gets.
    pub secrets: Vec<String>,
    /// Hosts that it may fetch from.
    pub fetch_allow: Vec<String>,
    /// Never changes.
    pub kind: Kind,
    /// Names of the modules that the newest source imports, those of its modules included.
    pub imports: Vec<String>,
    /// Grows with every change of any field; the `ETag`.
    pub revision: u64,
}

/// One saved source of a script. Never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptVersion {
    pub script: ScriptId,
    pub version: u32,
    pub language: Language,
    pub source: String,
    /// Why the author saved it.
    pub note: Option<String>,
    pub created_at: Millis,
    /// Name of the token that saved it; `None` for what the server did itself.
    pub created_by: Option<String>,
}
