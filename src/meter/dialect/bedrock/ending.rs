//! How Amazon's event streams end at their length limit.

use std::ops::ControlFlow::Continue;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::meter::dialect::{anthropic, cohere, openai};
use crate::meter::framing::Piece;
use crate::meter::loose::{Ending, Family, Within};
use crate::meter::usage::Usage;
use crate::meter::{eventstream, sse};

/// The events of a stream that Converse ends: the end of every open block, `messageStop` with `stopReason: max_tokens`,
/// and `metadata` with the usage.
fn events(ending: &Ending<'_>) -> Vec<(&'static str, Value)> {
    let stop = |block| ("contentBlockStop", json!({"contentBlockIndex": block}));
    let mut events: Vec<_> = ending.loose.open().map(stop).collect();
    if !ending.loose.stopped {
        events.push(("messageStop", json!({"stopReason": "max_tokens"})));
    }
    let usage = json!({"inputTokens": ending.usage.input, "outputTokens": ending.usage.output,
        "totalTokens": ending.usage.total(), "cacheReadInputTokens": ending.usage.cache_read,
        "cacheWriteInputTokens": ending.usage.cache_write});
    events.push(("metadata", json!({"usage": usage, "metrics": {"latencyMs": 0}})));
    events
}

/// A frame for each of them.
pub fn converse(ending: &Ending<'_>) -> Vec<u8> {
    let frame = |(kind, payload): (&str, Value)| eventstream::write("event", kind, payload.to_string().as_bytes());
    events(ending).into_iter().flat_map(frame).collect()
}

/// What InvokeModel passes on, as the model's family ends it (Amazon Bedrock, "Inference request parameters and response
/// fields for foundation models"), with Amazon's figures beside the last event. Empty: a family that says nothing there.
pub fn invoke(ending: &Ending<'_>) -> Vec<u8> {
    let Usage { output, .. } = ending.usage;
    let input = ending.usage.input_total();
    let events = match ending.loose.family {
        Some(Family::Nova) => {
            let events = events(ending).into_iter().map(|(kind, payload)| json!({kind: payload}));
            return events.flat_map(|event| chunk(&event.to_string())).collect();
        }
        Some(Family::Claude) => of_stream(&anthropic::ending::ending(ending)),
        Some(Family::OpenAi) => of_stream(&openai::ending::ending(&Ending { tells_usage: true, ..*ending })),
        Some(Family::CohereChat) => {
            let lines = cohere::ending::chat(&Ending { within: Within::Lines, ..*ending });
            String::from_utf8_lossy(&lines).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        }
        Some(Family::ClaudeText) => vec![json!({"completion": "", "stop_reason": "max_tokens", "stop": null})],
        Some(Family::Titan) => vec![json!({"outputText": "", "index": 0, "totalOutputTextTokenCount": output,
            "completionReason": "LENGTH", "inputTextTokenCount": input})],
        Some(Family::Llama) => vec![json!({"generation": "", "prompt_token_count": input,
            "generation_token_count": output, "stop_reason": "length"})],
        Some(Family::Mistral) => vec![json!({"outputs": [{"text": "", "stop_reason": "length"}]})],
        Some(Family::Cohere) => vec![json!({"finish_reason": "MAX_TOKENS", "is_finished": true})],
        Some(Family::DeepSeek) => vec![json!({"choices": [{"text": "", "stop_reason": "length"}]})],
        Some(Family::LlamaCpp) | None => return Vec::new(),
    };
    let figures = json!({"inputTokenCount": ending.usage.input, "outputTokenCount": output});
    framed(events, figures)
}

/// The events of a stream that others end with server-sent events.
fn of_stream(events: &[u8]) -> Vec<Value> {
    let mut told = Vec::new();
    sse::Frames::default().push(events, true, |piece| {
        if let Piece::Event(data) = piece {
            told.extend(serde_json::from_slice(data).ok());
        }
        Continue(())
    });
    told
}

/// Each event in a frame; Amazon's figures are beside the last.
fn framed(mut events: Vec<Value>, figures: Value) -> Vec<u8> {
    if let Some(Value::Object(last)) = events.last_mut() {
        last.insert("amazon-bedrock-invocationMetrics".to_owned(), figures);
    }
    events.into_iter().flat_map(|event| chunk(&event.to_string())).collect()
}

/// A frame of what InvokeModel passes on.
fn chunk(event: &str) -> Vec<u8> {
    let payload = json!({"bytes": STANDARD.encode(event)});
    eventstream::write("event", "chunk", payload.to_string().as_bytes())
}
