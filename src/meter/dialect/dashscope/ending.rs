//! How a stream of DashScope's ends at its length limit.

use serde_json::{Value, json};

use crate::meter::loose::Ending;

/// A last event with `finish_reason: length` for each of its answers. It adds no text; where each event has all of the text so far, so has this one,
/// for a client that goes by the last.
pub fn ending(ending: &Ending<'_>) -> Vec<u8> {
    let choice = |(at, text): (usize, &String)| {
        // Models that see and hear say it in parts (Alibaba Cloud Model Studio, "DashScope API reference": multimodal).
        let content = match (ending.loose.lists, text.as_str()) {
            (false, text) => json!(text),
            (true, "") => json!([]),
            (true, text) => json!([{"text": text}]),
        };
        let message = json!({"role": "assistant", "content": content});
        json!({"index": at, "message": message, "finish_reason": "length"})
    };
    let choices: Vec<Value> = ending.so_far.iter().enumerate().map(choice).collect();
    let output = match ending.bare {
        true => json!({"text": ending.so_far.first().map_or("", String::as_str), "finish_reason": "length"}),
        false => json!({"choices": choices, "finish_reason": "length"}),
    };
    let usage = json!({"input_tokens": ending.usage.input_total(), "output_tokens": ending.usage.output,
        "total_tokens": ending.usage.total()});
    let data = json!({"output": output, "usage": usage});
    format!("event:result\n:HTTP_STATUS/200\ndata:{data}\n\n").into_bytes()
}
