//! The same small world again and again, with trouble at each of its store operations in turn.

use farebox::policy;
use farebox::sim::call::{Call, body, prompt};
use farebox::sim::world::{At, Trouble, World};
use farebox::upstream::ask::Api;

use super::check;
use super::run::{Figures, START_MS};

const A: At = At { process: 0, vm: 0 };
const B: At = At { process: 0, vm: 1 };

const POLICY: &str = "\
farebox: 1
bundle: {name: every, version: 1}
identity: [{key: [authorization, x-api-key]}]
models: {m: {count: o200k_base, credits: {input: 1, output: 4}}}
plans:
  p:
    tokens:
      funds: {fund: {amount: 10 credits, per: org, window: calendar month}}
      caps:
        all: {limit: 400 tokens, per: seat, window: first-use 5h}
        live: {limit: 2 requests, per: org, window: concurrent}
        pace: {limit: 1000 tokens, per: org, window: bucket 1h}
      hold: {unstated_output: 40, shrink_to: 4, lost: LOST}
seats:
  s0: {org: o0, keys: [\"sha256:77f46f0c2e7d4f6f1c5e4c1a1f2c1b2d3a4b5c6d7e8f90123456789abcdef012\"]}
assign: [{otherwise: p}]
COLLECTOR
";

fn world(lost: &str, collector: bool) -> World {
    use sha2::{Digest, Sha256};
    let hash: String = Sha256::digest("key-s0").iter().map(|byte| format!("{byte:02x}")).collect();
    let collector = if collector { "collector: {cluster: c, sync: 1s, buffer: 1 MiB, patience: 2s}" } else { "" };
    let text = POLICY
        .replace("77f46f0c2e7d4f6f1c5e4c1a1f2c1b2d3a4b5c6d7e8f90123456789abcdef012", &hash)
        .replace("LOST", lost)
        .replace("COLLECTOR", collector);
    let bundle = policy::compile(&text, "every.yaml").unwrap_or_else(|faults| panic!("{faults:?}"));
    World::new(bundle, 1, 2, START_MS, 1).unwrap()
}

fn call() -> Call {
    Call::new(Api::OpenAiChat, "key-s0", &body(Api::OpenAiChat, "m", &prompt(20), Some(30), true))
}

/// Two calls at A, one of them after the trouble; B has served before, so that it watches.
fn drive(world: &World) {
    world.open(A, call());
    assert!(world.run(200_000), "a stream hangs");
    world.open(A, call());
    assert!(world.run(200_000), "a stream hangs");
    (0..3).for_each(|_| world.tick(1_000));
}

fn settle(world: &World, what: &str) -> Figures {
    world.places().into_iter().for_each(|at| world.disarm(at));
    assert!(world.run(200_000), "{what}: a stream hangs");
    for round in 0..200 {
        world.tick(1_000);
        if round > 45 && world.taken_slots(0).unwrap().is_empty() && world.is_calm() {
            break;
        }
    }
    (0..5).for_each(|_| world.tick(1_000));
    assert_eq!(world.taken_slots(0).unwrap(), [], "{what}: slots stay taken");
    let mut figures = Figures::default();
    check::all(world, &[], false, &mut figures)
        .unwrap_or_else(|why| panic!("{what}: {why}\n{}", world.log_lines().join("\n")));
    figures
}

/// Runs the small world with trouble at operation 0, 1, 2… of A, until it has none so late. Answers how many there were.
fn at_every_operation(name: &str, trouble: impl Fn() -> Trouble) -> u64 {
    let mut covered = 0;
    for (lost, collector) in [("charge", true), ("delivered", true), ("charge", false)] {
        for n in 0.. {
            assert!(n < 10_000, "the small world never ends");
            let world = world(lost, collector);
            world.open(B, call());
            assert!(world.run(20_000));
            let before = world.operations();
            world.arm(A, n, trouble());
            drive(&world);
            let operations = world.operations() - before;
            settle(&world, &format!("{name} at operation {n}, lost: {lost}, collector: {collector}"));
            covered += 1;
            // B's and later lives' operations are among them: A has fewer.
            if n > operations {
                break;
            }
        }
    }
    println!("{name}: {covered} worlds, one for each store operation");
    covered
}

#[test]
fn a_vm_may_die_at_every_operation() {
    assert!(at_every_operation("killed", || Trouble::Kill) > 100);
}

#[test]
fn the_store_may_fail_at_every_operation() {
    assert!(at_every_operation("failed", || Trouble::Fail) > 100);
}

/// So long that B takes it for dead and ends what it held; then it goes on with what it knew.
#[test]
fn a_vm_may_be_taken_for_dead_at_every_operation() {
    let elsewhere = |world: &World| {
        for _ in 0..40 {
            world.tick(1_000);
        }
        world.open(B, call());
        for _ in 0..40 {
            world.ready().into_iter().for_each(|(at, stream)| world.step(at, stream));
        }
    };
    assert!(at_every_operation("stalled", || Trouble::Stall(Box::new(elsewhere))) > 100);
}

/// Nobody calls any more, and no other VM is there: the one that took its place has never served.
#[test]
fn what_the_only_vm_held_is_ended_without_any_traffic() {
    for lost in ["charge", "delivered"] {
        let world = world(lost, true);
        let stream = world.open(A, call()).unwrap();
        while world.seen(stream).unwrap().admitted().is_none() {
            world.ready().into_iter().for_each(|(at, stream)| world.step(at, stream));
            world.tick(10);
        }
        world.arm(A, 0, Trouble::Kill);
        world.tick(1_000);
        world.disarm(A);
        let figures = settle(&world, lost);
        assert_eq!((figures.records, figures.unsettled, figures.lost), (1, 1, 1), "{lost}");
    }
}
