//! DashScope's own wire format (Alibaba Cloud Model Studio, "DashScope API reference"): generation, embeddings,
//! reranking.
//!
//! Usage has OpenAI's figures under `input_tokens` and `output_tokens`, reasoning inside the output, cached tokens
//! inside the input; it comes with every event and grows. Unless `incremental_output` was asked for, each event
//! repeats the text so far.
//!
//! What no token counts has figures of its own ("Qwen-Image", "Qwen-TTS", "Wan", "Qwen-ASR"): `image_count`, `characters` (a
//! Chinese one twice), `duration` or `video_duration` of films and `seconds` of sound, begun ones whole.

pub mod ending;
pub mod request;

use super::openai::usage::{input_usage, usage};
use crate::meter::answer::{Absurd, Answer, count, seconds};
use crate::meter::json;
use crate::meter::tally::Kind;
use crate::meter::usage::Usage;

/// The part of an answer that is a text without a message around it, as `result_format: text` asks.
pub(in crate::meter) const BARE: u64 = 1;

/// Reads an event, or a whole answer, which has the same frame. `None`: not a JSON object.
pub fn body(answer: &mut Answer, raw: &str) -> Option<()> {
    let [output, said, code] = json::fields(raw, ["output", "usage", "code"])?;
    answer.error |= code.is_some_and(|code| code != "\"\"");
    if let Some(raw) = output {
        output_of(answer, raw);
    }
    answer.hear(said.and_then(told));
    Some(())
}

/// A usage: tokens, pieces or both. `None`: it says nothing.
fn told(raw: &str) -> Option<Result<Usage, Absurd>> {
    let names = ["output_tokens", "image_count", "characters", "duration", "video_duration", "seconds"];
    let [output, images, characters, film, other, sound] = json::fields(raw, names)?;
    let tokens = if output.is_some() { usage(raw) } else { input_usage(raw) };
    let all = || -> Result<Usage, Absurd> {
        let lasts = [film, other, sound].map(|raw| seconds(raw).unwrap_or(0)).into_iter().fold(0, u64::max);
        let (images, characters) = (count(images)?.unwrap_or(0), count(characters)?.unwrap_or(0));
        Ok(Usage { images, characters, seconds: lasts, ..tokens.unwrap_or(Ok(Usage::default()))? })
    };
    let said = all();
    (tokens.is_some() || said != Ok(Usage::default())).then_some(said)
}

fn output_of(answer: &mut Answer, raw: &str) {
    let names = ["text", "finish_reason", "choices", "results", "search_info", "tool_info", "audio"];
    let Some([text, reason, choices, results, found, tools, audio]) = json::fields(raw, names) else { return };
    let sound = audio.and_then(|raw| json::fields(raw, ["data", "url"])).unwrap_or_default();
    answer.sounded |= sound.into_iter().flatten().any(json::says);
    answer.used("web_search", found);
    json::elements(tools.unwrap_or("[]"), |raw| {
        let [kind, interpreter] = json::fields(raw, ["type", "code_interpreter"]).unwrap_or_default();
        let interprets = kind == Some("\"code_interpreter\"");
        answer.used("code_interpreter", interpreter.or(kind.filter(|_| interprets)));
    });
    answer.speak_or_repeat(Kind::Text, 0, BARE, text);
    // While it runs the reason is the text `null`.
    let ends = |reason: Option<&str>| reason.is_some_and(|reason| !matches!(reason, "\"null\"" | "\"\""));
    answer.ended |= ends(reason);
    let mut place = 0u64;
    json::elements(choices.unwrap_or("[]"), |raw| {
        let [index, message, reason] = json::fields(raw, ["index", "message", "finish_reason"]).unwrap_or_default();
        answer.ended |= ends(reason);
        if let Some(raw) = message {
            message_of(answer, index.and_then(json::whole).unwrap_or(place), raw);
        }
        place = place.saturating_add(1);
    });
    json::elements(results.unwrap_or("[]"), |raw| {
        if let Some([Some(_)]) = json::fields(raw, ["url"]) {
            answer.made.images = answer.made.images.saturating_add(1);
        }
    });
}

/// What one of several answers says.
fn message_of(answer: &mut Answer, of: u64, raw: &str) {
    let names = ["content", "reasoning_content", "tool_calls"];
    let Some([content, thinking, calls]) = json::fields(raw, names) else { return };
    answer.speak_or_repeat(Kind::Thinking, of, 0, thinking);
    let parts = json::elements(content.unwrap_or_default(), |raw| {
        let [text, image] = json::fields(raw, ["text", "image"]).unwrap_or_default();
        answer.speak_or_repeat(Kind::Text, of, 0, text);
        if let Some(image) = image {
            answer.show(image);
        }
    });
    match parts {
        Some(_) => answer.loose.lists = true,
        None => answer.speak_or_repeat(Kind::Text, of, 0, content),
    }
    json::elements(calls.unwrap_or("[]"), |raw| {
        let [index, function] = json::fields(raw, ["index", "function"]).unwrap_or_default();
        let [name, arguments] = function.and_then(|raw| json::fields(raw, ["name", "arguments"])).unwrap_or_default();
        let index = index.and_then(json::whole).unwrap_or(0);
        let (text, value) = arguments.map_or((None, None), |raw| match raw.starts_with('"') {
            true => (Some(raw), None),
            false => (None, Some(raw)),
        });
        answer.call(of, index, name, value);
        answer.speak_or_repeat(Kind::Tool, of, index, text);
    });
}
