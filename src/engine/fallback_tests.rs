use serde_json::json;

use super::*;
use crate::policy;
use crate::sim::call::{Call, Ending};
use crate::sim::world::{At, World};
use crate::upstream::script::Script;

/// Its one key is `key-ann`.
const POLICY: &str = "farebox: 1
bundle: {name: rested, version: '1'}
identity: [{key: [authorization]}]
models: {large: {count: o200k_base}, newest: {alias: large}, mid: {count: o200k_base}, small: {count: o200k_base}}
plans: {p: {connectivity: {fallback: [{models: [large], to: mid, for: 10s, longest: 1m}, {models: [mid], to: small}]}}}
assign: [{otherwise: p}]
seats: {ann: {org: o, keys: ['sha256:a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1']}}
";

fn world() -> World {
    with("")
}

/// With a line more in the policy's rules.
fn with(rule: &str) -> World {
    let policy = POLICY.replace("to: small}]", &format!("to: small}}{rule}]"));
    World::new(policy::compile(&policy, "p").unwrap(), 1, 2, 1_795_608_000_000, 1).unwrap()
}

/// What the upstream does.
enum Does {
    Answers,
    Fails(u16),
    Refuses,
    /// Envoy has no route.
    Unrouted,
}

/// A call by way of one of two VMs: the model that it went to; empty: it reached none.
fn asks(world: &World, vm: usize, model: &str, does: &Does) -> String {
    asks_at("/v1/chat/completions", world, vm, model, does)
}

fn asks_at(path: &str, world: &World, vm: usize, model: &str, does: &Does) -> String {
    let body = json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let mut call = Call::to(path, "key-ann", ("application/json", body.to_string().into_bytes()));
    match does {
        Does::Answers => {}
        Does::Fails(status) => call.plot.script = Script { error: Some(*status), ..Script::default() },
        Does::Refuses => call.plot.ending = Ending::ConnectFailure,
        Does::Unrouted => call.plot.ending = Ending::Unrouted,
    }
    let stream = world.open(At { process: 0, vm }, call).unwrap();
    assert!(world.run(1_000));
    let reached = world.seen(stream).unwrap().upstream.map(|truth| truth.body).unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(&reached).unwrap_or_default();
    body["model"].as_str().unwrap_or_default().to_owned()
}

fn rested(world: &World) -> u64 {
    world.counters().iter().filter(|(name, _)| name.starts_with("rests_total")).map(|(_, by)| by).sum()
}

#[test]
fn while_a_model_rests_another_answers_in_every_vm_and_then_it_is_asked_again() {
    let world = world();
    assert_eq!(asks(&world, 0, "large", &Does::Fails(503)), "large", "its own answer");
    for vm in [0, 1] {
        assert_eq!(asks(&world, vm, "large", &Does::Answers), "mid");
        assert_eq!(asks(&world, vm, "newest", &Does::Answers), "mid", "an alias has the same upstream");
        assert_eq!(asks(&world, vm, "small", &Does::Answers), "small");
    }
    (0..201).for_each(|_| world.tick(50));
    assert_eq!((asks(&world, 1, "large", &Does::Answers), rested(&world)), ("large".to_owned(), 1));
}

#[test]
fn an_upstream_that_cannot_be_reached_is_down_and_a_bad_request_is_not() {
    for (does, goes_to) in [
        (Does::Refuses, "mid"),
        (Does::Fails(429), "mid"),
        (Does::Fails(529), "mid"),
        (Does::Unrouted, "large"),
        (Does::Fails(400), "large"),
        (Does::Fails(500), "large"),
    ] {
        let world = world();
        asks(&world, 0, "large", &does);
        assert_eq!(asks(&world, 0, "large", &Does::Answers), goes_to);
    }
}

#[test]
fn where_all_rest_a_call_goes_where_it_was_to_go() {
    let world = world();
    asks(&world, 0, "large", &Does::Fails(503));
    asks(&world, 0, "mid", &Does::Fails(503));
    assert_eq!(asks(&world, 0, "large", &Does::Answers), "small", "the one in the place of the one in its place");
    // Nothing takes the place of the last.
    asks(&world, 0, "small", &Does::Fails(503));
    assert_eq!(asks(&world, 0, "large", &Does::Answers), "small", "no rule says that it rests");
}

/// Where the path names what answers, the body cannot change it.
#[test]
fn a_deployment_that_rests_is_asked_all_the_same() {
    let (world, path) = (world(), "/openai/deployments/large/chat/completions?api-version=2024-10-21");
    assert_eq!(asks_at(path, &world, 0, "large", &Does::Fails(503)), "large");
    assert_eq!(asks(&world, 0, "large", &Does::Answers), "mid");
    assert_eq!(asks_at(path, &world, 0, "large", &Does::Answers), "large");
}

/// The upstream says one second, and the rule ten.
#[test]
fn what_an_upstream_says_goes_before_what_the_plan_says() {
    let world = world();
    asks(&world, 0, "large", &Does::Fails(429));
    assert_eq!(asks(&world, 0, "large", &Does::Answers), "mid");
    (0..21).for_each(|_| world.tick(50));
    assert_eq!(asks(&world, 0, "large", &Does::Answers), "large");
}

/// Whom a full quota has sent away from a model is not sent back to it, for the other one's upstream is down.
#[test]
fn nobody_falls_back_to_a_model_that_a_quota_sent_them_from() {
    let caps = "tokens: {caps: {calls: {limit: 1 request, per: seat, window: lifetime, models: [large], full: [downgrade mid]}}}";
    let policy = POLICY.replace("{models: [mid], to: small}", "{models: [mid], to: large}");
    let policy = policy.replace("plans: {p: {", &format!("plans: {{p: {{{caps}, "));
    let world = World::new(policy::compile(&policy, "p").unwrap(), 1, 2, 1_795_608_000_000, 1).unwrap();
    assert_eq!(asks(&world, 0, "large", &Does::Answers), "large");
    assert_eq!(asks(&world, 0, "large", &Does::Fails(503)), "mid", "the quota is full");
    assert_eq!(asks(&world, 0, "large", &Does::Answers), "mid", "which rests, and is asked all the same");
}

/// Three that take each other's place in turn, all down: a call goes where it was to go, and nobody looks for ever.
#[test]
fn rules_that_go_round_end() {
    let world = with(", {models: [small], to: large}");
    for model in ["large", "mid", "small"] {
        asks(&world, 0, model, &Does::Fails(503));
    }
    // The second and the third were sent on, to one that was still up: they rest since that one's failure.
    for _ in 0..3 {
        asks(&world, 0, "large", &Does::Fails(503));
    }
    assert_eq!(asks(&world, 0, "large", &Does::Answers), "large");
    assert_eq!(rested(&world), 3);
}

fn headers(list: &[(&str, &str)]) -> Vec<Header> {
    list.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

#[test]
fn what_an_upstream_asks_for_is_read_in_all_its_forms() {
    let now = Now { wall_ms: 784_111_770_000, mono_ms: 5 };
    let read = |list: &[(&str, &str)]| retry_after(&headers(list), now);
    assert_eq!(read(&[]), None);
    assert_eq!(read(&[("retry-after", "120")]), Some(120_000));
    assert_eq!(read(&[("retry-after", " 0 ")]), Some(0));
    assert_eq!(read(&[("retry-after", "2"), ("retry-after-ms", "1500")]), Some(1_500));
    assert_eq!(read(&[("retry-after", "1.5")]), Some(1_000));
    assert_eq!(read(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(7_000));
    assert_eq!(read(&[("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT")]), Some(0), "past");
    for odd in [
        "",
        "-1",
        "soon",
        "99999999999999999999",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994",
        ", GMT",
        "\u{e9}, \u{e9} \u{e9} \u{e9} \u{e9} GMT",
    ] {
        assert_eq!(read(&[("retry-after", odd)]), None, "{odd}");
    }
    assert_eq!(read(&[("retry-after-ms", "1e3"), ("retry-after", "9")]), Some(9_000));
}

#[test]
fn rests_are_bounded_never_shortened_and_strangers_values_mean_nothing() {
    let bundle = policy::compile(POLICY, "p").unwrap();
    let (plan, model) = (&bundle.plans[0], bundle.models.find("large").unwrap());
    let (keys, key) = (Keys::new(&bundle.name), Keys::new(&bundle.name).rest("//large"));
    let shared = crate::sim::store::SharedData::default();
    let mut cells = shared.cells(0);
    let at = |mono_ms| Now { wall_ms: 0, mono_ms };
    let mut let_rest = |said, mono_ms| rest(plan, model, "large", said, at(mono_ms), &keys, &mut cells);
    assert_eq!(let_rest(Some(9_000_000), 0), Some(60_000), "no longer than the plan says");
    assert_eq!(let_rest(None, 1_000), None, "it rests for longer already");
    assert_eq!(let_rest(None, 55_000), Some(10_000));
    assert_eq!(let_rest(Some(0), 90_000), None, "it may be asked at once");
    let mut cells = shared.cells(0);
    let mut rest_by = |rule: &Fallback, mono_ms| rests(plan, model, rule, at(mono_ms), &keys, &mut cells);
    let rule = &plan.connectivity.fallback[0];
    assert!(rest_by(rule, 64_999) && !rest_by(rule, 65_000) && !rest_by(rule, 54_999));
    let shorter = Fallback { longest_ms: 2_000, ..rule.clone() };
    assert!(rest_by(&shorter, 56_999) && !rest_by(&shorter, 57_000), "others wait no longer than they say");
    let now = 1_000_000_u64.to_le_bytes();
    for odd in [&b""[..], &now, b"123456789", &[0xff; 16], &[now, u64::MAX.to_le_bytes()].concat(), &[0; 17]] {
        let mut cells = shared.cells(0);
        let cell = cells.load(&key).unwrap().unwrap();
        assert!(cells.swap(&key, Expect::Version(cell.version), odd).unwrap());
        assert!(!rests(plan, model, rule, at(999_999), &keys, &mut cells), "{odd:?}");
    }
    let mut cells = shared.cells(0);
    assert_eq!(rest(plan, bundle.models.find("small").unwrap(), "small", None, at(1), &keys, &mut cells), None);
    assert_eq!(rest(plan, model, "large", None, at(1), &keys, &mut cells), Some(10_000), "and is written over");
}

/// Where routes tell upstreams apart by region and tier, one that is down is no reason to leave the others.
#[test]
fn what_is_down_in_a_region_or_for_a_tier_is_so_nowhere_else() {
    let policy = POLICY.replace("large: {count: o200k_base}", "large: {count: o200k_base, regions: [eu, us]}").replace(
        "plans: {p: {connectivity: {",
        "plans: {us: {connectivity: {regions: [us], fallback: [{models: [large], to: large2}]}}, \
         gold: {connectivity: {tier: gold, fallback: [{models: [large], to: mid}]}}, p: {connectivity: {",
    );
    let policy = policy.replace("models: {", "models: {large2: {count: o200k_base, regions: [us]}, ");
    let seat = |name: &str, digit: &str| format!("{name}: {{org: {name}, keys: ['sha256:{}']}}", digit.repeat(64));
    let policy = policy
        .replace("assign: [", "assign: [{when: {org: us}, plan: us}, {when: {org: gold}, plan: gold}, ")
        .replace("seats: {", &format!("seats: {{{}, {}, ", seat("us", "1"), seat("gold", "2")));
    let bundle = policy::compile(&policy, "p").unwrap();
    let keys = Keys::new(&bundle.name);
    let mut cells = crate::sim::store::SharedData::default().cells(0);
    let model = bundle.models.find("large").unwrap();
    let now = Now { wall_ms: 0, mono_ms: 5 };
    let plans: Vec<&Plan> = bundle.plans.iter().collect();
    for (at, plan) in plans.iter().enumerate() {
        for (place, other) in plans.iter().enumerate() {
            let rests = rests(other, model, &other.connectivity.fallback[0], now, &keys, &mut cells);
            assert_eq!(rests, place < at, "plan {place}");
        }
        assert!(rest(plan, model, "large", None, now, &keys, &mut cells).is_some());
    }
}
