//! Ollama's own wire format (Ollama, "API"): one JSON object a line.
//!
//! `prompt_eval_count` is what was read, and is left out when the whole prompt was in the cache (3 of 86 recorded);
//! `eval_count` is what was written, thinking included, which no figure tells apart. Both come with `"done": true`.

pub mod ending;
pub mod request;

use crate::meter::answer::{Absurd, Answer, count};
use crate::meter::dialect::openai;
use crate::meter::json;
use crate::meter::tally::Kind;
use crate::meter::usage::Usage;

/// Reads a line, or a whole answer, which has the same frame. `None`: not a JSON object.
pub fn body(answer: &mut Answer, raw: &str) -> Option<()> {
    if raw.trim_ascii() == "[DONE]" {
        answer.finished = true;
        return Some(());
    }
    let names =
        ["message", "response", "thinking", "done", "model", "error", "prompt_eval_count", "eval_count", "choices"];
    let [message, response, thinking, done, model, error, read, written, choices] = json::fields(raw, names)?;
    if choices.is_some() {
        return compatible(answer, raw);
    }
    answer.served_by(model);
    answer.error |= error.is_some_and(json::says);
    answer.speak(Kind::Thinking, 0, 0, thinking);
    answer.speak(Kind::Text, 0, 0, response);
    if let Some(raw) = message {
        message_of(answer, raw);
    }
    answer.finished |= done == Some("true");
    if read.or(written).is_some() {
        answer.hear(usage(read, written).transpose());
        answer.input_silent = read.is_none();
    }
    Some(())
}

/// llama.cpp has `/api/chat` too, and answers there as to a chat completion. Without being asked it tells no usage on a
/// stream, but `timings` with the last chunk: what it read anew, what it had in its cache and what it wrote.
fn compatible(answer: &mut Answer, raw: &str) -> Option<()> {
    openai::answer::body(answer, raw)?;
    let [usage, timings] = json::fields(raw, ["usage", "timings"])?;
    let names = ["prompt_n", "cache_n", "predicted_n"];
    let [anew, cached, written] = timings.and_then(|raw| json::fields(raw, names)).unwrap_or_default();
    if usage.is_none() && cached.is_some() {
        let read = || -> Result<Option<Usage>, Absurd> {
            let (input, cache_read) = (count(anew)?.unwrap_or(0), count(cached)?.unwrap_or(0));
            Ok(Some(Usage { input, cache_read, output: count(written)?.unwrap_or(0), ..Usage::default() }))
        };
        answer.hear(read().transpose());
    }
    Some(())
}

fn usage(read: Option<&str>, written: Option<&str>) -> Result<Option<Usage>, Absurd> {
    let usage = Usage { input: count(read)?.unwrap_or(0), output: count(written)?.unwrap_or(0), ..Usage::default() };
    Ok((usage.total() > 0).then_some(usage))
}

fn message_of(answer: &mut Answer, raw: &str) {
    let Some([content, thinking, calls]) = json::fields(raw, ["content", "thinking", "tool_calls"]) else { return };
    answer.speak(Kind::Thinking, 0, 0, thinking);
    answer.speak(Kind::Text, 0, 0, content);
    // Calls come whole, each once.
    json::elements(calls.unwrap_or("[]"), |raw| {
        let [function] = json::fields(raw, ["function"]).unwrap_or_default();
        let [name, arguments] = function.and_then(|raw| json::fields(raw, ["name", "arguments"])).unwrap_or_default();
        answer.call_whole(name, arguments);
    });
}
