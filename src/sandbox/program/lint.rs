//! Lint: names that a script uses and the sandbox does not have.

use oxc_semantic::Semantic;

use super::{Warning, line_column};

/// Globals of other places, and what to do here.
pub(super) const ELSEWHERE: [(&str, &str); 25] = [
    ("Buffer", "use Uint8Array, TextEncoder and atob/btoa"),
    ("Bun", "there is no other runtime's API here"),
    ("Deno", "there is no other runtime's API here"),
    ("WebSocket", "scripts open no connections"),
    ("Worker", "a script runs on one thread"),
    ("XMLHttpRequest", "scripts open no connections"),
    ("__dirname", "there is no file system"),
    ("__filename", "there is no file system"),
    ("alert", "use console.log"),
    ("clearImmediate", "use clearTimeout"),
    ("clearInterval", "use setTimeout in a loop of your own"),
    ("document", "there is no page"),
    ("exports", "write `export default`"),
    ("global", "use globalThis"),
    ("importScripts", "a script imports modules of the server: `import … from 'lib/…'`"),
    (
        "localStorage",
        "nothing is kept between runs but a handler's module variables while it is warm",
    ),
    ("location", "there is no page"),
    ("module", "write `export default`"),
    ("navigator", "there is no page"),
    ("process", "there is no process and no environment"),
    ("require", "a script imports modules of the server: `import … from 'lib/…'`"),
    ("self", "use globalThis"),
    ("setImmediate", "use setTimeout or queueMicrotask"),
    ("setInterval", "use setTimeout: a run ends when its handler does"),
    ("window", "there is no page: use globalThis"),
];

/// What the engine and the sandbox define.
pub(super) const HERE: [&str; 80] = [
    "AbortController",
    "AbortSignal",
    "AggregateError",
    "Array",
    "ArrayBuffer",
    "Atomics",
    "BigInt",
    "BigInt64Array",
    "BigUint64Array",
    "Boolean",
    "CryptoKey",
    "DOMException",
    "DataView",
    "Date",
    "Error",
    "EvalError",
    "FinalizationRegistry",
    "Float16Array",
    "Float32Array",
    "Float64Array",
    "Function",
    "Headers",
    "Infinity",
    "Int16Array",
    "Int32Array",
    "Int8Array",
    "Iterator",
    "JSON",
    "Map",
    "Math",
    "NaN",
    "Number",
    "Object",
    "Promise",
    "Proxy",
    "RangeError",
    "ReferenceError",
    "Reflect",
    "RegExp",
    "Request",
    "Response",
    "Set",
    "SharedArrayBuffer",
    "String",
    "Symbol",
    "SyntaxError",
    "TextDecoder",
    "TextEncoder",
    "TypeError",
    "URIError",
    "URL",
    "URLSearchParams",
    "Uint16Array",
    "Uint32Array",
    "Uint8Array",
    "Uint8ClampedArray",
    "WeakMap",
    "WeakRef",
    "WeakSet",
    "arguments",
    "atob",
    "btoa",
    "clearTimeout",
    "console",
    "crypto",
    "decodeURI",
    "decodeURIComponent",
    "encodeURI",
    "encodeURIComponent",
    "eval",
    "fetch",
    "globalThis",
    "isFinite",
    "isNaN",
    "parseFloat",
    "parseInt",
    "performance",
    "queueMicrotask",
    "sdk",
    "setTimeout",
];

/// Names besides [`HERE`] that are fine: rare ones of the language.
const ALSO_HERE: [&str; 4] = ["escape", "structuredClone", "undefined", "unescape"];

/// A warning per name, where it is used first, in the order of the source.
pub(super) fn missing_globals(semantic: &Semantic<'_>, source: &str) -> Vec<Warning> {
    let scoping = semantic.scoping();
    let mut missing: Vec<(u32, String)> = Vec::new();
    for (name, references) in scoping.root_unresolved_references() {
        let name = name.as_str();
        if HERE.contains(&name) || ALSO_HERE.contains(&name) {
            continue;
        }
        let used = references
            .iter()
            .map(|id| scoping.get_reference(*id))
            .filter(|reference| reference.is_value())
            .map(|reference| semantic.reference_span(reference).start)
            .min();
        let Some(at) = used else { continue };
        let advice = ELSEWHERE.iter().find(|(known, _)| *known == name).map(|(_, advice)| *advice);
        missing.push((
            at,
            match advice {
                Some(advice) => format!("`{name}` is not there: {advice}"),
                None => format!("`{name}` is not defined"),
            },
        ));
    }
    missing.sort();
    missing
        .into_iter()
        .map(|(at, message)| {
            let (line, column) = line_column(source, at as usize);
            Warning { message, line, column }
        })
        .collect()
}
