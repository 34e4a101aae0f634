use proptest::prelude::{prop, prop_assert, proptest};

use crate::collector::store::Store;
use crate::collector::store::grant::{Of, report};
use crate::report::wire::{Grant, QuotaReport};

const EVERY: u64 = 1_000;
const LIMIT: u64 = 100_000_000;

fn of(epoch: u64) -> Of<'static> {
    Of { bundle: "b", subject: "org/acme", epoch }
}

/// Window number `index`, from 1.
fn window(index: u64, rollover: u64) -> QuotaReport {
    QuotaReport {
        quota: "plan/fund".to_owned(),
        unit: "tokens".to_owned(),
        limit: LIMIT,
        window: index * EVERY,
        ends: (index + 1) * EVERY,
        rollover,
        every_ms: EVERY,
        ..QuotaReport::default()
    }
}

fn answers(questions: &[(u64, QuotaReport, u64)]) -> Vec<Grant> {
    let mut store = Store::in_memory().unwrap();
    let db = store.begin().unwrap();
    questions.iter().map(|(epoch, question, now)| report(&db, of(*epoch), question, *now).unwrap()).collect()
}

#[test]
fn what_is_left_goes_over_up_to_the_cap() {
    let all = |index, rollover| QuotaReport { want: 10 * LIMIT, ..window(index, rollover) };
    let spent = QuotaReport { used: 30_000_000, returned: LIMIT - 30_000_000, ..window(1, 50_000_000) };
    let got = answers(&[(1, all(1, 50_000_000), 1_500), (1, spent.clone(), 1_900), (1, all(2, 50_000_000), 2_000)]);
    assert_eq!((got[0].granted, got[1].left, got[2].granted), (LIMIT, 70_000_000, 150_000_000));
    // Windows that nobody opened roll over whole, up to the cap.
    let got = answers(&[(1, all(1, 0), 1_500), (1, all(3, 170_000_000), 3_000), (1, all(8, 170_000_000), 8_500)]);
    assert_eq!((got[1].granted, got[2].granted), (2 * LIMIT, LIMIT + 170_000_000));
    // None where nothing rolls over.
    let got = answers(&[(1, window(1, 0), 1_500), (1, all(2, 0), 2_000)]);
    assert_eq!(got[1].granted, LIMIT);
}

#[test]
fn what_has_gone_over_is_not_granted_where_it_came_from() {
    let want = |index, want| QuotaReport { want, ..window(index, 60_000_000) };
    let got = answers(&[(1, want(1, 1), 1_500), (2, want(2, LIMIT * 2), 2_000), (3, want(1, LIMIT), 2_001)]);
    // A slice of 13 was granted; 60 have gone over.
    assert_eq!((got[0].granted, got[1].granted), (13_000_000, 160_000_000));
    assert_eq!((got[2].granted, got[2].left), (27_000_000, 0));
}

#[test]
fn what_is_returned_late_follows() {
    let rolled = |index| window(index, LIMIT);
    let first = QuotaReport { want: LIMIT, ..rolled(1) };
    let back = QuotaReport { granted: LIMIT, returned: LIMIT, ..rolled(1) };
    let got = answers(&[(1, first, 1_500), (2, rolled(2), 2_000), (1, back, 2_100), (2, rolled(2), 2_200)]);
    assert_eq!((got[1].left, got[2].left, got[3].left), (LIMIT, LIMIT, 2 * LIMIT));
}

#[test]
fn what_went_past_a_window_that_is_opened_late_is_not_in_it() {
    let want = |index| QuotaReport { want: 3 * LIMIT, ..window(index, 3 * LIMIT) };
    let got = answers(&[
        (1, window(3, 3 * LIMIT), 3_000),
        (1, window(1, 3 * LIMIT), 3_000),
        (1, want(3), 3_000),
        (1, want(2), 3_000),
        (1, want(1), 3_000),
    ]);
    assert_eq!((got[2].granted, got[3].granted, got[4].granted), (3 * LIMIT, 0, 0));
}

#[test]
fn a_clock_that_is_ahead_ends_no_window() {
    let want = |index| QuotaReport { want: LIMIT, ..window(index, LIMIT) };
    let got = answers(&[(1, window(1, LIMIT), 1_500), (2, window(2, LIMIT), 1_999), (1, want(1), 1_999)]);
    assert_eq!((got[1].left, got[2].granted), (LIMIT, LIMIT));
}

#[test]
fn nor_does_one_that_is_two_windows_ahead() {
    let want = |index| QuotaReport { want: 3 * LIMIT, ..window(index, LIMIT) };
    let got = answers(&[
        (1, window(1, LIMIT), 1_500),
        (2, want(3), 1_600),
        (1, window(2, LIMIT), 2_000),
        (1, want(2), 2_100),
        (2, want(3), 3_000),
    ]);
    // What was left of the first goes over into the second, and nothing of either is in the third before they have ended.
    assert_eq!((got[1].granted, got[2].left, got[3].granted, got[4].granted), (LIMIT, 2 * LIMIT, 2 * LIMIT, LIMIT));
}

/// It was spent from, by a stream that outlived it, and nobody has told of it while it ran.
#[test]
fn a_window_that_is_told_of_when_it_is_over_has_what_rolled_over_into_it() {
    let used = |index, used| QuotaReport { used, granted: used, ..window(index, LIMIT) };
    let got = answers(&[
        (1, window(1, LIMIT), 1_500),
        (1, used(2, 2 * LIMIT), 3_100),
        (1, QuotaReport { want: LIMIT, ..window(3, LIMIT) }, 3_200),
    ]);
    assert_eq!((got[2].granted, got[2].owed), (LIMIT, 0));
}

/// The late report says nothing new of what was used, and the window behind it was opened first.
#[test]
fn a_window_that_is_told_of_late_leaves_no_debt_that_it_has_not() {
    let used = |index, used, rollover| QuotaReport { used, granted: used, ..window(index, rollover) };
    let want = |index, rollover| QuotaReport { want: 4 * LIMIT, ..window(index, rollover) };
    let got = answers(&[
        (1, used(1, LIMIT, LIMIT), 1_500),
        (1, want(3, LIMIT), 3_000),
        (2, used(2, 0, LIMIT), 3_100),
        (1, want(3, LIMIT), 3_200),
        (1, want(4, LIMIT), 4_000),
    ]);
    assert_eq!((got[1].granted, got[3].granted, got[3].owed), (2 * LIMIT, 2 * LIMIT, 0));
    assert_eq!((got[4].granted, got[4].owed), (LIMIT, 0));
    // The one between bears what was charged too much.
    let over = LIMIT + LIMIT / 4;
    let got = answers(&[
        (1, used(1, over, 0), 1_500),
        (2, want(3, 0), 2_900),
        (1, used(2, 0, 0), 2_950),
        (2, want(3, 0), 3_000),
    ]);
    assert_eq!((got[3].granted, got[3].owed), (LIMIT, 0));
}

#[test]
fn what_has_gone_over_is_told_before_a_window_between_is_opened() {
    let (of, used) =
        (|index| window(index, 2 * LIMIT), |index, used| QuotaReport { used, granted: used, ..window(index, LIMIT) });
    let want = |index, rollover| QuotaReport { want: 4 * LIMIT, ..window(index, rollover) };
    let got = answers(&[(1, of(1), 1_500), (2, of(3), 2_900), (1, of(2), 3_001), (2, want(3, 2 * LIMIT), 3_100)]);
    assert_eq!(got[3].granted, 3 * LIMIT);
    // Of 300 in three windows, 100 and 50 were used.
    let got = answers(&[
        (1, used(1, LIMIT), 1_500),
        (2, window(3, LIMIT), 2_900),
        (1, used(2, LIMIT / 2), 3_100),
        (2, want(3, LIMIT), 3_200),
    ]);
    assert_eq!(got[3].granted, LIMIT + LIMIT / 2);
}

#[test]
fn a_first_use_window_that_came_to_nothing_adds_nothing() {
    let first_use =
        |window, want| QuotaReport { window, ends: 0, length_ms: EVERY, every_ms: 0, want, ..self::window(1, LIMIT) };
    let back = QuotaReport { granted: LIMIT, returned: LIMIT, ..first_use(1_500, 0) };
    let used = QuotaReport { granted: LIMIT, returned: LIMIT - 1, used: 1, ..first_use(5_000, 0) };
    let got = answers(&[
        (1, first_use(0, LIMIT), 1_500),
        (1, back, 1_600),
        (1, first_use(0, 5 * LIMIT), 5_000),
        (1, used, 5_100),
        (1, first_use(0, 5 * LIMIT), 9_000),
    ]);
    assert_eq!((got[2].window, got[2].granted), (5_000, LIMIT));
    assert_eq!((got[4].window, got[4].granted), (9_000, 2 * LIMIT - 1));
}

proptest! {
    /// Over all windows and epochs, no more is granted than there is: the limits of the windows that have been, and in
    /// each no more than its own and the cap.
    #[test]
    fn nothing_is_granted_twice(
        rollover in 0_u64..3 * LIMIT,
        asks in prop::collection::vec((0_u64..3, 1_u64..6, 0_u64..2 * LIMIT, 0_u64..2 * LIMIT, 0_u64..900), 1..60),
    ) {
        let mut store = Store::in_memory().unwrap();
        let db = store.begin().unwrap();
        let mut shares = std::collections::BTreeMap::<(u64, u64), (u64, u64)>::new();
        let mut now = EVERY;
        for (epoch, index, want, back, wait) in asks {
            now += wait / 8;
            let (granted, returned) = shares.entry((index, epoch)).or_default();
            // What is returned is never more than there is.
            *returned = (*returned + back / 4).min(*granted);
            let ask = QuotaReport { granted: *granted, returned: *returned, want, ..window(index, rollover) };
            *granted = report(&db, of(epoch), &ask, now).unwrap().granted.max(*granted);
            let taken = |of: u64| -> u64 {
                shares.iter().filter(|((index, _), _)| *index == of).map(|(_, (granted, returned))| granted - returned).sum()
            };
            for index in 1..6 {
                prop_assert!(taken(index) <= LIMIT + rollover);
                let until: u64 = (1..=index).map(taken).sum();
                prop_assert!(until <= index * LIMIT, "{until} in {index} windows");
            }
        }
    }
}
