use proptest::prelude::*;

use super::super::tests::{fund, output, plan, quota, size, stands, verdict};
use crate::engine::bill::Size;
use crate::policy::bundle::{HoldSize, Per, Plan, PlanQuota, Relief};
use crate::policy::unit::Unit;
use crate::quota::Window;

const NO_LEDGER: u64 = u64::MAX;

/// A call whose answer is most likely no longer than `enough`.
fn call(input: u64, output: u64, enough: u64) -> Size {
    Size { enough, ..size(input, output) }
}

/// The output limit of a call on a fund of 100,000 tokens.
fn limit(used: u64, held: u64, call: Size) -> u64 {
    let plan = plan(vec![fund("month", Unit::Tokens, 100_000)]);
    output(verdict(&plan, &call, false, stands(100_000, used, held, NO_LEDGER)))
}

#[test]
fn who_is_alone_and_fits_gets_what_it_asks_for() {
    assert_eq!(limit(0, 0, call(230, 99_770, 1_000)), 99_770);
    assert_eq!(limit(60_000, 0, call(230, 39_770, 1_000)), 39_770);
}

#[test]
fn who_asks_for_more_than_there_is_leaves_half_of_it() {
    assert_eq!(limit(0, 0, call(230, 1_000_000, 1_000)), 50_000 - 230);
    assert_eq!(limit(0, 0, call(230, 99_771, 1_000)), 50_000 - 230);
}

#[test]
fn who_comes_while_others_hold_leaves_half_of_what_they_left() {
    assert_eq!(limit(10_000, 10_000, call(230, 60_000, 1_000)), 40_000 - 230);
    assert_eq!(limit(10_000, 10_000, call(230, 39_770, 1_000)), 39_770, "it fits into half");
}

#[test]
fn no_answer_is_likely_to_end_early_for_it() {
    assert_eq!(limit(10_000, 10_000, call(230, 60_000, 50_000)), 50_000);
    assert_eq!(limit(10_000, 10_000, call(230, 60_000, u64::MAX)), 60_000);
    // Of the last tokens whoever comes gets all.
    assert_eq!(limit(96_000, 1_000, call(230, 60_000, 4_000)), 3_000 - 230);
}

#[test]
fn what_a_relief_lets_pass_is_not_made_shorter() {
    let observed = |mut quota: PlanQuota| {
        quota.full = vec![Relief::Observe];
        let plan = Plan { empty: vec![Relief::Observe], ..plan(vec![quota]) };
        output(verdict(&plan, &call(230, 60_000, 1_000), false, stands(100_000, 99_999, 0, NO_LEDGER)))
    };
    assert_eq!(observed(quota("cap", Unit::Tokens, Per::Level(0), 100_000, false)), 60_000);
    assert_eq!(observed(fund("month", Unit::Tokens, 100_000)), 60_000);
}

#[test]
fn a_budget_for_thinking_is_kept() {
    let thinks = Size { floor: 70_000, ..call(230, 80_000, 1_000) };
    assert_eq!(limit(10_000, 10_000, thinks), 70_000);
}

#[test]
fn what_the_ledger_has_left_is_left_too() {
    let plan = plan(vec![PlanQuota {
        quota: quota("month", Unit::Tokens, Per::Level(0), 100_000, true).quota,
        ..fund("month", Unit::Tokens, 100_000)
    }]);
    let asks = call(230, 20_000, 1_000);
    let fits = |left| output(verdict(&plan, &asks, false, stands(30_000, 0, 5_000, left)));
    assert_eq!(fits(0), 12_500 - 230, "half of what is granted here");
    assert_eq!(fits(70_000 * crate::quota::MICRO), 20_000);
}

#[test]
fn it_is_a_matter_of_those_that_hold_the_worst_of_what_runs() {
    let of = |cap: PlanQuota| {
        let plan = plan(vec![cap]);
        output(verdict(&plan, &call(230, 60_000, 1_000), false, stands(100_000, 0, 20_000, NO_LEDGER)))
    };
    let tokens = |unit| quota("cap", unit, Per::Level(1), 100_000, false);
    assert_eq!(of(tokens(Unit::Tokens)), 40_000 - 230);
    assert_eq!(of(PlanQuota { hold: HoldSize::Expected, ..tokens(Unit::Tokens) }), 60_000);
    let mut bucket = tokens(Unit::Tokens);
    bucket.quota.window = Window::Bucket { period_ms: 60_000, burst: 100_000 };
    assert_eq!(of(bucket), 60_000);
    // Of requests a lower limit leaves no more.
    let requests = plan(vec![quota("cap", Unit::Requests, Per::Level(1), 10, false)]);
    assert_eq!(output(verdict(&requests, &call(230, 60_000, 1_000), false, stands(10, 0, 9, NO_LEDGER))), 60_000);
}

proptest! {
    /// Whatever greedy calls run, one that comes with a modest answer finds room.
    #[test]
    fn there_is_always_something(declared in prop::collection::vec(1_u64..1_000_000, 1..6)) {
        let plan = plan(vec![fund("month", Unit::Tokens, 1_000_000)]);
        let mut held = 300_000;
        for declared in declared {
            let before = 1_000_000 - held;
            let got = output(verdict(&plan, &call(100, declared, 1_000), false, stands(1_000_000, 0, held, NO_LEDGER)));
            prop_assert!(got <= declared && (got == declared || got == before / 2 - 100));
            held += 100 + got;
            prop_assert!(1_000_000 - held >= before / 2);
        }
    }
}
