use crate::now::Now;
use crate::quota::account::{Account, Period};
use crate::quota::fault::{Fault, with};
use crate::quota::slot::{HeldLine, Rule};
use crate::quota::{CalendarPeriod, GrantLine, Line, Quota, QuotaId, Window};

const HOUR: u64 = 3_600_000;
/// 2026-11-25 00:00 in UTC.
const START: u64 = 1_795_564_800_000;

fn at(ms: u64) -> Now {
    Now { wall_ms: START + ms, mono_ms: 0 }
}

fn hour(limit: u64) -> Quota {
    let window = Window::Calendar { period: CalendarPeriod::Hour, zone: "UTC".to_owned() };
    Quota { id: QuotaId(7), limit, window, granted: false, rollover: 0 }
}

fn first_use(limit: u64) -> Quota {
    Quota { window: Window::FirstUse { length_ms: HOUR }, ..hour(limit) }
}

fn hold(account: &mut Account, quota: &Quota, (amount, over): (u64, u64), now: Now) -> Option<HeldLine> {
    let window = account.hold(&Line { quota: quota.clone(), amount, over }, None, now).ok()?;
    Some(HeldLine { quota: quota.id, window, amount, rule: Rule::of(quota), used: 0 })
}

fn settle(account: &mut Account, held: HeldLine, used: u64, now: Now) {
    account.settle(&HeldLine { used, ..held }, now.wall_ms);
}

/// A call that holds one and takes `used`.
fn use_up(account: &mut Account, quota: &Quota, used: u64, now: Now) {
    let held = hold(account, quota, (1, 1), now).expect("there is one left");
    settle(account, held, used, now);
}

/// (owed, free) of the window that runs.
fn stands(account: &Account, quota: &Quota, now: Now) -> (u64, u64) {
    let standing = account.standing(quota, now).unwrap();
    (standing.owed, standing.free())
}

fn current(account: &Account) -> Period {
    account.reported(QuotaId(7)).unwrap().current
}

#[test]
fn what_a_window_was_charged_too_much_the_next_ones_pay() {
    let (mut account, quota) = (Account::new("s"), hour(100));
    use_up(&mut account, &quota, 250, at(0));
    assert_eq!(stands(&account, &quota, at(0)), (0, 0));
    // Before anybody calls there, and after.
    for now in [at(HOUR), at(HOUR)] {
        assert_eq!(stands(&account, &quota, now), (150, 0));
        assert_eq!(hold(&mut account, &quota, (1, 0), now), None);
        hold(&mut account, &quota, (0, 0), now).expect("what asks for nothing passes");
    }
    assert_eq!(stands(&account, &quota, at(2 * HOUR)), (50, 50));
    use_up(&mut account, &quota, 40, at(2 * HOUR));
    assert_eq!(stands(&account, &quota, at(2 * HOUR)), (50, 10));
    assert_eq!(stands(&account, &quota, at(3 * HOUR)), (0, 100));
    // And it is written down.
    assert_eq!(Account::decode("s", &account.encode()), Some(account));
}

#[test]
fn a_window_that_was_skipped_pays_as_if_it_had_been_there() {
    let owed = |hours: u64| {
        let (mut account, quota) = (Account::new("s"), hour(100));
        use_up(&mut account, &quota, 350, at(0));
        stands(&account, &quota, at(hours * HOUR)).0
    };
    assert_eq!([1, 2, 3, 4, 40].map(owed), [250, 150, 50, 0, 0]);
    // What it then has left rolls over, and no more.
    let rolled = |used: u64, hours: u64| {
        let (mut account, quota) = (Account::new("s"), Quota { rollover: 150, ..hour(100) });
        use_up(&mut account, &quota, used, at(0));
        let standing = account.standing(&quota, at(hours * HOUR)).unwrap();
        (standing.granted, standing.owed)
    };
    assert_eq!(
        [rolled(170, 1), rolled(170, 2), rolled(170, 3), rolled(170, 9)],
        [(100, 70), (130, 0), (230, 0), (250, 0)]
    );
}

#[test]
fn an_overage_bears_a_debt_that_is_there_first() {
    let (mut account, quota) = (Account::new("s"), hour(100));
    let most = hold(&mut account, &quota, (130, 30), at(0)).unwrap();
    settle(&mut account, most, 130, at(0));
    assert_eq!(hold(&mut account, &quota, (101, 30), at(HOUR)), None);
    let all = hold(&mut account, &quota, (100, 30), at(HOUR)).unwrap();
    settle(&mut account, all, 100, at(HOUR));
    assert_eq!(stands(&account, &quota, at(2 * HOUR)), (30, 70));
    // Also one that is larger than all that there is.
    let (mut account, quota) = (Account::new("s"), hour(100));
    use_up(&mut account, &quota, 310, at(0));
    assert_eq!(hold(&mut account, &quota, (41, 150), at(HOUR)), None);
    assert!(hold(&mut account, &quota, (40, 150), at(HOUR)).is_some());
}

#[test]
fn what_a_hold_lawfully_found_is_no_debt() {
    let (mut account, quota) = (Account::new("s"), hour(100));
    let held = hold(&mut account, &quota, (90, 0), at(0)).unwrap();
    settle(&mut account, held, 90, at(0));
    // Lowered in the middle, and so in the next.
    assert!(hold(&mut account, &hour(50), (1, 0), at(1)).is_none());
    assert_eq!(stands(&account, &hour(50), at(HOUR)), (0, 50));
    // Raised in the middle.
    let (mut account, quota) = (Account::new("s"), hour(100));
    use_up(&mut account, &quota, 150, at(0));
    use_up(&mut account, &hour(200), 10, at(1));
    assert_eq!(stands(&account, &hour(200), at(HOUR)), (0, 200));
    // Raised with the next: what is over is over, and leaves nothing either.
    let rolling = |limit| Quota { rollover: 50, ..hour(limit) };
    let (mut account, quota) = (Account::new("s"), rolling(100));
    use_up(&mut account, &quota, 150, at(0));
    let standing = account.standing(&rolling(200), at(HOUR)).unwrap();
    assert_eq!((standing.granted, standing.owed), (200, 50));
}

#[test]
fn what_is_only_observed_makes_no_debt_and_forgives_none() {
    let (mut account, quota) = (Account::new("s"), hour(100));
    let seen = hold(&mut account, &quota, (500, u64::MAX), at(0)).unwrap();
    settle(&mut account, seen, 700, at(0));
    assert_eq!(stands(&account, &quota, at(HOUR)), (0, 100));
    use_up(&mut account, &quota, 330, at(HOUR));
    assert_eq!(stands(&account, &quota, at(2 * HOUR)), (230, 0));
    let seen = hold(&mut account, &quota, (500, u64::MAX), at(2 * HOUR)).unwrap();
    settle(&mut account, seen, 500, at(2 * HOUR));
    assert_eq!(stands(&account, &quota, at(3 * HOUR)), (130, 0));
}

#[test]
fn what_ends_late_is_owed_by_the_windows_after_at_that_moment() {
    let (mut account, quota) = (Account::new("s"), hour(100));
    let late = hold(&mut account, &quota, (100, 0), at(0)).unwrap();
    use_up(&mut account, &quota, 30, at(HOUR));
    use_up(&mut account, &quota, 90, at(2 * HOUR));
    let first = hold(&mut account, &quota, (20, 0), at(3 * HOUR)).unwrap();
    // 250 too many: 70 are left of the second, 10 of the third.
    settle(&mut account, late, 350, at(3 * HOUR));
    let owed = |account: &Account| {
        let known = account.reported(quota.id).unwrap();
        known.before.iter().rev().chain([&known.current]).map(|period| period.owed).collect::<Vec<_>>()
    };
    assert_eq!(owed(&account), [0, 250, 180, 170]);
    assert_eq!(stands(&account, &quota, at(4 * HOUR)), (70, 30));
    settle(&mut account, first, 25, at(3 * HOUR));
    assert_eq!(stands(&account, &quota, at(4 * HOUR)), (95, 5));
}

/// Windows that were skipped, that came to nothing and that are no longer kept have paid before the present one must.
#[test]
fn what_comes_to_light_late_is_paid_by_all_windows_since() {
    let late = |between: &dyn Fn(&mut Account, &Quota)| {
        let (mut account, quota) = (Account::new("s"), hour(100));
        let late = hold(&mut account, &quota, (100, 0), at(0)).unwrap();
        between(&mut account, &quota);
        use_up(&mut account, &quota, 100, at(9 * HOUR));
        settle(&mut account, late, 100 + 850, at(9 * HOUR));
        (account.reported(quota.id).unwrap().before.len(), current(&account).owed)
    };
    assert_eq!(late(&|_, _| {}), (1, 50));
    let nothing = |account: &mut Account, quota: &Quota, hour: u64| {
        let held = hold(account, quota, (10, 0), at(hour * HOUR)).unwrap();
        settle(account, held, 0, at(hour * HOUR));
    };
    assert_eq!(late(&|account, quota| (2..5).for_each(|hour| nothing(account, quota, hour))), (1, 50));
    // Ten of each are used.
    assert_eq!(late(&|account, quota| (2..7).for_each(|hour| use_up(account, quota, 10, at(hour * HOUR)))), (3, 100));
    // What they have used too much they owe themselves, and no late debt is paid of it.
    let over = |account: &mut Account, quota: &Quota| {
        (2..6).for_each(|hour| use_up(account, quota, 30, at(hour * HOUR)));
        use_up(account, quota, 180, at(6 * HOUR));
    };
    assert_eq!(late(&over), (3, 50 + 4 * 30 + 180));
}

#[test]
fn a_first_use_window_pays_when_it_is_used_and_not_before() {
    let (mut account, quota) = (Account::new("s"), first_use(100));
    use_up(&mut account, &quota, 130, at(0));
    assert_eq!(stands(&account, &quota, at(50 * HOUR)), (30, 70));
    // Windows that came to nothing pay nothing.
    for hour in [50, 51, 52] {
        let held = hold(&mut account, &quota, (10, 0), at(hour * HOUR)).unwrap();
        settle(&mut account, held, 0, at(hour * HOUR));
        assert_eq!(stands(&account, &quota, at(hour * HOUR + 1)), (30, 70));
    }
    use_up(&mut account, &quota, 70, at(60 * HOUR));
    assert_eq!(stands(&account, &quota, at(60 * HOUR)), (30, 0));
    assert_eq!(stands(&account, &quota, at(61 * HOUR)), (0, 100));
}

#[test]
fn a_term_that_is_moved_and_a_lifetime_owe_nothing() {
    let term = |from: u64| Quota {
        window: Window::Term { from_ms: START + from * HOUR, until_ms: START + (from + 1) * HOUR },
        ..hour(100)
    };
    let mut account = Account::new("s");
    let late = hold(&mut account, &term(0), (1, 0), at(0)).unwrap();
    use_up(&mut account, &term(0), 130, at(0));
    assert_eq!(stands(&account, &term(2), at(2 * HOUR)), (0, 100));
    use_up(&mut account, &term(2), 10, at(2 * HOUR));
    settle(&mut account, late, 500, at(2 * HOUR));
    assert_eq!(stands(&account, &term(2), at(2 * HOUR)), (0, 90));
}

/// What it grants is without what is owed; it says how much that could not take off.
#[test]
fn with_a_ledger_the_ledger_says_what_is_owed() {
    let (mut account, quota) = (Account::new("s"), Quota { granted: true, ..hour(100) });
    let line = |hour: u64, granted, owed| GrantLine {
        quota: quota.id,
        window: START + hour * HOUR,
        ends: START + (hour + 1) * HOUR,
        granted,
        left: 0,
        owed,
    };
    account.merge(&line(0, 100, 0));
    let late = hold(&mut account, &quota, (10, 0), at(0)).unwrap();
    use_up(&mut account, &quota, 310, at(0));
    account.merge(&line(1, 70, 0));
    assert_eq!(stands(&account, &quota, at(HOUR)), (0, 70));
    settle(&mut account, late, 500, at(HOUR));
    assert_eq!(stands(&account, &quota, at(HOUR)), (0, 70), "the ledger will say");
    account.merge(&line(2, 0, 110));
    account.merge(&line(2, 0, 90));
    assert_eq!(hold(&mut account, &quota, (41, 150), at(2 * HOUR)), None);
    assert!(hold(&mut account, &quota, (40, 150), at(2 * HOUR)).is_some());
    // More than was owed is there after all: the limit was raised.
    account.merge(&line(2, 50, 0));
    assert_eq!(stands(&account, &quota, at(2 * HOUR)), (0, 10));
    // Nor does anything of it follow when there is no ledger any more.
    assert_eq!(stands(&account, &hour(100), at(3 * HOUR)), (0, 100));
}

#[test]
fn these_tests_are_not_blind() {
    let tests: [fn(); 4] = [
        what_a_window_was_charged_too_much_the_next_ones_pay,
        a_window_that_was_skipped_pays_as_if_it_had_been_there,
        what_ends_late_is_owed_by_the_windows_after_at_that_moment,
        a_first_use_window_pays_when_it_is_used_and_not_before,
    ];
    for test in tests {
        assert!(with(Some(Fault::DebtIsForgotten), || std::panic::catch_unwind(test)).is_err());
    }
}
