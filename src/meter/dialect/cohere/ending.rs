//! How streams of Cohere's end at their length limit.

use serde_json::{Value, json};

use crate::meter::loose::{Ending, Within};

const LIMIT: &str = "MAX_TOKENS";

/// `message-end` with `finish_reason: MAX_TOKENS`, and `[DONE]` (Cohere, "Chat with Streaming", version 2); or, of
/// version 1, whose events are lines, `stream-end`. The text that it repeats there is what the client has by now.
pub fn chat(ending: &Ending<'_>) -> Vec<u8> {
    if ending.within != Within::Events {
        let response = json!({"text": "", "finish_reason": LIMIT, "meta": meta(ending)});
        return line(
            &json!({"is_finished": true, "event_type": "stream-end", "finish_reason": LIMIT, "response": response}),
        );
    }
    let usage = json!({"tokens": tokens(ending), "cached_tokens": ending.usage.cache_read});
    let delta = json!({"finish_reason": LIMIT, "usage": usage});
    let data = json!({"type": "message-end", "delta": delta});
    format!("event: message-end\ndata: {data}\n\ndata: [DONE]\n\n").into_bytes()
}

/// The last line of a stream of `generate`, which repeats the whole answer.
pub fn generate(ending: &Ending<'_>) -> Vec<u8> {
    let response = json!({"generations": [], "meta": meta(ending)});
    line(&json!({"is_finished": true, "finish_reason": LIMIT, "response": response}))
}

fn line(data: &Value) -> Vec<u8> {
    format!("{data}\n").into_bytes()
}

fn tokens(ending: &Ending<'_>) -> Value {
    json!({"input_tokens": ending.usage.input_total(), "output_tokens": ending.usage.output})
}

fn meta(ending: &Ending<'_>) -> Value {
    json!({"tokens": tokens(ending), "billed_units": tokens(ending)})
}
