//! Reading Converse and its event stream (Amazon Bedrock, "Converse" and "ConverseStream").

use super::usage::usage;
use crate::meter::answer::Answer;
use crate::meter::json;
use crate::meter::tally::Kind;

/// Reads the payload of one frame, whose kind its headers tell. Also Nova's own stream, in which the kind is the key of
/// the one thing that a chunk holds.
pub fn frame(answer: &mut Answer, kind: &str, payload: &str) {
    match kind {
        "contentBlockStart" => {
            let [index, start] = json::fields(payload, ["contentBlockIndex", "start"]).unwrap_or_default();
            let index = index.and_then(json::whole).unwrap_or(0);
            answer.loose.begin(index);
            let tool = start.and_then(|raw| json::fields(raw, ["toolUse"])).and_then(|[tool]| tool);
            if let (Some(block), Some([name])) = (start, tool.and_then(|raw| json::fields(raw, ["name"]))) {
                called(answer, index, block, name, None);
            }
        }
        "contentBlockDelta" => {
            let [index, delta] = json::fields(payload, ["contentBlockIndex", "delta"]).unwrap_or_default();
            let index = index.and_then(json::whole).unwrap_or(0);
            answer.loose.begin(index);
            block(answer, index, delta);
        }
        "contentBlockStop" => {
            let [index] = json::fields(payload, ["contentBlockIndex"]).unwrap_or_default();
            answer.loose.end(index.and_then(json::whole).unwrap_or(0));
        }
        "messageStop" => {
            answer.ended = true;
            answer.loose.stopped = true;
        }
        "metadata" => {
            let [said] = json::fields(payload, ["usage"]).unwrap_or_default();
            answer.hear(said.and_then(usage));
            answer.finished |= answer.ended;
        }
        _ => {}
    }
}

/// Reads a whole answer. `None`: not a JSON object.
pub fn body(answer: &mut Answer, raw: &str) -> Option<()> {
    let [output, said, reason] = json::fields(raw, ["output", "usage", "stopReason"])?;
    answer.ended |= reason.is_some();
    answer.hear(said.and_then(usage));
    let message = output.and_then(|raw| json::fields(raw, ["message"])).and_then(|[message]| message);
    let content = message.and_then(|raw| json::fields(raw, ["content"])).and_then(|[content]| content);
    let mut index = 0;
    json::elements(content.unwrap_or("[]"), |raw| {
        block(answer, index, Some(raw));
        index += 1;
    });
    Some(())
}

/// A content block, or a delta of one.
fn block(answer: &mut Answer, index: u64, raw: Option<&str>) {
    let names = ["text", "toolUse", "reasoningContent", "citationsContent", "citation"];
    let Some([text, tool, thought, cited, citation]) = raw.and_then(|raw| json::fields(raw, names)) else { return };
    answer.speak(Kind::Text, index, 0, text);
    if let (Some(block), Some([name, input])) = (raw, tool.and_then(|raw| json::fields(raw, ["name", "input"]))) {
        called(answer, index, block, name, input);
    }
    found(answer, citation);
    let [citations] = cited.and_then(|raw| json::fields(raw, ["citations"])).unwrap_or_default();
    json::elements(citations.unwrap_or("[]"), |citation| found(answer, Some(citation)));
    if let Some([text, whole]) = thought.and_then(|raw| json::fields(raw, ["text", "reasoningText"])) {
        answer.speak(Kind::Thinking, index, 0, text);
        let text = whole.and_then(|raw| json::fields(raw, ["text"])).and_then(|[text]| text);
        answer.speak(Kind::Thinking, index, 0, text);
    }
}

/// A tool that is called: by its type the provider's own, or a function.
fn called(answer: &mut Answer, index: u64, block: &str, name: Option<&str>, input: Option<&str>) {
    match answer.tells_own(block) {
        true => answer.call_elsewhere(index, 0, name, input),
        false => answer.call(index, 0, name, input),
    }
}

/// A citation of what was found in the web.
fn found(answer: &mut Answer, citation: Option<&str>) {
    let [location] = citation.and_then(|raw| json::fields(raw, ["location"])).unwrap_or_default();
    let [web] = location.and_then(|raw| json::fields(raw, ["web"])).unwrap_or_default();
    answer.used("web_search", web);
}
