//! Reading interactions and their stream events (Google, "Interactions API").
//!
//! `total_input_tokens` includes what was cached; what tools read comes beside it; `total_output_tokens` excludes
//! thoughts. Usage comes with the interaction when it is completed.

use crate::meter::answer::{Absurd, Answer, count};
use crate::meter::json;
use crate::meter::tally::Kind;
use crate::meter::usage::Usage;

/// Reads the data of one event.
pub fn event(answer: &mut Answer, data: &str) {
    if data.trim_ascii() == "[DONE]" {
        answer.finished = true;
        return;
    }
    let names = ["event_type", "interaction", "delta", "index", "error", "step", "content"];
    let Some([kind, interaction, delta, index, error, step, content]) = json::fields(data, names) else { return };
    answer.error |= error.is_some_and(json::says);
    let index = index.and_then(json::whole).unwrap_or(0);
    match kind.and_then(json::text).as_deref() {
        Some("step.delta" | "content.delta") => delta_of(answer, index, delta),
        // What was called a content once is a step now.
        Some("step.start" | "content.start") => {
            for step in [step, content].into_iter().flatten() {
                // Its arguments come behind it.
                let Some([kind, text, name]) = json::fields(step, ["type", "text", "name"]) else { continue };
                answer.speak(voice(kind), index, 0, text);
                called(answer, index, Some(step), name, None);
            }
        }
        Some("error") => answer.error = true,
        Some("interaction.completed" | "interaction.complete" | "interaction.failed" | "interaction.incomplete") => {
            answer.ended = true;
            answer.queued = Some(false);
            last(answer, interaction.unwrap_or(data));
        }
        _ => last(answer, interaction.unwrap_or_default()),
    }
}

/// Reads a whole interaction. `None`: not a JSON object.
pub fn body(answer: &mut Answer, raw: &str) -> Option<()> {
    let [error, status, steps, outputs] = json::fields(raw, ["error", "status", "steps", "outputs"])?;
    answer.error |= error.is_some_and(json::says) || status == Some("\"failed\"");
    // In the background (Google, "Interactions API").
    answer.queued = status.map(|status| matches!(status, "\"in_progress\"" | "\"queued\""));
    let mut number = 0;
    for list in [steps, outputs].into_iter().flatten() {
        json::elements(list, |step| {
            whole_step(answer, number, step);
            number += 1;
        });
    }
    last(answer, raw);
    Some(())
}

fn last(answer: &mut Answer, raw: &str) {
    let names = ["model", "usage", "id", "steps", "outputs"];
    let Some([model, said, id, steps, outputs]) = json::fields(raw, names) else { return };
    for list in [steps, outputs].into_iter().flatten() {
        json::elements(list, |step| told_again(answer, step));
    }
    answer.served_by(model);
    answer.loose.named(id, None);
    answer.hear(said.and_then(usage));
}

fn delta_of(answer: &mut Answer, index: u64, delta: Option<&str>) {
    let names = ["type", "text", "thought", "content", "name", "arguments"];
    let Some([kind, text, thought, content, name, arguments]) = delta.and_then(|raw| json::fields(raw, names)) else {
        return;
    };
    let told = voice(kind);
    answer.speak(told, index, 0, text.or(thought));
    if let Some([text]) = content.and_then(|raw| json::fields(raw, ["text"])) {
        answer.speak(told, index, 0, text);
    }
    called(answer, index, delta, name, arguments);
}

/// What a step of this type says, or a piece of one.
fn voice(kind: Option<&str>) -> Kind {
    if kind.is_some_and(|kind| kind.contains("thought")) { Kind::Thinking } else { Kind::Text }
}

/// A step, or a piece of one, that may call a tool.
fn called(answer: &mut Answer, index: u64, step: Option<&str>, name: Option<&str>, arguments: Option<&str>) {
    let elsewhere = step.is_some_and(|raw| answer.tells_own(raw));
    if name.or(arguments).is_none() {
        return;
    }
    match elsewhere {
        true => answer.call_elsewhere(index, 0, name, arguments),
        false => answer.call(index, 0, name, arguments),
    }
}

fn whole_step(answer: &mut Answer, number: u64, raw: &str) {
    let names = ["type", "content", "summary", "text", "name", "arguments"];
    let Some([kind, content, summary, text, name, arguments]) = json::fields(raw, names) else { return };
    if matches!(kind, Some("\"user_input\"" | "\"function_result\"")) {
        return;
    }
    let told = if kind == Some("\"thought\"") { Kind::Thinking } else { Kind::Text };
    answer.speak(told, number, 0, text);
    for list in [content, summary].into_iter().flatten() {
        json::elements(list, |raw| {
            let text = json::fields(raw, ["text"]).and_then(|[text]| text);
            answer.speak(told, number, 0, text);
        });
    }
    if is_call(kind) {
        called(answer, number, Some(raw), name, arguments);
    } else {
        answer.tells_own(raw);
    }
}

/// A function, or a tool of a server: both have a name.
fn is_call(kind: Option<&str>) -> bool {
    matches!(kind, Some("\"function_call\"" | "\"mcp_server_tool_call\""))
}

/// A step of an interaction as it stands at its end: whatever was heard of it before, its tool is called.
fn told_again(answer: &mut Answer, raw: &str) {
    let Some([kind, name]) = json::fields(raw, ["type", "name"]) else { return };
    let function = !answer.tells_own(raw) && is_call(kind);
    if let Some(name) = name.filter(|_| function).and_then(json::text) {
        answer.watch.hear(None, &name);
    }
}

fn usage(raw: &str) -> Option<Result<Usage, Absurd>> {
    let names = [
        "total_input_tokens",
        "total_tool_use_tokens",
        "total_cached_tokens",
        "total_output_tokens",
        "total_thought_tokens",
        "total_tokens",
    ];
    let [input, tools, cached, output, thoughts, total] = json::fields(raw, names)?;
    let read = || -> Result<Option<Usage>, Absurd> {
        let input = count(input)?.unwrap_or(0).saturating_add(count(tools)?.unwrap_or(0));
        let cache_read = count(cached)?.unwrap_or(0).min(input);
        let reasoning = count(thoughts)?.unwrap_or(0);
        let usage = Usage {
            input: input.saturating_sub(cache_read),
            cache_read,
            output: count(output)?.unwrap_or(0).saturating_add(reasoning),
            reasoning,
            provider_total: count(total)?.unwrap_or(0),
            ..Usage::default()
        };
        Ok((usage.total() > 0).then_some(usage))
    };
    read().transpose()
}
