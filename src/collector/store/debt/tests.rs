use std::collections::BTreeMap;

use proptest::prelude::{any, prop, prop_assert_eq, proptest};
use rusqlite::Connection;

use crate::collector::store::grant::{Of, report};
use crate::collector::store::{Store, account};
use crate::report::wire::{Grant, QuotaReport};

const EVERY: u64 = 1_000;
const LIMIT: u64 = 100_000_000;
const ONE: u64 = LIMIT / 100;

fn of(epoch: u64) -> Of<'static> {
    Of { bundle: "b", subject: "org/acme", epoch }
}

/// Of window number `index`, from 1, so much is used.
fn used(index: u64, used: u64) -> QuotaReport {
    QuotaReport {
        quota: "plan/fund".to_owned(),
        unit: "tokens".to_owned(),
        limit: LIMIT,
        window: index * EVERY,
        ends: (index + 1) * EVERY,
        used: used * ONE,
        every_ms: EVERY,
        ..QuotaReport::default()
    }
}

/// As much as there is of window number `index`.
fn all(index: u64) -> QuotaReport {
    QuotaReport { want: 100 * LIMIT, ..used(index, 0) }
}

/// Each in the middle of its window, if it is not said when.
fn answers(questions: &[(u64, QuotaReport)]) -> Vec<(u64, u64)> {
    let mut store = Store::in_memory().unwrap();
    let db = store.begin().unwrap();
    let ask = |(epoch, question): &(u64, QuotaReport)| at(&db, *epoch, question, question.window + EVERY / 2);
    questions.iter().map(ask).map(|grant| (grant.granted / ONE, grant.owed / ONE)).collect()
}

fn at(db: &Connection, epoch: u64, question: &QuotaReport, now: u64) -> Grant {
    report(db, of(epoch), question, now).unwrap()
}

#[test]
fn what_all_used_too_much_together_is_taken_off_the_next_window() {
    let got = answers(&[(1, all(1)), (1, used(1, 70)), (2, used(1, 60)), (2, all(2)), (1, all(3))]);
    assert_eq!(got[3..], [(70, 0), (100, 0)]);
    // What was granted and not used is no debt, whoever has it.
    let got = answers(&[(1, all(1)), (2, used(1, 90)), (2, all(2))]);
    assert_eq!(got[2], (100, 0));
}

#[test]
fn what_a_window_cannot_pay_the_next_ones_pay_and_so_do_those_that_were_skipped() {
    let got = answers(&[(1, used(1, 350)), (1, all(2)), (1, all(3)), (2, all(4)), (1, all(5))]);
    assert_eq!(got[1..], [(0, 150), (0, 50), (50, 0), (100, 0)]);
    let skip = |to: u64| answers(&[(1, used(1, 350)), (1, all(to))])[1];
    assert_eq!([3, 4, 5, 40].map(skip), [(0, 50), (50, 0), (100, 0), (100, 0)]);
    // What is then left of those that were skipped rolls over.
    let rolling = |question: QuotaReport| QuotaReport { rollover: 150 * ONE, ..question };
    let roll = |to: u64| answers(&[(1, rolling(used(1, 170))), (1, rolling(all(to)))])[1].0;
    assert_eq!([2, 3, 4, 9].map(roll), [30, 130, 230, 250]);
}

#[test]
fn a_limit_that_was_lawful_once_makes_no_debt() {
    let limited = |limit: u64, question: QuotaReport| QuotaReport { limit: limit * ONE, ..question };
    let got = answers(&[(1, used(1, 90)), (1, limited(50, used(1, 90))), (1, limited(50, all(2)))]);
    assert_eq!(got[2], (50, 0), "lowered while it runs");
    let got = answers(&[(1, used(1, 150)), (2, limited(200, used(1, 0))), (2, limited(200, all(2)))]);
    assert_eq!(got[2], (200, 0), "raised while it runs");
    // Raised with the next: an Envoy speaks of the old window under the new limit.
    let mut store = Store::in_memory().unwrap();
    let db = store.begin().unwrap();
    at(&db, 1, &used(1, 150), EVERY);
    at(&db, 1, &limited(200, used(1, 150)), 2 * EVERY);
    assert_eq!(at(&db, 1, &limited(200, all(2)), 2 * EVERY).granted, 150 * ONE);
}

#[test]
fn what_was_only_observed_is_no_debt_and_forgives_none() {
    let waived = |question: QuotaReport| QuotaReport { waived: true, ..question };
    let got = answers(&[(1, used(1, 20)), (2, waived(used(1, 350))), (1, used(1, 30)), (1, all(2))]);
    assert_eq!(got[3], (100, 0));
    let got = answers(&[(1, used(1, 250)), (2, waived(used(2, 350))), (1, all(3))]);
    assert_eq!(got[2], (50, 0));
}

#[test]
fn what_is_heard_late_is_owed_from_then_on() {
    let mut store = Store::in_memory().unwrap();
    let db = store.begin().unwrap();
    let tell = |question: &QuotaReport| at(&db, 1, question, 4 * EVERY);
    tell(&used(1, 90));
    tell(&used(2, 40));
    assert_eq!(tell(&all(4)).granted, LIMIT);
    tell(&used(1, 390));
    let now = tell(&used(4, 10));
    // 290 less 60 of the second and all of the third.
    assert_eq!((now.granted, now.left, now.owed), (LIMIT, 0, 30 * ONE));
    tell(&used(1, 90));
    assert_eq!(tell(&used(4, 10)), now, "an older report changes nothing");
    // The second was skipped when the third was opened, and pays although somebody uses it then.
    let db = Store::in_memory().unwrap();
    let mut db = db;
    let db = db.begin().unwrap();
    let tell = |question: &QuotaReport| at(&db, 1, question, 4 * EVERY);
    tell(&used(1, 130));
    assert_eq!(tell(&all(3)).granted, LIMIT);
    assert_eq!(tell(&all(2)).granted, 70 * ONE);
    tell(&used(2, 90));
    assert_eq!(tell(&used(3, 0)).left, 0);
    assert_eq!(tell(&all(4)).granted, LIMIT);
    tell(&used(3, 100));
    assert_eq!(tell(&used(4, 0)).left, 0);
    assert_eq!(tell(&all(5)).granted, LIMIT);
}

#[test]
fn a_first_use_window_pays_when_it_is_used_and_a_term_never() {
    let first_use = |window, spent: u64, want| QuotaReport {
        window,
        ends: 0,
        length_ms: EVERY,
        every_ms: 0,
        want,
        ..used(1, spent)
    };
    let mut store = Store::in_memory().unwrap();
    let db = store.begin().unwrap();
    let tell = |question: &QuotaReport, now| at(&db, 1, question, now);
    assert_eq!(tell(&first_use(0, 0, 100 * LIMIT), 1_000).granted, LIMIT);
    tell(&first_use(1_000, 130, 0), 1_500);
    let (second, third) = (50_000, 90_000);
    assert_eq!(tell(&first_use(0, 0, 100 * LIMIT), second).granted, 70 * ONE);
    // Nobody uses it: what it was granted goes back, and the next pays in its place.
    tell(&QuotaReport { granted: 70 * ONE, returned: 70 * ONE, ..first_use(second, 0, 0) }, second + 1);
    assert_eq!(tell(&first_use(0, 0, 100 * LIMIT), third).granted, 70 * ONE);
    tell(&first_use(third, 70, 0), third + 1);
    assert_eq!(tell(&first_use(0, 0, 100 * LIMIT), 200_000).granted, LIMIT);
    let alone = |index, spent| QuotaReport { every_ms: 0, ..used(index, spent) };
    let got = answers(&[(1, alone(1, 350)), (1, QuotaReport { want: 100 * LIMIT, ..alone(2, 0) })]);
    assert_eq!(got[1], (100, 0));
}

#[test]
fn an_account_shows_what_it_owes() {
    let mut store = Store::in_memory().unwrap();
    let db = store.begin().unwrap();
    at(&db, 1, &used(1, 130), EVERY);
    at(&db, 1, &QuotaReport { want: ONE, ..used(2, 0) }, 2 * EVERY);
    let standing = account::answer(&db, &account::Question::default(), 2 * EVERY).unwrap().quotas.remove(0);
    let figures = [standing.limit, standing.owed, standing.granted, standing.left].map(|amount| amount.to_string());
    assert_eq!(figures, ["70", "30", "9", "61"]);
}

proptest! {
    /// However often, late and in which order Envoys say what they have used: in the end each window owes what those before
    /// it were charged too much.
    #[test]
    fn reports_may_come_in_any_order(
        spent in prop::collection::vec((1_u64..9, 0_u64..3, 0_u64..120), 1..24),
        order in prop::collection::vec((any::<prop::sample::Index>(), 0_u64..5), 0..60),
    ) {
        let mut totals = BTreeMap::<(u64, u64), u64>::new();
        spent.iter().for_each(|(index, epoch, more)| *totals.entry((*index, *epoch)).or_default() += more);
        let mut store = Store::in_memory().unwrap();
        let db = store.begin().unwrap();
        let partly = order.iter().map(|(which, quarters)| (which.get(&spent), quarters * 25));
        let wholly = spent.iter().map(|of| (of, 100));
        for ((index, epoch, _), percent) in partly.chain(wholly) {
            at(&db, *epoch, &used(*index, totals[&(*index, *epoch)] * percent / 100), 9 * EVERY);
        }
        let (mut debt, mut expected) = (0_u64, BTreeMap::new());
        for index in 1..9 {
            expected.insert(index * EVERY, debt * ONE);
            let charged: u64 = totals.iter().filter(|((of, _), _)| *of == index).map(|(_, used)| used).sum();
            debt = (debt + charged).saturating_sub(100);
        }
        let mut windows = db.prepare("SELECT window, owed FROM windows").unwrap();
        let windows = windows.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).unwrap();
        for window in windows {
            let (window, owed) = window.unwrap();
            prop_assert_eq!(owed as u64, expected[&(window as u64)], "window {}", window);
        }
    }
}
