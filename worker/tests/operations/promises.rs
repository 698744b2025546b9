//! Each test that `docs/promises.md` names is there.

use std::path::{Path, PathBuf};

/// The tests' sources.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether a path like `faults::streams` or `store::outcome::a_commit_…` is a file of tests, or a function in one.
fn is_there(name: &str, sources: &[PathBuf]) -> bool {
    let is_file = |path: &Path, module: &str| {
        let module = Path::new(&module.replace("::", "/")).with_extension("rs");
        path.ends_with(&module) || path.ends_with(module.with_extension("").join("mod.rs"))
    };
    let (module, function) = name.rsplit_once("::").unwrap();
    sources.iter().any(|path| {
        is_file(path, name)
            || is_file(path, module) && std::fs::read_to_string(path).unwrap().contains(&format!("fn {function}("))
    })
}

#[test]
fn each_promise_names_a_test_that_is_there() {
    let worker = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["tests", "../operator/tests", "../e2e/tests", "../testkit/src"] {
        sources(&worker.join(folder), &mut files);
    }
    let page = std::fs::read_to_string(worker.join("../docs/promises.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise"));
    let mut promises = 0;
    for row in rows {
        let held_by = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap();
        let names: Vec<&str> = held_by.split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect();
        assert!(!names.is_empty(), "no test holds this: {row}");
        for name in names {
            assert!(is_there(name, &files), "there is no test {name}");
        }
        promises += 1;
    }
    assert!(promises > 10, "the page has {promises} promises");
    assert!(!is_there("faults::streams::no_such_test", &files));
}
