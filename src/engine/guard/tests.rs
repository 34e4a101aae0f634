//! Every guard by itself, and how they are asked.

use super::connection::sources;
use super::content::models;
use super::{Body, Found, Head, Trace, ceiling, longest_input, told_input};
use crate::engine::denial::{Denial, Kind};
use crate::engine::effect::Effect;
use crate::meter::call::{Call, Input, Longer, read_call};
use crate::meter::dialect::Dialect;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Guard, Plan};

/// A policy whose one plan has these halves.
pub(in crate::engine) fn bundle(halves: &str) -> Bundle {
    let text = format!(
        "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [authorization]}}]\n\
         models: {{\"*\": {{count: o200k_base}}}}\nplans: {{team: {{{halves}}}}}\n\
         seats: {{s: {{org: o, keys: [\"sha256:{}\"]}}}}\nassign: [{{otherwise: team}}]\n",
        "1".repeat(64)
    );
    crate::policy::compile(&text, "p").unwrap_or_else(|faults| panic!("{faults:?}"))
}

pub(in crate::engine) fn plan(bundle: &Bundle) -> &Plan {
    &bundle.plans[0]
}

pub(in crate::engine) fn chat(body: &str) -> Call {
    read_call(Dialect::OpenAiChat, body.as_bytes()).expect("a call")
}

fn counted(counted: u64) -> Result<Input, Longer> {
    Ok(Input { counted, bound: counted })
}

fn head<'a>(plan: &'a Plan, address: Option<&str>) -> Head<'a> {
    Head {
        plan,
        now: Now { wall_ms: 0, mono_ms: 0 },
        headers: &[],
        key: None,
        method: b"POST",
        path: b"/v1/chat/completions",
        address: address.map(|address| address.parse().expect("an address")),
        dialect: Some(Dialect::OpenAiChat),
        asks_after: &[],
        asks_balance: false,
    }
}

fn asks(bundle: &Bundle, name: &str) -> Result<(), Box<Found>> {
    let call = chat(&serde_json::json!({"model": name, "messages": []}).to_string());
    let model = bundle.models.find(name).unwrap_or(&bundle.models.rows[0]);
    models(&Body { plan: plan(bundle), call: &call, model, bytes: 0 })
}

#[test]
fn a_plan_without_rules_allows() {
    let bundle = bundle("");
    let plan = plan(&bundle);
    assert!(sources(&head(plan, None)).is_ok());
    assert!(asks(&bundle, "anything").is_ok());
    assert!(longest_input(plan, counted(u64::MAX)).is_ok());
    assert_eq!(told_input(plan), u64::MAX);
}

#[test]
fn sources_bind_and_an_unknown_address_is_refused() {
    let bundle = bundle("connectivity: {sources: [10.0.0.0/8]}");
    let plan = plan(&bundle);
    assert!(sources(&head(plan, Some("10.1.2.3"))).is_ok());
    for address in [None, Some("192.0.2.1")] {
        let found = sources(&head(plan, address)).expect_err("outside");
        assert_eq!(found.kind, Kind::Forbidden);
        assert!(!found.outside.contains("10.0.0.0"), "{}", found.outside);
    }
}

#[test]
fn models_bind_by_glob_and_the_name_is_made_safe() {
    let bundle = bundle("security: {models: [\"demo-*\", exact]}");
    assert!(asks(&bundle, "demo-small").is_ok());
    assert!(asks(&bundle, "exact").is_ok());
    assert!(asks(&bundle, "Demo-small").is_err());
    let found = asks(&bundle, "other\nforged").expect_err("not allowed");
    assert_eq!(found.kind, Kind::Forbidden);
    assert!(!found.inside.contains('\n'));
}

#[test]
fn the_longest_input_itself_is_allowed() {
    let bundle = bundle("security: {input: {longest: 128000 tokens}}");
    let plan = plan(&bundle);
    assert!(longest_input(plan, counted(128_000)).is_ok());
    let found = longest_input(plan, counted(128_001)).expect_err("one too many");
    assert_eq!(found.outside, "prompt is too long: 128001 tokens > 128000 maximum");
    assert_eq!(found.kind, Kind::TooLong);
    assert_eq!(told_input(plan), 256_000);
    let found = longest_input(plan, Err(Longer { at_least: 256_001 })).expect_err("far too many");
    assert_eq!(found.outside, "prompt is too long: at least 256001 tokens > 128000 maximum");
}

fn take(plan: &Plan, trace: &mut Trace, effects: &mut Vec<Effect>) -> Result<(), Denial> {
    super::head(&head(plan, Some("192.0.2.1")), trace, effects)
}

#[test]
fn a_guard_refuses_by_its_own_name() {
    let bundle = bundle("connectivity: {sources: [10.0.0.0/8]}");
    let (mut trace, mut effects) = (Trace::default(), Vec::new());
    let denial = take(plan(&bundle), &mut trace, &mut effects).expect_err("outside");
    assert_eq!((denial.kind, denial.rule.as_str()), (Kind::Forbidden, "sources"));
    assert_eq!((trace.guards(), effects.len()), (&[][..], 0));
}

#[test]
fn one_that_observes_says_what_it_found_once_and_lets_pass() {
    let bundle = bundle("connectivity: {sources: [10.0.0.0/8], observe: [sources]}");
    let (mut trace, mut effects) = (Trace::default(), Vec::new());
    for _ in 0..2 {
        take(plan(&bundle), &mut trace, &mut effects).expect("it only observes");
    }
    assert_eq!(trace.guards(), [Guard::Sources]);
    let counts = effects.iter().filter(|effect| matches!(effect, Effect::Count { metric: "observed_total", .. }));
    assert_eq!(counts.count(), 1);
    assert!(effects.contains(&Effect::Note("would_deny", "sources".to_owned())));
}

#[test]
fn an_input_whose_length_is_only_observed_is_counted_to_its_end() {
    let bundle = bundle("security: {input: {longest: 10 tokens}, observe: [longest]}");
    assert_eq!(told_input(plan(&bundle)), u64::MAX);
}

#[test]
fn what_cannot_be_read_needs_a_ceiling_where_it_counts() {
    let (file, later) = (r#"{"input":[{"file_id":"f"}]}"#, r#"{"input":"x","background":true}"#);
    let of = |halves: &str, body: &str| {
        let call = read_call(Dialect::OpenAiResponses, body.as_bytes()).unwrap();
        ceiling(plan(&bundle(halves)), &call, "m").map_err(|denial| (denial.kind, denial.rule))
    };
    let ceiling = |halves: &str| of(halves, file);
    let refused = Err((Kind::Unbounded, "open".to_owned()));
    assert_eq!(ceiling("connectivity: {tier: gold}"), Ok(0), "nothing depends on it");
    assert_eq!(ceiling("security: {input: {longest: 100 tokens}}"), refused, "nobody can tell how long it is");
    let cap = |unit: &str| format!("caps: {{c: {{limit: 9 {unit}, per: seat, window: lifetime}}}}");
    assert_eq!(ceiling(&format!("tokens: {{{}}}", cap("tokens"))), refused);
    assert_eq!(ceiling(&format!("tokens: {{{}}}", cap("requests"))), Ok(0));
    assert_eq!(ceiling(&format!("tokens: {{{}}}", cap("output tokens"))), Ok(0), "it is told");
    // Of what goes on behind its answer nobody hears what it wrote.
    let written = format!("tokens: {{{}}}", cap("output tokens"));
    assert_eq!((of(&written, later), of(&written, r#"{"input":"x"}"#)), (refused.clone(), Ok(0)));
    assert_eq!(of(&format!("tokens: {{{}}}", cap("requests")), later), Ok(0));
    assert_eq!(ceiling(&format!("tokens: {{{}, hold: {{assume_input: 7000}}}}", cap("tokens"))), Ok(7_000));
}
