use super::{Answer, By, Question, answer};
use crate::collector::store::{Error, Store, apply};
use crate::meter::usage::{Source, Usage};
use crate::report::wire::{Charge, Record, SyncHead};

/// 2026-11-24T15:50:00Z, which is 23:50 in Shanghai.
const EVENING_MS: u64 = 1_795_535_400_000;
const MINUTE_MS: u64 = 60_000;

fn record(sequence: u64, seat: &str, minutes: u64) -> Record {
    let charge = |subject: &str, amount| Charge {
        subject: subject.to_owned(),
        unit: "credits".to_owned(),
        amount,
        ..Charge::default()
    };
    Record {
        id: format!("0000000000000001-0-1-{sequence}"),
        bundle: "b".to_owned(),
        seat: seat.to_owned(),
        org: "acme".to_owned(),
        model: "qwen-max".to_owned(),
        admitted_ms: EVENING_MS + minutes * MINUTE_MS,
        usage: Usage { input: 1, cache_read: 2, cache_write: 3, output: 4, reasoning: 1, ..Usage::default() },
        source: if sequence == 1 { Source::Estimated } else { Source::Reported },
        charges: vec![charge("seat/x", 1_500_000), charge("org/acme", 1_500_000)],
        ..Record::default()
    }
}

fn ask(records: Vec<Record>, question: &Question) -> Result<Answer, Error> {
    let mut store = Store::in_memory().unwrap();
    let db = store.begin().unwrap();
    apply(&db, &SyncHead::default(), &records.into_iter().map(Ok).collect::<Vec<_>>(), 0).unwrap();
    answer(&db, question)
}

fn three() -> Vec<Record> {
    vec![record(1, "alice", 0), record(2, "alice", 20), record(3, "bob", 0)]
}

#[test]
fn sums_are_told_apart_and_add_up() {
    let answer = ask(three(), &Question::default()).unwrap();
    let rows: Vec<_> =
        answer.rows.iter().map(|row| (row.seat.as_deref(), row.org.as_deref(), row.requests, row.estimated)).collect();
    assert_eq!(rows, [(Some("alice"), Some("acme"), 2, 1), (Some("bob"), Some("acme"), 1, 0)]);
    let total = &answer.total;
    let tokens = (total.input, total.cache_read, total.cache_write, total.output, total.reasoning);
    assert_eq!(tokens, (3, 6, 9, 12, 3));
    assert_eq!(total.credits.to_string(), "4.5", "two levels are charged the same 1.5 credits");
}

#[test]
fn days_are_those_of_the_zone_asked_for() {
    let days = |zone: &str| {
        let question = Question { by: By::Day, zone: Some(zone.to_owned()), ..Question::default() };
        let rows = ask(three(), &question).unwrap().rows;
        rows.into_iter().map(|row| (row.day.unwrap(), row.requests)).collect::<Vec<_>>()
    };
    assert_eq!(days("UTC"), [("2026-11-24".to_owned(), 3)]);
    assert_eq!(days("Asia/Shanghai"), [("2026-11-24".to_owned(), 2), ("2026-11-25".to_owned(), 1)]);
}

#[test]
fn from_is_inside_and_to_is_outside_in_every_spelling() {
    let between = |from: &str, to: &str, zone: Option<&str>| {
        let (from, to) = (Some(from.to_owned()), Some(to.to_owned()));
        ask(three(), &Question { from, to, zone: zone.map(str::to_owned), ..Question::default() })
            .unwrap()
            .total
            .requests
    };
    let evening = EVENING_MS.to_string();
    assert_eq!(between(&evening, &(EVENING_MS + 20 * MINUTE_MS).to_string(), None), 2);
    assert_eq!(between("2026-11-24T15:50:00Z", "2026-11-24T23:50:00.001+08:00", None), 2);
    assert_eq!(between("2026-11-24", "2026-11-25", None), 3);
    assert_eq!(between("2026-11-25", "2026-11-26", Some("Asia/Shanghai")), 1);
    assert_eq!(between("0", &evening, None), 0);
}

#[test]
fn conditions_hold_together() {
    let count = |question: Question| ask(three(), &question).unwrap().total.requests;
    let bob = || Some("bob".to_owned());
    assert_eq!(count(Question { seat: bob(), ..Question::default() }), 1);
    assert_eq!(count(Question { seat: bob(), org: bob(), ..Question::default() }), 0);
    assert_eq!(count(Question { bundle: Some("b".to_owned()), by: By::Model, ..Question::default() }), 3);
    assert_eq!(count(Question { org: Some("' OR ''='".to_owned()), ..Question::default() }), 0);
}

#[test]
fn a_wrong_question_says_what_is_wrong() {
    let why = |question: Question| ask(three(), &question).unwrap_err().to_string();
    let when = why(Question { from: Some("yesterday".to_owned()), ..Question::default() });
    assert!(when.starts_with("`from=yesterday` is no moment: write a date"), "{when}");
    let zone = why(Question { zone: Some("Asia/Nowhere".to_owned()), ..Question::default() });
    assert!(zone.contains("`Asia/Nowhere` is no time zone"), "{zone}");
}

#[test]
fn credits_of_a_fleet_may_pass_64_bits() {
    let rich = (1..=40).map(|sequence| {
        let mut record = record(sequence, "alice", 0);
        record.charges.iter_mut().for_each(|charge| charge.amount = 1 << 60);
        record
    });
    let answer = ask(rich.collect(), &Question::default()).unwrap();
    assert_eq!(answer.total.credits.0, 40 << 60);
}
