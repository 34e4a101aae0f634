use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::{Calibration, ENOUGH, FURTHEST, KEPT, Learned, MISSES};

/// A seat, where all calls are its own.
const ME: u32 = 7;

fn taught(calls: impl IntoIterator<Item = (u64, u64)>) -> Calibration {
    let mut calibration = Calibration::default();
    for (counted, reported) in calls {
        calibration.learn(ME, counted, reported);
    }
    calibration
}

#[test]
fn a_line_is_learned_and_used_from_the_tenth_call_on() {
    let model = |counted: u64| counted * 5 / 4 + 346;
    let mut calibration = Calibration::default();
    for call in 0..u64::from(ENOUGH) {
        assert_eq!(calibration.foretell(ME, 1_000), None, "{call}");
        calibration.learn(ME, 10 + call * 37, model(10 + call * 37));
    }
    for counted in [1, 500, 100_000] {
        let foretold = calibration.foretell(ME, counted).unwrap();
        assert!(foretold.abs_diff(model(counted)) <= 2 + counted / 500, "{counted}: {foretold}");
    }
}

#[test]
fn a_third_of_the_calls_may_be_anything() {
    let calls = (0..KEPT as u64).map(|call| {
        let counted = 50 + call * 40;
        (counted, if call % 3 == 0 { 1 + call * 9_999 } else { counted + 20 })
    });
    let foretold = taught(calls).foretell(ME, 600).unwrap();
    assert!(foretold.abs_diff(620) <= 62, "{foretold}");
}

#[test]
fn a_line_that_comes_no_nearer_is_not_drawn() {
    // A count that is right but for a token or two, and a line through the noise that would bend it at the far end.
    let calls = (0..KEPT as u64).map(|call| (10 + call, 10 + call + call % 2));
    assert_eq!(taught(calls).foretell(ME, 5_000), Some(5_000));
    // Twenty more, whatever the text: moved by that, and no ratio.
    let calls = (0..KEPT as u64).map(|call| (20 + call * 3, 40 + call * 3 + call % 2));
    assert_eq!(taught(calls).foretell(ME, 5_000), Some(5_020));
}

#[test]
fn calls_that_do_not_agree_are_not_used() {
    let calls = (0..40).map(|call: u64| (100 + call, [20, 500, 9, 3_000][call as usize % 4]));
    assert_eq!(taught(calls).foretell(ME, 100), None);
}

#[test]
fn another_model_behind_the_name_is_learned_anew() {
    let mut calibration = taught((0..30).map(|call| (100 + call * 20, 100 + call * 20)));
    assert!(calibration.foretell(ME, 300).is_some());
    let fates: Vec<Learned> = (0..u64::from(MISSES)).map(|call| calibration.learn(ME, 100 + call, 4_000)).collect();
    assert_eq!(fates.last(), Some(&Learned::Forgotten));
    assert_eq!((calibration.calls.len(), calibration.foretell(ME, 300)), (1, None));
}

#[test]
fn nothing_is_learned_from_nothing() {
    let mut calibration = Calibration::default();
    for (counted, reported) in [(0, 5), (5, 0), (u64::MAX, 5), (5, 100_000_000)] {
        assert_eq!(calibration.learn(ME, counted, reported), Learned::Nothing);
    }
    assert_eq!(calibration.calls.len(), 0);
}

/// Calls of a provider that counts 20 tokens more, by so many seats in turn.
fn honest(seats: u32, calls: u64) -> Calibration {
    let mut calibration = Calibration::default();
    for call in 0..calls {
        calibration.learn(1 + call as u32 % seats, 50 + call * 40, 70 + call * 40);
    }
    calibration
}

/// That a model has become another one is seen by more than one caller, or by its only one.
#[test]
fn one_odd_caller_does_not_make_all_forget() {
    let (mut calibration, odd) = (honest(6, 48), 99);
    let before = calibration.foretell(1, 1_000);
    assert!(before.is_some());
    let fates: Vec<Learned> = (0..60).map(|call| calibration.learn(odd, 100 + call * 10, 9_000 + call * 100)).collect();
    assert!(fates.contains(&Learned::Forgotten));
    assert_eq!(calibration.foretell(1, 1_000), before);
    for call in 0..12 {
        calibration.learn(1 + call as u32 % 6, 100 + call * 10, 9_000 + call * 100);
    }
    assert_ne!(calibration.foretell(1, 1_000), before);
}

#[test]
fn what_one_caller_does_is_not_believed_by_others() {
    let (odd, other) = (0, 99);
    // Alone, it teaches nobody but itself.
    let mut calibration = Calibration::default();
    for call in 0..500 {
        calibration.learn(odd, 100 + call * 10, 250 + call * 25);
    }
    assert_eq!(calibration.foretell(odd, 1_000), Some(2_500));
    assert_eq!(calibration.foretell(other, 1_000), None);
    // Among others it has no more than a third of what is remembered, however often it calls.
    let mut calibration = honest(6, 48);
    for call in 0..500 {
        calibration.learn(odd, 100 + call * 10, 150 + call * 14);
    }
    assert!((1..=super::THIRD).contains(&calibration.of(odd)));
    let foretold = calibration.foretell(other, 600).expect("the others agree");
    assert!(foretold.abs_diff(620) <= 62, "{foretold}");
}

#[test]
fn two_callers_believe_themselves() {
    let mut calibration = Calibration::default();
    for call in 0..24 {
        calibration.learn(1, 100 + call * 10, 100 + call * 10);
        calibration.learn(2, 100 + call * 10, 200 + call * 20);
    }
    assert_eq!((calibration.of(1), calibration.of(2)), (12, 12));
    assert_eq!([1, 2, 3].map(|seat| calibration.foretell(seat, 300)), [Some(300), Some(600), None]);
}

#[test]
fn it_is_kept_as_it_was_and_nothing_absurd_is_read() {
    let calibration = honest(3, 20);
    let kept = rmp_serde::to_vec(&calibration).unwrap();
    assert_eq!(rmp_serde::from_slice::<Calibration>(&kept).ok().as_ref(), Some(&calibration));
    let call = (1_u32, 5_u32, 5_u32);
    for (missed, calls) in [(0_u8, vec![call; KEPT + 1]), (0, vec![(1, 0, 5)]), (0, vec![(1, 5, 100_000_000)])] {
        let kept = rmp_serde::to_vec(&(missed, calls)).unwrap();
        assert!(rmp_serde::from_slice::<Calibration>(&kept).is_err());
    }
}

proptest! {
    #[test]
    fn no_order_of_calls_gives_one_more_than_a_third_among_others(calls in proptest::collection::vec(0u32..9, 0..200)) {
        let mut calibration = honest(3, KEPT as u64);
        for (call, seat) in (1..).zip(calls) {
            calibration.learn(seat, 50 + call, 70 + call);
            prop_assert_eq!(calibration.calls.len(), KEPT);
            for seen in &calibration.calls {
                prop_assert!(calibration.of(seen.seat) <= super::THIRD);
            }
        }
    }

    #[test]
    fn whatever_is_reported_what_is_foretold_is_bounded(
        calls in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..80),
        small in proptest::collection::vec((1u64..5_000, 1u64..9_000), 0..80),
        counted in any::<u64>(),
    ) {
        let calibration = taught(calls.into_iter().chain(small));
        if let Some(foretold) = calibration.foretell(ME, counted) {
            let counted = counted.min(super::MOST);
            prop_assert!(foretold >= 1);
            prop_assert!(foretold <= counted * 5 / 2 + FURTHEST as u64);
            prop_assert!(foretold + FURTHEST as u64 + 1 >= counted / 2);
        }
    }

    #[test]
    fn more_counted_is_never_foretold_as_less(
        small in proptest::collection::vec((1u64..5_000, 1u64..9_000), 20..60), one in 0u64..10_000, more in 0u64..10_000,
    ) {
        let calibration = taught(small);
        prop_assert!(calibration.foretell(ME, one) <= calibration.foretell(ME, one + more));
    }

    #[test]
    fn an_exact_count_stays_exact(counts in proptest::collection::vec(1u64..100_000, 20..60), counted in 1u64..100_000) {
        let calibration = taught(counts.into_iter().map(|count| (count, count)));
        prop_assert_eq!(calibration.foretell(ME, counted), Some(counted));
    }
}
