//! Secrets, as the API and embedding applications handle them: set, listed, removed, never read.

use super::{Runtime, Stopped};
use crate::{
    actors::supervisor,
    domain::ScriptId,
    host::{SecretInfo, VaultError},
    store,
};

/// The way to secrets.
#[derive(Clone)]
pub struct Secrets(pub(super) Runtime);

/// Why a secret was not set or removed.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("it is granted to {scripts} scripts")]
    Granted { scripts: u64 },
    #[error("the webhook {0} checks signatures with it")]
    OfHook(String),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Runtime {
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        Secrets(self.clone())
    }
}

impl Secrets {
    /// By name; everything but the secrets themselves.
    #[must_use]
    pub fn list(&self) -> Vec<SecretInfo> {
        self.0.0.vault.list()
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.0.vault.has(name)
    }

    /// Sets a secret. The scripts that have it start anew: none goes on with the old one in memory.
    pub async fn set(&self, name: &str, value: String) -> Result<SecretInfo, SecretError> {
        let info = self.0.0.vault.set(name, value).await?;
        for (script, _) in self.granted(name).await? {
            self.renew(script).await?;
        }
        Ok(info)
    }

    /// Removes a secret that no script has and no webhook checks with.
    pub async fn remove(&self, name: &str) -> Result<(), SecretError> {
        let granted = self.granted(name).await?;
        if !granted.is_empty() {
            return Err(SecretError::Granted { scripts: granted.len() as u64 });
        }
        if let Some(hook) = self.0.hooks().with_secret(name).into_iter().next() {
            return Err(SecretError::OfHook(hook));
        }
        Ok(self.0.0.vault.remove(name).await?)
    }

    /// Scripts that have it: id and name.
    pub async fn granted(&self, name: &str) -> Result<Vec<(ScriptId, String)>, store::Error> {
        self.0.store().scripts().granted(name).await
    }

    async fn renew(&self, script: ScriptId) -> Result<(), Stopped> {
        let core = &self.0.0.core;
        core.call(move |core, _| Box::pin(async move { supervisor::script_changed(&core, script) }))
            .await
    }
}
