use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;

use super::{Exit, Observed, Suite, compare};
use crate::cli::Farebox;
use crate::policy::{self, Case};

/// A policy in a folder of its own; `tests` is the text of that section.
fn written(name: &str, tests: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("farebox-test-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("policy.yaml");
    fs::write(&path, format!("{POLICY}{tests}")).unwrap();
    path
}

const POLICY: &str = "\
farebox: 1
bundle: {name: t, version: 1}
identity: [{key: [authorization, x-api-key]}]
models: {gpt-x: {count: o200k_base}}
plans: {p: {tokens: {caps: {calls: {limit: 2 requests, per: seat, window: first-use 1h}}}}}
seats: {ann: {org: o, keys: [\"sha256:a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1\"]}}
assign: [{otherwise: p}]
";
const GOOD: &str =
    "{name: good, as: {key: key-ann}, call: {api: openai chat, model: gpt-x, input: 9}, expect: {decision: allow}}";
const BAD: &str = "{name: bad, as: {seat: ann}, call: {api: openai chat, model: gpt-x, input: 9}, expect: {decision: allow, status: 418, charged: {calls: 2 requests}}}";

fn run(path: &Path, more: &[&str]) -> (Exit, String, String) {
    let arguments = [&["farebox", "test", path.to_str().unwrap()], more].concat();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = Farebox::try_parse_from(arguments).unwrap().run(&mut out, &mut err);
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn a_case_that_fails_says_what_was_expected_and_seen() {
    let path = written("fails", &format!("tests:\n  - {GOOD}\n  - {BAD}\n"));
    let (exit, out, err) = run(&path, &[]);
    assert_eq!((exit, err.as_str()), (Exit::TestFailed, ""));
    let out = out.replace(&path.display().to_string(), "policy.yaml");
    insta::assert_snapshot!(out, @"
    ok      good
    FAILED  bad (policy.yaml:10)
            status: expected 418, saw 200
            charged.calls: expected 2 requests, saw 1 requests
    1 passed, 1 failed, 0 skipped
    ");
}

/// A policy may let calls wait for minutes, and a call that never ends is one case's fault, not that of all.
#[test]
fn a_case_that_takes_long_or_never_ends_leaves_the_others_be() {
    let before = "before: [{at: '2026-11-25T10:00:00Z', call: {api: openai chat, model: gpt-x, input: 9}}, \
                  {at: '2026-11-25T10:00:01Z', call: {api: openai chat, model: gpt-x, input: 9}}], at: '2026-11-25T10:58:30Z'";
    let call = "as: {key: key-ann}, call: {api: openai chat, model: gpt-x, input: 9, stream: true}";
    let waits = format!("{{name: waits, {before}, {call}, expect: {{decision: allow}}}}");
    let endless =
        format!("{{name: endless, {call}, answer: {{ends: silent after 2 tokens}}, expect: {{decision: allow}}}}");
    let path = written("endless", &format!("tests:\n  - {waits}\n  - {endless}\n  - {GOOD}\n"));
    let waiting = fs::read_to_string(&path).unwrap().replace("first-use 1h}", "first-use 1h, full: [wait 2m]}");
    fs::write(&path, waiting).unwrap();
    let (exit, out, err) = run(&path, &[]);
    assert_eq!((exit, err.as_str()), (Exit::TestFailed, ""));
    let out = out.replace(&path.display().to_string(), "policy.yaml");
    insta::assert_snapshot!(out, @"
    ok      waits
    FAILED  endless (policy.yaml:10)
            call 1: expected an end, saw none within 15 min
    ok      good
    2 passed, 1 failed, 0 skipped
    ");
}

#[test]
fn programs_get_an_object_a_line() {
    let path = written("json", &format!("tests:\n  - {GOOD}\n  - {BAD}\n"));
    let (exit, out, _) = run(&path, &["--json"]);
    assert_eq!(exit, Exit::TestFailed);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["result"], "passed");
    assert_eq!((lines[1]["line"].as_u64(), lines[1]["mismatches"][0]["seen"].as_str()), (Some(10), Some("200")));
    assert_eq!((lines[2]["passed"].as_u64(), lines[2]["failed"].as_u64()), (Some(1), Some(1)));
}

#[test]
fn no_case_at_all_is_no_success() {
    let (exit, _, err) = run(&written("none", ""), &[]);
    assert_eq!(exit, Exit::CouldNotRun);
    assert!(err.contains("has no cases") && err.contains("policy.test.yaml"), "{err}");
    let (exit, _, err) = run(&written("filter", &format!("tests: [{GOOD}]\n")), &["--filter", "wrong"]);
    assert_eq!(exit, Exit::CouldNotRun);
    assert!(err.contains("none of the 1 cases"), "{err}");
}

#[test]
fn only_cases_that_are_asked_for_run() {
    let (exit, out, _) = run(&written("some", &format!("tests:\n  - {GOOD}\n  - {BAD}\n")), &["--filter", "goo"]);
    assert_eq!((exit, out.as_str()), (Exit::Fine, "ok      good\n1 passed, 0 failed, 0 skipped\n"));
}

#[test]
fn cases_beside_the_policy_run_too_and_their_faults_are_their_own() {
    let path = written("beside", &format!("tests: [{GOOD}]\n"));
    let beside = path.with_file_name("policy.test.yaml");
    fs::write(&beside, format!("tests:\n  - {}\n", GOOD.replace("name: good", "name: beside"))).unwrap();
    let (exit, out, _) = run(&path, &[]);
    assert_eq!((exit, out.lines().count()), (Exit::Fine, 3), "{out}");
    fs::write(&beside, "tests:\n  - {name: x, as: {seat: nobody}, call: {api: openai chat, model: m, input: 1}, expect: {decision: deny}}\n").unwrap();
    let (exit, _, err) = run(&path, &[]);
    assert_eq!(exit, Exit::PolicyInvalid);
    assert!(err.contains("policy.test.yaml:2:") && err.contains("`nobody`"), "{err}");
}

#[test]
fn an_invalid_policy_is_not_tested() {
    let (exit, out, err) = run(&written("invalid", "surplus: 1\n"), &[]);
    assert_eq!((exit, out.as_str()), (Exit::PolicyInvalid, ""));
    assert!(err.contains("error[unknown-key]"), "{err}");
}

#[test]
fn calls_before_are_made_and_a_refused_one_is_said() {
    let before = |expect: &str, calls: u32| {
        let one = "{call: {api: openai chat, model: gpt-x, input: 9}}";
        let before = vec![one; usize::try_from(calls).unwrap()].join(", ");
        GOOD.replace("{name: good,", &format!("{{name: after {calls}, before: [{before}],"))
            .replace("{decision: allow}", expect)
    };
    let cases = [
        before("{decision: allow, charged: {calls: 1 request}, records: 1}", 1),
        before("{decision: deny, by: calls, records: 0}", 2),
        before("{decision: deny}", 3),
    ];
    let path = written("before", &format!("tests: [{}]\n", cases.join(", ")));
    let (_, out, _) = run(&path, &[]);
    let out = out.replace(&path.display().to_string(), "policy.yaml");
    insta::assert_snapshot!(out, @"
    ok      after 1
    ok      after 2
    FAILED  after 3 (policy.yaml:8)
            before[2]: expected allow, saw refused by calls
    2 passed, 1 failed, 0 skipped
    ");
}

/// Every expectation, each of which must notice when it is not met.
#[test]
fn nothing_that_a_case_expects_is_passed_over() {
    let case = |expect: &str| -> Case {
        let text =
            format!("{POLICY}tests: [{}]\n", GOOD.replace("expect: {decision: allow}", &format!("expect: {expect}")));
        policy::cases(&text, "t").unwrap_or_else(|faults| panic!("{faults:?}")).remove(0)
    };
    let bundle = policy::compile(POLICY, "t").unwrap();
    let denied = Observed { status: 429, held: Some([("calls".to_owned(), 5)].into()), ..Observed::default() };
    let allowed =
        Observed { admitted: true, status: 200, charged: [("calls".to_owned(), 5)].into(), ..Observed::default() };
    for (expect, seen) in [
        ("{decision: deny}", &allowed),
        ("{decision: allow}", &denied),
        ("{decision: deny, by: calls}", &denied),
        ("{decision: deny, status: 403}", &denied),
        ("{decision: deny, code: rate_limit_exceeded}", &denied),
        ("{decision: deny, retry_after: 5s}", &denied),
        ("{decision: deny, retry_after: at most 5s}", &denied),
        ("{decision: deny, held: {}}", &denied),
        ("{decision: deny, held: {calls: 1 request}}", &denied),
        ("{decision: deny, records: 1}", &denied),
        ("{decision: deny, retry_after: none}", &Observed { retry_after: Some("1".to_owned()), ..denied.clone() }),
        (
            "{decision: deny, retry_after: at most 5s}",
            &Observed { retry_after: Some("6".to_owned()), ..denied.clone() },
        ),
        ("{decision: allow, tier: gold}", &allowed),
        ("{decision: allow, max_output: 5}", &allowed),
        ("{decision: allow, max_tokens: 5}", &allowed),
        ("{decision: allow, reached: [calls 50]}", &allowed),
        ("{decision: allow, reached: [calls 50]}", &Observed { reached: vec!["calls 80".into()], ..allowed.clone() }),
        ("{decision: allow, reached: []}", &Observed { reached: vec!["calls 50".into()], ..allowed.clone() }),
        ("{decision: allow, graced: 5}", &allowed),
        ("{decision: allow, finish: length}", &allowed),
        ("{decision: allow, delivered: 5}", &allowed),
        ("{decision: allow, model: gpt-y}", &allowed),
        ("{decision: allow, passed: [overage]}", &allowed),
        ("{decision: allow, passed: []}", &Observed { passed: vec!["waited".to_owned()], ..allowed.clone() }),
        ("{decision: allow}", &Observed::spoiled(0, Some("calls"))),
        ("{decision: allow, text: hello}", &allowed),
        ("{decision: allow, charged: {}}", &allowed),
        ("{decision: allow, charged: {calls: 1 request}}", &allowed),
    ] {
        assert_eq!(compare(&case(expect), seen, &bundle).len(), 1, "{expect}");
    }
    let met = Observed {
        retry_after: Some("5".to_owned()),
        codes: vec!["a".into(), "b".into()],
        by: Some("calls".into()),
        ..denied
    };
    let expect = "{decision: deny, by: calls, status: 429, code: b, retry_after: at most 5s, charged: {}, records: 0}";
    assert_eq!(compare(&case(expect), &met, &bundle), []);
}

#[test]
fn a_suite_has_the_cases_of_both_files_in_order() {
    let path = written("order", &format!("tests: [{GOOD}]\n"));
    fs::write(path.with_file_name("policy.test.yaml"), format!("tests: [{BAD}]\n")).unwrap();
    let suite = Suite::read(&path).unwrap();
    let names: Vec<_> = suite.cases.iter().map(|(_, case)| case.name.as_str()).collect();
    assert_eq!(names, ["good", "bad"]);
}
