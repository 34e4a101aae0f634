//! Reading responses and their stream events (OpenAI, "Responses" and "Streaming events").
//!
//! Usage is null while a response runs, and final in `response.completed`, `response.incomplete` and
//! `response.failed`. Deltas come under the number of the item that they belong to; an item that had none, as with
//! providers that send only whole ones, is read when it is done.

use super::usage::usage;
use crate::meter::answer::Answer;
use crate::meter::called::{Called, own_kind};
use crate::meter::json;
use crate::meter::tally::{Kind, Voice};

/// Reads the data of one event.
pub fn event(answer: &mut Answer, data: &str) {
    if data.trim_ascii() == "[DONE]" {
        answer.finished = true;
        return;
    }
    let names =
        ["type", "response", "delta", "output_index", "content_index", "item", "object", "sequence_number", "error"];
    let Some([kind, response, delta, item_number, part, item, object, number, error]) = json::fields(data, names)
    else {
        return;
    };
    answer.error |= error.is_some_and(json::says);
    if let Some(number) = number.and_then(json::whole) {
        answer.loose.next = answer.loose.next.max(number.saturating_add(1));
    }
    let kind = kind.and_then(json::text).unwrap_or_default();
    let item_number = item_number.and_then(json::whole).unwrap_or(0);
    let part = part.and_then(json::whole).unwrap_or(0);
    let mut say = |kind: Kind| {
        answer.hear_item(item_number);
        answer.speak(kind, item_number, part, delta);
    };
    match &*kind {
        "response.output_text.annotation.added" => noted(answer, data),
        "response.output_text.delta" => say(Kind::Text),
        "response.refusal.delta" => say(Kind::Refusal),
        "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => say(Kind::Thinking),
        "response.function_call_arguments.delta"
        | "response.custom_tool_call_input.delta"
        | "response.mcp_call_arguments.delta"
        | "response.code_interpreter_call_code.delta"
        | "response.apply_patch_call_operation_diff.delta"
        | "response.shell_call_command.delta" => say(Kind::Tool),
        "response.output_item.added" => begin(answer, item_number, item),
        "response.output_item.done" => whole_item(answer, item_number, item),
        // `response.done`: OpenRouter, "Responses API Beta".
        "response.completed" | "response.done" | "response.incomplete" | "response.failed" | "response.cancelled" => {
            answer.finished = true;
            answer.queued = Some(false);
            answer.error |= &*kind == "response.failed";
            last(answer, response);
        }
        "error" => answer.error = true,
        _ if object == Some("\"response\"") => {
            body(answer, data);
        }
        _ if kind.contains("_call.") => stage(answer, &kind),
        _ => {
            let names = ["model", "id", "created_at"];
            let [model, id, created] = response.and_then(|raw| json::fields(raw, names)).unwrap_or_default();
            answer.served_by(model);
            answer.loose.named(id, created);
        }
    }
}

/// Reads a whole response. `None`: not a JSON object.
pub fn body(answer: &mut Answer, raw: &str) -> Option<()> {
    let [error, status] = json::fields(raw, ["error", "status"])?;
    answer.error |= error.is_some_and(json::says) || status == Some("\"failed\"");
    answer.ended |= status.is_some_and(|status| matches!(status, "\"completed\"" | "\"incomplete\"" | "\"failed\""));
    // In the background (OpenAI, "Background mode").
    answer.queued = status.map(|status| matches!(status, "\"queued\"" | "\"in_progress\""));
    last(answer, Some(raw));
    Some(())
}

/// A response as it stands at its end.
fn last(answer: &mut Answer, raw: Option<&str>) {
    let names = ["model", "usage", "output"];
    let Some([model, said, output]) = raw.and_then(|raw| json::fields(raw, names)) else { return };
    answer.served_by(model);
    answer.hear(said.and_then(usage));
    let mut number = 0;
    if let Some(output) = output {
        json::elements(output, |item| {
            whole_item(answer, number, Some(item));
            number += 1;
        });
    }
}

/// A stage of a call that the provider runs: `response.web_search_call.searching`.
fn stage(answer: &mut Answer, kind: &str) {
    let item = kind.split('.').nth(1).unwrap_or_default();
    if let Some(kind) = own_kind(item) {
        answer.watch.hear_own(Called::BuiltIn(kind));
    }
}

/// A note at a text.
fn noted(answer: &mut Answer, data: &str) {
    let [note] = json::fields(data, ["annotation"]).unwrap_or_default();
    answer.annotated(note.map(|note| format!("[{note}]")).as_deref());
}

/// An item begins: the name of a tool that is called, or the file that a patch is for.
fn begin(answer: &mut Answer, number: u64, item: Option<&str>) {
    let Some(raw) = item else { return };
    let elsewhere = answer.tells_own(raw);
    let Some([kind, name, operation]) = json::fields(raw, ["type", "name", "operation"]) else { return };
    if name.is_some() {
        answer.hear_item(number);
        match elsewhere {
            true => answer.call_elsewhere(number, 0, name, None),
            false => answer.call(number, 0, name, None),
        }
    } else if is_own_call(kind) {
        begin_own(answer, number);
        let [path] = operation.and_then(|raw| json::fields(raw, ["path"])).unwrap_or_default();
        answer.speak(Kind::Block, number, PATH, path);
    }
}

/// The part of an item that is the path of a file.
const PATH: u64 = u64::MAX;

/// A call of a tool that has no name, because the provider has laid down what it does, and that the caller runs: what is
/// to be done stands in its `action`, its `actions` or its `operation` (OpenAI, "Local shell", "Shell", "Apply patch",
/// "Computer use").
fn is_own_call(kind: Option<&str>) -> bool {
    let known = ["\"local_shell_call\"", "\"shell_call\"", "\"apply_patch_call\"", "\"computer_call\""];
    kind.is_some_and(|kind| known.contains(&kind))
}

fn begin_own(answer: &mut Answer, number: u64) {
    let voice = Voice { kind: Kind::Tool, answer: number, part: 0 };
    if !answer.tally.knows(voice) {
        answer.tool_calls = answer.tool_calls.saturating_add(1);
        answer.tally.open(voice);
    }
}

/// All of such a call.
fn own_call(answer: &mut Answer, number: u64, item: &str) {
    begin_own(answer, number);
    let names = ["action", "actions", "operation"];
    let [action, actions, operation] = json::fields(item, names).unwrap_or_default();
    for raw in [action, actions].into_iter().flatten() {
        // Documents are told with line breaks and blanks that no model wrote.
        let plain = serde_json::from_str(raw).map(|value: serde_json::Value| value.to_string());
        answer.tally.whole_arguments(plain.as_deref().unwrap_or(raw));
    }
    if let Some([path, diff]) = operation.and_then(|raw| json::fields(raw, ["path", "diff"])) {
        let path_known = answer.tally.knows(Voice { kind: Kind::Block, answer: number, part: PATH });
        answer.speak(Kind::Block, number, PATH, path.filter(|_| !path_known));
        answer.speak(Kind::Tool, number, 0, diff);
    }
}

/// An item with all that is in it, unless it was heard before.
fn whole_item(answer: &mut Answer, number: u64, item: Option<&str>) {
    let names = ["type", "content", "summary", "name", "arguments", "input", "code", "result"];
    let Some(fields) = item.and_then(|raw| json::fields(raw, names)) else { return };
    let [kind, content, summary, name, arguments, input, code, result] = fields;
    // Whatever was heard of it before.
    let elsewhere = item.is_some_and(|raw| answer.tells_own(raw));
    if let Some(name) = name.and_then(json::text).filter(|_| !elsewhere) {
        answer.watch.hear(None, &name);
    }
    json::elements(content.filter(|_| answer.watch.is_on()).unwrap_or("[]"), |raw| {
        answer.annotated(json::fields(raw, ["annotations"]).and_then(|[notes]| notes));
    });
    if answer.hear_item(number) {
        return;
    }
    if let Some(item) = item.filter(|_| is_own_call(kind)) {
        return own_call(answer, number, item);
    }
    let thinks = kind == Some("\"reasoning\"");
    let told = if thinks { Kind::Thinking } else { Kind::Text };
    let mut part = 0;
    for list in [content, summary].into_iter().flatten() {
        json::elements(list, |raw| {
            let [text, refusal] = json::fields(raw, ["text", "refusal"]).unwrap_or_default();
            answer.speak(told, number, part, text);
            answer.speak(Kind::Refusal, number, part, refusal);
            part += 1;
        });
    }
    match arguments.or(input) {
        Some(said) if elsewhere => answer.call_elsewhere(number, 0, name, Some(said)),
        Some(said) => answer.call(number, 0, name, Some(said)),
        None => {}
    }
    answer.speak(Kind::Tool, number, 1, code);
    if kind == Some("\"image_generation_call\"") && result.is_some() {
        answer.made.images = answer.made.images.saturating_add(1);
    }
}
