//! The keys of `sdk.kv`, as the API and embedding applications handle them.

use std::time::Duration;

use super::{Runtime, Stopped};
use crate::{
    actors::journal::{KeyWrites, WriteError},
    domain::{
        Millis,
        kv::{Change, Namespace, Stored},
    },
};

/// The way to keys.
#[derive(Clone)]
pub struct Keys(pub(super) Runtime);

/// Why a key was not written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The namespace is full.
    #[error("{0}")]
    Full(String),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Runtime {
    #[must_use]
    pub fn keys(&self) -> Keys {
        Keys(self.clone())
    }
}

impl Keys {
    /// Sets a key to a value (JSON text, within the limits of scripts). Runs that have read the key
    /// and not ended go again.
    pub async fn set(
        &self,
        namespace: Namespace,
        key: String,
        value: String,
        ttl: Option<Duration>,
    ) -> Result<Stored, KeyError> {
        let expires_at = ttl.map(|ttl| Millis::steady().plus(ttl));
        let stored = Stored { value: value.into(), expires_at };
        self.write(Change { namespace, key, value: Some(stored.clone()) }).await?;
        Ok(stored)
    }

    pub async fn remove(&self, namespace: Namespace, key: String) -> Result<(), KeyError> {
        self.write(Change { namespace, key, value: None }).await
    }

    async fn write(&self, change: Change) -> Result<(), KeyError> {
        let core = &self.0.0.core;
        core.call(move |core, _| {
            Box::pin(async move {
                let changes = vec![change];
                let taken = core.doors.ledger.overwrite(&changes);
                let clock = taken.map_err(|error| KeyError::Full(error.to_string()))?;
                Ok(core.journal.keys(KeyWrites { clock, changes }).await?)
            })
        })
        .await?
    }
}
