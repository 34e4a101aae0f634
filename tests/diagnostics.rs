//! Every refusal of the policy language, shown: each policy in `tests/diagnostics/` has one theme, and the file
//! beside it holds what `farebox check` says. Rewrite these with `FAREBOX_BLESS=1`, and read the difference.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use farebox::policy::{compile, diagnostic::Code};

fn policies() -> std::io::Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.retain(|path| path.extension().is_some_and(|ending| ending != "txt"));
    files.sort();
    Ok(files)
}

#[test]
fn every_invalid_policy_is_explained() {
    let bless = std::env::var_os("FAREBOX_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in policies().expect("the folder of invalid policies") {
        let text = fs::read_to_string(&path).expect("a policy");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let faults = compile(&text, &name).expect_err(&name);
        let said: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        let beside = path.with_extension("txt");
        if bless {
            fs::write(&beside, &said).expect("write what is said");
        } else if fs::read_to_string(&beside).ok().as_deref() != Some(said.as_str()) {
            wrong.push(format!("--- {name} now says\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// No kind of fault is without an example, and every text keeps the house style.
#[test]
fn every_code_is_shown_and_every_text_keeps_the_style() {
    let mut shown = BTreeSet::new();
    let files = policies().expect("the folder of invalid policies");
    assert!(files.len() >= 30, "only {} invalid policies", files.len());
    for path in files {
        let text = fs::read_to_string(&path).expect("a policy");
        for fault in compile(&text, "p").expect_err("an invalid policy") {
            shown.insert(fault.code.name());
            for said in [&fault.message, &fault.help] {
                assert!(!said.is_empty() && !said.contains('\n') && !said.ends_with('.'), "{path:?}: {said}");
                assert!(!said.starts_with(char::is_uppercase), "{path:?}: {said}");
            }
            assert!(fault.line >= 1 && fault.column >= 1);
        }
    }
    // `more` needs hundreds of faults, and `succession` a policy before: their tests are beside the code.
    let all = [
        Code::Syntax,
        Code::TooLarge,
        Code::YamlFeature,
        Code::UnknownKey,
        Code::MissingKey,
        Code::Duplicate,
        Code::WrongType,
        Code::BadValue,
        Code::UnknownUnit,
        Code::UnknownEncoding,
        Code::UnknownZone,
        Code::UnknownWindow,
        Code::UnknownName,
        Code::BadHash,
        Code::Shadowed,
        Code::Unused,
        Code::NoPrice,
        Code::Conflict,
    ];
    let missing: Vec<&str> = all.iter().map(|code| code.name()).filter(|name| !shown.contains(name)).collect();
    assert!(missing.is_empty(), "no example shows {missing:?}");
}

/// The exit codes are a promise to scripts: 0 in order, 1 could not run, 2 at fault.
#[test]
fn the_binary_says_it_with_its_exit_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let check = |policy: &str| {
        let mut farebox = Command::new(env!("CARGO_BIN_EXE_farebox"));
        let ended = farebox.args(["check", policy]).current_dir(root).output().expect("the binary runs");
        (ended.status.code(), ended.stdout.is_empty(), ended.stderr.is_empty())
    };
    assert_eq!(check("examples/quickstart/policy.yaml"), (Some(0), true, true));
    assert_eq!(check("no/such/policy.yaml"), (Some(1), true, false));
    assert_eq!(check("--no-such-flag"), (Some(1), true, false));
    assert_eq!(check("tests/diagnostics/unknown-unit.yaml"), (Some(2), true, false));
}
