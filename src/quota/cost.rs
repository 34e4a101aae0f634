//! What the accounts cost: store calls of an operation, bytes of an account, and the time to look one up.

use std::time::Instant;

use super::laws::Shared;
use super::measure::{Hashed, levels, measure};
use super::{ExchangeId, Keys, Operation, Outcome, QuotaId, first_claimable, read_account};
use crate::now::Now;

const NOW: Now = Now { wall_ms: 1_795_564_800_000, mono_ms: 0 };

/// At most two compare-and-swaps a level and request: one when it holds, one when it settles.
#[test]
fn a_request_swaps_each_account_twice() {
    for many in 0..=4_u32 {
        let costs = measure(many, 0, NOW, &mut Shared::default(), || 0).unwrap();
        let [hold, extend, settle, free] = costs.map(|cost| cost.calls.0);
        println!("{many} levels, (loads, swaps) of accounts, exchange slots, VM slots:");
        println!("  hold {hold:?}, extend {extend:?}, settle {settle:?}, free {free:?}");
        assert_eq!(hold, [(many, many), (1, 1), (1, 1)]);
        assert_eq!(extend, hold);
        assert_eq!(settle, [(many, many), (1, 1), (1, 1)]);
        assert_eq!(free, [(0, 0), (1, 1), (0, 0)]);
        assert!(hold[0].1 + settle[0].1 <= 2 * many);
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
