//! What the passing of time does to quotas, and what policy cases cannot say.

use std::collections::BTreeSet;

use farebox::engine::event::Cause;
use farebox::policy;
use farebox::sim::call::{Call, Ending, body, prompt};
use farebox::sim::network::Weather;
use farebox::sim::world::{At, End, Seen, World};
use farebox::upstream::ask::Api;
use sha2::{Digest, Sha256};

use super::check;
use super::run::{Figures, START_MS};

const A: At = At { process: 0, vm: 0 };
const HOUR_MS: u64 = 3_600_000;

fn world(caps: &str, more: &str) -> World {
    let hash: String = Sha256::digest("k").iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!(
        "farebox: 1\nbundle: {{name: clock, version: 1}}\nidentity: [{{key: [authorization, x-api-key]}}]\n\
         models: {{gpt-m: {{count: o200k_base}}}}\nplans: {{p: {{tokens: {{caps: {{{caps}}}}}}}}}\n\
         seats: {{s: {{org: o, keys: [\"sha256:{hash}\"]}}}}\nassign: [{{otherwise: p}}]\n{more}\n"
    );
    let bundle = policy::compile(&text, "clock.yaml").unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
    World::new(bundle, 2, 1, START_MS, 1).unwrap()
}

const COLLECTOR: &str = "collector: {cluster: c, sync: 1s, buffer: 1 MiB, patience: 2s}";

fn ask(limit: u64) -> Call {
    Call::new(Api::OpenAiChat, "k", &body(Api::OpenAiChat, "gpt-m", &prompt(8), Some(limit), false))
}

fn call_at(world: &World, at: At, call: Call) -> Seen {
    let stream = world.open(at, call).unwrap();
    assert!(world.run(30_000), "the stream hangs");
    world.seen(stream).unwrap()
}

fn status(world: &World) -> u16 {
    call_at(world, A, ask(10)).status
}

#[test]
fn a_first_use_window_opens_with_its_first_call_and_closes_after_its_length() {
    for more in [COLLECTOR, ""] {
        let world = world("c: {limit: 2 requests, per: seat, window: first-use 5h}", more);
        // It does not begin before anybody calls.
        world.tick(3 * HOUR_MS);
        assert_eq!([status(&world), status(&world), status(&world)], [200, 200, 429], "{more}");
        world.tick(4 * HOUR_MS);
        assert_eq!(status(&world), 429, "{more}");
        world.tick(HOUR_MS);
        assert_eq!([status(&world), status(&world), status(&world)], [200, 200, 429], "{more}");
    }
}

#[test]
fn a_calendar_month_begins_anew_with_the_month() {
    for more in [COLLECTOR, ""] {
        let world = world("c: {limit: 1 requests, per: org, window: calendar month}", more);
        assert_eq!([status(&world), status(&world)], [200, 429], "{more}");
        // From noon of the 25th: the last second of November is 5 days and 12 hours away.
        world.tick(5 * 24 * HOUR_MS + 11 * HOUR_MS);
        assert_eq!(status(&world), 429, "{more}");
        world.tick(HOUR_MS);
        assert_eq!([status(&world), status(&world)], [200, 429], "{more}");
    }
}

/// What the records charge to a window is what the account says of it, and the ledger.
#[test]
fn a_stream_that_outlives_many_minutes_is_charged_where_it_was_admitted() {
    for more in [COLLECTOR, ""] {
        let world = world("c: {limit: 9000 tokens, per: seat, window: calendar minute}", more);
        let until = |stream, done: &dyn Fn(&Seen) -> bool| {
            for _ in 0..1_000 {
                if done(&world.seen(stream).unwrap()) {
                    return;
                }
                world.ready().into_iter().filter(|(_, of)| *of == stream).for_each(|(at, of)| world.step(at, of));
                world.tick(10);
            }
            panic!("{:?}", world.seen(stream));
        };
        let call = Call::new(Api::OpenAiChat, "k", &body(Api::OpenAiChat, "gpt-m", &prompt(8), Some(40), true));
        let long = world.open(A, call).unwrap();
        until(long, &|seen| seen.admitted().is_some());
        for _ in 0..4 {
            world.tick(60_000);
            let other = world.open(A, ask(10)).unwrap();
            until(other, &|seen| seen.end.is_some());
            assert_eq!(world.seen(other).unwrap().status, 200);
        }
        assert!(world.run(10_000));
        (0..5).for_each(|_| world.tick(1_000));
        check::all(&world, &[], false, &mut Figures::default()).unwrap_or_else(|why| panic!("{why}"));
        if !more.is_empty() {
            let records = world.ledger().records().unwrap();
            let windows: BTreeSet<u64> =
                records.iter().flat_map(|record| &record.charges).map(|charge| charge.window).collect();
            assert_eq!((records.len(), windows.len()), (5, 5));
        }
    }
}

#[test]
fn a_bucket_refills_steadily_and_never_beyond_its_rim() {
    let world = world("c: {limit: 6 requests, per: seat, window: bucket 1m}", COLLECTOR);
    let admitted = |tries: u64| (0..tries).filter(|_| status(&world) == 200).count();
    assert_eq!(admitted(8), 6);
    world.tick(9_999);
    assert_eq!(admitted(2), 0);
    world.tick(1);
    assert_eq!(admitted(2), 1);
    world.tick(30_000);
    assert_eq!(admitted(8), 3);
    world.tick(HOUR_MS);
    assert_eq!(admitted(8), 6);
}

#[test]
fn a_call_that_ends_makes_room_for_another() {
    let world = world("c: {limit: 1 requests, per: seat, window: concurrent}", COLLECTOR);
    let first = world.open(A, ask(10)).unwrap();
    while world.seen(first).unwrap().admitted().is_none() {
        world.ready().into_iter().for_each(|(at, stream)| world.step(at, stream));
        world.tick(10);
    }
    let second = world.open(A, ask(10)).unwrap();
    while world.seen(second).unwrap().end.is_none() {
        world.step(A, second);
    }
    assert_eq!(world.seen(second).unwrap().end, Some(End::Refused));
    assert!(world.run(1_000));
    assert_eq!((world.seen(first).unwrap().status, status(&world)), (200, 200));
}

#[test]
fn two_processes_share_what_the_ledger_grants() {
    let world = world("c: {limit: 10 requests, per: seat, window: first-use 5h}", COLLECTOR);
    let other = At { process: 1, vm: 0 };
    let admitted = (0..20).filter(|n| call_at(&world, if n % 2 == 0 { A } else { other }, ask(10)).status == 200);
    assert_eq!(admitted.count(), 10);
}

#[test]
fn without_an_answer_from_the_collector_a_call_is_refused_when_its_patience_ends() {
    let world = world("c: {limit: 10 requests, per: seat, window: first-use 5h}", COLLECTOR);
    world.set_weather(Weather { lost: 1_000, ..Weather::default() });
    let began = world.now().mono_ms;
    let seen = call_at(&world, A, ask(10));
    let took = world.now().mono_ms - began;
    assert_eq!((seen.status, seen.end, seen.waited), (503, Some(End::Refused), true));
    assert!((2_000..=2_200).contains(&took), "it took {took} ms");
    world.set_weather(Weather::default());
    world.tick(3_000);
    assert_eq!(status(&world), 200, "it comes back");
}

#[test]
fn a_client_that_goes_away_while_it_waits_costs_nothing() {
    let world = world("c: {limit: 10 requests, per: seat, window: first-use 5h}", COLLECTOR);
    let mut call = ask(10);
    call.plot.ending = Ending::ClientAbort(0);
    world.set_weather(Weather { latency_ms: 1_000, ..Weather::default() });
    let seen = call_at(&world, A, call);
    assert_eq!((seen.end, seen.upstream), (Some(End::Over(Cause::ClientAbort)), None));
    (0..10).for_each(|_| world.tick(1_000));
    assert_eq!(world.ledger().records().unwrap(), []);
    assert_eq!(world.taken_slots(0).unwrap(), []);
}

/// Nothing is known of its window when it comes: it is refused at once, and counts when the ledger has spoken.
#[test]
fn a_refused_call_counts_where_the_cap_says_so_and_no_further_than_that() {
    let world = world("c: {limit: 2 requests, per: seat, window: first-use 5h, rejected: count}", COLLECTOR);
    let refused = || Call::new(Api::OpenAiChat, "k", &body(Api::OpenAiChat, "unknown", &prompt(8), Some(9), false));
    for count in [1, 2, 2, 2] {
        assert_eq!(call_at(&world, A, refused()).status, 404);
        (0..5).for_each(|_| world.tick(1_000));
        let records = world.ledger().records().unwrap();
        let charged: u64 = records.iter().flat_map(|record| &record.charges).map(|charge| charge.amount).sum();
        assert_eq!((records.len() as u64, charged), (count, count * 1_000_000));
        assert!(records.iter().all(|record| record.passed[0].how == "refused" && record.seat == "s"));
    }
    assert_eq!(status(&world), 429);
    check::nothing_open(&world).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn what_is_no_llm_call_passes_or_not_as_the_policy_says() {
    for (more, expected) in [("unknown: {path: pass}", 404), ("unknown: {path: deny}", 404)] {
        let world = world("c: {limit: 1 requests, per: seat, window: first-use 5h}", more);
        let mut call = ask(10);
        call.headers
            .iter_mut()
            .filter(|(name, _)| name == b":path")
            .for_each(|(_, path)| *path = b"/v1/models".to_vec());
        let seen = call_at(&world, A, call);
        assert_eq!((seen.status, seen.upstream.is_some()), (expected, more.contains("pass")), "{more}");
    }
}
