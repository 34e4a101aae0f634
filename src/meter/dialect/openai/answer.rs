//! Reading chat completions and their chunks.

use crate::meter::answer::{Absurd, Answer, count};
use crate::meter::json;
use crate::meter::tally::{Kind, Voice};
use crate::meter::usage::Usage;

/// What kind of chunk it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Usage and no choices: the chunk that `include_usage` asks for.
    UsageOnly,
    /// Anything else.
    Other,
}

/// Reads the data of one event.
pub fn event(answer: &mut Answer, data: &str) -> Shape {
    if data.trim_ascii() == "[DONE]" {
        answer.finished = true;
        return Shape::Other;
    }
    body(answer, data).unwrap_or(Shape::Other)
}

/// Reads a chunk, or a whole completion, which has the same frame. `None`: not a JSON object.
pub fn body(answer: &mut Answer, raw: &str) -> Option<Shape> {
    let names = ["choices", "usage", "x_groq", "error", "model", "object", "id", "created"];
    let [choices, said, groq, error, model, object, id, created] = json::fields(raw, names)?;
    answer.served_by(model);
    answer.loose.named(id, created);
    answer.error |= error.is_some() || object == Some("\"error\"");
    let mut some = false;
    if let Some(choices) = choices {
        json::elements(choices, |raw| {
            some = true;
            choice(answer, raw);
        });
    }
    let groq = groq.and_then(|raw| json::fields(raw, ["usage"])).and_then(|[usage]| usage);
    answer.hear(groq.and_then(usage));
    let said = said.and_then(usage);
    answer.hear(said);
    let only = choices.is_some() && !some && said.is_some() && error.is_none();
    Some(if only { Shape::UsageOnly } else { Shape::Other })
}

fn choice(answer: &mut Answer, raw: &str) {
    let names = ["index", "delta", "message", "text", "finish_reason", "usage"];
    let Some([index, delta, message, plain, finish, said]) = json::fields(raw, names) else { return };
    let index = index.and_then(json::whole).unwrap_or(0);
    answer.loose.begin(index);
    // Perplexity sends the message so far beside each delta.
    if let Some(raw) = delta.or(message) {
        spoken(answer, index, raw);
    }
    speak(answer, Voice { kind: Kind::Text, answer: index, part: 0 }, plain);
    answer.ended |= finish.is_some();
    if finish.is_some() {
        answer.loose.end(index);
    }
    // Moonshot.
    answer.hear(said.and_then(usage));
}

/// A delta or a message.
fn spoken(answer: &mut Answer, index: u64, raw: &str) {
    let names = ["content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call"];
    let Some([content, thinking, reasoning, refusal, calls, function]) = json::fields(raw, names) else { return };
    let voice = |kind| Voice { kind, answer: index, part: 0 };
    // The same thoughts under two names, at some providers.
    let thinking = thinking.filter(|raw| *raw != "\"\"").or(reasoning);
    speak(answer, voice(Kind::Thinking), thinking);
    speak(answer, voice(Kind::Text), content);
    if content.is_some_and(|raw| raw != "\"\"") {
        answer.loose.speaking(index);
    }
    speak(answer, voice(Kind::Refusal), refusal);
    let mut position = 0;
    if let Some(calls) = calls {
        json::elements(calls, |raw| {
            tool_call(answer, index, position, raw);
            position += 1;
        });
    }
    if let Some(function) = function {
        called(answer, Voice { kind: Kind::Tool, answer: index, part: u64::MAX }, function);
    }
}

fn tool_call(answer: &mut Answer, index: u64, position: u64, raw: &str) {
    let Some([part, function, custom]) = json::fields(raw, ["index", "function", "custom"]) else { return };
    let part = part.and_then(json::whole).unwrap_or(position);
    if let Some(raw) = function.or(custom) {
        called(answer, Voice { kind: Kind::Tool, answer: index, part }, raw);
    }
}

/// The name is said once, although some providers repeat it with each delta.
fn called(answer: &mut Answer, voice: Voice, raw: &str) {
    answer.loose.calling(voice.answer, voice.part);
    let Some([name, arguments, input]) = json::fields(raw, ["name", "arguments", "input"]) else { return };
    if !answer.tally.knows(voice)
        && let Some(name) = name.and_then(json::text)
        && !name.is_empty()
    {
        answer.tally.whole(&name);
        answer.tool_calls = answer.tool_calls.saturating_add(1);
        // From now on known, also without arguments.
        answer.tally.open(voice);
    }
    match arguments.or(input) {
        Some(raw) if raw.starts_with('"') => speak(answer, voice, Some(raw)),
        // Arguments as an object, at some providers.
        Some(raw) => answer.tally.push(voice, raw),
        None => {}
    }
}

/// A string, or parts with a `text` (or a list of them under `thinking`) each.
fn speak(answer: &mut Answer, voice: Voice, raw: Option<&str>) {
    let Some(raw) = raw else { return };
    if let Some(text) = json::text(raw) {
        return answer.tally.push(voice, &text);
    }
    json::elements(raw, |part| {
        let Some([text, thinking, refusal]) = json::fields(part, ["text", "thinking", "refusal"]) else { return };
        for raw in [text, thinking, refusal].into_iter().flatten() {
            for literal in json::Strings::of(raw).skip_while(|_| raw.starts_with('{')) {
                heard(answer, voice, literal, raw);
            }
        }
    });
}

/// A literal in a part: itself, or the `text` of Mistral's thinking chunks.
fn heard(answer: &mut Answer, voice: Voice, literal: &str, within: &str) {
    if within.starts_with('[') && matches!(literal, "\"type\"" | "\"text\"") {
        return;
    }
    if let Some(text) = json::text(literal) {
        answer.tally.push(voice, &text);
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
        let names = ["prompt_tokens_details", "input_tokens_details", "prompt_tokens_detail"];
        let prompt = nested(raw, names, ["cached_tokens", "cache_write_tokens", "audio_tokens"])?;
        let names = ["completion_tokens_details", "output_tokens_details", "completion_tokens_detail"];
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
