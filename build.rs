//! Builds the dashboard (`web/`) and hands it to the compiler.
//!
//! npm runs only when a hash of what the dashboard is made from differs from the one that `web/dist`
//! was built from; tests and unrelated files are not part of it. Without Node, or when npm fails, a
//! page that says how to build the dashboard takes its place: the API works all the same. In CI a
//! failure is one.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// What the dashboard is made from, below `web/`.
const SOURCES: [&str; 8] = [
    "src",
    "public",
    "index.html",
    "package.json",
    "package-lock.json",
    "svelte.config.js",
    "tsconfig.json",
    "vite.config.ts",
];
/// In `web/dist`: the hash of the sources it was built from.
const MARK: &str = ".built-from";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CARGO_FEATURE_DASHBOARD");
    if env::var_os("CARGO_FEATURE_DASHBOARD").is_none() {
        return;
    }
    let home = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("dashboard");
    let web = home.join("web");
    let files = sources(&web);
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let embedded = match build(&web, &files) {
        Ok(()) => embed(&web.join("dist"), &out),
        Err(reason) => {
            assert!(env::var_os("CI").is_none(), "the dashboard cannot be built: {reason}");
            println!("cargo:warning=the dashboard is left out: {reason}");
            // Node may be installed later.
            println!("cargo:rerun-if-env-changed=PATH");
            explain(&reason, &out)
        }
    };
    embedded.expect("the build's own folder can be written");
}

/// All source files, in order; tests and the generated types, which leave no trace, are not among them.
fn sources(web: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for name in SOURCES {
        collect(&web.join(name), &mut files);
    }
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        !name.ends_with(".test.ts") && !name.ends_with(".d.ts") && name != "test-setup.ts"
    });
    files.sort();
    files
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_file() {
        files.push(path.to_owned());
    } else if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten() {
            collect(&entry.path(), files);
        }
    }
}

/// Makes `web/dist` what the sources say, if it is not.
fn build(web: &Path, files: &[PathBuf]) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let manifest = fs::File::open(web.join("package.json")).map_err(|_| "web/ is not there")?;
    // Builds into several target folders share `web/dist`.
    manifest.lock().map_err(text)?;
    let hash = hash(web, files).map_err(text)?;
    let mark = web.join("dist").join(MARK);
    if fs::read_to_string(&mark).is_ok_and(|built_from| built_from == hash) {
        return Ok(());
    }
    if !is_installed(web) {
        npm(web, &["ci", "--no-audit", "--no-fund"])?;
    }
    npm(web, &["run", "build"])?;
    fs::write(mark, hash).map_err(text)
}

fn hash(web: &Path, files: &[PathBuf]) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.strip_prefix(web).unwrap_or(file).hash(&mut hasher);
        fs::read(file)?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Whether the packages are those of the lock file; the `Makefile` asks the same.
fn is_installed(web: &Path) -> bool {
    let changed = |path: &str| fs::metadata(web.join(path)).and_then(|data| data.modified()).ok();
    changed("node_modules/.package-lock.json") >= changed("package-lock.json")
}

fn npm(web: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("npm")
        .args(arguments)
        .current_dir(web)
        .output()
        .map_err(|error| format!("npm does not run ({error})"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(format!("npm {} failed: {}", arguments.join(" "), last.trim()))
}

/// Copies the built files, so that a later build of `web/dist` never changes this crate's unseen.
fn embed(dist: &Path, out: &Path) -> io::Result<()> {
    clear(out)?;
    let mut files = Vec::new();
    collect(dist, &mut files);
    for file in files {
        let name = file.strip_prefix(dist).unwrap_or(&file);
        if name == Path::new(MARK) {
            continue;
        }
        let target = out.join(name);
        fs::create_dir_all(target.parent().unwrap_or(out))?;
        fs::copy(&file, target)?;
    }
    Ok(())
}

/// The page of a binary without a dashboard.
fn explain(reason: &str, out: &Path) -> io::Result<()> {
    let reason = reason.replace('&', "&amp;").replace('<', "&lt;");
    clear(out)?;
    fs::write(
        out.join("index.html"),
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Tripline</title>\
             <link rel=\"stylesheet\" href=\"./api/docs.css\"></head><body><h1>Tripline</h1>\
             <p>This binary was built without its dashboard: {reason}.</p>\
             <p>Install Node 20.19 or newer and run <code>cargo build --release</code> again. \
             The API works without: see <a href=\"./api/docs\">its page</a>.</p></body></html>"
        ),
    )
}

fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(folder),
    }
}
