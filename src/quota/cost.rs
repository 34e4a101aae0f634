//! What the accounts cost: store calls of an operation, bytes of an account, and the time to look one up.

use std::time::Instant;

use super::laws::Shared;
use super::measure::{Hashed, measure};
use super::population::{Figures, Population};
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

/// Prints bytes an account and the time of a look-up with up to a million of them; every account is there.
#[test]
#[ignore = "a figure, not a test: run by `make accounts`"]
#[expect(clippy::disallowed_methods, reason = "what is measured is time")]
fn a_million_accounts() {
    let begun = Instant::now();
    let clock = || u64::try_from(begun.elapsed().as_nanos()).unwrap();
    let mut cells = Hashed::default();
    let mut population = Population::new(NOW, &mut cells).unwrap();
    for seats in [1_000, 10_000, 100_000, 1_000_000] {
        population.grow(seats, NOW, &mut cells).unwrap();
        let Figures { key, account, look_up, request } = population.measure(100_000, NOW, &mut cells, clock).unwrap();
        println!(
            "{seats} accounts of four quotas: {account} bytes each, {key} its key; a look-up {look_up} ns, hold and settle {request} ns"
        );
    }
}
