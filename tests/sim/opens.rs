//! When a first-use window opens: with the first call that is admitted, and with nothing else.

use farebox::policy;
use farebox::sim::call::{Call, Ending, body, prompt};
use farebox::sim::network::Weather;
use farebox::sim::world::{At, Seen, World};
use farebox::upstream::ask::Api;
use sha2::{Digest, Sha256};

use super::run::START_MS;

const HERE: At = At { process: 0, vm: 0 };
const THERE: At = At { process: 1, vm: 0 };
const HOUR_MS: u64 = 3_600_000;

fn world_of(processes: usize, vms: usize, tokens: &str) -> World {
    let hash: String = Sha256::digest("k").iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!(
        "farebox: 1\nbundle: {{name: opens, version: 1}}\nidentity: [{{key: [authorization, x-api-key]}}]\n\
         models: {{gpt-m: {{count: o200k_base}}, gpt-other: {{count: o200k_base}}}}\nplans: {{p: {{tokens: {{{tokens}}}}}}}\n\
         seats: {{s: {{org: o, keys: [\"sha256:{hash}\"]}}}}\nassign: [{{otherwise: p}}]\n\
         collector: {{cluster: c, sync: 1s, buffer: 1 MiB, patience: 2s}}\n"
    );
    let bundle = policy::compile(&text, "opens.yaml").unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
    World::new(bundle, processes, vms, START_MS, 1).unwrap()
}

/// One call in any five hours that begin with a call, and another limit beside it.
fn world(beside: &str) -> World {
    world_of(2, 1, &format!("caps: {{five: {{limit: 1 requests, per: seat, window: first-use 5h}}, {beside}}}"))
}

fn ask(model: &str, words: u64, limit: u64) -> Call {
    Call::new(Api::OpenAiChat, "k", &body(Api::OpenAiChat, model, &prompt(words), Some(limit), false))
}

fn seen(world: &World, at: At, call: Call) -> Seen {
    let stream = world.open(at, call).unwrap();
    assert!(world.run(30_000), "the stream hangs");
    world.seen(stream).unwrap()
}

fn status(world: &World, at: At) -> u16 {
    seen(world, at, ask("gpt-m", 8, 10)).status
}

/// Time in which everybody says what there is to say.
fn wait(world: &World, ms: u64) {
    (0..5).for_each(|_| world.tick(1_000));
    world.tick(ms - 10_000);
    (0..5).for_each(|_| world.tick(1_000));
}

/// Something that must open no window has just happened. One is opened half a minute later, and lasts for five hours.
fn opens_later(world: &World) {
    wait(world, 30_000);
    assert_eq!([status(world, HERE), status(world, HERE)], [200, 429]);
    wait(world, 5 * HOUR_MS - 15_000);
    assert_eq!([status(world, HERE), status(world, THERE)], [429, 429], "its window has some seconds yet");
    wait(world, 15_000);
    assert_eq!([status(world, THERE), status(world, HERE)], [200, 429]);
}

const DAY: &str = "day: {limit: 2 requests, per: seat, window: calendar day}";

/// From noon to a quarter of a minute before midnight.
fn fill_day(world: &World, at: At) {
    for ms in [5 * HOUR_MS, 7 * HOUR_MS - 15_000] {
        assert_eq!(status(world, at), 200);
        wait(world, ms);
    }
}

/// Volcano's plan: the week is full, and nobody knows of any five hours.
#[test]
fn a_call_that_another_quota_refuses_opens_nothing() {
    for at in [HERE, THERE] {
        let world = world(DAY);
        fill_day(&world, HERE);
        assert_eq!(status(&world, at), 429);
        if at == HERE {
            // All that there is to know is known there: the ledger is not even asked.
            let shares = world.ledger().shares().unwrap();
            assert_eq!(shares.iter().filter(|share| share.quota == "p/five").count(), 2, "{shares:?}");
        }
        opens_later(&world);
    }
}

/// Nothing is known when it comes: both are asked for at once.
#[test]
fn a_call_that_is_refused_when_all_is_known_opens_nothing() {
    let world = world(DAY);
    fill_day(&world, THERE);
    assert_eq!(status(&world, HERE), 429);
    opens_later(&world);
}

#[test]
fn a_call_that_is_too_large_opens_nothing() {
    for words in [100, 5_000] {
        let world = world("size: {limit: 90 tokens, per: seat, window: first-use 1h}");
        assert_eq!(seen(&world, HERE, ask("gpt-m", words, 10)).status, 429);
        opens_later(&world);
    }
}

#[test]
fn a_client_that_leaves_while_it_waits_opens_nothing() {
    let world = world("all: {limit: 99 requests, per: seat, window: calendar day}");
    world.set_weather(Weather { latency_ms: 1_000, ..Weather::default() });
    let mut call = ask("gpt-m", 8, 10);
    call.plot.ending = Ending::ClientAbort(0);
    seen(&world, HERE, call);
    world.set_weather(Weather::default());
    opens_later(&world);
}

#[test]
fn an_answer_that_is_lost_opens_nothing() {
    let world = world("all: {limit: 99 requests, per: seat, window: calendar day}");
    world.set_weather(Weather { unanswered: 1_000, ..Weather::default() });
    assert_eq!(status(&world, HERE), 503);
    wait(&world, HOUR_MS);
    world.set_weather(Weather::default());
    wait(&world, HOUR_MS);
    opens_later(&world);
}

/// Two Envoys were given a part of a window that neither has used.
#[test]
fn what_two_envoys_have_and_do_not_use_opens_nothing() {
    let world = world_of(
        2,
        1,
        "caps: {five: {limit: 1 requests, per: seat, window: first-use 5h}, \
         small: {limit: 5 tokens, per: org, window: lifetime, full: [wait 1s, deny], models: [gpt-other]}}",
    );
    for at in [HERE, THERE] {
        assert_eq!(seen(&world, at, ask("gpt-other", 8, 10)).status, 429);
    }
    opens_later(&world);
}

/// It was admitted, but it cost nothing.
#[test]
fn a_call_that_came_to_nothing_opens_nothing() {
    let world = world("all: {limit: 99 requests, per: seat, window: calendar day}");
    let mut call = ask("gpt-m", 8, 10);
    call.plot.ending = Ending::ConnectFailure;
    seen(&world, THERE, call);
    wait(&world, HOUR_MS);
    opens_later(&world);
}

/// The one that is used is not moved by the one who only asks.
#[test]
fn a_window_that_another_envoy_uses_stays() {
    let world = world_of(2, 1, "caps: {five: {limit: 3 requests, per: seat, window: first-use 5h}}");
    assert_eq!(status(&world, HERE), 200);
    wait(&world, 4 * HOUR_MS);
    assert_eq!([status(&world, THERE), status(&world, THERE), status(&world, THERE)], [200, 200, 429]);
    wait(&world, HOUR_MS);
    assert_eq!(status(&world, THERE), 200, "it has ended five hours after it began");
}

/// A stream that outlives its window takes what there is in that, and opens no other.
#[test]
fn a_stream_that_goes_on_after_its_window_opens_nothing() {
    let world = world_of(
        1,
        1,
        "caps: {five: {limit: 4000 tokens, per: seat, window: first-use 5h}}, \
         hold: {stream: slices, slice: 100, shrink_to: 10}",
    );
    let call = |output: u64| {
        let body = body(Api::OpenAiChat, "gpt-m", &prompt(8), Some(2_000), true);
        let mut call = Call::new(Api::OpenAiChat, "k", &body);
        call.plot.script.output = Some(output);
        call
    };
    let stream = world.open(HERE, call(600)).unwrap();
    while !world.seen(stream).unwrap().notes.contains_key("delivered") {
        world.ready().into_iter().for_each(|(at, stream)| world.step(at, stream));
        world.tick(1);
    }
    let windows = || {
        let shares = world.ledger().shares().unwrap();
        shares.iter().map(|share| share.window).collect::<std::collections::BTreeSet<_>>().len()
    };
    world.tick(5 * HOUR_MS);
    assert!(world.run(60_000));
    (0..9).for_each(|_| world.tick(1_000));
    assert_eq!(windows(), 1, "{:?}", world.ledger().shares());
    assert!(world.taken_slots(0).unwrap().is_empty());
}
