//! How a stream of response events ends at its length limit.

use serde_json::json;

use crate::meter::loose::Ending;

/// `response.incomplete`, the last event of a response that reached `max_output_tokens` (OpenAI, "Streaming events").
/// Its `output` is what the client has by now from the deltas, so it is not repeated.
pub fn ending(ending: &Ending<'_>) -> Vec<u8> {
    let id = ending.loose.id.as_deref().unwrap_or("\"resp_farebox\"");
    let created = ending.loose.created.as_deref().unwrap_or("0");
    let usage = json!({
        "input_tokens": ending.usage.input_total(),
        "input_tokens_details": {"cached_tokens": ending.usage.cache_read},
        "output_tokens": ending.usage.output,
        "output_tokens_details": {"reasoning_tokens": ending.usage.reasoning},
        "total_tokens": ending.usage.total(),
    });
    let data = format!(
        "{{\"type\":\"response.incomplete\",\"sequence_number\":{},\"response\":{{\"id\":{id},\"object\":\"response\",\
         \"created_at\":{created},\"status\":\"incomplete\",\"error\":null,\
         \"incomplete_details\":{{\"reason\":\"max_output_tokens\"}},\"model\":{},\"output\":[],\"usage\":{usage}}}}}",
        ending.loose.next,
        json!(ending.model.unwrap_or_default()),
    );
    format!("event: response.incomplete\ndata: {data}\n\n").into_bytes()
}
