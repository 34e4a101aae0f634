use proptest::prelude::*;

use super::bundle::{HostMode, Lost, OnUnknown, Per, Role};
use super::case::{Amount, Decision, Prompt, RetryAfter, Who};
use super::price::{Price, Rates};
use super::unit::{Consumed, Unit};
use super::*;
use crate::meter::dialect::{Api, Dialect};
use crate::meter::usage::Usage;
use crate::quota::{CalendarPeriod, MICRO, Quota, QuotaId, Window};

const QUICKSTART: &str = include_str!("../../examples/quickstart/policy.yaml");

fn compiled(text: &str) -> Bundle {
    compile(text, "policy.yaml").unwrap_or_else(|faults| panic!("{}", said(&faults)))
}

fn said(faults: &[Diagnostic]) -> String {
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

fn sha256(key: &str) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(key.as_bytes()).into()
}

#[test]
fn the_quickstart_policy_compiles_to_what_it_says() {
    let bundle = compiled(QUICKSTART);
    assert_eq!((bundle.name.as_str(), bundle.version.as_str()), ("quickstart", "2026-11-25"));
    assert_eq!(bundle.credentials, ["authorization", "x-api-key", "api-key"]);
    assert_eq!((bundle.headers, bundle.trusted_proxies), (HostMode::Held, 0));
    assert_eq!((bundle.unknown.path, bundle.unknown.body), (OnUnknown::Deny, OnUnknown::Deny));
    let collector = bundle.collector.as_ref().unwrap();
    assert_eq!(
        (collector.cluster.as_str(), collector.sync_ms, collector.patience_ms),
        ("farebox-collector", 1000, 2000)
    );
    assert_eq!(collector.buffer_bytes, 64 << 20);

    let team = &bundle.plans[0];
    let month = &team.quotas[0];
    assert_eq!(
        (month.name.as_str(), month.role, month.unit, month.per),
        ("month", Role::Fund, Unit::Credits, Per::Level(1))
    );
    let zone = "Asia/Shanghai".to_owned();
    let id = QuotaId::of("team", "month");
    assert_eq!(
        month.quota,
        Quota {
            id,
            limit: 100_000 * MICRO,
            window: Window::Calendar { period: CalendarPeriod::Month, zone },
            granted: true,
            rollover: 0
        }
    );
    let granted: Vec<(&str, bool)> = team.quotas.iter().map(|q| (q.name.as_str(), q.quota.granted)).collect();
    let local = [("pace", false), ("live", false)];
    assert_eq!(granted[1..5], [("seat-5h", true), ("out-5h", true), ("in-org", true), ("calls", true)]);
    assert_eq!(granted[5..], local);
    assert_eq!(team.quotas[5].quota.window, Window::Bucket { period_ms: 60_000, burst: team.quotas[5].quota.limit });
    assert_eq!(team.hold.lost, Lost::Held);
    assert_eq!((team.connectivity.tier.as_deref(), team.connectivity.sources.len()), (Some("gold"), 2));
    assert!(team.security.input.is_some() && team.security.longest_input == Some(128_000));
    assert!(team.security.models.take("demo-small") && !team.security.models.take("gpt-4o"));
}

#[test]
fn seats_get_the_plan_of_the_first_line_and_are_found_by_key() {
    let bundle = compiled(QUICKSTART);
    let plan = |key: &str| {
        let seat = &bundle.seats[bundle.seat_by_key(&sha256(key))?];
        Some((seat.name.as_str(), seat.org.as_str(), bundle.plan_for(seat)?.name.as_str()))
    };
    assert_eq!(plan("demo-alice"), Some(("alice", "acme", "team")));
    assert_eq!(plan("demo-bob"), Some(("bob", "acme", "trial")));
    assert_eq!(plan("demo-mallory"), None);
    assert_eq!(bundle.seat_by_key(&[0; 32]), None);
}

#[test]
fn prices_come_out_exact() {
    let bundle = compiled(QUICKSTART);
    let small = bundle.models.find("demo-small").unwrap();
    let expected = Rates {
        input: 1_000_000_000,
        cache_read: 100_000_000,
        cache_write: 1_250_000_000,
        cache_write_1h: 1_250_000_000,
        output: 4_000_000_000,
        reasoning: 4_000_000_000,
        ..Rates::default()
    };
    assert_eq!(small.credits, expected);
    let usage = Usage { input: 500, output: 50, ..Usage::default() };
    let price: Price = small.price(0, Api::of(Dialect::OpenAiChat, b""), 1);
    assert_eq!(Unit::Credits.amount(&Consumed { usage, ..Consumed::default() }, &price), 700_000);
    // Cached input costs what input costs unless it is said.
    assert_eq!(bundle.models.find("demo-large").unwrap().credits.cache_write, 2_000_000_000);
    assert_eq!(bundle.models.find("gemma3").unwrap().credits, Rates::default());
    assert!(bundle.models.find("unknown").is_none());
}

#[test]
fn models_weigh_and_speak_by_every_api() {
    let weighs = "  weighs: {count: o200k_base, credits: 0, speaks: [openai responses, gemini generate, embeddings],\n    \
                  factor: [{factor: 1, api: embeddings}, {factor: 3, api: openai responses}, {factor: 2}]}\n  demo-small:";
    let text = QUICKSTART.replacen("  demo-small:", weighs, 1);
    let bundle = compiled(&text);
    let model = bundle.models.find("weighs").unwrap();
    let at = |path: &[u8]| Api::of(Dialect::of(b"POST", path).unwrap(), path);
    for (path, factor, speaks) in [
        (&b"/v1/embeddings"[..], 1, true),
        (b"/v1beta/models/g:embedContent", 1, true),
        (b"/api/v1/services/embeddings/text-embedding/text-embedding", 1, true),
        (b"/v1/responses", 3, true),
        (b"/v1beta/models/g:generateContent", 2, true),
        (b"/v1/chat/completions", 2, false),
        (b"/api/v1/services/aigc/text-generation/generation", 2, false),
    ] {
        assert_eq!(model.price(0, at(path), 1).factor, factor * MICRO, "{}", String::from_utf8_lossy(path));
        assert_eq!(model.speaks(at(path)), speaks, "{}", String::from_utf8_lossy(path));
    }
}

/// Models that are served by other APIs than the first two can stand in for one another, if they speak alike.
#[test]
fn a_downgrade_speaks_what_the_other_models_speak() {
    let policy = |small: &str| {
        format!(
            "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [authorization]}}]\nmodels:\n  \
             large: {{count: o200k_base, speaks: [openai responses, gemini generate]}}\n  \
             latest: {{alias: large}}\n  small: {{count: o200k_base, speaks: [{small}]}}\n  other: {{alias: small}}\n\
             plans: {{p: {{tokens: {{caps: {{c: {{limit: 9 requests, per: seat, window: lifetime, \
             full: [downgrade other]}}}}}}}}}}\nassign: [{{otherwise: p}}]\n\
             seats: {{s: {{org: o, keys: ['sha256:{:064x}']}}}}\n",
            1
        )
    };
    compiled(&policy("responses, gemini generate"));
    let faults = super::compile(&policy("openai-responses"), "p").unwrap_err();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].message, "`other` does not speak gemini generate, which callers may use");
}

#[test]
fn cases_come_out_as_data() {
    let cases = cases(QUICKSTART, "policy.yaml").unwrap();
    assert_eq!(cases.len(), 7);
    let first = &cases[0];
    assert_eq!(first.who, Who::Key("demo-alice".to_owned()));
    assert_eq!(first.at_ms, Some(1_795_572_000_000));
    assert_eq!((first.call.prompt.clone(), first.call.max_output), (Prompt::Tokens(500), Some(100)));
    assert_eq!((first.answer.input, first.answer.output, first.answer.status), (Some(500), 50, 200));
    let charged = first.expect.charged.as_ref().unwrap();
    assert_eq!(charged[0], Amount { quota: "month".to_owned(), micro: 700_000 });
    assert_eq!(first.expect.held.as_deref(), Some(&[][..]));
    let second = &cases[1];
    assert_eq!((second.expect.decision, second.expect.status), (Decision::Deny, Some(429)));
    assert_eq!(second.expect.retry_after, Some(RetryAfter::AtMost(18_000_000)));
    assert_eq!(second.used, [Amount { quota: "calls".to_owned(), micro: 3 * MICRO }]);
    let named = |case: &Case| QUICKSTART.lines().nth(case.line as usize - 1).unwrap().contains(&case.name);
    assert!(cases.iter().all(named));
}

#[test]
fn without_a_collector_the_limit_is_the_grant_and_versions_share_counters() {
    let text = QUICKSTART
        .replace("collector:", "#collector:")
        .replace("  team:", "  team@2026-11:")
        .replace("plan: team", "plan: team@2026-11");
    let bundle = compiled(&text);
    assert!(bundle.collector.is_none());
    assert!(bundle.plans.iter().flat_map(|plan| &plan.quotas).all(|quota| !quota.quota.granted));
    let team = &bundle.plans[0];
    assert_eq!((team.name.as_str(), team.version.as_deref()), ("team", Some("2026-11")));
    assert_eq!(team.quotas[0].quota.id, QuotaId::of("team", "month"));
    assert_ne!(bundle.hash, compiled(QUICKSTART).hash);
}

/// The reference in the module's documentation is a policy, and its defaults are the defaults.
#[test]
fn the_documented_language_is_the_language() {
    let docs = include_str!("mod.rs").lines().filter_map(|line| line.strip_prefix("//!"));
    let block = docs.skip_while(|line| *line != " ```yaml").skip(1).take_while(|line| *line != " ```");
    let text: String = block.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect();
    let bundle = compiled(&text);
    assert_eq!(cases(&text, "docs").unwrap().len(), 3);
    assert_eq!((bundle.plans[0].quotas.len(), bundle.packs.len()), (14, 1));

    let optional = ["zone:", "envoy:", "network:", "unknown:", "      empty:"];
    let line_of = |line: &str| optional.iter().any(|key| line.starts_with(key));
    let hold = |line: &str| {
        let keys = [
            "hold:",
            "unstated_output:",
            "shrink_to:",
            "share: fair",
            "count: needed",
            "stream:",
            "lost:",
            "aborted:",
            "no_response:",
        ];
        let ends = ["upstream_error:", "error_inside:", "cut_by_upstream:", "failed_try:"];
        keys.iter().chain(&ends).any(|key| line.trim_start().starts_with(key))
    };
    let sync = |line: &str| ["sync:", "buffer:", "patience:"].iter().any(|key| line.trim_start().starts_with(key));
    let short: String =
        text.lines().filter(|l| !line_of(l) && !hold(l) && !sync(l)).map(|l| format!("{l}\n")).collect();
    let short = compiled(&short);
    assert_eq!(format!("{:?}", short.plans[0].hold), format!("{:?}", bundle.plans[0].hold));
    assert_eq!(
        (short.headers, short.trusted_proxies, short.unknown),
        (bundle.headers, bundle.trusted_proxies, bundle.unknown)
    );
    assert_eq!(short.collector, bundle.collector);
}

/// The same policy as JSON, as Istio's `pluginConfig` hands it over.
#[test]
fn json_is_read_by_the_same_parser() {
    let text = r#"{
    "farebox": 1, "bundle": {"name": "demo", "version": "1"}, "identity": [{"key": ["x-api-key"]}],
    "models": {"*": {"count": "o200k_base", "credits": {"input": 0.1, "output": 1.50}}},
    "plans": {"team": {"tokens": {"caps": {"calls": {"limit": "2 requests", "per": "seat", "window": "bucket 1m"}}}}},
    "seats": {"\u0061lice\/": {"org": "acme", "keys": ["sha256:KEY"]}},
    "assign": [{"otherwise": "team"}], "unknown": {"path": "pass"}
    }"#;
    let text = text.replace("KEY", &"ab".repeat(32));
    let faults = compile(&text, "p.json").unwrap_err();
    insta::assert_snapshot!(said(&faults), @r"
    p.json:5:15: error[bad-value]: `alice/` is no name for a seat
      help: write up to 64 ASCII letters, digits or `.`, `_`, `-`, `@` or `+`, beginning with a letter or digit
    ");
    let bundle = compiled(&text.replace("\\/", ""));
    assert_eq!((bundle.seats[0].name.as_str(), bundle.plan_for(&bundle.seats[0]).is_some()), ("alice", true));
    assert_eq!(bundle.models.find("anything").unwrap().credits.input, 100_000_000);
    assert_eq!(bundle.unknown.path, OnUnknown::Pass);
}

#[test]
fn a_hundred_faults_are_told_in_one_run_and_on_one_line_each() {
    let text = QUICKSTART.replace("per:", "par:").replace("window:", "windw:");
    let faults = compile(&text, "policy.yaml").unwrap_err();
    assert!(faults.len() >= 20, "{}", said(&faults));
    assert!(faults.iter().all(|fault| !fault.one_line().contains('\n')));
    insta::assert_snapshot!(faults[0].one_line(), @"policy.yaml:20:41: error[unknown-key]: unknown key `par` in plans.team.tokens.funds.month (did you mean `per`?)");
}

#[test]
fn size_and_depth_are_bounded() {
    let code = |text: &str| compile(text, "p").unwrap_err()[0].code;
    assert_eq!(code(&" ".repeat(LARGEST + 1)), diagnostic::Code::TooLarge);
    assert_eq!(code(&"[".repeat(1_000_000)), diagnostic::Code::TooLarge);
    assert_eq!(code(&"{a: ".repeat(1_000_000)), diagnostic::Code::TooLarge);
    assert_eq!(code(&"- ".repeat(1_000_000)), diagnostic::Code::TooLarge);
    assert_eq!(code(&"[\"]\",".repeat(600_000)), diagnostic::Code::TooLarge);
    assert_eq!(code(&"[ #]\n".repeat(700_000)), diagnostic::Code::TooLarge);
    assert_eq!(code(&format!("[{}", "a,".repeat(300_000))), diagnostic::Code::TooLarge);
    assert_eq!(code(&"? ".repeat(1_000_000)), diagnostic::Code::TooLarge);
}

/// Thousands of seats are one file's worth, in both notations.
#[test]
fn a_large_policy_compiles() {
    let head = QUICKSTART.split("seats:").next().unwrap();
    let tail = "assign:\n  - {when: {seat: s7}, plan: trial}\n  - {otherwise: team}\n";
    let seats: String =
        (0..20_000).map(|n| format!("  s{n}: {{org: o{}, keys: [\"sha256:{n:064x}\"]}}\n", n % 50)).collect();
    let bundle = compiled(&format!("{head}seats:\n{seats}{tail}"));
    assert_eq!((bundle.seats.len(), bundle.keys.len()), (20_000, 20_000));
    let mut hash = [0; 32];
    hash[30..].copy_from_slice(&19_999_u16.to_be_bytes());
    assert_eq!(bundle.seat_by_key(&hash), Some(19_999));
    let plan = |seat: usize| bundle.plan_for(&bundle.seats[seat]).map(|plan| plan.name.as_str());
    assert_eq!((plan(7), plan(8)), (Some("trial"), Some("team")));
}

/// Pieces that steer a mutation into the corners of the language.
const PIECES: [&str; 28] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    "- ",
    ",",
    "\"",
    "'",
    "#",
    " #",
    "&a ",
    "*a",
    "!t ",
    "|\n",
    ">\n",
    "---\n",
    "\n",
    "\t",
    "<<: ",
    "? ",
    "%YAML 1.2\n",
    "\u{feff}",
    "\u{0}",
    "99999999999999999999999",
    "é",
    "~",
];

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(compile(&text, "p").is_err());
    }

    #[test]
    fn no_soup_of_yaml_panics(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..60)) {
        prop_assert!(compile(&pieces.concat(), "p").is_err());
    }

    /// A valid policy with a few cuts and insertions: an answer, never a panic, and always a place and a help line.
    #[test]
    fn no_mutation_panics(cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0..12_usize, 0..PIECES.len()), 1..4)) {
        let mut chars: Vec<char> = QUICKSTART.chars().collect();
        for (at, drop, piece) in cuts {
            let from = at.index(chars.len());
            let to = (from + drop).min(chars.len());
            chars.splice(from..to, PIECES[piece].chars());
        }
        let text: String = chars.into_iter().collect();
        for fault in compile(&text, "p").err().into_iter().flatten() {
            prop_assert!(fault.line >= 1 && !fault.message.is_empty() && !fault.help.is_empty());
        }
        let _ = cases(&text, "p");
    }
}
