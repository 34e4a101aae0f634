//! How fast counting is, for `make bench-count`: the same measurements natively and inside Envoy, beside tiktoken-rs. Time is
//! a parameter, as everywhere. Only with the feature `bench`, never in what is shipped.

use std::collections::HashSet;

use super::call::read_call;
use super::count::Encoding;
use super::count::known::Known;
use super::count::running::Running;
use super::dialect::Dialect;

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

/// Counts `text` `rounds` times:
///
/// - `ours`, `tiktoken`: whole;
/// - `deltas`: in pieces of 20 bytes, with the total after each;
/// - `read`, `first`, `again`, `bound`: as the body of a chat. Reading alone; the count of what nobody has seen; the count
///   when only the last message is new, which has the word `newest` in it; the bound of what nobody has seen.
///
/// `None`: what?
pub fn measure(encoding: Encoding, what: &str, text: &str, rounds: u32, now: impl Fn() -> u64) -> Option<Measured> {
    let mut measured = Measured { tokens: 0, first: 0, best: u64::MAX };
    for round in 0..rounds.max(1) {
        let mut pass = prepare(encoding, what, text, round)?;
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

/// One pass, with all that is not measured done before.
fn prepare<'a>(encoding: Encoding, what: &str, text: &'a str, round: u32) -> Option<Box<dyn FnMut() -> u64 + 'a>> {
    let read = |body: &str| read_call(Dialect::OpenAiChat, body.as_bytes()).ok();
    Some(match what {
        "ours" => Box::new(move || encoding.count(text)),
        "tiktoken" => Box::new(move || tiktoken(encoding, text)),
        "deltas" => Box::new(move || deltas(encoding, text)),
        "read" => Box::new(move || read(text).map_or(0, |call| call.choices)),
        "first" | "again" => {
            let mut known = Known::new([1, 2]);
            let call = read(&text.replace("newest", &format!("newest of round {round}")))?;
            if what == "again" {
                read(text)?.input_up_to(encoding, &mut known, u64::MAX).ok()?;
            }
            Box::new(move || call.input_up_to(encoding, &mut known, u64::MAX).map_or(0, |input| input.counted))
        }
        "bound" => {
            let (mut known, call) = (Known::new([1, 2]), read(text)?);
            Box::new(move || call.input_at_most(encoding, &mut known, u64::MAX).map_or(0, |(most, _)| most))
        }
        _ => return None,
    })
}

fn deltas(encoding: Encoding, text: &str) -> u64 {
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
}

/// By the call that fails where others panic; then 0.
fn tiktoken(encoding: Encoding, text: &str) -> u64 {
    let oracle = match encoding {
        Encoding::O200kBase | Encoding::O200kHarmony => tiktoken_rs::o200k_base_singleton(),
        Encoding::Cl100kBase => tiktoken_rs::cl100k_base_singleton(),
        #[cfg(any(test, feature = "old-vocabularies"))]
        Encoding::P50kBase => tiktoken_rs::p50k_base_singleton(),
        #[cfg(any(test, feature = "old-vocabularies"))]
        Encoding::R50kBase => tiktoken_rs::r50k_base_singleton(),
    };
    oracle.count(text, &HashSet::new()).map_or(0, |count| count as u64)
}
