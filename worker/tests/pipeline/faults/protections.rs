//! The table of `docs/protections.md`, which a run writes: it names every protection, and tests that exist.

use clamor_worker::protection::Protection;
use std::path::{Path, PathBuf};

const TABLE: &str = include_str!("../../../../docs/protections.md");

/// Protection and test of each row.
fn rows() -> Vec<(String, String)> {
    let cells = |line: &str| -> Vec<String> { line.split('|').map(|cell| cell.trim().replace('`', "")).collect() };
    let rows = TABLE.lines().filter(|line| line.starts_with("| `")).map(cells);
    rows.map(|cells| (cells[1].clone(), cells[2].clone())).collect()
}

#[test]
fn without_any_of_the_protections_a_test_fails_that_exists() {
    let named: Vec<String> = rows().into_iter().map(|(protection, _)| protection).collect();
    assert_eq!(named, Protection::ALL.map(|protection| protection.name().to_owned()));
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"));
    for (protection, test) in rows() {
        let name = test.split(' ').next().unwrap().rsplit("::").next().unwrap();
        let function = format!("async fn {name}()");
        assert!(sources.iter().any(|text| text.contains(&function)), "without {protection}: there is no test {test}");
    }
}

fn sources(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::from(dir)];
    while let Some(dir) = dirs.pop() {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push(std::fs::read_to_string(path).unwrap_or_default());
            }
        }
    }
    found
}
