//! How a stream of chat completion chunks ends at its length limit.

use serde_json::json;

use crate::meter::loose::Ending;
use crate::meter::usage::Usage;

/// A last chunk for each choice that has not ended, the usage if the client asked for it, and `[DONE]`; as the API
/// reference has it for `finish_reason: length`.
pub fn ending(ending: &Ending<'_>) -> Vec<u8> {
    let id = ending.loose.id.as_deref().unwrap_or("\"chatcmpl-farebox\"");
    let created = ending.loose.created.as_deref().unwrap_or("0");
    let model = json!(ending.model.unwrap_or_default());
    let chunk = |choices: &str, usage: &str| {
        format!(
            "data: {{\"id\":{id},\"object\":\"chat.completion.chunk\",\"created\":{created},\"model\":{model},\
             \"choices\":[{choices}]{usage}}}\n\n"
        )
    };
    let begun = ending.loose.open().filter(|choice| *choice >= ending.choices);
    let asked = (0..ending.choices).filter(|choice| !ending.loose.has_ended(*choice));
    // The API says `usage: null` on every chunk but the last once usage was asked for.
    let silent = if ending.tells_usage { ",\"usage\":null" } else { "" };
    let mut events = String::new();
    for choice in asked.chain(begun) {
        let last = format!("{{\"index\":{choice},\"delta\":{{}},\"logprobs\":null,\"finish_reason\":\"length\"}}");
        events.push_str(&chunk(&last, silent));
    }
    if ending.tells_usage {
        events.push_str(&chunk("", &format!(",\"usage\":{}", usage(&ending.usage))));
    }
    events.push_str("data: [DONE]\n\n");
    events.into_bytes()
}

/// Usage as a stream tells it.
pub fn usage(usage: &Usage) -> serde_json::Value {
    json!({
        "prompt_tokens": usage.input_total(),
        "completion_tokens": usage.output,
        "total_tokens": usage.total(),
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    })
}
