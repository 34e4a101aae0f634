//! How a stream of Ollama's ends at its length limit.

use serde_json::json;

use crate::meter::loose::Ending;

/// A last line with `done_reason: length` and the figures.
pub fn ending(ending: &Ending<'_>) -> Vec<u8> {
    let line = json!({"model": ending.model.unwrap_or_default(), "created_at": "1970-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": ""}, "response": "", "done": true, "done_reason": "length",
        "prompt_eval_count": ending.usage.input_total(), "eval_count": ending.usage.output});
    format!("{line}\n").into_bytes()
}
