//! What the accounts cost: store calls of an operation, bytes of an account, and the time to look one up.

use std::collections::HashMap;
use std::time::Instant;

use super::laws::Shared;
use super::{
    CalendarPeriod, Cell, Cells, ExchangeId, Expect, Keys, Level, Line, Operation, Outcome, Quota, QuotaId, StoreError,
    Window, first_claimable, read_account,
};
use crate::now::Now;

const NOW: Now = Now { wall_ms: 1_795_564_800_000, mono_ms: 0 };

/// Counts the calls of a store, by the kind of key.
struct Counted {
    shared: Shared,
    /// Loads and swaps of accounts, exchange slots and VM slots.
    calls: [(u32, u32); 3],
}

impl Counted {
    fn kind(&mut self, key: &[u8]) -> &mut (u32, u32) {
        let key = std::str::from_utf8(key).unwrap();
        let kind = ["/a/", "/x/", "/v/"].iter().position(|part| key.contains(part)).unwrap();
        &mut self.calls[kind]
    }
}

impl Cells for Counted {
    fn load(&mut self, key: &[u8]) -> Result<Option<Cell>, StoreError> {
        self.kind(key).0 += 1;
        self.shared.load(key)
    }

    fn swap(&mut self, key: &[u8], expect: Expect, value: &[u8]) -> Result<bool, StoreError> {
        self.kind(key).1 += 1;
        self.shared.swap(key, expect, value)
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

fn levels(subjects: &[String], amount: u64) -> Vec<Level> {
    let line = |quota| Line { quota, amount, over: 0 };
    let level = |subject: &String| Level { subject: subject.clone(), lines: quotas().into_iter().map(line).collect() };
    subjects.iter().map(level).collect()
}

/// At most two compare-and-swaps a level and request: one when it holds, one when it settles.
#[test]
fn a_request_swaps_each_account_twice() {
    for many in 0..=4_u32 {
        let keys = Keys::new("cost");
        let mut cells = Counted { shared: Shared::default(), calls: Default::default() };
        let by = first_claimable(&keys, 1, false, NOW, &mut cells).unwrap().unwrap().by();
        let subjects: Vec<String> = (0..many).map(|level| format!("level/{level}")).collect();
        let mut run = |mut operation: Operation| {
            cells.calls = Default::default();
            assert_eq!(operation.run(&mut cells), Ok(Outcome::Done));
            cells.calls
        };
        let id = ExchangeId { by, sequence: 1 };
        let hold = run(Operation::hold(&keys, by, 0, id, levels(&subjects, 7), Vec::new(), NOW));
        let extend = run(Operation::extend(&keys, by, 0, id, levels(&subjects, 3), 1, NOW));
        let settle = run(Operation::settle(&keys, by, 0, id, levels(&subjects, 5), vec![1], true, NOW));
        let free = run(Operation::free(&keys, by, 0, id));
        println!("{many} levels, (loads, swaps) of accounts, exchange slots, VM slots:");
        println!("  hold {hold:?}, extend {extend:?}, settle {settle:?}, free {free:?}");
        assert_eq!(hold, [(many, many), (1, 1), (1, 1)]);
        assert_eq!(extend, hold);
        assert_eq!(settle, [(many, many), (1, 1), (1, 1)]);
        assert_eq!(free, [(0, 0), (1, 1), (0, 0)]);
        assert!(hold[0].1 + settle[0].1 <= 2 * many);
    }
}

/// Shared data as Envoy has it: a hash map.
#[derive(Default)]
struct Hashed {
    cells: HashMap<Vec<u8>, Cell>,
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

/// Prints bytes an account and the time of a look-up with up to a million of them. Nothing here is asserted but that
/// every account is there.
#[test]
#[ignore = "a figure, not a test: run by `make accounts`"]
#[expect(clippy::disallowed_methods, reason = "what is measured is time")]
fn a_million_accounts() {
    let keys = Keys::new("cost");
    let mut cells = Hashed::default();
    let by = first_claimable(&keys, 1, false, NOW, &mut cells).unwrap().unwrap().by();
    let name = |seat: u64| format!("seat/{:012x}", seat.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16);
    let mut made = 0;
    for many in [1_000_u64, 10_000, 100_000, 1_000_000] {
        let began = Instant::now();
        let new = many - made;
        for seat in made..many {
            let (id, subjects) = (ExchangeId { by, sequence: seat + 1 }, [name(seat)]);
            let held = Operation::hold(&keys, by, 0, id, levels(&subjects, 7), Vec::new(), NOW).run(&mut cells);
            let settled =
                Operation::settle(&keys, by, 0, id, levels(&subjects, 5), vec![1], false, NOW).run(&mut cells);
            assert_eq!((held, settled), (Ok(Outcome::Done), Ok(Outcome::Done)));
        }
        let request = began.elapsed().as_nanos() / u128::from(new);
        made = many;
        let accounts = cells.cells.iter().filter(|(key, _)| key.windows(3).any(|part| part == b"/a/"));
        let (mut records, mut named) = (0, 0);
        accounts.for_each(|(key, cell)| {
            named += key.len();
            records += cell.value.len();
        });
        let looks = 200_000;
        let began = Instant::now();
        for look in 0_u64..looks {
            let subject = name(look.wrapping_mul(7_919) % many);
            let account = read_account(&keys, &subject, &mut cells).unwrap().unwrap();
            assert_eq!(account.reported(QuotaId(1)).unwrap().current.used, 5);
        }
        let look = began.elapsed().as_nanos() / u128::from(looks);
        println!(
            "{many} accounts of four quotas: {} bytes a record, {} a key; a look-up {look} ns, hold and settle {request} ns",
            records as u64 / many,
            named as u64 / many,
        );
    }
}
