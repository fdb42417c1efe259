//! Linking: a script and the modules that it imports become one program.
//!
//! Who knows where modules come from (a store, a folder) asks the linker what it wants and provides
//! it, until nothing is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{CompileError, Form, Program, Shape, Unit};

/// Most modules of one script, those of its modules included.
pub const MODULES_MAX: usize = 50;

/// Sum of their sources, in bytes.
const BYTES_MAX: usize = 1 << 20;

/// Puts a program together.
#[derive(Debug)]
pub struct Linker {
    root: Arc<Unit>,
    /// By the names under which they are imported.
    modules: BTreeMap<String, Arc<Unit>>,
}

/// A module that is imported and not there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// As it is imported: `lib/money@3`.
    pub specifier: String,
    /// Name and version of that.
    pub name: String,
    pub version: Option<u32>,
    importer: Option<String>,
    at: usize,
}

impl Linker {
    #[must_use]
    pub fn new(root: Unit) -> Self {
        Self { root: Arc::new(root), modules: BTreeMap::new() }
    }

    /// What is missing; an import that no module can have is an error.
    pub fn wanted(&self) -> Result<Option<Wanted>, CompileError> {
        for (importer, unit) in self.units() {
            for import in &unit.imports {
                let specifier = &import.specifier;
                if self.modules.contains_key(specifier) {
                    continue;
                }
                let (name, version) = match specifier.split_once('@') {
                    Some((name, version)) => (name, version.parse().ok().filter(|n| *n > 0)),
                    None => (specifier.as_str(), None),
                };
                if !is_name(name) || (specifier.contains('@') && version.is_none()) {
                    let message = format!(
                        "cannot import `{specifier}`: expected the name of a module such as `lib/money`, or with a version `lib/money@3`"
                    );
                    return Err(unit.error(import.at, message));
                }
                return Ok(Some(Wanted {
                    specifier: specifier.clone(),
                    name: name.to_owned(),
                    version,
                    importer: importer.map(str::to_owned),
                    at: import.at,
                }));
            }
        }
        Ok(None)
    }

    /// Says that there is no such module.
    #[must_use]
    pub fn missing(&self, wanted: &Wanted, why: &str) -> CompileError {
        let unit = match &wanted.importer {
            Some(importer) => self.modules.get(importer).unwrap_or(&self.root),
            None => &self.root,
        };
        unit.error(wanted.at, format!("cannot import `{}`: {why}", wanted.specifier))
    }

    pub fn provide(&mut self, wanted: Wanted, unit: Arc<Unit>) -> Result<(), CompileError> {
        let bytes: usize = self.modules.values().map(|unit| unit.source.len()).sum();
        if self.modules.len() >= MODULES_MAX || bytes + unit.source.len() > BYTES_MAX {
            let why = format!(
                "a script imports at most {MODULES_MAX} modules and {BYTES_MAX} bytes of source"
            );
            return Err(self.missing(&wanted, &why));
        }
        self.modules.insert(wanted.specifier, unit);
        Ok(())
    }

    /// The program, once nothing is missing.
    pub fn link(self) -> Result<Program, CompileError> {
        if let Some(wanted) = self.wanted()? {
            return Err(self.missing(&wanted, "there are no modules here to import from"));
        }
        self.check_cycles(None, &mut Vec::new(), &mut BTreeSet::new())?;
        for (_, unit) in self.units() {
            for import in &unit.imports {
                let Some(exports) = &self.modules[&import.specifier].exports else { continue };
                if let Some(name) = import.names.iter().find(|name| !exports.contains(name)) {
                    let message = format!(
                        "`{}` exports no `{name}`: it exports {}",
                        import.specifier,
                        if exports.is_empty() { "nothing".into() } else { exports.join(", ") }
                    );
                    return Err(unit.error(import.at, message));
                }
            }
        }
        let (form, takes_context) = match self.root.shape {
            Shape::Handler { takes_context } => (Form::Handler, takes_context),
            // A module alone is linked to be checked, and never called.
            Shape::Plain | Shape::Module => (Form::Plain, false),
        };
        let modules = self.modules.into_iter().map(|(name, unit)| (name.into(), unit)).collect();
        Ok(Program { root: self.root, form, takes_context, modules })
    }

    fn units(&self) -> impl Iterator<Item = (Option<&str>, &Unit)> {
        let modules = self.modules.iter().map(|(name, unit)| (Some(name.as_str()), &**unit));
        std::iter::once((None, &*self.root)).chain(modules)
    }

    /// Modules that import each other in a ring would see each other half loaded.
    fn check_cycles<'a>(
        &'a self,
        at: Option<&'a str>,
        path: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Result<(), CompileError> {
        let unit = at.map_or(&*self.root, |name| &*self.modules[name]);
        for import in &unit.imports {
            let (name, _) = self.modules.get_key_value(&import.specifier).expect("it is linked");
            // Another version of a module is another module, and its own name the same one.
            let is_root = self.modules[name].file == self.root.file;
            if is_root || path.contains(&name.as_str()) {
                let ring = path.iter().copied().chain([name.as_str()]);
                let ring: Vec<&str> = ring.collect();
                let message = format!("modules import each other in a ring: {}", ring.join(" → "));
                return Err(unit.error(import.at, message));
            }
            if done.insert(name) {
                path.push(name);
                self.check_cycles(Some(name), path, done)?;
                path.pop();
            }
        }
        Ok(())
    }
}

/// `lib/money`: segments of letters, digits, `_`, `-` and `.`, none of them dots alone.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.len() <= 200
        && name.split('/').all(|segment| {
            !segment.is_empty() && segment.chars().all(plain) && !segment.chars().all(|c| c == '.')
        })
}
