//! What an exchange costs its accounts: calls of the store and time, operation by operation. For a test and `make bench`,
//! natively and inside Envoy. Time is a parameter, as everywhere. Never in what is shipped.

use std::collections::HashMap;

use super::{
    CalendarPeriod, Cell, Cells, ExchangeId, Expect, Keys, Level, Line, Operation, Outcome, Quota, QuotaId, StoreError,
    Window, first_claimable, release,
};
use crate::now::Now;

/// The operations of an exchange.
pub const OPERATIONS: [&str; 4] = ["hold", "extend", "settle", "free"];

/// What one operation costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Calls of the store.
    pub calls: Calls,
    /// Nanoseconds, on the average of all rounds.
    pub nanoseconds: u64,
}

/// Loads and swaps of accounts, exchange slots and VM slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls(pub [(u32, u32); 3]);

impl Calls {
    /// The calls for one kind of key; `None`: the process epoch, which is read once a VM.
    pub fn of(&mut self, key: &[u8]) -> Option<&mut (u32, u32)> {
        let part = |kind: &&str| key.windows(3).any(|part| part == kind.as_bytes());
        let kind = ["/a/", "/x/", "/v/"].iter().position(part)?;
        self.0.get_mut(kind)
    }
}

/// Counts the calls of a store.
struct Counted<'a> {
    cells: &'a mut dyn Cells,
    calls: Calls,
}

impl Cells for Counted<'_> {
    fn load(&mut self, key: &[u8]) -> Result<Option<Cell>, StoreError> {
        self.calls.of(key).into_iter().for_each(|(loads, _)| *loads = loads.saturating_add(1));
        self.cells.load(key)
    }

    fn swap(&mut self, key: &[u8], expect: Expect, value: &[u8]) -> Result<bool, StoreError> {
        self.calls.of(key).into_iter().for_each(|(_, swaps)| *swaps = swaps.saturating_add(1));
        self.cells.swap(key, expect, value)
    }
}

/// Shared data as Envoy has it: a hash map. For one VM: nobody else writes.
#[derive(Default)]
pub struct Hashed {
    /// Everything.
    pub cells: HashMap<Vec<u8>, Cell>,
}

impl Cells for Hashed {
    fn load(&mut self, key: &[u8]) -> Result<Option<Cell>, StoreError> {
        Ok(self.cells.get(key).cloned())
    }

    fn swap(&mut self, key: &[u8], _: Expect, value: &[u8]) -> Result<bool, StoreError> {
        self.cells.insert(key.to_vec(), Cell { value: value.to_vec(), version: 1 });
        Ok(true)
    }
}

/// The quotas of a seat: what a plan with five hours, a week, a month and a number of calls at once has.
fn quotas() -> Vec<Quota> {
    let calendar = |period| Window::Calendar { period, zone: "Asia/Shanghai".to_owned() };
    let each = [
        Window::FirstUse { length_ms: 18_000_000 },
        calendar(CalendarPeriod::Week { starts: 0 }),
        calendar(CalendarPeriod::Month),
        Window::Concurrent,
    ];
    let quota = |(index, window): (u64, Window)| Quota {
        id: QuotaId(index),
        limit: 1_000_000_000,
        window,
        granted: false,
        rollover: 0,
    };
    (1..).zip(each).map(quota).collect()
}

/// A line of each quota on every level.
pub(super) fn levels(subjects: &[String], amount: u64) -> Vec<Level> {
    let line = |quota| Line { quota, amount, over: 0 };
    let level = |subject: &String| Level { subject: subject.clone(), lines: quotas().into_iter().map(line).collect() };
    subjects.iter().map(level).collect()
}

/// Runs exchanges of so many levels, each of four quotas, one after the other.
///
/// `clock`: nanoseconds.
pub fn measure(
    many: u32,
    rounds: u32,
    now: Now,
    cells: &mut dyn Cells,
    clock: impl Fn() -> u64,
) -> Result<[Cost; 4], StoreError> {
    let keys = Keys::new("cost");
    let claimed = first_claimable(&keys, 1, false, now, cells)?.ok_or(StoreError)?;
    let by = claimed.by();
    let subjects: Vec<String> = (0..many).map(|level| format!("level/{level}")).collect();
    let mut costs = [Cost::default(); 4];
    // The last round is counted, and those before it are timed.
    for round in 0..=rounds {
        let id = ExchangeId { by, sequence: u64::from(round).saturating_add(1) };
        for (cost, what) in costs.iter_mut().zip(OPERATIONS) {
            let mut operation = match what {
                "hold" => Operation::hold(&keys, by, 0, id, levels(&subjects, 7), Vec::new(), now),
                "extend" => Operation::extend(&keys, by, 0, id, levels(&subjects, 3), 1, now),
                "settle" => Operation::settle(&keys, by, 0, id, levels(&subjects, 5), vec![1], true, now),
                _ => Operation::free(&keys, by, 0, id),
            };
            let mut counted = Counted { cells: &mut *cells, calls: Calls::default() };
            let begun = clock();
            let outcome = if round < rounds { operation.run(counted.cells) } else { operation.run(&mut counted) };
            if outcome? != Outcome::Done {
                return Err(StoreError);
            }
            match round < rounds {
                true => cost.nanoseconds = cost.nanoseconds.saturating_add(clock().saturating_sub(begun)),
                false => cost.calls = counted.calls,
            }
        }
    }
    for cost in &mut costs {
        cost.nanoseconds = cost.nanoseconds.checked_div(u64::from(rounds)).unwrap_or(0);
    }
    release(&keys, by, cells)?;
    Ok(costs)
}
