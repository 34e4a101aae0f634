use proptest::prelude::{any, prop, proptest};

use super::{Applied, apply};
use crate::collector::store::{Losses, Store, account, losses, unfinished, usage};
use crate::meter::usage::{Source, Usage};
use crate::quota::{ExchangeId, Incarnation, MICRO};
use crate::report::wire::{AccountReport, Charge, QuotaReport, Record, SyncHead, VERSION};

const BY: Incarnation = Incarnation { epoch: u64::MAX - 1, vm: 3, generation: 2 };

fn record(sequence: u64) -> Record {
    Record {
        id: ExchangeId { by: BY, sequence }.to_string(),
        bundle: "acme-ai".to_owned(),
        seat: "alice".to_owned(),
        org: "acme".to_owned(),
        model: "qwen-max".to_owned(),
        admitted_ms: 1_000 + sequence,
        usage: Usage { input: 10, output: sequence, ..Usage::default() },
        source: Source::Reported,
        charges: vec![Charge {
            subject: "org/acme".to_owned(),
            quota: "plan/fund".to_owned(),
            unit: "tokens".to_owned(),
            window: 500,
            amount: (10 + sequence) * MICRO,
        }],
        ..Record::default()
    }
}

fn head(lowest: u64, next: u64) -> SyncHead {
    SyncHead {
        farebox: VERSION,
        bundle: "acme-ai".to_owned(),
        epoch: BY.epoch,
        vm: BY.vm,
        generation: BY.generation,
        lowest,
        next,
        ..SyncHead::default()
    }
}

fn sync(store: &mut Store, head: &SyncHead, records: &[Record]) -> Applied {
    let records: Vec<_> = records.iter().cloned().map(Ok).collect();
    let transaction = store.begin().unwrap();
    let applied = apply(&transaction, head, &records, 9_000).unwrap();
    transaction.commit().unwrap();
    applied
}

fn total(store: &mut Store) -> usage::Used {
    usage::answer(&store.begin().unwrap(), &usage::Question::default()).unwrap().total
}

fn lost(store: &mut Store) -> Losses {
    losses(&store.begin().unwrap()).unwrap()
}

#[test]
fn a_record_is_applied_once_and_acknowledged_each_time() {
    let mut store = Store::in_memory().unwrap();
    let batch = [record(1), record(2), record(1)];
    for new in [2, 0, 0] {
        let applied = sync(&mut store, &head(1, 3), &batch);
        assert_eq!(applied.new, new);
        assert_eq!(applied.reply.acknowledged, [&batch[0].id, &batch[1].id, &batch[2].id].map(String::clone));
        assert_eq!(applied.warnings, [""; 0]);
    }
    let total = total(&mut store);
    assert_eq!((total.requests, total.input, total.output), (2, 20, 3));
}

#[test]
fn another_record_under_a_known_id_changes_nothing_and_is_counted() {
    let mut store = Store::in_memory().unwrap();
    sync(&mut store, &head(1, 2), &[record(1)]);
    let other = Record { delivered: 5, ..record(1) };
    let applied = sync(&mut store, &head(1, 2), std::slice::from_ref(&other));
    assert_eq!(applied.reply.acknowledged, [other.id]);
    assert!(applied.warnings[0].contains("fffffffffffffffe-3-2-1"), "{:?}", applied.warnings);
    assert_eq!(lost(&mut store), Losses { conflicts: 1, ..Losses::default() });
    assert_eq!(total(&mut store).requests, 1);
}

#[test]
fn what_will_never_be_taken_is_rejected_by_position_with_the_reason() {
    let mut store = Store::in_memory().unwrap();
    let bad = [
        Record { id: "x".to_owned(), ..record(1) },
        record(2),
        Record { bundle: String::new(), ..record(3) },
        Record { usage: Usage { output: 1 << 41, ..Usage::default() }, ..record(4) },
        record(0),
        Record { id: ExchangeId { by: BY, sequence: 1 << 63 }.to_string(), ..record(6) },
    ];
    let applied = sync(&mut store, &head(1, 5), &bad);
    assert_eq!(applied.reply.acknowledged, [record(2).id]);
    let found: Vec<_> = applied.reply.rejected.iter().map(|one| one.position).collect();
    assert_eq!(found, [0, 2, 3, 4, 5]);
    assert!(applied.reply.rejected[0].reason.starts_with("`x` is no exchange id"));
    assert_eq!(lost(&mut store), Losses { rejected: 5, ..Losses::default() });
    assert_eq!(applied.warnings.len(), 3, "the log is not flooded");
}

#[test]
fn a_gap_below_the_lowest_is_a_proven_loss_until_its_record_turns_up() {
    let mut store = Store::in_memory().unwrap();
    sync(&mut store, &head(1, 9), &[record(1), record(3)]);
    assert_eq!(lost(&mut store).proven, 0, "the others may still come");
    let applied = sync(&mut store, &head(8, 9), &[]);
    assert_eq!(lost(&mut store).proven, 5);
    assert!(applied.warnings[0].contains("5 exchanges below sequence 8"), "{:?}", applied.warnings);
    assert_eq!(sync(&mut store, &head(8, 9), &[]).warnings, [""; 0], "proven once");
    assert_eq!(sync(&mut store, &head(2, 4), &[]).warnings, [""; 0], "an older head proves nothing");
    for (found, left) in [(5, 4), (2, 3), (4, 2), (7, 1), (6, 0), (3, 0)] {
        sync(&mut store, &head(8, 9), &[record(found)]);
        assert_eq!(lost(&mut store).proven, left, "after {found}");
    }
    assert_eq!(total(&mut store).requests, 7);
}

#[test]
fn absurd_sequences_are_one_loss_and_no_work() {
    let mut store = Store::in_memory().unwrap();
    sync(&mut store, &head(u64::MAX, u64::MAX), &[record(7)]);
    assert_eq!(lost(&mut store).proven, i64::MAX as u64 - 2);
    assert_eq!(unfinished(&store.begin().unwrap()).unwrap(), []);
}

#[test]
fn an_incarnation_with_open_exchanges_is_listed_and_known_to_have_ended() {
    let mut store = Store::in_memory().unwrap();
    sync(&mut store, &head(1, 6), &[record(1), record(4)]);
    let of = |store: &mut Store| {
        let list = unfinished(&store.begin().unwrap()).unwrap();
        list.into_iter().map(|one| (one.incarnation, one.missing, one.ended)).collect::<Vec<_>>()
    };
    assert_eq!(of(&mut store), [("fffffffffffffffe-3-2".to_owned(), 3, false)]);
    sync(&mut store, &SyncHead { generation: 3, ..head(1, 1) }, &[record(2)]);
    assert_eq!(of(&mut store), [("fffffffffffffffe-3-2".to_owned(), 2, true)]);
}

#[test]
fn accounts_show_what_is_reported_beside_what_the_records_say() {
    let mut store = Store::in_memory().unwrap();
    let quota = QuotaReport {
        quota: "plan/fund".to_owned(),
        unit: "tokens".to_owned(),
        limit: 100 * MICRO,
        window: 500,
        ends: 90_000,
        used: 30 * MICRO,
        granted: 0,
        want: 40 * MICRO,
        ..QuotaReport::default()
    };
    let accounts = vec![AccountReport { subject: "org/acme".to_owned(), quotas: vec![quota] }];
    let applied = sync(&mut store, &SyncHead { accounts, ..head(1, 3) }, &[record(1), record(2)]);
    assert_eq!(applied.reply.grants[0].granted, 40 * MICRO);
    let answer = account::answer(&store.begin().unwrap(), &account::Question::default(), 9_000).unwrap();
    let standing = &answer.quotas[0];
    let figures = [standing.limit, standing.granted, standing.used, standing.used_by_records, standing.left];
    assert_eq!(figures.map(|amount| amount.to_string()), ["100", "40", "30", "23", "60"]);
    assert!(standing.open && standing.epochs[0].epoch == "fffffffffffffffe", "{standing:?}");
    let none = account::Question { subject: Some("org/other".to_owned()), ..account::Question::default() };
    assert_eq!(account::answer(&store.begin().unwrap(), &none, 0).unwrap().quotas, []);
}

proptest! {
    /// Batches overlap, repeat and come in any order: the ledger has each record once, and its sums agree.
    #[test]
    fn exactly_once(batches in prop::collection::vec(prop::collection::vec(1..40u64, 0..12), 1..12), lowest in any::<[u8; 4]>()) {
        let mut store = Store::in_memory().unwrap();
        for (turn, batch) in batches.iter().enumerate() {
            let lowest = u64::from(lowest[turn % 4] % 42);
            let records: Vec<_> = batch.iter().map(|&sequence| record(sequence)).collect();
            assert_eq!(sync(&mut store, &head(lowest, 42), &records).reply.acknowledged.len(), batch.len());
        }
        let all: std::collections::BTreeSet<u64> = batches.concat().into_iter().collect();
        let total = total(&mut store);
        assert_eq!((total.requests, total.output), (all.len() as u64, all.iter().sum()));
        let top = batches.iter().enumerate().map(|(turn, _)| u64::from(lowest[turn % 4] % 42)).max().unwrap();
        let gaps = (1..top).filter(|sequence| !all.contains(sequence)).count();
        assert_eq!(lost(&mut store).proven, gaps as u64);
        let db = store.begin().unwrap();
        let charged: i64 = db.query_row("SELECT coalesce(sum(amount), 0) FROM charged", [], |row| row.get(0)).unwrap();
        assert_eq!(charged as u64, all.iter().map(|sequence| (10 + sequence) * MICRO).sum::<u64>());
    }
}
