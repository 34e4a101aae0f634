//! Usage as OpenAI writes it, and what its many imitators make of it.
//!
//! | who | what differs |
//! |---|---|
//! | OpenAI ("Usage" of chat completions, responses) | input includes what was cached or written to the cache, output includes reasoning |
//! | xAI, chat | the completion excludes reasoning; the total has it (203 of 203 recorded) |
//! | DeepSeek | `prompt_cache_hit_tokens` beside the details |
//! | Copilot | `reasoning_tokens` at the top level |
//! | Gemini's compatible endpoint | thoughts only in the total |
//! | Mistral | sound only in the total; `prompt_token_details` |
//! | Claude behind compatible endpoints | what was cached may be outside the prompt, then the total tells |
//! | Longcat | both names for everything, one pair of them zero |

use crate::meter::answer::{Absurd, Answer, count, seconds};
use crate::meter::json;
use crate::meter::usage::Usage;

/// A usage of work that only reads: embeddings, reranking, moderation. What Voyage says is a total alone.
pub fn input_usage(raw: &str) -> Option<Result<Usage, Absurd>> {
    let [prompt, input, total] = json::fields(raw, ["prompt_tokens", "input_tokens", "total_tokens"])?;
    let read = || -> Result<Option<Usage>, Absurd> {
        let total = count(total)?;
        let input = count(prompt)?.or(count(input)?).or(total).filter(|input| *input > 0);
        Ok(input.map(|input| Usage { input, provider_total: total.unwrap_or(0), ..Usage::default() }))
    };
    read().transpose()
}

/// A usage that may be of tokens or of seconds of sound, as transcriptions have it (OpenAI, "Create transcription").
pub fn sound_usage(answer: &mut Answer, raw: &str) {
    let [spoken] = json::fields(raw, ["seconds"]).unwrap_or_default();
    match seconds(spoken) {
        Some(seconds) => answer.hear(Some(Ok(Usage { seconds, ..Usage::default() }))),
        None => answer.hear(usage(raw)),
    }
}

/// A usage object in canonical form. `None`: it says nothing (no object, or zeros only).
///
/// `prompt_tokens` includes what was cached; `completion_tokens` includes reasoning, but not at xAI, where
/// the total shows the gap. Gemini's total has thoughts that nothing else shows, Mistral's has audio.
pub fn usage(raw: &str) -> Option<Result<Usage, Absurd>> {
    let names = ["prompt_tokens", "input_tokens", "completion_tokens", "output_tokens", "total_tokens"];
    let [prompt, input, completion, output, total] = json::fields(raw, names)?;
    let read = || -> Result<Option<Usage>, Absurd> {
        // Some send both schemes, one of them as zeros.
        let prompt = count(prompt)?.max(count(input)?);
        let completion = count(completion)?.max(count(output)?);
        let total = count(total)?.unwrap_or(0);
        let (prompt, completion) = match (prompt, completion) {
            (None, None) => return Ok(None),
            (Some(prompt), Some(completion)) => (prompt, completion),
            (Some(prompt), None) if total > prompt => (prompt, total - prompt),
            (None, Some(completion)) if total > completion => (total - completion, completion),
            _ => return Err(Absurd),
        };
        if prompt == 0 && completion == 0 {
            return Ok(None);
        }
        Details::of(raw)?.canonical(prompt, completion, total).map(Some)
    };
    read().transpose()
}

/// The finer parts of a usage, 0 where nothing is said.
struct Details {
    cached: u64,
    written: u64,
    audio: u64,
    reasoning: u64,
}

impl Details {
    fn of(raw: &str) -> Result<Self, Absurd> {
        let names = ["prompt_tokens_details", "input_tokens_details", "prompt_token_details"];
        let prompt = nested(raw, names, ["cached_tokens", "cache_write_tokens", "audio_tokens"])?;
        let names = ["completion_tokens_details", "output_tokens_details", "completion_token_details"];
        let [reasoning, ..] = nested(raw, names, ["reasoning_tokens", "", ""])?;
        let names = [
            "prompt_cache_hit_tokens",
            "cached_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "reasoning_tokens",
        ];
        let [hit, cached, read, created, thought] = json::fields(raw, names).unwrap_or_default();
        let [in_prompt, written, audio] = prompt;
        let flat = count(hit)?.max(count(cached)?).max(count(read)?);
        Ok(Self {
            cached: in_prompt.or(flat).unwrap_or(0),
            written: written.or(count(created)?).unwrap_or(0),
            audio: audio.unwrap_or(0),
            reasoning: reasoning.or(count(thought)?).unwrap_or(0),
        })
    }

    fn canonical(&self, mut prompt: u64, mut completion: u64, total: u64) -> Result<Usage, Absurd> {
        let mut reasoning = self.reasoning;
        let gap = total.saturating_sub(prompt.saturating_add(completion));
        if gap == 0 {
            if total == 0 && reasoning > completion {
                completion = completion.saturating_add(reasoning);
            }
        } else if gap == reasoning {
            completion = completion.saturating_add(gap);
        } else if gap == self.audio || gap == self.cached.saturating_add(self.written) {
            prompt = prompt.saturating_add(gap);
        } else {
            completion = completion.saturating_add(gap);
            reasoning = reasoning.max(gap);
        }
        let written = self.written.min(prompt);
        let cached = self.cached.min(prompt.saturating_sub(written));
        Ok(Usage {
            input: prompt.saturating_sub(written).saturating_sub(cached),
            cache_read: cached,
            cache_write: written,
            output: completion,
            reasoning: reasoning.min(completion),
            provider_total: total,
            ..Usage::default()
        })
    }
}

/// The counts `inner` of the first object under one of `outer`.
fn nested(raw: &str, outer: [&str; 3], inner: [&str; 3]) -> Result<[Option<u64>; 3], Absurd> {
    let [first, second, third] = json::fields(raw, outer).unwrap_or_default();
    let object = first.or(second).or(third).and_then(|raw| json::fields(raw, inner));
    let [a, b, c] = object.unwrap_or_default();
    Ok([count(a)?, count(b)?, count(c)?])
}
