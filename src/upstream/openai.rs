//! OpenAI chat completions as the API reference shows them: `chat.completion` and `chat.completion.chunk`.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Call, Used, text};
use super::dialect::Event;
use super::script::Report;
use super::vocabulary::Piece;

/// `chat.completion`.
pub(super) fn document(answer: &Answer) -> Value {
    let choices = answer.choices.iter().enumerate().map(|(index, pieces)| {
        let mut message = match &answer.call {
            None => json!({"role": "assistant", "content": text(pieces), "refusal": null, "annotations": []}),
            Some(call) => json!({"role": "assistant", "content": null, "refusal": null, "annotations": [],
                "tool_calls": [called(call, &text(pieces))]}),
        };
        let mut calls: Vec<Value> =
            message.pointer("/tool_calls").and_then(Value::as_array).cloned().unwrap_or_default();
        calls.extend(answer.used.iter().map(ran));
        calls.extend(answer.more_calls.iter().map(|call| called(call, "{}")));
        if let (Some(message), false) = (message.as_object_mut(), calls.is_empty()) {
            message.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish(answer)})
    });
    let mut document = envelope(answer, "chat.completion", choices.collect());
    if let Some(usage) = usage(answer) {
        document.insert("usage".to_owned(), usage);
    }
    Value::Object(document)
}

fn called(call: &Call, arguments: &str) -> Value {
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}

/// A tool that ran elsewhere: not OpenAI's own, which has none in this API, but as Zhipu tells it (“GLM-4-AllTools”, “MCP”).
fn ran(used: &Used) -> Value {
    let name = &used.name;
    match &used.server {
        None => json!({"id": "call_own", "type": name, name: {"input": "x"}}),
        Some(label) => json!({"id": "call_own", "type": "mcp", "mcp": {"id": "mcp_1", "type": "mcp_call",
            "server_label": label, "name": name, "arguments": "{}", "output": "x"}}),
    }
}

/// One chunk a choice that says who speaks, and which tool is called.
pub(super) fn opening(answer: &Answer) -> Vec<Event> {
    let delta = match &answer.call {
        None => json!({"role": "assistant", "content": "", "refusal": null}),
        Some(call) => json!({"role": "assistant", "content": null, "tool_calls": [{"index": 0, "id": call.id,
            "type": "function", "function": {"name": call.name, "arguments": ""}}]}),
    };
    (0..answer.choices.len()).map(|index| chunk(answer, index, &delta, &Value::Null)).collect()
}

/// A delta.
pub(super) fn piece(answer: &Answer, choice: usize, piece: &Piece) -> Event {
    let delta = match &answer.call {
        None => json!({"content": piece.text}),
        Some(_) => json!({"tool_calls": [{"index": 0, "function": {"arguments": piece.text}}]}),
    };
    chunk(answer, choice, &delta, &Value::Null)
}

/// The calls behind the words, one finishing chunk a choice, the usage chunk if asked for, `[DONE]`.
pub(super) fn closing(answer: &Answer) -> Vec<Event> {
    let finish = json!(finish(answer));
    let mut events = Vec::new();
    for choice in 0..answer.choices.len() {
        let first = usize::from(answer.call.is_some());
        let own = answer.used.iter().map(ran);
        for (index, mut call) in own.chain(answer.more_calls.iter().map(|call| called(call, "{}"))).enumerate() {
            if let Some(call) = call.as_object_mut() {
                call.insert("index".to_owned(), json!(first.saturating_add(index)));
            }
            events.push(chunk(answer, choice, &json!({"tool_calls": [call]}), &Value::Null));
        }
        events.push(chunk(answer, choice, &json!({}), &finish));
    }
    if let Some(usage) = usage(answer).filter(|_| answer.include_usage) {
        let mut last = envelope(answer, "chat.completion.chunk", Vec::new());
        last.insert("usage".to_owned(), usage);
        events.push(Event::plain(&Value::Object(last)));
    }
    events.push(Event { name: None, data: "[DONE]".to_owned() });
    events
}

/// `{"error": …}` with the type and code that the API documents for a status.
pub(super) fn error(status: u16, message: &str) -> Value {
    let (kind, code) = match status {
        401 => ("invalid_request_error", json!("invalid_api_key")),
        403 => ("invalid_request_error", json!("unsupported_country_region_territory")),
        404 => ("invalid_request_error", json!("model_not_found")),
        429 => ("tokens", json!("rate_limit_exceeded")),
        503 => ("service_unavailable_error", json!("server_is_overloaded")),
        500..=599 => ("server_error", Value::Null),
        _ => ("invalid_request_error", Value::Null),
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

fn chunk(answer: &Answer, index: usize, delta: &Value, finish: &Value) -> Event {
    let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish});
    let mut chunk = envelope(answer, "chat.completion.chunk", vec![choice]);
    if answer.include_usage && answer.report != Report::Silent {
        // The API sends `usage: null` on every chunk but the last once the option is set.
        chunk.insert("usage".to_owned(), Value::Null);
    }
    Event::plain(&Value::Object(chunk))
}

fn envelope(answer: &Answer, object: &str, choices: Vec<Value>) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("id".to_owned(), json!(answer.id));
    map.insert("object".to_owned(), json!(object));
    map.insert("created".to_owned(), json!(answer.created));
    map.insert("model".to_owned(), json!(answer.model));
    map.insert("system_fingerprint".to_owned(), json!("fp_farebox"));
    map.insert("choices".to_owned(), Value::Array(choices));
    map
}

fn finish(answer: &Answer) -> &'static str {
    match answer.limited {
        true => "length",
        false if answer.calls_tools() => "tool_calls",
        false => "stop",
    }
}

fn usage(answer: &Answer) -> Option<Value> {
    let usage = answer.usage;
    match answer.report {
        Report::Silent => None,
        Report::Absurd => Some(json!({"prompt_tokens": -1, "completion_tokens": 9_000_000_000_000_000_000_u64,
            "total_tokens": -7})),
        Report::Honest => Some(json!({
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "total_tokens": usage.prompt.saturating_add(usage.completion),
            "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        })),
    }
}
