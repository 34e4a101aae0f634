use proptest::prelude::*;

use super::{ALIKE, CALM, Excess, HOURS, KEPT, MOST, NUMBER, Taught, Told};

const HOUR: u64 = 3_600_000;

fn told(seat: u32, bound: u64, reported: u64) -> Told {
    Told { seat, bound, reported, wall_ms: 0 }
}

fn taught(calls: &[(u32, u64, u64)]) -> Excess {
    let mut excess = Excess::default();
    for (seat, bound, reported) in calls {
        excess.learn(&told(*seat, *bound, *reported));
    }
    excess
}

#[test]
fn calls_within_their_bounds_raise_nothing_and_teach_nothing() {
    let mut excess = Excess::default();
    for bound in [1, 230, 100_000] {
        assert!(!excess.concerns(&told(1, bound, bound)));
        assert_eq!(excess.learn(&told(1, bound, bound)), Taught::Nothing);
        assert_eq!(excess.raise(1, bound, 0), 0);
    }
}

#[test]
fn a_call_above_its_bound_raises_that_of_the_next_one() {
    let excess = taught(&[(1, 230, 3_000)]);
    assert_eq!(excess.raise(1, 230, 0), 2_770);
    assert_eq!(excess.raise(1, 100, 0), 2_770, "a number");
    assert_eq!(excess.raise(1, 460, 0), 5_540, "a share");
    assert_eq!(excess.raise(1, 50_000, 0), 4 * 2_770, "no more than four times what was seen");
    // Of what is more than a prompt of the provider's own can be, a short one has its share.
    assert_eq!(taught(&[(1, 100_000, 204_096)]).raise(1, 100, 0), 4_096 + 100);
}

#[test]
fn there_is_an_end_to_it() {
    let absurd = taught(&[(1, 100, MOST), (1, 100_000, u64::MAX)]);
    for (bound, most) in [(100, 16 * 1_024), (1_024, 16 * 1_024), (100_000, 1_600_000)] {
        assert_eq!(bound + absurd.raise(1, bound, 0), most);
    }
}

#[test]
fn one_odd_caller_raises_nobody_elses_bounds_and_a_second_one_raises_them_as_far_as_it_saw() {
    let mut excess = taught(&[(1, 1_000, 9_000)]);
    assert_eq!((excess.raise(1, 1_000, 0), excess.raise(2, 1_000, 0)), (8_000, 0));
    excess.learn(&told(2, 1_000, 3_000));
    let of = [1, 2, 3].map(|seat| excess.raise(seat, 1_000, 0));
    assert_eq!(of, [8_000, 2_000, 2_000]);
}

#[test]
fn what_a_day_did_not_confirm_is_forgotten() {
    let mut excess = taught(&[(1, 1_000, 3_000)]);
    let day = u64::from(HOURS) * HOUR;
    assert_eq!((excess.raise(1, 1_000, day - 1), excess.raise(1, 1_000, day)), (2_000, 0));
    excess.learn(&Told { wall_ms: day - 1, ..told(1, 2_000, 2_001) });
    assert_eq!((excess.raise(1, 1_000, day), excess.raise(1, 1_000, 2 * day)), (2_000, 0), "confirmed");
    // A clock that steps back forgets nothing.
    assert_eq!(excess.raise(1, 1_000, 0), 2_000);
}

#[test]
fn a_model_that_became_another_one_is_forgotten() {
    let mut excess = taught(&[(1, 1_000, 3_000)]);
    let calm = |excess: &mut Excess, seat, bound| excess.learn(&told(seat, bound, bound));
    for _ in 1..CALM {
        assert_eq!(calm(&mut excess, 1, 1_000), Taught::Nothing);
        // Others' calls, and much longer ones, say nothing of it.
        assert_eq!(calm(&mut excess, 2, 1_000), Taught::Nothing);
        assert_eq!(calm(&mut excess, 1, 4_001), Taught::Nothing);
    }
    assert_eq!(excess.raise(1, 1_000, 0), 2_000);
    assert_eq!((calm(&mut excess, 1, 1_000), excess.raise(1, 1_000, 0)), (Taught::Forgotten, 0));
}

#[test]
fn one_above_in_between_begins_the_row_anew() {
    let mut excess = taught(&[(1, 1_000, 3_000)]);
    for call in 1..3 * CALM {
        let reported = if call % 200 == 0 { 1_001 } else { 1_000 };
        assert_eq!(excess.learn(&told(1, 1_000, reported)), Taught::Nothing);
    }
    assert_eq!(excess.raise(1, 1_000, 0), 2_000);
}

#[test]
fn a_callers_new_calls_take_the_places_of_its_own() {
    let mut excess = taught(&[(2, 1, 2), (3, 1, 3), (4, 1, 4), (5, 1, 5)]);
    // Each says more of longer calls than those before, and less of shorter ones.
    for (bound, reported) in [(1_000, 16_000), (100_000, 300_000), (2_000_000, 3_000_000)] {
        assert_eq!(excess.learn(&told(1, bound, reported)), Taught::Raised);
        assert!(excess.above.len() <= KEPT);
    }
    let of = |seat| excess.above.iter().filter(|above| above.seat == seat).count();
    assert_eq!([1, 2, 3, 4, 5].map(of), [2, 1, 1, 1, 1]);
}

proptest! {
    /// Whatever a provider makes of our bound by a share and a number: after one call the bounds are sound of all that are
    /// up to four times as long.
    #[test]
    fn one_call_is_enough(
        share in 1_024_u64..=4_096,
        number in 0..=NUMBER,
        first in 300_u64..1_000_000,
        then in 1_u64..4_000_000,
    ) {
        let reports = |bound: u64| (bound * share).div_ceil(1_024) + number;
        let excess = taught(&[(1, first, reports(first))]);
        let then = then.min(first * ALIKE);
        prop_assert!(then + excess.raise(1, then, 0) >= reports(then));
    }

    #[test]
    fn any_figures_at_all(calls in prop::collection::vec((0_u32..4, any::<u64>(), any::<u64>(), any::<u64>()), 0..40)) {
        let mut excess = Excess::default();
        for (seat, bound, reported, wall_ms) in calls {
            let told = Told { seat, bound: bound >> (reported % 64), reported, wall_ms };
            excess.learn(&told);
            let raised = excess.raise(seat, told.bound, wall_ms).saturating_add(told.bound);
            prop_assert!(raised >= told.bound && raised <= told.bound.max(1_024).saturating_mul(16));
            let kept = serde_json::to_string(&excess).unwrap();
            prop_assert_eq!(serde_json::from_str::<Excess>(&kept).unwrap(), excess.clone());
        }
    }
}
