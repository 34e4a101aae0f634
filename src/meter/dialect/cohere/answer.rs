//! Reading Cohere's answers and events (Cohere, "Chat", "Chat with Streaming", both versions).

use super::usage;
use crate::meter::answer::Answer;
use crate::meter::called::Called;
use crate::meter::json;
use crate::meter::tally::Kind;

/// Reads an event or a whole answer. `None`: not a JSON object.
///
/// Version 2 has a `type`, version 1 an `event_type`; a whole answer has neither.
pub fn body(answer: &mut Answer, raw: &str) -> Option<()> {
    if raw.trim_ascii() == "[DONE]" {
        answer.finished = true;
        return Some(());
    }
    let [second, first] = json::fields(raw, ["type", "event_type"])?;
    if answer.watch.is_on() {
        found(answer, raw);
    }
    match (second.and_then(json::text), first.and_then(json::text)) {
        (Some(kind), _) => second_version(answer, &kind, raw),
        (None, Some(kind)) => first_version(answer, &kind, raw),
        (None, None) => whole(answer, raw),
    }
    Some(())
}

/// What connectors of the first version found: an event of its own, a whole answer, or one at the end of a stream.
fn found(answer: &mut Answer, raw: &str) {
    let Some([results, response]) = json::fields(raw, ["search_results", "response"]) else { return };
    let [within] = response.and_then(|raw| json::fields(raw, ["search_results"])).unwrap_or_default();
    for list in [results, within].into_iter().flatten() {
        json::elements(list, |result| {
            let [connector] = json::fields(result, ["connector"]).unwrap_or_default();
            let [id] = connector.and_then(|raw| json::fields(raw, ["id"])).unwrap_or_default();
            let id = id.and_then(json::text);
            answer.watch.hear_own(Called::BuiltIn(id.as_deref().unwrap_or("web_search")));
        });
    }
}

fn whole(answer: &mut Answer, raw: &str) {
    let names = ["message", "usage", "meta", "text", "generations", "finish_reason", "tool_calls", "error", "response"];
    let Some([message, said, meta, text, generations, reason, calls, error, response]) = json::fields(raw, names)
    else {
        return;
    };
    answer.error |= error.is_some_and(json::says) || is_failure(reason);
    answer.ended |= reason.is_some();
    answer.speak(Kind::Text, 0, 0, text);
    if let Some(raw) = message.filter(|raw| raw.starts_with('{')) {
        message_of(answer, 0, raw);
    }
    tool_calls(answer, calls);
    let mut number = 0;
    json::elements(generations.unwrap_or("[]"), |raw| {
        let [text, reason] = json::fields(raw, ["text", "finish_reason"]).unwrap_or_default();
        answer.speak(Kind::Text, number, 0, text);
        answer.ended |= reason.is_some();
        number += 1;
    });
    // The last line of a stream of `generate` repeats the whole answer.
    let [repeated] = response.and_then(|raw| json::fields(raw, ["meta"])).unwrap_or_default();
    answer.hear(said.or(meta).or(repeated).and_then(usage));
}

fn second_version(answer: &mut Answer, kind: &str, raw: &str) {
    let Some([index, delta]) = json::fields(raw, ["index", "delta"]) else { return };
    let index = index.and_then(json::whole).unwrap_or(0);
    match kind {
        "content-start" | "content-delta" | "tool-plan-delta" | "tool-call-start" | "tool-call-delta" => {
            let message = delta.and_then(|raw| json::fields(raw, ["message"])).and_then(|[message]| message);
            message_of(answer, index, message.unwrap_or_default());
        }
        "message-end" => {
            let Some([reason, said, error]) =
                delta.and_then(|raw| json::fields(raw, ["finish_reason", "usage", "error"]))
            else {
                return;
            };
            answer.finished = true;
            answer.error |= error.is_some_and(json::says) || is_failure(reason);
            answer.hear(said.and_then(usage));
        }
        _ => {}
    }
}

fn first_version(answer: &mut Answer, kind: &str, raw: &str) {
    let names = ["text", "tool_call_delta", "response", "finish_reason", "tool_calls"];
    let Some([text, call, response, reason, calls]) = json::fields(raw, names) else { return };
    match kind {
        "text-generation" => answer.speak(Kind::Text, 0, 0, text),
        "tool-calls-chunk" => {
            answer.speak(Kind::Thinking, 0, 0, text);
            let names = ["index", "name", "parameters", "text"];
            let [index, name, input, _] = call.and_then(|raw| json::fields(raw, names)).unwrap_or_default();
            answer.call(0, index.and_then(json::whole).unwrap_or(0), name, input);
        }
        "tool-calls-generation" => told_whole(answer, calls),
        "stream-end" => {
            answer.finished = true;
            answer.error |= is_failure(reason);
            let [meta, calls] = response.and_then(|raw| json::fields(raw, ["meta", "tool_calls"])).unwrap_or_default();
            told_whole(answer, calls);
            answer.hear(meta.and_then(usage));
        }
        _ => {}
    }
}

/// Calls that are told whole: what the chunks before said, where there were some.
fn told_whole(answer: &mut Answer, calls: Option<&str>) {
    if answer.tool_calls == 0 {
        return tool_calls(answer, calls);
    }
    json::elements(calls.unwrap_or("[]"), |raw| {
        if let Some(name) = json::fields(raw, ["name"]).and_then(|[name]| name).and_then(json::text) {
            answer.watch.hear(None, &name);
        }
    });
}

/// A message, or a delta of one: lists when whole, single things when not.
fn message_of(answer: &mut Answer, index: u64, raw: &str) {
    let Some([content, plan, calls]) = json::fields(raw, ["content", "tool_plan", "tool_calls"]) else { return };
    answer.speak(Kind::Thinking, index, 0, plan);
    if let Some(raw) = content {
        let mut part = 0;
        let listed = json::elements(raw, |raw| {
            content_of(answer, index, part, raw);
            part += 1;
        });
        if listed.is_none() {
            content_of(answer, index, 0, raw);
        }
    }
    match calls {
        Some(raw) if raw.starts_with('{') => tool_call(answer, index, raw),
        calls => tool_calls(answer, calls),
    }
}

fn content_of(answer: &mut Answer, index: u64, part: u64, raw: &str) {
    if raw.starts_with('"') {
        return answer.speak(Kind::Text, index, part, Some(raw));
    }
    let Some([text, thinking]) = json::fields(raw, ["text", "thinking"]) else { return };
    answer.speak(Kind::Text, index, part, text);
    answer.speak(Kind::Thinking, index, part, thinking);
}

fn tool_calls(answer: &mut Answer, calls: Option<&str>) {
    let mut number = 0;
    json::elements(calls.unwrap_or("[]"), |raw| {
        tool_call(answer, number, raw);
        number += 1;
    });
}

fn tool_call(answer: &mut Answer, number: u64, raw: &str) {
    let names = ["function", "name", "parameters"];
    let Some([function, name, parameters]) = json::fields(raw, names) else { return };
    if let Some([name, arguments]) = function.and_then(|raw| json::fields(raw, ["name", "arguments"])) {
        answer.call(number, 1, name, arguments);
    } else {
        answer.call(number, 1, name, parameters);
    }
}

/// `ERROR`, `ERROR_TOXIC`, `ERROR_LIMIT`: the generation failed on the way.
fn is_failure(reason: Option<&str>) -> bool {
    reason.is_some_and(|reason| reason.starts_with("\"ERROR"))
}
