use std::collections::BTreeSet;
use std::fmt::Write;
use std::rc::Rc;

use super::{IDLE_MS, SYNC_ACCOUNTS, TouchedQuota, Vm, wire};
use crate::engine::bill::Bill;
use crate::now::Now;
use crate::policy;
use crate::quota::{GrantLine, QuotaId, grant, read_account};
use crate::report::wire::{MAX_ACCOUNTS, MAX_BODY, MAX_QUOTAS, SyncReply};
use crate::sim::SharedData;

/// A policy of so many seats, each with an account that the ledger grants.
fn crowd(seats: usize) -> policy::Bundle {
    let mut text = "farebox: 1\nbundle: {name: crowd, version: '1'}\nidentity: [{key: [authorization]}]\n\
        models: {m: {count: o200k_base}}\n\
        plans: {p: {tokens: {caps: {calls: {limit: 9 requests, per: seat, window: first-use 5h}}}}}\n\
        assign: [{otherwise: p}]\ncollector: {cluster: c}\nseats:\n"
        .to_owned();
    for seat in 0..seats {
        writeln!(text, "  s{seat}: {{org: o, keys: ['sha256:{seat:064x}']}}").unwrap();
    }
    policy::compile(&text, "crowd").unwrap()
}

#[test]
fn no_sync_says_more_than_the_ledger_takes_and_nothing_is_left_unsaid() {
    let bundle = Rc::new(crowd(3 * MAX_ACCOUNTS / 2));
    let mut vm = Vm::new(Rc::clone(&bundle), 7, [7; 2]);
    let shared = SharedData::new();
    let (mut cells, mut effects, mut now) = (shared.cells(0), Vec::new(), Now { wall_ms: 1_000, mono_ms: 1_000 });
    vm.place(now, &mut cells, &mut effects).unwrap();
    for seat in &bundle.seats {
        vm.touch(&Bill::of(&bundle, &bundle.plans[0], seat, 0, "m", 0), now);
    }
    let (mut said, mut syncs) = (BTreeSet::new(), 0);
    while said.len() < bundle.seats.len() {
        now.mono_ms += 1_000;
        let callout = vm.sync(now, &mut cells, &mut effects).expect("there is more to say");
        let (head, _) = wire::decode_sync(&callout.body).expect("the ledger can read it");
        assert!(head.accounts.len() <= SYNC_ACCOUNTS && callout.body.len() <= MAX_BODY);
        said.extend(head.accounts.into_iter().map(|account| account.subject));
        let reply = wire::encode_reply(&SyncReply { farebox: wire::VERSION, ..SyncReply::default() });
        vm.answered(callout.token, Some((200, &reply)), now, &mut cells, &mut effects);
        syncs += 1;
    }
    assert_eq!(syncs, bundle.seats.len().div_ceil(SYNC_ACCOUNTS));
}

/// A VM with one account that it has used, and the name of the quota in it.
fn one_account(shared: &SharedData, now: Now) -> (Vm, &'static str, QuotaId) {
    let bundle = Rc::new(crowd(1));
    let mut vm = Vm::new(Rc::clone(&bundle), 7, [7; 2]);
    vm.place(now, &mut shared.cells(0), &mut Vec::new()).unwrap();
    vm.touch(&Bill::of(&bundle, &bundle.plans[0], &bundle.seats[0], 0, "m", 0), now);
    (vm, "seat/s0", bundle.plans[0].quotas[0].quota.id)
}

/// The ledger had taken the want in, its answer was lost, and it was away until the account had fallen idle.
#[test]
fn what_comes_after_the_account_fell_idle_goes_back_too() {
    let (shared, mut now) = (SharedData::new(), Now { wall_ms: 1_000, mono_ms: 1_000 });
    let (mut vm, subject, quota) = one_account(&shared, now);
    let (mut cells, mut effects) = (shared.cells(0), Vec::new());
    vm.want(subject, quota, 1_000_000);
    let fetch = vm.sync(now, &mut cells, &mut effects).unwrap();
    vm.answered(fetch.token, None, now, &mut cells, &mut effects);
    now.mono_ms += IDLE_MS;
    vm.tick(now, &mut cells, &mut effects);
    let again = vm.sync(now, &mut cells, &mut effects).unwrap();
    let grant = wire::Grant {
        subject: subject.to_owned(),
        quota: "p/calls".to_owned(),
        window: 1_000,
        ends: 1_000_000_000,
        granted: 9_000_000,
        left: 0,
        owed: 0,
    };
    let reply = SyncReply { farebox: wire::VERSION, grants: vec![grant], ..SyncReply::default() };
    vm.answered(again.token, Some((200, &wire::encode_reply(&reply))), now, &mut cells, &mut effects);
    let mut returned = Vec::new();
    for _ in 0..5 {
        now.mono_ms += IDLE_MS;
        vm.tick(now, &mut cells, &mut effects);
        let Some(callout) = vm.sync(now, &mut cells, &mut effects) else { continue };
        let (head, _) = wire::decode_sync(&callout.body).unwrap();
        returned.extend(head.accounts[0].quotas.iter().map(|report| report.returned));
        vm.answered(callout.token, Some((200, &wire::encode_reply(&reply))), now, &mut cells, &mut effects);
    }
    assert_eq!(returned, [9_000_000], "said once, and then there is nothing more to say");
}

/// The clock of the ledger is behind ours: by that the window still runs, and nobody can have another.
#[test]
fn a_window_that_has_ended_only_by_our_clock_runs_on_for_a_moment() {
    let (shared, mut now) = (SharedData::new(), Now { wall_ms: 1_000, mono_ms: 1_000 });
    let (mut vm, subject, quota) = one_account(&shared, now);
    let (mut cells, mut effects) = (shared.cells(0), Vec::new());
    let known = vm.bundle.plans[0].quotas[0].quota.clone();
    let ends = 1_000 + 18_000_000;
    for wall_ms in [1_000, ends + 1] {
        now = Now { wall_ms, mono_ms: wall_ms };
        vm.want(subject, quota, 1_000_000);
        let fetch = vm.sync(now, &mut cells, &mut effects).unwrap();
        let grant = wire::Grant {
            subject: subject.to_owned(),
            quota: "p/calls".to_owned(),
            window: 1_000,
            ends,
            granted: 9_000_000,
            left: 0,
            owed: 0,
        };
        let reply = SyncReply { farebox: wire::VERSION, grants: vec![grant], ..SyncReply::default() };
        vm.answered(fetch.token, Some((200, &wire::encode_reply(&reply))), now, &mut cells, &mut effects);
        let account = read_account(&vm.keys, subject, &mut cells).unwrap().unwrap();
        assert!(account.standing(&known, now).is_some_and(|stands| stands.window == 1_000));
        let later = Now { wall_ms: wall_ms + super::STILL_MS, ..now };
        assert_eq!(account.standing(&known, later).is_some(), later.wall_ms < ends);
    }
}

#[test]
fn an_account_with_more_quotas_than_one_report_takes_is_said_in_several() {
    let (shared, now) = (SharedData::new(), Now { wall_ms: 1_000, mono_ms: 1_000 });
    let (mut vm, subject, _) = one_account(&shared, now);
    let (mut cells, mut effects) = (shared.cells(0), Vec::new());
    let touched = vm.touched.get_mut(subject).unwrap();
    let mut lines = Vec::new();
    for number in 0..2 * MAX_QUOTAS as u64 {
        let mut quota = touched.quotas[0].quota.clone();
        quota.id = QuotaId(number);
        lines.push(GrantLine { quota: quota.id, window: 1_000, ends: 1_000_000_000, granted: 1, left: 0, owed: 0 });
        touched.quotas.push(TouchedQuota { name: format!("p/{number}"), unit: "requests", quota });
    }
    grant(&vm.keys, subject, &lines, &mut cells).unwrap();
    let callout = vm.sync(now, &mut cells, &mut effects).unwrap();
    let (head, _) = wire::decode_sync(&callout.body).expect("the ledger can read it");
    assert!(head.accounts.iter().all(|account| account.subject == subject));
    assert_eq!(head.accounts.iter().map(|account| account.quotas.len()).sum::<usize>(), lines.len());
}

/// Another VM has claimed its VM slot and sent its records. Nobody calls it, or everybody is refused.
#[test]
fn a_vm_that_was_claimed_speaks_again_although_its_buffer_is_full() {
    let (shared, mut now) = (SharedData::new(), Now { wall_ms: 1_000, mono_ms: 1_000 });
    let (mut vm, ..) = one_account(&shared, now);
    let (mut cells, mut effects) = (shared.cells(0), Vec::new());
    vm.outbox.set_buffer_bytes(10);
    let place = vm.place(now, &mut cells, &mut effects).unwrap();
    vm.outbox.settled(place.slot, place.id.by.vm, place.id, 11);
    vm.fenced(&mut effects);
    assert!(vm.place(now, &mut cells, &mut effects).is_err(), "the buffer is full");
    now.mono_ms += 2_000;
    let callout = vm.sync(now, &mut cells, &mut effects).expect("there is an account to report");
    assert_eq!(wire::decode_sync(&callout.body).unwrap().0.accounts.len(), 1);
    assert!(vm.place(now, &mut cells, &mut effects).is_ok(), "its slot is free: the record went by another way");
}

/// Half of a fund was granted here when a newer policy lowered it below that.
#[test]
fn what_was_granted_of_a_limit_that_is_lowered_goes_back_at_once() {
    let (shared, mut now) = (SharedData::new(), Now { wall_ms: 1_000, mono_ms: 1_000 });
    let (mut vm, subject, quota) = one_account(&shared, now);
    let (mut cells, mut effects) = (shared.cells(0), Vec::new());
    let line = GrantLine { quota, window: 1_000, ends: 1_000_000_000, granted: 4_000_000, left: 5_000_000, owed: 0 };
    grant(&vm.keys, subject, &[line], &mut cells).unwrap();
    let limit = |bundle: policy::Bundle, limit: u64| {
        let mut bundle = bundle;
        bundle.plans[0].quotas[0].quota.limit = limit;
        Rc::new(bundle)
    };
    let mut returned = |vm: &mut Vm, now: &mut Now| {
        now.mono_ms += 1_000;
        vm.tick(*now, &mut cells, &mut effects);
        read_account(&vm.keys, subject, &mut cells).unwrap().unwrap().reported(quota).unwrap().current.returned
    };
    vm.adopt(limit(crowd(1), 10_000_000));
    assert_eq!(returned(&mut vm, &mut now), 0, "it was raised");
    vm.adopt(limit(crowd(1), 8_000_000));
    assert_eq!(returned(&mut vm, &mut now), 4_000_000, "another process may have been granted the rest");
    // A version of the plan with a lower limit comes beside it: this one has its own still.
    let both = || {
        let mut bundle = crowd(1);
        bundle.plans[0].quotas[0].quota.limit = 8_000_000;
        let mut lower = bundle.plans[0].clone();
        lower.quotas[0].quota.limit = 1_000_000;
        bundle.plans.push(lower);
        Rc::new(bundle)
    };
    let line = GrantLine { quota, window: 1_000, ends: 1_000_000_000, granted: 6_000_000, left: 5_000_000, owed: 0 };
    grant(&vm.keys, subject, &[line], &mut shared.cells(0)).unwrap();
    vm.adopt(both());
    assert_eq!(returned(&mut vm, &mut now), 4_000_000, "nothing was lowered");
}
