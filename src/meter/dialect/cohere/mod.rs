//! Cohere: chat (v1 and v2), the generate that was before it, and what both say about usage.
//!
//! `tokens` is what the model read and wrote, its prompt template, cached tokens and reasoning included;
//! `billed_units` leaves the template out and, for reasoning models, what was thought (178 of 181 recorded differ).
//! What the model worked is what is metered everywhere else, so `tokens` goes first; older calls have the other only.

pub mod answer;
pub mod ending;
pub mod request;

use crate::meter::answer::{Absurd, count};
use crate::meter::json;
use crate::meter::usage::Usage;

/// `{tokens, billed_units, cached_tokens}`. `None`: it says nothing.
pub fn usage(raw: &str) -> Option<Result<Usage, Absurd>> {
    let [tokens, units, cached] = json::fields(raw, ["tokens", "billed_units", "cached_tokens"])?;
    let told = tokens.and_then(billed).or_else(|| units.and_then(billed))?;
    Some(told.and_then(|usage| {
        let cache_read = count(cached)?.unwrap_or(0).min(usage.input);
        Ok(Usage { input: usage.input.saturating_sub(cache_read), cache_read, ..usage })
    }))
}

/// `{input_tokens, output_tokens, reasoning_tokens, images}`. `None`: it says nothing (or searches only).
pub fn billed(raw: &str) -> Option<Result<Usage, Absurd>> {
    let names = ["input_tokens", "output_tokens", "reasoning_tokens", "images", "image_tokens"];
    let [input, output, reasoning, images, image_tokens] = json::fields(raw, names)?;
    let read = || -> Result<Option<Usage>, Absurd> {
        let output = count(output)?.unwrap_or(0);
        // Beside an output the input has the images' tokens inside; embeddings count them apart.
        let apart = if output == 0 { count(image_tokens)?.unwrap_or(0) } else { 0 };
        let usage = Usage {
            input: count(input)?.unwrap_or(0).saturating_add(apart),
            output,
            reasoning: count(reasoning)?.unwrap_or(0).min(output),
            images: count(images)?.unwrap_or(0),
            ..Usage::default()
        };
        Ok((usage.total() > 0 || usage.images > 0).then_some(usage))
    };
    read().transpose()
}
