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
//! | Gemini behind Vercel's gateway | thoughts neither in the completion nor in the total (the cost that it tells has them) |
//! | DashScope ("Context cache") | `cache_creation_input_tokens` within the details |
//! | LiteLLM ("Prompt caching") | `cache_creation_tokens` within the details, by how long it is kept in `cache_creation_token_details` |
//! | Claude behind compatible endpoints | the same as Anthropic says it, in `cache_creation` |
//! | OpenAI, legacy completions | no completion at all where nothing was written |

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
            (Some(prompt), None) if total >= prompt && total > 0 => (prompt, total - prompt),
            (None, Some(completion)) if total > completion => (total - completion, completion),
            _ => return Err(Absurd),
        };
        if prompt == 0 && completion == 0 {
            return Ok(None);
        }
        Ok(Some(Details::of(raw)?.canonical(prompt, completion, total)))
    };
    read().transpose()
}

/// The finer parts of a usage, 0 where nothing is said.
struct Details {
    cached: u64,
    written: u64,
    hours: u64,
    audio: u64,
    reasoning: u64,
}

impl Details {
    fn of(raw: &str) -> Result<Self, Absurd> {
        let names = ["prompt_tokens_details", "input_tokens_details", "prompt_token_details", "input_token_details"];
        let inner = [
            "cached_tokens",
            "cache_write_tokens",
            "audio_tokens",
            "cache_creation_input_tokens",
            "cache_creation_tokens",
        ];
        let [in_prompt, written, audio, created_in, creation] = nested(raw, names, inner)?;
        let names =
            ["completion_tokens_details", "output_tokens_details", "completion_token_details", "output_token_details"];
        let [reasoning, thinking] = nested(raw, names, ["reasoning_tokens", "thinking_tokens"])?;
        let names = [
            "prompt_cache_hit_tokens",
            "cached_tokens",
            "cache_read_input_tokens",
            "num_cached_tokens",
            "cache_creation_input_tokens",
            "reasoning_tokens",
        ];
        let [hit, cached, read, number, created, thought] = details(json::fields(raw, names).unwrap_or_default())?;
        let lives = ["ephemeral_1h_input_tokens"];
        let [prompt] = json::fields(raw, ["prompt_tokens_details"]).unwrap_or_default();
        let inside = prompt.and_then(|raw| json::fields(raw, ["cache_creation_token_details"]));
        let beside = json::fields(raw, ["cache_creation"]);
        let lived = inside.into_iter().chain(beside).filter_map(|[object]| json::fields(object?, lives)).next();
        let [hours] = details(lived.unwrap_or_default())?;
        Ok(Self {
            hours: hours.unwrap_or(0),
            cached: in_prompt.or(hit.max(cached).max(read).max(number)).unwrap_or(0),
            written: written.or(created_in).or(creation).or(created).unwrap_or(0),
            audio: audio.unwrap_or(0),
            reasoning: reasoning.or(thinking).or(thought).unwrap_or(0),
        })
    }

    fn canonical(&self, mut prompt: u64, mut completion: u64, total: u64) -> Usage {
        let mut reasoning = self.reasoning;
        let gap = total.saturating_sub(prompt.saturating_add(completion));
        if gap == 0 {
            // More was thought than written: thoughts are not in it.
            if reasoning > completion {
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
        Usage {
            input: prompt.saturating_sub(written).saturating_sub(cached),
            cache_read: cached,
            cache_write: written,
            cache_write_1h: self.hours.min(written),
            output: completion,
            reasoning: reasoning.min(completion),
            provider_total: total,
            ..Usage::default()
        }
    }
}

/// The counts `inner` of the first object under one of `outer`.
fn nested<const N: usize>(raw: &str, outer: [&str; 4], inner: [&str; N]) -> Result<[Option<u64>; N], Absurd> {
    let objects = json::fields(raw, outer).unwrap_or_default();
    let object = objects.into_iter().flatten().find_map(|raw| json::fields(raw, inner));
    details(object.unwrap_or([None; N]))
}

/// Finer parts: what is no number says nothing, a number must be one that can be.
fn details<const N: usize>(raws: [Option<&str>; N]) -> Result<[Option<u64>; N], Absurd> {
    let mut counts = [None; N];
    for (slot, raw) in counts.iter_mut().zip(raws) {
        *slot = count(raw.filter(|raw| raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())))?;
    }
    Ok(counts)
}
