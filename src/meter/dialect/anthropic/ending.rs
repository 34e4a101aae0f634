//! How a stream of message events ends at its length limit.

use serde_json::{Value, json};

use crate::meter::loose::Ending;

/// The end of every open block, `message_delta` with `stop_reason: max_tokens` and the cumulative output, and
/// `message_stop`; as Anthropic's page on streaming messages has it.
pub fn ending(ending: &Ending<'_>) -> Vec<u8> {
    let mut events = String::new();
    let mut say = |name: &str, data: &Value| events.push_str(&format!("event: {name}\ndata: {data}\n\n"));
    for block in ending.loose.open() {
        say("content_block_stop", &json!({"type": "content_block_stop", "index": block}));
    }
    if !ending.loose.stopped {
        let delta = json!({"stop_reason": "max_tokens", "stop_sequence": null});
        let usage = json!({"output_tokens": ending.usage.output});
        say("message_delta", &json!({"type": "message_delta", "delta": delta, "usage": usage}));
    }
    say("message_stop", &json!({"type": "message_stop"}));
    events.into_bytes()
}
