//! Counting on this machine, natively: `cargo bench --features bench --bench count -- FILE…` prints one line a file.

use std::time::Instant;

use farebox::meter::count::Encoding;
use farebox::meter::count::measure::measure;

fn main() {
    let begun = Instant::now();
    let now = || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let encoding =
        arguments.next().and_then(|name| Encoding::from_name(&name)).expect("the first argument is an encoding");
    for path in arguments {
        let text = std::fs::read_to_string(&path).expect("a readable text");
        for (what, rounds) in [("ours", 15), ("tiktoken", 2), ("deltas", 3)] {
            if let Some(measured) = measure(encoding, what, &text, rounds, now) {
                println!("{path} {what} {} {} {} {}", text.len(), measured.tokens, measured.first, measured.best);
            }
        }
    }
}
