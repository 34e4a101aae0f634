//! Anthropic messages as the API reference shows them: `message`, and the events of a stream.

use serde_json::{Value, json};

use super::answer::{Answer, Call, Usage, Used, text};
use super::dialect::Event;
use super::script::Report;
use super::vocabulary::Piece;

/// `message`.
pub(super) fn document(answer: &Answer) -> Value {
    let written: String = answer.choices.iter().map(|pieces| text(pieces)).collect();
    let block = match &answer.call {
        None => json!({"type": "text", "text": written}),
        Some(call) => {
            // Arguments that the limit cut are no JSON; the API then gives what it has, here nothing.
            let input: Value = serde_json::from_str(&written).unwrap_or_else(|_| json!({}));
            json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input})
        }
    };
    let mut content = vec![block];
    content.extend(answer.used.iter().flat_map(ran));
    content.extend(answer.more_calls.iter().map(called));
    message(answer, &content, &json!(stop(answer)), answer.usage.completion)
}

fn called(call: &Call) -> Value {
    json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
}

/// A tool that ran elsewhere, and what came of it.
fn ran(used: &Used) -> [Value; 2] {
    let (id, name) = ("srvtoolu_1", &used.name);
    match &used.server {
        None => [
            json!({"type": "server_tool_use", "id": id, "name": name, "input": {}}),
            json!({"type": format!("{name}_tool_result"), "tool_use_id": id, "content": []}),
        ],
        Some(label) => [
            json!({"type": "mcp_tool_use", "id": id, "name": name, "server_name": label, "input": {}}),
            json!({"type": "mcp_tool_result", "tool_use_id": id, "is_error": false, "content": []}),
        ],
    }
}

/// `message_start`, the block's start, a ping.
pub(super) fn opening(answer: &Answer) -> Vec<Event> {
    let block = match &answer.call {
        None => json!({"type": "text", "text": ""}),
        Some(call) => called(call),
    };
    // The API opens with a placeholder of 1 output token; the final number comes in `message_delta`.
    let start = message(answer, &[], &Value::Null, 1);
    vec![
        Event::named("message_start", &json!({"type": "message_start", "message": start})),
        Event::named(
            "content_block_start",
            &json!({"type": "content_block_start", "index": 0, "content_block": block}),
        ),
        Event::named("ping", &json!({"type": "ping"})),
    ]
}

/// A delta.
pub(super) fn piece(answer: &Answer, piece: &Piece) -> Event {
    let delta = match &answer.call {
        None => json!({"type": "text_delta", "text": piece.text}),
        Some(_) => json!({"type": "input_json_delta", "partial_json": piece.text}),
    };
    Event::named("content_block_delta", &json!({"type": "content_block_delta", "index": 0, "delta": delta}))
}

/// The block's end, the calls behind it, `message_delta` with the cumulative output, `message_stop`.
pub(super) fn closing(answer: &Answer) -> Vec<Event> {
    let mut delta = json!({"type": "message_delta", "delta": {"stop_reason": stop(answer), "stop_sequence": null}});
    let usage = match answer.report {
        Report::Silent => None,
        Report::Absurd => Some(json!({"output_tokens": 9_000_000_000_000_000_000_u64})),
        Report::Honest => Some(json!({"output_tokens": answer.usage.completion})),
    };
    if let (Some(usage), Some(delta)) = (usage, delta.as_object_mut()) {
        delta.insert("usage".to_owned(), usage);
    }
    let stop =
        |index: usize| Event::named("content_block_stop", &json!({"type": "content_block_stop", "index": index}));
    let mut events = vec![stop(0)];
    let own = answer.used.iter().flat_map(ran);
    for (index, block) in own.chain(answer.more_calls.iter().map(called)).enumerate() {
        let index = index.saturating_add(1);
        let start = json!({"type": "content_block_start", "index": index, "content_block": block});
        events.extend([Event::named("content_block_start", &start), stop(index)]);
    }
    events.push(Event::named("message_delta", &delta));
    events.push(Event::named("message_stop", &json!({"type": "message_stop"})));
    events
}

/// `{"type": "error", …}` with the type that the API documents for a status.
pub(super) fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500..=599 => "api_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_farebox_upstream"})
}

fn message(answer: &Answer, content: &[Value], stop: &Value, output: u64) -> Value {
    let mut message = json!({"id": answer.id, "type": "message", "role": "assistant", "model": answer.model,
        "content": content, "stop_reason": stop, "stop_sequence": null});
    let usage = match answer.report {
        Report::Silent => None,
        Report::Absurd => Some(json!({"input_tokens": -5, "output_tokens": 9_000_000_000_000_000_000_u64})),
        Report::Honest => {
            let Usage { cached, cache_write, cache_write_1h, .. } = answer.usage;
            let minutes = cache_write.saturating_sub(cache_write_1h);
            Some(json!({"input_tokens": answer.usage.fresh(), "output_tokens": output,
                "cache_creation_input_tokens": cache_write, "cache_read_input_tokens": cached,
                "cache_creation": {"ephemeral_5m_input_tokens": minutes, "ephemeral_1h_input_tokens": cache_write_1h},
                "service_tier": "standard"}))
        }
    };
    if let (Some(usage), Some(message)) = (usage, message.as_object_mut()) {
        message.insert("usage".to_owned(), usage);
    }
    message
}

fn stop(answer: &Answer) -> &'static str {
    match answer.limited {
        true => "max_tokens",
        false if answer.calls_tools() => "tool_use",
        false => "end_turn",
    }
}
