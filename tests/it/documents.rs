//! What the documents say of tests is true of the tests.

use std::{fs, path::Path};

/// All sources that hold tests.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("node_modules") && !path.ends_with("dist") {
            sources(&path, text);
        } else if path.extension().is_some_and(|ending| ending == "rs" || ending == "ts") {
            text.push_str(&fs::read_to_string(&path).expect("a text"));
        }
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for folder in ["src", "tests", "web/e2e"] {
        sources(&root.join(folder), &mut text);
    }
    let mut named = 0;
    for document in ["docs/asvs.md", "SECURITY.md", "docs/reliability.md"] {
        let words = fs::read_to_string(root.join(document)).expect("the document");
        for name in words.split('`').skip(1).step_by(2) {
            let is_rust = name.matches('_').count() > 2 && !name.contains([' ', '.', '=', '/']);
            let is_journey =
                name.matches(' ').count() > 2 && name.chars().all(|c| c == ' ' || c.is_lowercase());
            if is_rust || is_journey {
                let there = [format!("fn {name}("), format!("test('{name}'")];
                assert!(there.iter().any(|one| text.contains(one)), "{document} names {name}");
                named += 1;
            }
        }
    }
    assert!(named > 40, "{named} names were found");
}
