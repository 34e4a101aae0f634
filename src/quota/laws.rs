//! Laws of the accounts, on random sequences of operations, and on bytes that are no records.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::TestCaseError;

use super::account::{Account, Kind};
use super::{
    CalendarPeriod, Cell, Cells, Ending, ExchangeId, Expect, GrantLine, Held, Incarnation, Keys, Level, Line,
    Operation, Outcome, Quota, QuotaId, Short, Slot, StoreError, Window, first_claimable, give_back, grant, peek,
    read_account, read_slot,
};
use crate::now::Now;

/// Shared data in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shared {
    pub(super) cells: BTreeMap<Vec<u8>, Cell>,
    version: u32,
}

impl Cells for Shared {
    fn load(&mut self, key: &[u8]) -> Result<Option<Cell>, StoreError> {
        Ok(self.cells.get(key).cloned())
    }

    fn swap(&mut self, key: &[u8], expect: Expect, value: &[u8]) -> Result<bool, StoreError> {
        let fits = match (self.cells.get(key), expect) {
            (None, Expect::Absent) => true,
            (Some(cell), Expect::Version(version)) => cell.version == version,
            _ => false,
        };
        if fits {
            self.version += 1;
            self.cells.insert(key.to_vec(), Cell { value: value.to_vec(), version: self.version });
        }
        Ok(fits)
    }
}

const SUBJECTS: [&str; 2] = ["seat/alice", "org/acme"];
const HOUR: u64 = 3_600_000;
const START: u64 = 1_790_800_000_000;

fn quota(name: &str, limit: u64, window: Window, granted: bool) -> Quota {
    Quota { id: QuotaId::of("plan", name), limit, window, granted, rollover: 0 }
}

fn quotas() -> [Vec<Quota>; 2] {
    let month = || Window::Calendar { period: CalendarPeriod::Month, zone: "Asia/Shanghai".to_owned() };
    [
        vec![
            quota("five hours", 60, Window::FirstUse { length_ms: 5 * HOUR }, false),
            quota("pace", 90, Window::Bucket { period_ms: HOUR, burst: 90 }, false),
            quota("live", 3, Window::Concurrent, false),
        ],
        vec![quota("fund", 200, month(), true), quota("month", 150, month(), false)],
    ]
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Hold { slot: u32, amount: u64 },
    Extend { slot: u32, amount: u64 },
    Settle { slot: u32, used: u64 },
    Die,
    Wait { ms: u64 },
    StepBack { ms: u64 },
    Grant { granted: u64, left: u64 },
    GiveBack { keep: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    let slot = || 0_u32..5;
    prop_oneof![
        4 => (slot(), 0_u64..40).prop_map(|(slot, amount)| Event::Hold { slot, amount }),
        2 => (slot(), 0_u64..20).prop_map(|(slot, amount)| Event::Extend { slot, amount }),
        4 => (slot(), 0_u64..50).prop_map(|(slot, used)| Event::Settle { slot, used }),
        1 => Just(Event::Die),
        2 => prop_oneof![0..HOUR, 0..6 * HOUR, 0..800 * HOUR].prop_map(|ms| Event::Wait { ms }),
        1 => (0..40 * HOUR).prop_map(|ms| Event::StepBack { ms }),
        2 => (0_u64..300, 0_u64..3).prop_map(|(granted, left)| Event::Grant { granted, left }),
        1 => (0_u64..50).prop_map(|keep| Event::GiveBack { keep }),
    ]
}

/// What ought to be in the accounts: kept by the simplest means, and never read from the accounts but for windows.
struct World {
    keys: Keys,
    shared: Shared,
    by: Incarnation,
    sequence: u64,
    wall_ms: u64,
    /// Charged, by quota and the window that the exchange was admitted in.
    charged: BTreeMap<(QuotaId, u64), u64>,
    /// Windows that were over and were kept.
    past: BTreeSet<(QuotaId, u64)>,
}

impl World {
    fn new() -> Self {
        let (keys, mut shared) = (Keys::new("laws"), Shared::default());
        let by = first_claimable(&keys, 1, false, Now::default(), &mut shared).unwrap().unwrap().by();
        Self { keys, shared, by, sequence: 0, wall_ms: START, charged: BTreeMap::new(), past: BTreeSet::new() }
    }

    fn now(&self) -> Now {
        Now { wall_ms: self.wall_ms, mono_ms: 0 }
    }

    fn levels(amount: u64) -> Vec<Level> {
        let line = |quota: Quota| {
            let amount = if quota.window == Window::Concurrent { 1 } else { amount };
            Line { quota, amount, over: 0 }
        };
        let level = |(subject, quotas): (&str, Vec<Quota>)| Level {
            subject: subject.to_owned(),
            lines: quotas.into_iter().map(line).collect(),
        };
        SUBJECTS.into_iter().zip(quotas()).map(level).collect()
    }

    fn more(amount: u64) -> Vec<Level> {
        let mut levels = Self::levels(amount);
        levels.iter_mut().for_each(|level| level.lines.retain(|line| line.quota.window != Window::Concurrent));
        levels
    }

    fn slot(&mut self, slot: u32) -> Option<Held> {
        match read_slot(&self.keys, self.by.vm, slot, &mut self.shared).unwrap().unwrap() {
            Slot::Held(held) => Some(held),
            _ => None,
        }
    }

    fn account(&mut self, subject: &str) -> Account {
        read_account(&self.keys, subject, &mut self.shared).unwrap().unwrap_or_else(|| Account::new(subject))
    }

    /// What the windows before `window` leave to it, told from what was charged alone: each has its limit, and pays with
    /// all of it; a calendar's also where nobody called, a first-use one that came to nothing not.
    fn owed(&self, quota: &Quota, window: u64) -> u64 {
        if quota.granted || Kind::of(&quota.window) != Kind::Windowed {
            return 0;
        }
        let charged = |start: u64| self.charged.get(&(quota.id, start)).copied().unwrap_or(0);
        let used = self.charged.iter().filter(|(_, amount)| **amount > 0).map(|(key, _)| key);
        let starts = used.chain(&self.past).filter(|(id, start)| *id == quota.id && *start < window);
        let starts: BTreeSet<u64> = starts.map(|(_, start)| *start).collect();
        let paid = |debt: u64, start: u64| (debt + charged(start)).saturating_sub(quota.limit);
        if matches!(quota.window, Window::FirstUse { .. }) {
            return starts.into_iter().fold(0, paid);
        }
        let (mut debt, mut start) = (0, starts.first().copied().unwrap_or(window));
        while start < window {
            debt = paid(debt, start);
            start = super::window::opening(&quota.window, start).unwrap().ends;
        }
        debt
    }

    fn hold(&mut self, id: ExchangeId, mut operation: Operation, levels: &[Level]) -> Result<(), TestCaseError> {
        let (before, now) = (self.shared.clone(), self.now());
        let stand = |world: &mut Self| -> Vec<_> {
            let lines = levels.iter().flat_map(|level| level.lines.iter().map(move |line| (&level.subject, line)));
            lines.map(|(subject, line)| (line.clone(), world.account(subject).standing(&line.quota, now))).collect()
        };
        let fits = stand(self).iter().all(|(line, standing)| {
            let room = |standing: super::Standing| {
                // A first-use window that is still to be opened comes after all others.
                let owed = self.owed(&line.quota, if standing.window == 0 { u64::MAX } else { standing.window });
                standing.used + owed + standing.held + line.amount <= standing.granted
            };
            standing.is_some_and(|standing| line.amount == 0 || room(standing))
        });
        let extends = (0..5).filter_map(|slot| self.slot(slot)).any(|held| held.id == id);
        match operation.run(&mut self.shared).unwrap() {
            Outcome::Done => {
                prop_assert_eq!(operation.holds().len(), levels.len());
                // An extension is held in the window of its exchange, which may be the one before.
                prop_assert!(fits || extends, "held what does not fit");
                let running = (0..5).filter_map(|slot| self.slot(slot)).find(|held| held.id == id).unwrap();
                for (held, level) in running.levels.iter().zip(levels) {
                    let account = self.account(&held.subject);
                    // What asks for nothing passes, whatever debt there is.
                    for line in level.lines.iter().filter(|line| line.amount > 0) {
                        let window = held.lines.iter().find(|held| held.quota == line.quota.id).unwrap().window;
                        let mut entry = account.entry(line.quota.id, Kind::of(&line.quota.window)).unwrap().clone();
                        let Some(period) = entry.kept(window) else { continue };
                        let allowed =
                            if line.quota.granted { period.granted - period.returned } else { line.quota.limit };
                        let spent = period.used + self.owed(&line.quota, window);
                        prop_assert!(spent + period.held <= allowed, "{:?} in {:?}", line, period);
                    }
                }
            }
            Outcome::Refused(short) => {
                prop_assert_eq!(&self.shared, &before, "a refusal left a trace");
                prop_assert!(!fits || extends, "refused what fits: {:?}", short);
                if let Short::Busy { standing, .. } = &short {
                    prop_assert!(standing.held > 0 || standing.used > 0);
                }
            }
            Outcome::WrongSlot => prop_assert_eq!(&self.shared, &before),
            outcome => prop_assert!(false, "{:?}", outcome),
        }
        Ok(())
    }

    /// Writes down what the exchange costs, where it must be charged.
    fn charge(&mut self, held: &Held, used: u64) {
        for level in &held.levels {
            let account = self.account(&level.subject);
            for line in &level.lines {
                let Some(entry) = account.entry(line.quota, Kind::Windowed) else {
                    continue;
                };
                let kept = entry.clone().kept(line.window).is_some();
                let window = if kept { line.window } else { entry.current.start };
                *self.charged.entry((line.quota, window)).or_default() += used;
            }
        }
    }

    fn happens(&mut self, event: &Event) -> Result<(), TestCaseError> {
        let (keys, now) = (self.keys.clone(), self.now());
        match *event {
            Event::Wait { ms } => self.wall_ms += ms,
            Event::StepBack { ms } => self.wall_ms -= ms.min(self.wall_ms),
            Event::Hold { slot, amount } => {
                self.sequence += 1;
                let (id, levels) = (ExchangeId { by: self.by, sequence: self.sequence }, Self::levels(amount));
                self.hold(id, Operation::hold(&keys, self.by, slot, id, levels.clone(), vec![1], now), &levels)?;
            }
            Event::Extend { slot, amount } => {
                let Some(held) = self.slot(slot) else { return Ok(()) };
                let more = Self::more(amount);
                self.hold(held.id, Operation::extend(&keys, self.by, slot, held.id, more.clone(), 7, now), &more)?;
            }
            Event::Settle { slot, used } => {
                let Some(held) = self.slot(slot) else { return Ok(()) };
                self.charge(&held, used);
                let levels = Self::levels(used);
                let mut settle = Operation::settle(&keys, self.by, slot, held.id, levels, vec![2], false, now);
                prop_assert_eq!(settle.clone().run(&mut self.shared), Ok(Outcome::Done));
                let before = self.shared.clone();
                prop_assert_eq!(settle.run(&mut self.shared), Ok(Outcome::WrongSlot), "settled twice");
                prop_assert_eq!(&self.shared, &before);
            }
            Event::Die => self.die()?,
            Event::Grant { granted, left } => {
                let fund = &quotas()[1][0];
                let span = super::window::opening(&fund.window, self.wall_ms).unwrap();
                let line = GrantLine { quota: fund.id, window: span.start, ends: span.ends, granted, left, owed: 0 };
                grant(&keys, SUBJECTS[1], &[line], &mut self.shared).unwrap();
            }
            Event::GiveBack { keep } => {
                give_back(&keys, SUBJECTS[1], quotas()[1][0].id, keep, &mut self.shared).unwrap();
            }
        }
        Ok(())
    }

    /// The VM dies; its slot is claimed, and what it held is charged.
    fn die(&mut self) -> Result<(), TestCaseError> {
        let (keys, now) = (self.keys.clone(), self.now());
        let running: Vec<Held> = (0..5).filter_map(|slot| self.slot(slot)).collect();
        for held in &running {
            self.charge(held, 1);
        }
        let seen = peek(&keys, self.by.vm, &mut self.shared).unwrap().unwrap();
        let mut claim = super::Claim::new(&keys, 1, self.by.vm, seen, false, now);
        let super::Claimed::Taken(mut recovery) = claim.run(&mut self.shared).unwrap() else {
            return Err(TestCaseError::fail("nobody else is there"));
        };
        let mut charge = |held: &Held| {
            let mut used = held.levels.clone();
            used.iter_mut().for_each(|level| level.lines.iter_mut().for_each(|line| line.amount = 1));
            Ending { used, record: vec![3] }
        };
        prop_assert_eq!(recovery.run(&mut self.shared, &mut charge), Ok(Outcome::Done));
        prop_assert_eq!(usize::try_from(recovery.ended()).unwrap(), running.len());
        let old = self.by;
        self.by = recovery.by();
        let stale = ExchangeId { by: old, sequence: 1 };
        let mut late = Operation::hold(&keys, old, 0, stale, Self::levels(1), Vec::new(), now);
        prop_assert_eq!(late.run(&mut self.shared), Ok(Outcome::Fenced));
        Ok(())
    }

    /// What is held is what the slots say, and what is charged is what was charged.
    fn balances(&mut self) -> Result<(), TestCaseError> {
        prop_assert!(!super::fault::underflowed(), "more was released than was held");
        let running: Vec<Held> = (0..5).filter_map(|slot| self.slot(slot)).collect();
        for (subject, quotas) in SUBJECTS.into_iter().zip(quotas()) {
            let account = self.account(subject);
            for quota in quotas {
                let Some(entry) = account.entry(quota.id, Kind::of(&quota.window)) else { continue };
                let lines = running.iter().flat_map(|held| held.levels.iter().flat_map(|level| &level.lines));
                let held_in = |window: u64| -> u64 {
                    let of = |line: &&super::HeldLine| line.quota == quota.id && line.window == window;
                    lines.clone().filter(of).map(|line| line.amount).sum()
                };
                match entry.kind {
                    Kind::Bucket | Kind::Sliding => continue,
                    Kind::Concurrent => prop_assert_eq!(entry.current.held, held_in(0)),
                    Kind::Windowed => {
                        self.past.extend(entry.before.iter().map(|period| (quota.id, period.start)));
                        let periods: Vec<_> = entry.before.iter().rev().chain([&entry.current]).collect();
                        for period in periods.iter().filter(|period| period.start != 0) {
                            prop_assert_eq!(period.held, held_in(period.start));
                            let charged = self.charged.get(&(quota.id, period.start)).copied().unwrap_or(0);
                            prop_assert_eq!(period.used, charged);
                            let owed = self.owed(&quota, period.start);
                            prop_assert_eq!(period.owed, owed, "{:?} of {:?} in {:?}", quota, entry, period);
                        }
                        prop_assert!(periods.is_sorted_by_key(|period| period.start));
                    }
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn accounts_balance_after_anything(events in prop::collection::vec(event(), 1..60)) {
        super::fault::underflowed();
        let mut world = World::new();
        for event in &events {
            world.happens(event)?;
            world.balances()?;
        }
    }

    /// What is charged to a bucket, at the moment of its hold, never passes what its rate allows, and the bucket never
    /// believes itself emptier than it is.
    #[test]
    fn a_bucket_is_never_over(
        steps in prop::collection::vec((0_u64..40, 0_u64..8, 1_u64..30, 0_u64..30), 1..60),
    ) {
        let bucket = quota("pace", 40, Window::Bucket { period_ms: 100, burst: 40 }, false);
        let keys = Keys::new("bucket");
        let mut shared = Shared::default();
        let by = first_claimable(&keys, 1, false, Now::default(), &mut shared).unwrap().unwrap().by();
        let mut wall_ms = START;
        // (when, amount): held until it is known what was used.
        let mut charges: Vec<(u64, u64)> = Vec::new();
        let mut running: BTreeMap<u32, usize> = BTreeMap::new();
        for (sequence, (wait, slot, hold, used)) in (1..).zip(steps) {
            wall_ms += wait;
            let (now, slot) = (Now { wall_ms, mono_ms: 0 }, u32::try_from(slot).unwrap());
            let level = |amount| vec![Level { subject: "s".to_owned(), lines: vec![Line { quota: bucket.clone(), amount, over: 0 }] }];
            if let Some(index) = running.remove(&slot) {
                let Slot::Held(held) = read_slot(&keys, by.vm, slot, &mut shared).unwrap().unwrap() else { panic!() };
                let used = used.min(charges[index].1);
                charges[index].1 = used;
                let mut settle = Operation::settle(&keys, by, slot, held.id, level(used), Vec::new(), false, now);
                prop_assert_eq!(settle.run(&mut shared), Ok(Outcome::Done));
            } else {
                let id = ExchangeId { by, sequence };
                match Operation::hold(&keys, by, slot, id, level(hold), Vec::new(), now).run(&mut shared).unwrap() {
                    Outcome::Done => {
                        running.insert(slot, charges.len());
                        charges.push((wall_ms, hold));
                    }
                    Outcome::Refused(Short::Busy { retry_ms, .. }) => {
                        let later = Now { wall_ms: wall_ms + retry_ms.unwrap(), mono_ms: 0 };
                        let mut again = Operation::hold(&keys, by, slot, id, level(hold), Vec::new(), later);
                        prop_assert_eq!(again.run(&mut shared.clone()), Ok(Outcome::Done), "the wait was too short");
                        let early = Now { wall_ms: wall_ms + retry_ms.unwrap() - 1, mono_ms: 0 };
                        let mut again = Operation::hold(&keys, by, slot, id, level(hold), Vec::new(), early);
                        prop_assert!(again.run(&mut shared.clone()) != Ok(Outcome::Done), "the wait was too long");
                    }
                    outcome => prop_assert!(false, "{:?}", outcome),
                }
            }
            // The level in thousandths of the exact bucket, all charges made when they were held.
            let (mut exact, mut last) = (0_u64, START);
            for (at, amount) in &charges {
                exact = exact.saturating_sub((at - last) * 400) + amount * 1000;
                last = *at;
                prop_assert!(exact <= 40_000, "over: {} at {}", exact, at);
            }
            exact = exact.saturating_sub((wall_ms - last) * 400);
            if let Some(account) = read_account(&keys, "s", &mut shared).unwrap() {
                let standing = account.standing(&bucket, now).unwrap();
                prop_assert!(standing.used * 1000 + 1000 > exact, "{:?} is emptier than {}", standing, exact);
            }
        }
    }

    /// What is charged to a sliding window, at the moment of its hold, never passes the limit in any stretch of its
    /// length, and what is refused for its sake would pass it in one that is longer by a slice.
    #[test]
    fn a_sliding_window_is_never_over(steps in sliding_steps()) {
        slides(&steps)?;
    }

    /// Whatever is stored under our keys, operations end and nothing panics; what cannot be read is not overwritten by
    /// an admission.
    #[test]
    fn strangers_bytes_are_never_believed(
        garbage in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 5),
        flips in prop::collection::vec((0_usize..5, any::<usize>(), any::<u8>()), 0..6),
        cut in any::<usize>(),
        whole in any::<bool>(),
    ) {
        let mut world = World::new();
        world.happens(&Event::Grant { granted: 100, left: 0 })?;
        for slot in 0..2 {
            world.happens(&Event::Hold { slot, amount: 5 })?;
        }
        let names = [
            world.keys.vm(0), world.keys.slot(0, 0), world.keys.slot(0, 1),
            world.keys.account(SUBJECTS[0]), world.keys.account(SUBJECTS[1]),
        ];
        for (index, name) in names.iter().enumerate() {
            let value = &mut world.shared.cells.get_mut(name).unwrap().value;
            if whole {
                value.clone_from(&garbage[index]);
                continue;
            }
            for (_, at, with) in flips.iter().filter(|(of, ..)| *of == index) {
                let at = at % value.len();
                value[at] ^= with;
            }
            if flips.is_empty() {
                value.truncate(cut % (value.len() + 1));
            }
        }
        let (keys, by, now) = (world.keys.clone(), world.by, world.now());
        let id = ExchangeId { by, sequence: 9 };
        for mut operation in [
            Operation::hold(&keys, by, 3, id, World::levels(1), Vec::new(), now),
            Operation::extend(&keys, by, 0, ExchangeId { by, sequence: 1 }, World::more(1), 3, now),
            Operation::settle(&keys, by, 0, ExchangeId { by, sequence: 1 }, World::levels(1), vec![1], true, now),
            Operation::free(&keys, by, 0, ExchangeId { by, sequence: 1 }),
        ] {
            operation.run(&mut world.shared).unwrap();
        }
        if let Some(seen) = peek(&keys, 0, &mut world.shared).unwrap()
            && let super::Claimed::Taken(mut recovery) =
                super::Claim::new(&keys, 1, 0, seen, true, now).run(&mut world.shared).unwrap()
        {
            let mut charge = |held: &Held| Ending { used: held.levels.clone(), record: Vec::new() };
            // A slot count that a stranger wrote may be large: steps are bounded, not the slots.
            for _ in 0..200 {
                recovery.step(&mut world.shared, &mut charge).unwrap();
            }
        }
        super::fault::underflowed();
    }
}

fn sliding_steps() -> impl Strategy<Value = Vec<(u64, u32, u64, u64)>> {
    prop::collection::vec((0_u64..300, 0_u32..8, 1_u64..30, 0_u64..30), 1..80)
}

fn slides(steps: &[(u64, u32, u64, u64)]) -> Result<(), TestCaseError> {
    const LENGTH: u64 = 1_200;
    let window = quota("pace", 40, Window::Sliding { length_ms: LENGTH }, false);
    let (keys, mut shared) = (Keys::new("sliding"), Shared::default());
    let by = first_claimable(&keys, 1, false, Now::default(), &mut shared).unwrap().unwrap().by();
    let mut wall_ms = START;
    // (when, amount): held until it is known what was used.
    let mut charges: Vec<(u64, u64)> = Vec::new();
    let mut running: BTreeMap<u32, usize> = BTreeMap::new();
    for (sequence, (wait, slot, hold, used)) in (1..).zip(steps.iter().copied()) {
        wall_ms += wait;
        let now = Now { wall_ms, mono_ms: 0 };
        let level = |amount| {
            vec![Level { subject: "s".to_owned(), lines: vec![Line { quota: window.clone(), amount, over: 0 }] }]
        };
        let within = |charges: &[(u64, u64)], length: u64, until: u64| -> u64 {
            charges.iter().filter(|(at, _)| *at <= until && until - at < length).map(|(_, amount)| amount).sum()
        };
        if let Some(index) = running.remove(&slot) {
            let Slot::Held(held) = read_slot(&keys, by.vm, slot, &mut shared).unwrap().unwrap() else { panic!() };
            let used = used.min(charges[index].1);
            charges[index].1 = used;
            let mut settle = Operation::settle(&keys, by, slot, held.id, level(used), Vec::new(), false, now);
            prop_assert_eq!(settle.run(&mut shared), Ok(Outcome::Done));
            continue;
        }
        let id = ExchangeId { by, sequence };
        match Operation::hold(&keys, by, slot, id, level(hold), Vec::new(), now).run(&mut shared).unwrap() {
            Outcome::Done => {
                running.insert(slot, charges.len());
                charges.push((wall_ms, hold));
                for (until, _) in &charges {
                    prop_assert!(within(&charges, LENGTH, *until) <= 40, "over at {}", until);
                }
            }
            Outcome::Refused(Short::Busy { retry_ms, .. }) => {
                prop_assert!(within(&charges, LENGTH + LENGTH / 60, wall_ms) + hold > 40, "refused what fits");
                let at = |wait: u64| {
                    let later = Now { wall_ms: wall_ms + wait, mono_ms: 0 };
                    Operation::hold(&keys, by, slot, id, level(hold), Vec::new(), later).run(&mut shared.clone())
                };
                prop_assert_eq!(at(retry_ms.unwrap()), Ok(Outcome::Done), "the wait was too short");
                prop_assert!(at(retry_ms.unwrap() - 1) != Ok(Outcome::Done), "the wait was too long");
            }
            outcome => prop_assert!(false, "{:?}", outcome),
        }
    }
    Ok(())
}

#[test]
fn the_law_of_sliding_windows_is_not_blind() {
    use super::fault::{Fault, with};
    // 30 are held, and 10 in a later slice; nothing of the 30 is used. Taken back from the later slice, they count for
    // as long as the first does, and the 10 not at all.
    let steps = [(0, 0, 30, 0), (600, 1, 10, 0), (1, 0, 1, 0), (640, 2, 40, 0)];
    assert!(slides(&steps).is_ok());
    assert!(with(Some(Fault::RefundIsLate), || slides(&steps)).is_err());
}

#[test]
fn an_unreadable_account_refuses_and_stays_as_it_is() {
    let mut world = World::new();
    let key = world.keys.account(SUBJECTS[0]);
    for bytes in [
        &b""[..],
        b"\x02\x00",
        b"\x02\x00\x03\x00\x00\x00abc\x00\x00\x00\x00",
        b"\x01\x00\x03\x00\x00\x00abc\x00\x00\x00\x00",
    ] {
        let cell = Cell { value: bytes.to_vec(), version: 1 };
        world.shared.cells.insert(key.clone(), cell.clone());
        let id = ExchangeId { by: world.by, sequence: 1 };
        let levels = World::levels(1);
        let outcome =
            Operation::hold(&world.keys, world.by, 0, id, levels, Vec::new(), world.now()).run(&mut world.shared);
        assert_eq!(outcome, Ok(Outcome::Unreadable { key: key.clone() }));
        assert_eq!(world.shared.cells.get(&key), Some(&cell));
    }
}

#[test]
fn the_laws_are_not_blind() {
    use super::fault::{Fault, with};
    for fault in [Fault::SettleKeepsHeld, Fault::AdmissionIgnoresHeld, Fault::LostNotEnded] {
        let broken = with(Some(fault), || {
            let mut world = World::new();
            let events = [
                Event::Grant { granted: 200, left: 0 },
                Event::Hold { slot: 0, amount: 39 },
                Event::Hold { slot: 1, amount: 39 },
                Event::Hold { slot: 2, amount: 10 },
                Event::Settle { slot: 0, used: 1 },
                Event::Die,
            ];
            events.iter().try_for_each(|event| world.happens(event).and_then(|()| world.balances()))
        });
        assert!(broken.is_err(), "{fault:?}");
    }
    let debts = || {
        let mut world = World::new();
        let events = [
            Event::Grant { granted: 200, left: 0 },
            Event::Hold { slot: 0, amount: 39 },
            Event::Settle { slot: 0, used: 100 },
            Event::Wait { ms: 6 * HOUR },
            Event::Hold { slot: 0, amount: 30 },
        ];
        events.iter().try_for_each(|event| world.happens(event).and_then(|()| world.balances()))
    };
    assert!(debts().is_ok());
    assert!(with(Some(Fault::DebtIsForgotten), debts).is_err());
}
