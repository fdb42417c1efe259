//! What `packaging/` promises: the unit and the image start this binary, and give it few rights.

use std::{fs, path::Path, process::Command};

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A program that an operator's machine has and this one may lack; in CI it must be there.
fn run(program: &str, arguments: &[&str]) -> Option<std::process::Output> {
    let found = Command::new(program).args(arguments).env("LC_ALL", "C").output();
    if found.is_err() {
        eprintln!("SKIPPED: {program} is not here");
    }
    found.ok()
}

#[test]
fn what_is_shipped_starts_the_server_with_flags_that_it_has() {
    let help = Command::new(env!("CARGO_BIN_EXE_tripline")).args(["serve", "--help"]).output();
    let help = String::from_utf8_lossy(&help.expect("the binary starts").stdout).into_owned();
    let unit = shipped("tripline.service");
    let start = unit.lines().find(|line| line.starts_with("ExecStart=")).expect("a start");
    let image = shipped("Dockerfile");
    let command = image.lines().find(|line| line.starts_with("CMD ")).expect("a command");
    for line in [start, command] {
        assert!(line.contains("serve"), "{line}");
        for flag in line.split([' ', '"', ',']).filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "{line}: there is no {flag}");
        }
    }
}

/// The image's last stage: nothing to run but the binary, and nobody to run it as.
#[test]
fn the_image_is_empty_but_for_the_binary_and_runs_as_nobody() {
    let image = shipped("Dockerfile");
    let (_, last) = image.rsplit_once("\nFROM ").expect("a last stage");
    assert!(last.starts_with("scratch\n"), "{last}");
    let user = last.lines().find_map(|line| line.strip_prefix("USER ")).expect("a user");
    let ids: Vec<u32> = user.split(':').map(|id| id.parse().expect("a number")).collect();
    assert!(ids.len() == 2 && ids.iter().all(|id| *id >= 1_000), "{user}");
    for word in ["ADD ", "RUN ", "chmod 777", "--privileged"] {
        assert!(!last.contains(word), "{word} in the last stage");
    }
    assert!(image.contains("cargo build --release --locked"), "built from the lock file");
    assert!(!image.contains(":latest"), "images have versions");
    let ignored = shipped("Dockerfile.dockerignore");
    for folder in ["target", "**/node_modules", ".git"] {
        assert!(ignored.lines().any(|line| line == folder), "{folder} is sent to the builder");
    }
}

/// systemd's own measure, 0 (none) to 10 (all rights): the goal is 2.0.
#[test]
fn the_unit_is_hardened_as_systemd_measures_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/tripline.service");
    let path = path.to_str().expect("a path in UTF-8");
    let arguments = ["security", "--offline=true", "--threshold=20", "--no-pager", path];
    let Some(measured) = run("systemd-analyze", &arguments) else { return };
    let said = String::from_utf8_lossy(&measured.stdout).into_owned();
    assert!(measured.status.success(), "{said}");
    // What systemd does not know it leaves out in silence, here and on the operator's machine.
    let said = String::from_utf8_lossy(&measured.stderr).into_owned();
    assert!(!said.contains("ignoring") && !said.contains("Unknown"), "{said}");
}
