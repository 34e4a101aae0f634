//! Reading chat completions and their chunks.

use super::usage::usage;
use crate::meter::answer::Answer;
use crate::meter::called::{self, Called};
use crate::meter::dialect::minimax;
use crate::meter::json;
use crate::meter::tally::{Kind, Voice};

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
    let names = ["choices", "usage", "x_groq", "error", "model", "object", "base_resp", "id", "created"];
    let [choices, said, groq, error, model, object, base, id, created] = json::fields(raw, names)?;
    answer.served_by(model);
    answer.loose.named(id, created);
    answer.error |= error.is_some_and(json::says) || object == Some("\"error\"") || minimax::failed(base);
    let mut some = false;
    if let Some(choices) = choices {
        json::elements(choices, |raw| {
            some = true;
            choice(answer, raw);
        });
    }
    if answer.watch.is_on() {
        found(answer, raw);
    }
    let groq = groq.and_then(|raw| json::fields(raw, ["usage"])).and_then(|[usage]| usage);
    answer.hear(groq.and_then(usage));
    let said = said.and_then(usage);
    answer.hear(said);
    let only = choices.is_some() && !some && said.is_some() && !error.is_some_and(json::says);
    Some(if only { Shape::UsageOnly } else { Shape::Other })
}

fn choice(answer: &mut Answer, raw: &str) {
    let names = ["index", "delta", "message", "text", "finish_reason", "usage", "error"];
    let Some([index, delta, message, plain, finish, said, error]) = json::fields(raw, names) else { return };
    // OpenRouter, "Errors": what fails at the provider behind it is told in the choice.
    answer.error |= error.is_some_and(json::says) || finish == Some("\"error\"");
    let index = index.and_then(json::whole).unwrap_or(0);
    answer.loose.begin(index);
    // Perplexity sends the message so far beside each delta; and where it does not stream, the message beside a delta that
    // says nothing.
    if let Some(raw) = delta.or(message) {
        let before = answer.tally.is_empty();
        spoken(answer, index, raw);
        if let (Some(_), Some(raw), true, true) = (delta, message, before && answer.tally.is_empty(), finish.is_some())
        {
            spoken(answer, index, raw);
        }
    }
    speak(answer, Voice { kind: Kind::Text, answer: index, part: 0 }, plain);
    answer.ended |= finish.is_some();
    if finish.is_some() {
        answer.loose.end(index);
    }
    // Moonshot.
    answer.hear(said.and_then(usage));
}

/// What an answer stands on, beside its choices, that its provider looked up: Perplexity's and xAI's, Baidu's, Alibaba's
/// and Tencent's, Zhipu's.
fn found(answer: &mut Answer, raw: &str) {
    let names = ["citations", "search_results", "search_info", "web_search"];
    json::fields(raw, names).into_iter().flatten().for_each(|found| answer.used("web_search", found));
}

/// What a message tells of tools that its provider has used.
fn used(answer: &mut Answer, raw: &str) {
    let names = ["annotations", "executed_tools", "context", "citations"];
    let Some([notes, executed, context, citations]) = json::fields(raw, names) else { return };
    answer.annotated(notes);
    answer.used("web_search", citations);
    // Azure, "On your data".
    answer.used("data_sources", context);
    // Groq, "Compound".
    json::elements(executed.unwrap_or("[]"), |tool| {
        let kind = json::fields(tool, ["type"]).and_then(|[kind]| kind).and_then(json::text).unwrap_or_default();
        let kind = if kind == "search" { "web_search" } else { &*kind };
        answer.watch.hear_own(Called::BuiltIn(kind));
    });
}

/// A delta or a message.
fn spoken(answer: &mut Answer, index: u64, raw: &str) {
    if answer.watch.is_on() {
        used(answer, raw);
    }
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
    if answer.watch.is_on() {
        called::of_chat(raw, &mut |called| answer.watch.hear_own(called));
    }
    let Some([part, function, custom]) = json::fields(raw, ["index", "function", "custom"]) else { return };
    let part = part.and_then(json::whole).unwrap_or(position);
    let voice = Voice { kind: Kind::Tool, answer: index, part };
    if let (Some(_), Some(raw)) = (function, custom)
        && let Some(name) = json::fields(raw, ["name"]).and_then(|[name]| name).and_then(json::text)
    {
        // Whichever of the two a client goes by.
        answer.watch.hear(None, &name);
    }
    if let Some(raw) = function.or(custom) {
        called(answer, voice, raw);
    }
}

/// The name is said once, although some providers repeat it with each delta.
fn called(answer: &mut Answer, voice: Voice, raw: &str) {
    answer.loose.calling(voice.answer, voice.part);
    let Some([name, arguments, input]) = json::fields(raw, ["name", "arguments", "input"]) else { return };
    let name = name.and_then(json::text).filter(|name| !name.is_empty());
    if let Some(name) = &name {
        answer.watch.hear(Some(voice), name);
    }
    if !answer.tally.knows(voice)
        && let Some(name) = name
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
