//! Who may import whom (ARCHITECTURE.md), held by a scan of the sources.
//!
//! The scan reads text, not syntax: comments and strings are cut out, then every `crate::name` and
//! every name inside `use crate::{…}` counts as an import of that module by the folder or file it
//! stands in.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A module of `src/`, and the ones it may name. A module not listed here may name all.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("filter", &["domain"]),
    ("sandbox", &["domain"]),
    ("host", &["domain", "store", "sandbox", "traces"]),
    ("traces", &["domain", "config"]),
    ("store", &["domain"]),
    // `config`: a module owns a section of the configuration, which is passed in by value.
    ("actors", &["domain", "filter", "sandbox", "host", "store", "config", "telemetry", "traces"]),
    // `store` for reads alone: control-plane writes go through the handles of `runtime`.
    ("api", &["domain", "filter", "sandbox", "actors", "runtime", "store", "config", "telemetry"]),
    ("config", &["domain", "sandbox"]),
];

/// A name that one module alone may use: a crate, or a keyword.
const ONLY_IN: &[(&str, &str)] = &[
    ("entity::", "store"),
    ("rquickjs::", "sandbox"),
    ("oxc_", "sandbox"),
    ("unsafe ", "sandbox"),
    ("jsonpath_lib::", "filter"),
];

#[test]
fn modules_import_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == source.module) else {
            continue;
        };
        for import in imports(&source.code) {
            if import != source.module && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{}: {} names {import}", source.path.display(), source.module));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that the map forbids:\n{}", wrong.join("\n"));
}

#[test]
fn engine_tables_and_unsafe_code_stay_in_their_module() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, home) in ONLY_IN {
            if source.module != *home && names(&source.code, name) {
                wrong.push(format!("{}: {name:?} belongs to {home}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "names out of their house:\n{}", wrong.join("\n"));
}

#[test]
fn the_scan_sees_paths_and_groups_but_no_comments() {
    let code = without_comments(
        "// crate::api\nuse crate::{domain::{Seq, ids}, store};\nfn f() -> crate::filter::Filter {}\n\
         let text = \"crate::cli\";",
    );
    let found: Vec<_> = imports(&code).into_iter().collect();
    assert_eq!(found, ["domain", "filter", "store"]);
}

struct Source {
    path: PathBuf,
    /// The first segment below `src/`: `domain` for `src/domain/ids.rs`, `main` for `src/main.rs`.
    module: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 5, "no sources below {}", root.display());
    files
        .into_iter()
        .map(|path| {
            let below = path.strip_prefix(&root).unwrap();
            let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
            Source {
                module: first.trim_end_matches(".rs").to_owned(),
                code: without_comments(&fs::read_to_string(&path).unwrap()),
                path: below.to_owned(),
            }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
}

/// Line comments, and strings that fit on a line: enough to tell prose from code.
fn without_comments(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    for line in source.lines() {
        let mut quoted = false;
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' if quoted => drop(chars.next()),
                '\'' if !quoted && chars.peek() == Some(&'"') => drop(chars.next()),
                '"' => quoted = !quoted,
                '/' if !quoted && chars.peek() == Some(&'/') => break,
                _ if quoted => {}
                _ => code.push(c),
            }
        }
        code.push('\n');
    }
    code
}

/// The top-level modules of this crate that `code` names.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = code[at + "crate::".len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads(group)),
            None => found.extend(Some(word(rest))),
        }
    }
    found.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    found
}

/// The first word of each member of a `{a::…, b, c::{…}}` group, whose opening brace is cut off.
fn heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = vec![word(group.trim_start())];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(word(group[at + 1..].trim_start())),
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Whether `code` uses `name` at the start of a word.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}
