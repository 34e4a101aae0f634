//! How a stream of Cohere's ends at its length limit.

use serde_json::json;

use crate::meter::loose::Ending;

/// `message-end` with `finish_reason: MAX_TOKENS`, and `[DONE]` (Cohere, "Chat with Streaming", version 2).
pub fn ending(ending: &Ending<'_>) -> Vec<u8> {
    let tokens = json!({"input_tokens": ending.usage.input_total(), "output_tokens": ending.usage.output});
    let usage = json!({"tokens": tokens, "cached_tokens": ending.usage.cache_read});
    let delta = json!({"finish_reason": "MAX_TOKENS", "usage": usage});
    let data = json!({"type": "message-end", "delta": delta});
    format!("event: message-end\ndata: {data}\n\ndata: [DONE]\n\n").into_bytes()
}
