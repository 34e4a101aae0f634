//! How a stream of text completions ends at its length limit.

use serde_json::json;

use crate::meter::loose::Ending;

/// A last `completion` without text and with `stop_reason: max_tokens`.
pub fn ending(ending: &Ending<'_>) -> Vec<u8> {
    let data = json!({"type": "completion", "completion": "", "stop_reason": "max_tokens", "stop": null,
        "model": ending.model.unwrap_or_default()});
    format!("event: completion\r\ndata: {data}\r\n\r\n").into_bytes()
}
