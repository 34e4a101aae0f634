//! How an event stream of Converse ends at its length limit.

use serde_json::json;

use crate::meter::eventstream;
use crate::meter::loose::Ending;

/// The end of every open block, `messageStop` with `stopReason: max_tokens`, and `metadata` with the usage.
pub fn converse(ending: &Ending<'_>) -> Vec<u8> {
    let mut frames = Vec::new();
    let mut say = |kind: &str, payload: &serde_json::Value| {
        frames.extend(eventstream::write("event", kind, payload.to_string().as_bytes()));
    };
    for block in ending.loose.open() {
        say("contentBlockStop", &json!({"contentBlockIndex": block}));
    }
    if !ending.loose.stopped {
        say("messageStop", &json!({"stopReason": "max_tokens"}));
    }
    let usage = json!({"inputTokens": ending.usage.input, "outputTokens": ending.usage.output,
        "totalTokens": ending.usage.total(), "cacheReadInputTokens": ending.usage.cache_read,
        "cacheWriteInputTokens": ending.usage.cache_write});
    say("metadata", &json!({"usage": usage, "metrics": {"latencyMs": 0}}));
    frames
}
