//! What looking for secrets, personal data and injected instructions costs, natively: a line for each kind of text, of the
//! bytes of a prompt, of nanoseconds for it, and for a piece of the same text as an answer. `make bench` prints it beside
//! the same inside Envoy.

#![expect(clippy::disallowed_methods, reason = "a bench: it reads the clock")]

use std::time::Instant;

use farebox::scan::measure::Sample;

const ROUNDS: u32 = 25;

fn main() {
    let begun = Instant::now();
    let clock = || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    for (name, sample) in Sample::ALL {
        let Some(cost) = sample.cost(ROUNDS, clock) else { panic!("{name}: nothing was looked at") };
        println!("{name} {} {} {}", cost.bytes, cost.prompt, cost.piece);
    }
}
