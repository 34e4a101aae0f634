//! Counting on this machine, natively: a line of standard input, `encoding what rounds file`, is answered by `tokens first
//! best`, in nanoseconds. Run by `make bench-count`.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench ends at the first surprise"
)]

use std::time::Instant;

use farebox::meter::count::Encoding;
use farebox::meter::measure::measure;

fn main() {
    let begun = Instant::now();
    let now = || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let asked: Vec<&str> = line.split(' ').collect();
        let [encoding, what, rounds, file] = asked.as_slice() else { panic!("four words, not `{line}`") };
        let encoding = Encoding::from_name(encoding).expect("the name of an encoding");
        let text = std::fs::read_to_string(file).expect("a readable text");
        let rounds = rounds.parse().expect("a number");
        let measured = measure(encoding, what, &text, rounds, now).expect("something to measure");
        println!("{} {} {}", measured.tokens, measured.first, measured.best);
    }
}
