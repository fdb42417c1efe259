//! Modules: finds in the store what scripts import.

use std::{collections::HashMap, sync::Arc};

use crate::{
    domain::{Kind, Language, ScriptId},
    sandbox::{
        CompileError, Program,
        program::{Linker, Unit, Wanted},
    },
    store::{self, Store},
};

/// A source to be compiled.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub kind: Kind,
    pub language: Language,
    pub text: String,
}

/// Modules of a program: the names under which they are imported, and their versions.
pub(crate) type Versions = Vec<(String, u32)>;

/// A linked program with the versions of the modules in it.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) program: Program,
    pub(crate) modules: Versions,
}

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Compile(CompileError),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Which versions of modules are taken: those that are current, but for these.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// Versions of a recorded run, by the names under which they are imported.
    pub(crate) recorded: HashMap<String, u32>,
    /// A module as it is about to be saved.
    pub(crate) instead: Option<(ScriptId, Source)>,
}

/// Compiles a source and links it with the modules that it imports.
pub(crate) async fn link(
    store: &Store,
    source: Source,
    choice: &Choice,
) -> Result<Linked, LinkError> {
    let mut linker = Linker::new(compile(source, None).await?);
    let mut modules = Versions::new();
    while let Some(wanted) = linker.wanted().map_err(LinkError::Compile)? {
        let (unit, version) = module(store, &linker, &wanted, choice).await?;
        modules.push((wanted.specifier.clone(), version));
        linker.provide(wanted, Arc::new(unit)).map_err(LinkError::Compile)?;
    }
    let program = linker.link().map_err(LinkError::Compile)?;
    Ok(Linked { program, modules })
}

async fn module(
    store: &Store,
    linker: &Linker,
    wanted: &Wanted,
    choice: &Choice,
) -> Result<(Unit, u32), LinkError> {
    let missing = |why: &str| LinkError::Compile(linker.missing(wanted, why));
    let found = store.scripts().by_name(&wanted.name).await?;
    let found = found.ok_or_else(|| missing("there is no module of this name"))?;
    if found.kind != Kind::Module {
        return Err(missing("that is a script, and only scripts of kind `module` are imported"));
    }
    let version = wanted.version.or_else(|| choice.recorded.get(&wanted.specifier).copied());
    let instead = choice.instead.as_ref().filter(|(id, _)| *id == found.id && version.is_none());
    if let Some((_, source)) = instead {
        let source = Source { kind: Kind::Module, ..source.clone() };
        return Ok((compile(source, Some(wanted)).await?, found.version + 1));
    }
    let (version, language, text) = match version.filter(|version| *version != found.version) {
        None => (found.version, found.language, found.source),
        Some(version) => {
            let old = store.scripts().version(found.id, version).await?;
            let old = old.ok_or_else(|| missing("it has no such version"))?;
            (version, old.language, old.source)
        }
    };
    let source = Source { name: found.name, kind: Kind::Module, language, text };
    Ok((compile(source, Some(wanted)).await?, version))
}

/// Off the caller's thread: parsing wants a large stack, and the core has no time to lose.
async fn compile(source: Source, wanted: Option<&Wanted>) -> Result<Unit, LinkError> {
    // With its version in its name, two versions of a module are two files.
    let name = wanted.map_or_else(|| source.name.clone(), |wanted| wanted.specifier.clone());
    let compile = move || match source.kind {
        Kind::Script => Unit::script(&name, source.language, &source.text),
        Kind::Module => Unit::module(&name, source.language, &source.text),
    };
    match tokio::task::spawn_blocking(compile).await {
        Ok(unit) => unit.map_err(LinkError::Compile),
        // The thread ends with the process.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Names of what a source imports, without their versions.
pub(crate) fn imported(modules: &Versions) -> Vec<String> {
    let mut names: Vec<String> = modules
        .iter()
        .map(|(specifier, _)| specifier.split('@').next().unwrap_or_default().to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}
