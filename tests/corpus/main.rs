//! Every recorded exchange of a corpus, read by the filter's own reader in four ways of cutting, and compared with what
//! its provider said: `make corpus [CORPUS=path/to/exchanges.jsonl.gz]`.
//!
//! The corpus (its README tells the fields of a row) is no part of the project. Without one this says so and passes.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::float_arithmetic,
    reason = "a test: what a recorder wrote is taken as it is, and shares are printed"
)]

mod expect;
mod own;
mod row;
mod table;

use std::path::PathBuf;

use row::Row;
use table::Table;

/// Where the corpus is: named by the environment, or beside the project.
fn place() -> (PathBuf, bool) {
    match std::env::var_os("FAREBOX_CORPUS").filter(|path| !path.is_empty()) {
        Some(path) => (PathBuf::from(path), true),
        None => (PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/exchanges.jsonl.gz")), false),
    }
}

#[test]
fn corpus() {
    let (path, named) = place();
    if !path.is_file() {
        assert!(!named, "{} is not there; name another in CORPUS", path.display());
        eprintln!("SKIPPED: no corpus at {}; name one in FAREBOX_CORPUS", path.display());
        return;
    }
    let mut table = Table::default();
    let mut replayed = String::new();
    for line in row::lines(&path) {
        let row = Row::of(&line);
        table.add(&row, &row.judge());
        replayed.extend(row.replayed().map(|told| format!("{told}\n")));
    }
    if let Some(file) = std::env::var_os("FAREBOX_REPLAYED").filter(|file| !file.is_empty()) {
        std::fs::write(file, replayed).unwrap();
    }
    table.print();
    let faults = table.faults();
    assert!(faults.is_empty(), "{} below the bars:\n{}", faults.len(), faults.join("\n"));
}
