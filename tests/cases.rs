//! Every policy in `tests/cases` and `examples`, with its cases, in the simulator.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this crate is a test; clippy sees that only of functions marked as one"
)]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use farebox::cli::{Exit, Farebox};

fn test(arguments: &[&str]) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let verb = Farebox::try_parse_from([&["farebox", "test"], arguments].concat()).expect("arguments are in order");
    let exit = verb.run(&mut out, &mut err);
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn policies(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() => found.extend(policies(&path)),
            Some("yaml") if !path.to_string_lossy().ends_with(".test.yaml") => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

#[test]
fn every_case_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut passed, mut failed) = (0, Vec::new());
    for policy in [policies(&root.join("tests/cases")), policies(&root.join("examples"))].concat() {
        let (exit, out, err) = test(&[policy.to_str().unwrap()]);
        let last = out.lines().last().unwrap_or_default().to_owned();
        println!("{}: {last}", policy.strip_prefix(root).unwrap().display());
        if exit != Exit::Fine || !last.ends_with(" 0 failed, 0 skipped") {
            failed.push(format!("{}: {exit:?}\n{out}{err}", policy.display()));
        }
        passed += out.lines().filter(|line| line.starts_with("ok ")).count();
    }
    println!("{passed} cases passed");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(passed >= 60, "only {passed} cases: some were not found");
}
