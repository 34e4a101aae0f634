//! Arrows point down: a module may use only what stands below it.
//!
//! The compiler already keeps `proxy-wasm` out of native builds and servers out of the filter; this keeps the
//! leaves from knowing the engine, and the engine from knowing its hosts.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module with what it may use of this crate.
const MAY_USE: &[(&str, &[&str])] = &[
    ("now", &[]),
    ("order", &[]),
    ("zone", &[]),
    ("meter", &["meter", "order"]),
    ("scan", &["scan", "order"]),
    ("quota", &["quota", "now", "zone"]),
    ("report", &["report", "meter", "quota", "now"]),
    ("policy", &["policy", "meter", "scan", "quota", "now", "order", "zone"]),
    ("engine", &["engine", "policy", "meter", "scan", "quota", "report", "now", "order"]),
    ("envoy", &["envoy", "engine", "policy", "meter", "quota", "scan", "now"]),
    ("sim", &["sim", "engine", "policy", "meter", "quota", "report", "now", "collector", "upstream"]),
    ("collector", &["collector", "report", "meter", "quota", "now", "zone"]),
    ("upstream", &["upstream"]),
];

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| sources(&entry.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}

/// Test modules in files of their own may use what they need.
fn is_test(path: &Path) -> bool {
    path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem == "tests" || stem.ends_with("_tests"))
}

/// A build script is a crate of its own, whose root is its folder.
fn is_build_script(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("build"))
}

/// The first path segments after `crate::` in the text before its test module, comments left out.
fn used(text: &str) -> Vec<String> {
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

#[test]
fn arrows_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (module, may_use) in MAY_USE {
        let file = root.join(format!("{module}.rs"));
        let place = if file.is_file() { file } else { root.join(module) };
        for path in sources(&place).into_iter().filter(|path| !is_test(path) && !is_build_script(path)) {
            let text = fs::read_to_string(&path).expect("a source file is readable");
            for name in used(&text) {
                seen += 1;
                if !may_use.contains(&name.as_str()) && !name.is_empty() {
                    wrong.push(format!("{} uses crate::{name}", path.strip_prefix(&root).unwrap_or(&path).display()));
                }
            }
        }
    }
    assert!(seen > 20, "the test found almost no imports: it looks in the wrong place");
    assert!(wrong.is_empty(), "arrows that point up:\n{}", wrong.join("\n"));
}
