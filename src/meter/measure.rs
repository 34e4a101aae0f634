//! How fast counting is, for `make bench`: the same measurements natively and inside Envoy, beside tiktoken-rs. Time is a
//! parameter, as everywhere. Only with the feature `bench`, never in what is shipped.

use std::collections::HashSet;

use super::Encoding;
use super::running::Running;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Tokens that were counted in one pass.
    pub tokens: u64,
    /// Nanoseconds of the first pass, with cold caches.
    pub first: u64,
    /// Nanoseconds of the fastest pass.
    pub best: u64,
}

/// Counts `text` `rounds` times by `ours`, by `tiktoken`, or in `deltas` of 20 bytes with the total after each. `None`: what?
pub fn measure(encoding: Encoding, what: &str, text: &str, rounds: u32, now: impl Fn() -> u64) -> Option<Measured> {
    let mut pass: Box<dyn FnMut() -> u64> = match what {
        "ours" => Box::new(|| encoding.count(text)),
        "tiktoken" => Box::new(|| tiktoken(encoding, text)),
        "deltas" => Box::new(|| {
            let mut running = Running::new(encoding);
            let mut total = 0;
            let mut rest = text;
            while !rest.is_empty() {
                let end = (20..rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
                let (delta, behind) = rest.split_at(end);
                running.push(delta);
                total = running.total();
                rest = behind;
            }
            total
        }),
        _ => return None,
    };
    let mut measured = Measured { tokens: 0, first: 0, best: u64::MAX };
    for round in 0..rounds.max(1) {
        let begun = now();
        measured.tokens = pass();
        let took = now().saturating_sub(begun);
        measured.best = measured.best.min(took);
        if round == 0 {
            measured.first = took;
        }
    }
    Some(measured)
}

/// By the call that fails where others panic; then 0.
fn tiktoken(encoding: Encoding, text: &str) -> u64 {
    let oracle = match encoding {
        Encoding::O200kBase | Encoding::O200kHarmony => tiktoken_rs::o200k_base_singleton(),
        Encoding::Cl100kBase => tiktoken_rs::cl100k_base_singleton(),
    };
    oracle.count(text, &HashSet::new()).map_or(0, |count| count as u64)
}
