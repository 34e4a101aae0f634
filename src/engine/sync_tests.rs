use std::collections::BTreeSet;
use std::fmt::Write;
use std::rc::Rc;

use super::{SYNC_ACCOUNTS, Vm, wire};
use crate::now::Now;
use crate::policy;
use crate::report::wire::{MAX_ACCOUNTS, MAX_BODY, SyncReply};
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
    let mut vm = Vm::new(Rc::clone(&bundle), 7);
    let shared = SharedData::new();
    let (mut cells, mut effects, mut now) = (shared.cells(0), Vec::new(), Now { wall_ms: 1_000, mono_ms: 1_000 });
    vm.place(now, &mut cells, &mut effects).unwrap();
    for seat in &bundle.seats {
        vm.touch(&bundle.plans[0], seat, now);
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
