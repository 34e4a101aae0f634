//! How streams of Google's end at their length limit.

use serde_json::{Value, json};

use crate::meter::loose::{Ending, Within};

/// A last chunk of generated content with `finishReason: MAX_TOKENS` for each candidate, and usage as every chunk has
/// it. Without `alt=sse` it is the last element of an array.
pub fn content(ending: &Ending<'_>) -> Vec<u8> {
    let open = (0..ending.choices.max(1)).filter(|index| !ending.loose.has_ended(*index));
    let candidates: Vec<Value> = open
        .map(|index| {
            let content = json!({"role": "model", "parts": [{"text": ""}]});
            json!({"content": content, "finishReason": "MAX_TOKENS", "index": index})
        })
        .collect();
    let usage = json!({
        "promptTokenCount": ending.usage.input_total(),
        "cachedContentTokenCount": ending.usage.cache_read,
        "candidatesTokenCount": ending.usage.output.saturating_sub(ending.usage.reasoning),
        "thoughtsTokenCount": ending.usage.reasoning,
        "totalTokenCount": ending.usage.total(),
    });
    let model = ending.model.unwrap_or_default();
    let data = json!({"candidates": candidates, "usageMetadata": usage, "modelVersion": model});
    match ending.within {
        Within::Array { begun: true } => format!(",\r\n{data}]"),
        Within::Array { begun: false } => format!("[{data}]"),
        _ => format!("data: {data}\r\n\r\n"),
    }
    .into_bytes()
}

/// `interaction.completed` with the status `incomplete`, and the event that ends every stream of interactions.
pub fn interaction(ending: &Ending<'_>) -> Vec<u8> {
    let usage = json!({
        "total_input_tokens": ending.usage.input_total(),
        "total_cached_tokens": ending.usage.cache_read,
        "total_output_tokens": ending.usage.output.saturating_sub(ending.usage.reasoning),
        "total_thought_tokens": ending.usage.reasoning,
        "total_tokens": ending.usage.total(),
    });
    let id = ending.loose.id.as_deref().and_then(|raw| serde_json::from_str::<Value>(raw).ok());
    let interaction = json!({"id": id, "object": "interaction", "status": "incomplete",
        "model": ending.model.unwrap_or_default(), "usage": usage});
    let data = json!({"event_type": "interaction.completed", "interaction": interaction});
    format!("event: interaction.completed\ndata: {data}\n\nevent: done\ndata: [DONE]\n\n").into_bytes()
}
