//! How streams of open servers' own routes end at their length limit.

use serde_json::json;

use crate::meter::loose::Ending;

/// One event in which each of these servers' clients finds its end: `details.finish_reason: length` (TGI),
/// `meta_info.finish_reason` (SGLang), `stop: true` with `stop_type: limit` (llama.cpp).
pub fn ending(ending: &Ending<'_>) -> Vec<u8> {
    let (input, output) = (ending.usage.input_total(), ending.usage.output);
    let data = json!({
        "index": 0,
        "token": {"id": 0, "text": "", "logprob": 0, "special": true},
        "generated_text": "",
        "details": {"finish_reason": "length", "generated_tokens": output, "seed": null},
        "meta_info": {"finish_reason": {"type": "length"}, "prompt_tokens": input, "completion_tokens": output},
        "content": "",
        "stop": true,
        "stop_type": "limit",
        "tokens_evaluated": input,
        "tokens_predicted": output,
    });
    format!("data: {data}\n\n").into_bytes()
}
