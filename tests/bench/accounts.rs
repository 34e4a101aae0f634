//! What an exchange costs its accounts on this machine, natively: `cargo bench --features bench --bench accounts` prints for
//! one to four levels the nanoseconds of hold, extend, settle and free, and the loads and swaps of each.

use std::time::Instant;

use farebox::now::Now;
use farebox::quota::measure::{Hashed, measure};

fn main() {
    let begun = Instant::now();
    let clock = || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let now = Now { wall_ms: 1_795_564_800_000, mono_ms: 0 };
    for levels in 1..=4 {
        let costs = measure(levels, 20_000, now, &mut Hashed::default(), clock).expect("a store that answers");
        for cost in costs {
            let calls: Vec<String> = cost.calls.0.iter().map(|(loads, swaps)| format!("{loads} {swaps}")).collect();
            println!("{} {}", cost.nanoseconds, calls.join(" "));
        }
    }
}
