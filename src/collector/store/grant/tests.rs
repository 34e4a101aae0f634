use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::{Of, Share, report};
use crate::collector::store::Store;
use crate::quota::MICRO;
use crate::report::wire::{Grant, QuotaReport};

const LIMIT: u64 = 1_000 * MICRO;
const HOURS_5: u64 = 5 * 3_600_000;

fn month(granted: u64, want: u64) -> QuotaReport {
    QuotaReport {
        quota: "plan/fund".to_owned(),
        unit: "tokens".to_owned(),
        limit: LIMIT,
        window: 1_000,
        ends: 900_000_000,
        granted,
        want,
        ..QuotaReport::default()
    }
}

fn first_use(window: u64, want: u64) -> QuotaReport {
    QuotaReport { window, ends: 0, length_ms: HOURS_5, ..month(0, want) }
}

fn of(epoch: u64) -> Of<'static> {
    Of { bundle: "b", subject: "org/acme", epoch }
}

/// Asks a ledger that holds nothing but these questions, one after the other.
fn answers(questions: &[(u64, QuotaReport, u64)]) -> Vec<Grant> {
    let mut store = Store::in_memory().unwrap();
    let db = store.begin().unwrap();
    questions.iter().map(|(epoch, question, now)| report(&db, of(*epoch), question, *now).unwrap()).collect()
}

#[test]
fn a_want_gets_a_slice_that_shrinks_towards_the_end() {
    let mut share = Share::default();
    let mut slices = Vec::new();
    while share.granted < LIMIT {
        let before = share.granted;
        share.raise(LIMIT, 0, before, MICRO);
        slices.push((share.granted - before) / MICRO);
    }
    assert_eq!(slices[..6], [125, 110, 96, 84, 74, 64]);
    assert!(slices.is_sorted_by(|a, b| a >= b), "{slices:?}");
    assert_eq!(slices.last(), Some(&1));
    assert_eq!(share.granted, LIMIT, "the last unit is granted too");
}

#[test]
fn a_large_want_is_met_whole_or_with_all_that_is_left() {
    let got = answers(&[(1, month(0, 700 * MICRO), 0), (2, month(0, 700 * MICRO), 0), (3, month(0, MICRO), 0)]);
    assert_eq!(
        got.iter().map(|grant| (grant.granted / MICRO, grant.left / MICRO)).collect::<Vec<_>>(),
        [(700, 300), (300, 0), (0, 0)]
    );
}

#[test]
fn a_want_whose_answer_was_lost_is_not_granted_twice() {
    let ask = (1, month(0, 10 * MICRO), 0);
    let got = answers(&[ask.clone(), ask.clone(), (1, month(0, 200 * MICRO), 0), ask]);
    assert_eq!(got[0].granted, 125 * MICRO);
    assert_eq!(got[1], got[0], "the same want again");
    assert_eq!(got[2].granted, 200 * MICRO, "only what the lost answer did not cover, and no slice on top");
    assert_eq!(got[3], got[2], "an old want, late");
}

#[test]
fn what_is_returned_can_be_granted_to_another() {
    let back = QuotaReport { returned: 400 * MICRO, used: 300 * MICRO, ..month(700 * MICRO, 0) };
    let old = QuotaReport { returned: 0, used: 0, ..back.clone() };
    let got = answers(&[
        (1, month(0, 700 * MICRO), 0),
        (1, back, 0),
        (1, old, 0),
        (2, month(0, 900 * MICRO), 0),
        (1, month(700 * MICRO, 0), 0),
    ]);
    assert_eq!(got[1].left, 700 * MICRO);
    assert_eq!(got[2].left, 700 * MICRO, "an older report takes nothing back");
    assert_eq!(got[3].granted, 700 * MICRO);
    assert_eq!(got[4].left, 0);
}

#[test]
fn debt_counts_and_a_want_pays_it_first() {
    let debt = QuotaReport { used: 900 * MICRO, ..month(700 * MICRO, 0) };
    let got = answers(&[
        (1, month(0, 700 * MICRO), 0),
        (1, debt.clone(), 0),
        (2, month(0, 400 * MICRO), 0),
        (1, QuotaReport { want: 500 * MICRO, ..debt }, 0),
    ]);
    assert_eq!(got[1].left, 100 * MICRO, "used above the grant is taken from what is left");
    assert_eq!(got[2].granted, 100 * MICRO);
    assert_eq!(got[3].granted, 900 * MICRO, "the grant may follow the debt, and no further");
}

/// A policy that moves to another time zone, or makes a month of a first-use window, reaches a fresh process first.
#[test]
fn another_idea_of_when_the_month_begins_opens_no_second_fund() {
    let all = || month(0, LIMIT);
    let moved = |window, ends, want| QuotaReport { window, ends, ..month(0, want) };
    let got = answers(&[
        (1, all(), 20_000),
        (2, moved(15_000, 900_014_000, MICRO), 20_000),
        (2, moved(500, 899_999_500, MICRO), 20_000),
        (3, first_use(0, 600 * MICRO), 900_000_000),
        (2, moved(900_000_000, 1_800_000_000, LIMIT), 900_000_001),
    ]);
    for grant in &got[1..3] {
        assert_eq!((grant.window, grant.ends, grant.granted, grant.left), (1_000, 900_000_000, 0, 0));
    }
    assert_eq!((got[4].window, got[4].granted), (got[3].window, 400 * MICRO));
    // What an Envoy already has of a window of its own stands, and an overlapping one that has ended is of the past.
    let got = answers(&[
        (1, all(), 20_000),
        (2, QuotaReport { used: 5, granted: MICRO, ..moved(15_000, 900_014_000, 0) }, 20_000),
        (3, moved(16_000, 900_015_000, MICRO), 900_014_500),
    ]);
    assert_eq!((got[1].window, got[2].window), (15_000, 16_000));
}

#[test]
fn a_limit_that_shrank_stops_grants_and_a_larger_one_resumes_them() {
    let limited = |limit, want| QuotaReport { limit, ..month(600 * MICRO, want) };
    let got = answers(&[
        (1, month(0, 600 * MICRO), 0),
        (1, limited(500 * MICRO, MICRO), 0),
        (1, limited(601 * MICRO, 5 * MICRO), 0),
    ]);
    assert_eq!((got[1].granted, got[1].left), (600 * MICRO, 0));
    assert_eq!((got[2].granted, got[2].left), (601 * MICRO, 0));
}

#[test]
fn a_restored_ledger_believes_what_it_is_told_it_granted() {
    let got = answers(&[(1, QuotaReport { used: 100, ..month(800 * MICRO, 0) }, 0), (2, month(0, 900 * MICRO), 0)]);
    assert_eq!((got[0].granted, got[0].left), (800 * MICRO, 200 * MICRO));
    assert_eq!(got[1].granted, 200 * MICRO);
}

#[test]
fn a_first_use_window_opens_at_the_first_want_for_all_epochs() {
    let got = answers(&[
        (1, first_use(0, 0), 5_000),
        (1, first_use(0, MICRO), 6_000),
        (2, first_use(0, MICRO), 7_000),
        (2, first_use(0, 0), 6_000 + HOURS_5),
        (2, QuotaReport { used: 40 * MICRO, ..first_use(6_000, 0) }, 7_000 + HOURS_5),
        (1, first_use(6_000, MICRO), 8_000 + HOURS_5),
    ]);
    let seen: Vec<_> = got.iter().map(|grant| (grant.window, grant.ends, grant.granted / MICRO)).collect();
    let (second, ends) = (8_000 + HOURS_5, 8_000 + 2 * HOURS_5);
    assert_eq!(
        seen,
        [
            (0, 0, 0),
            (6_000, 6_000 + HOURS_5, 125),
            (6_000, 6_000 + HOURS_5, 110),
            (0, 0, 0),
            (0, 0, 0),
            (second, ends, 125),
        ]
    );
    assert_eq!(got[0].left, LIMIT);
}

#[test]
fn a_first_use_window_of_which_nothing_was_used_is_opened_anew_by_the_next_want() {
    let back = |used: u64, want| QuotaReport {
        granted: 125 * MICRO,
        returned: (125 - used) * MICRO,
        used: used * MICRO,
        ..first_use(6_000, want)
    };
    let got = answers(&[
        (1, first_use(0, MICRO), 6_000),
        (1, back(0, 0), 7_000),
        (3, first_use(0, 0), 7_500),
        (2, first_use(0, MICRO), 8_000),
        (1, back(0, MICRO), 9_000),
        (1, back(0, 0), 9_000),
    ]);
    let seen: Vec<_> = got.iter().map(|grant| (grant.window, grant.granted / MICRO)).collect();
    assert_eq!(seen, [(6_000, 125), (6_000, 125), (0, 0), (8_000, 125), (8_000, 110), (8_000, 110)]);
    assert_eq!((got[1].left, got[3].ends), (LIMIT, 8_000 + HOURS_5), "whoever had it hears that there is more");
    // Somebody else may have used it, or somebody did.
    let got = answers(&[
        (1, first_use(0, MICRO), 6_000),
        (2, first_use(0, MICRO), 6_500),
        (1, back(0, MICRO), 7_000),
        (2, QuotaReport { granted: 110 * MICRO, returned: 110 * MICRO, ..first_use(6_000, 0) }, 7_000),
        (1, QuotaReport { granted: 235 * MICRO, ..back(1, MICRO) }, 8_000),
    ]);
    assert!(got.iter().all(|grant| grant.window == 6_000), "{got:?}");
}

#[test]
fn a_ledger_that_lost_a_first_use_window_adopts_it_while_it_lasts() {
    let known = QuotaReport { granted: 700 * MICRO, ..first_use(6_000, MICRO) };
    let got = answers(&[(1, known.clone(), 7_000), (2, first_use(0, 900 * MICRO), 8_000)]);
    assert_eq!((got[0].window, got[1].window), (6_000, 6_000));
    assert_eq!(got[0].granted + got[1].granted, LIMIT);
    let late = answers(&[(1, known, 6_000 + HOURS_5)]);
    assert_eq!(late[0].window, 6_000 + HOURS_5, "it has ended: a new one opens");
}

/// What one Envoy does next in the property below.
#[derive(Clone, Copy, Debug)]
enum Act {
    Ask(u64),
    Hear(prop::sample::Index),
    Repeat(prop::sample::Index),
    Spend(u64),
    Return(u64),
    Later(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..200u64).prop_map(Act::Ask),
        4 => any::<prop::sample::Index>().prop_map(Act::Hear),
        1 => any::<prop::sample::Index>().prop_map(Act::Repeat),
        4 => (0..100u64).prop_map(Act::Spend),
        1 => (0..100u64).prop_map(Act::Return),
        1 => prop_oneof![Just(1), Just(HOURS_5 / 3)].prop_map(Act::Later),
    ]
}

/// An Envoy as the rules want it: it spends only what it knows to be granted, and merges answers by maximum.
#[derive(Clone, Debug, Default)]
struct Envoy {
    window: u64,
    ends: u64,
    granted: u64,
    used: u64,
    returned: u64,
}

impl Envoy {
    fn hear(&mut self, grant: &Grant) {
        if grant.window > self.window {
            *self = Self { window: grant.window, ends: grant.ends, ..Self::default() };
        }
        if grant.window == self.window {
            self.granted = self.granted.max(grant.granted);
        }
    }

    fn free(&self) -> u64 {
        self.granted.checked_sub(self.returned + self.used).unwrap()
    }

    fn report(&self, length_ms: u64, want: u64) -> QuotaReport {
        let &Self { window, ends, granted, used, returned } = self;
        QuotaReport { window, ends, granted, used, returned, length_ms, ..month(0, want * MICRO) }
    }
}

/// Runs two Envoys against one ledger; answers are heard late, twice, in any order or never.
fn never_over(length_ms: u64, acts: &[(bool, Act)]) {
    let mut store = Store::in_memory().unwrap();
    let db = store.begin().unwrap();
    let opened = if length_ms == 0 { 1_000 } else { 0 };
    let mut envoys = vec![Envoy { window: opened, ends: opened * 900_000, ..Envoy::default() }; 2];
    let (mut sent, mut heard): ([Vec<QuotaReport>; 2], [Vec<Grant>; 2]) = Default::default();
    let mut now = 10_000;
    let mut windows = std::collections::BTreeMap::new();
    for &(second, act) in acts {
        let who = usize::from(second);
        let envoy = &mut envoys[who];
        let question = match act {
            Act::Ask(want) => Some(envoy.report(length_ms, want)),
            Act::Repeat(which) if !sent[who].is_empty() => Some(sent[who][which.index(sent[who].len())].clone()),
            Act::Hear(which) if !heard[who].is_empty() => {
                envoy.hear(&heard[who][which.index(heard[who].len())]);
                None
            }
            Act::Spend(units) => {
                let units = (units * MICRO).min(envoy.free());
                envoy.used += units;
                *windows.entry(envoy.window).or_insert(0) += units;
                None
            }
            Act::Return(units) => {
                envoy.returned += (units * MICRO).min(envoy.free());
                None
            }
            Act::Later(more) => {
                now += more;
                None
            }
            Act::Hear(_) | Act::Repeat(_) => None,
        };
        if let Some(question) = question {
            let grant = report(&db, of(who as u64), &question, now).unwrap();
            if length_ms > 0 && grant.window > 0 {
                assert!((grant.window..grant.ends).contains(&now), "an answer is for the window that runs");
            }
            sent[who].push(question);
            heard[who].push(grant);
        }
        let mut sums = db.prepare("SELECT sum(granted - returned) FROM grants GROUP BY window").unwrap();
        let sums: Vec<u64> =
            sums.query_map([], |row| row.get(0)).unwrap().map(|sum: Result<i64, _>| sum.unwrap() as u64).collect();
        assert!(sums.iter().all(|&sum| sum <= LIMIT), "granted {sums:?} of {LIMIT}");
        assert!(windows.values().all(|&spent| spent <= LIMIT), "spent {windows:?} of {LIMIT}");
    }
    let mut ends = db.prepare("SELECT window, ends FROM windows ORDER BY window").unwrap();
    let ends: Vec<(i64, i64)> =
        ends.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    assert!(ends.is_sorted_by(|before, after| before.1 <= after.0), "windows overlap: {ends:?}");
}

proptest! {
    #[test]
    fn a_fund_is_never_granted_over(acts in prop::collection::vec(any::<bool>().prop_flat_map(|who| (Just(who), act())), 1..120)) {
        never_over(0, &acts);
    }

    #[test]
    fn a_first_use_window_is_never_granted_over(acts in prop::collection::vec(any::<bool>().prop_flat_map(|who| (Just(who), act())), 1..120)) {
        never_over(HOURS_5, &acts);
    }

    #[test]
    fn arbitrary_figures_are_answered(a: [u64; 7], b: [u64; 7], now: [u64; 2]) {
        let mut store = Store::in_memory().unwrap();
        let db = store.begin().unwrap();
        for (figures, now) in [(a, now[0]), (b, now[1]), (a, now[1])] {
            let [limit, window, ends, length_ms, used, granted, want] = figures;
            let question = QuotaReport { limit, window, ends, length_ms, used, granted, want, ..month(0, 0) };
            report(&db, of(u64::MAX), &question, now).unwrap();
        }
    }
}
