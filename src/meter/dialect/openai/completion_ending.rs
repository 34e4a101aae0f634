//! How a stream of completion chunks ends at its length limit.

use serde_json::json;

use crate::meter::loose::Ending;

/// A last chunk for each answer that has not ended, the usage if the client asked for it, and `[DONE]`; as the API
/// reference of the legacy completions has it for `finish_reason: length`.
pub fn ending(ending: &Ending<'_>) -> Vec<u8> {
    let id = ending.loose.id.as_deref().unwrap_or("\"cmpl-farebox\"");
    let created = ending.loose.created.as_deref().unwrap_or("0");
    let model = json!(ending.model.unwrap_or_default());
    let chunk = |choices: &str, usage: &str| {
        format!(
            "data: {{\"id\":{id},\"object\":\"text_completion\",\"created\":{created},\"model\":{model},\
             \"choices\":[{choices}]{usage}}}\n\n"
        )
    };
    let mut events = String::new();
    for choice in (0..ending.choices).filter(|choice| !ending.loose.has_ended(*choice)) {
        let last = format!("{{\"text\":\"\",\"index\":{choice},\"logprobs\":null,\"finish_reason\":\"length\"}}");
        events.push_str(&chunk(&last, ""));
    }
    if ending.tells_usage {
        events.push_str(&chunk("", &format!(",\"usage\":{}", super::ending::usage(&ending.usage))));
    }
    events.push_str("data: [DONE]\n\n");
    events.into_bytes()
}
