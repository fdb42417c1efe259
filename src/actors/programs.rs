//! Compiled scripts, by script and version: compiled once, shared by all who run them.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, OnceLock, Weak},
};

use rustc_hash::FxHashMap;

use crate::{
    domain::{Kind, ScriptId},
    host::{self, Choice, Grants, LinkError, Mask, Source, Vault, Versions},
    sandbox::{CompileError, Program},
    store::{self, Store},
};

/// A script that can run.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) script: ScriptId,
    pub(crate) name: Arc<str>,
    pub(crate) version: u32,
    pub(crate) program: Arc<Program>,
    /// What is linked in it.
    pub(crate) modules: Versions,
    pub(crate) grants: Arc<Grants>,
    mask: OnceLock<Option<Arc<Mask>>>,
    /// Of the script, of the secrets and of all modules: another one has other rights, or other code.
    revisions: (u64, u64, u64),
}

impl Loaded {
    /// Hides the script's secrets. They do not change while this is used: what changes them has the
    /// script loaded anew.
    pub(crate) fn mask(&self, vault: &Vault) -> Option<Arc<Mask>> {
        self.mask.get_or_init(|| self.grants.mask(vault).map(Arc::new)).clone()
    }
}

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The script or the version is gone.
    #[error("script {0} version {1} does not exist")]
    Missing(ScriptId, u32),
    #[error(transparent)]
    Compile(CompileError),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<LinkError> for LoadError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Compile(error) => Self::Compile(error),
            LinkError::Store(error) => Self::Store(error),
        }
    }
}

/// The cache; lives on the core thread.
#[derive(Clone)]
pub(crate) struct Programs {
    store: Store,
    vault: Arc<Vault>,
    /// Weak: a program lives as long as a subscription uses it.
    loaded: Rc<RefCell<Cache>>,
    /// Grows when a module is saved.
    modules: Rc<Cell<u64>>,
}

type Cache = FxHashMap<(ScriptId, u32), Weak<Loaded>>;

impl Programs {
    pub(crate) fn new(store: Store, vault: Arc<Vault>) -> Self {
        Self { store, vault, loaded: Rc::default(), modules: Rc::default() }
    }

    /// A module was saved: what is loaded from now on has the new one.
    pub(crate) fn module_saved(&self) {
        self.modules.set(self.modules.get() + 1);
    }

    /// The script as of `version`, or as it is now.
    pub(crate) async fn load(
        &self,
        script: ScriptId,
        version: Option<u32>,
    ) -> Result<Arc<Loaded>, LoadError> {
        let missing = || LoadError::Missing(script, version.unwrap_or_default());
        let current = self.store.scripts().find(script).await?.ok_or_else(missing)?;
        let version = version.unwrap_or(current.version);
        let revisions = (current.revision, self.vault.generation(), self.modules.get());
        let cached = self.loaded.borrow().get(&(script, version)).and_then(Weak::upgrade);
        if let Some(loaded) = cached.filter(|loaded| loaded.revisions == revisions) {
            return Ok(loaded);
        }
        let (source, language) = if version == current.version {
            (current.source, current.language)
        } else {
            let old = self.store.scripts().version(script, version).await?.ok_or_else(missing)?;
            (old.source, old.language)
        };
        let name: Arc<str> = current.name.as_str().into();
        let source = Source { name: current.name, kind: Kind::Script, language, text: source };
        let linked = host::link(&self.store, source, &Choice::default()).await?;
        let grants = Arc::new(Grants::of(script, current.secrets, &current.fetch_allow));
        let loaded = Arc::new(Loaded {
            script,
            name,
            version,
            program: Arc::new(linked.program),
            modules: linked.modules,
            grants,
            mask: OnceLock::new(),
            revisions,
        });
        let mut cache = self.loaded.borrow_mut();
        cache.retain(|_, program| program.strong_count() > 0);
        cache.insert((script, version), Arc::downgrade(&loaded));
        Ok(loaded)
    }
}
