//! What reading a delta of a stream costs, natively: a line for each, of the bytes of an event and of nanoseconds when each
//! comes in a chunk of its own, when eight share one, and when it is kept to an allowance. `make bench` prints it beside
//! the same inside Envoy.

#![expect(clippy::disallowed_methods, reason = "a bench: it reads the clock")]

use std::time::Instant;

use farebox::meter::deltas::{Delta, Way};

const ROUNDS: u32 = 25;

fn main() {
    let begun = Instant::now();
    let clock = || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    for (name, delta) in Delta::ALL {
        let costs = Way::ALL.map(|way| delta.cost(way, ROUNDS, clock));
        let [Some(alone), Some(together), Some(kept)] = costs else { panic!("nothing was read of {name}") };
        println!("{name} {} {} {} {}", alone.bytes, alone.nanoseconds, together.nanoseconds, kept.nanoseconds);
    }
}
