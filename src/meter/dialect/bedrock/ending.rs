//! How Amazon's event streams end at their length limit.

use std::ops::ControlFlow::Continue;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::meter::dialect::{anthropic, cohere, openai};
use crate::meter::framing::Piece;
use crate::meter::loose::{Ending, Family, Within};
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
    let (input, output) = (ending.usage.input_total(), ending.usage.output);
    let last = match ending.loose.family {
        Some(Family::Nova) => {
            let events = events(ending).into_iter().map(|(kind, payload)| json!({kind: payload}));
            return events.flat_map(|event| chunk(&event.to_string())).collect();
        }
        Some(Family::Claude) => return of_stream(&anthropic::ending::ending(ending), ending),
        Some(Family::OpenAi) => {
            let told = Ending { tells_usage: true, ..*ending };
            return of_stream(&openai::ending::ending(&told), ending);
        }
        Some(Family::CohereChat) => {
            let line = cohere::ending::chat(&Ending { within: Within::Lines, ..*ending });
            String::from_utf8_lossy(&line).trim_end().to_owned()
        }
        Some(Family::ClaudeText) => r#"{"completion":"","stop_reason":"max_tokens","stop":null}"#.to_owned(),
        Some(Family::Mistral) => r#"{"outputs":[{"text":"","stop_reason":"length"}]}"#.to_owned(),
        Some(Family::Cohere) => r#"{"finish_reason":"MAX_TOKENS","is_finished":true}"#.to_owned(),
        Some(Family::DeepSeek) => r#"{"choices":[{"text":"","stop_reason":"length"}]}"#.to_owned(),
        Some(Family::Titan) => format!(
            r#"{{"outputText":"","index":0,"totalOutputTextTokenCount":{output},"completionReason":"LENGTH","inputTextTokenCount":{input}}}"#
        ),
        Some(Family::Llama) => format!(
            r#"{{"generation":"","prompt_token_count":{input},"generation_token_count":{output},"stop_reason":"length"}}"#
        ),
        Some(Family::LlamaCpp) | None => return Vec::new(),
    };
    chunk(&measured(&last, ending))
}

/// The events of a stream that others end with server-sent events, each in a frame.
fn of_stream(events: &[u8], ending: &Ending<'_>) -> Vec<u8> {
    let (mut last, mut frames) = (String::new(), Vec::new());
    sse::Frames::default().push(events, true, |piece| {
        // `[DONE]` is no event of Amazon's.
        if let Piece::Event(data) = piece
            && data.first() == Some(&b'{')
        {
            if !last.is_empty() {
                frames.extend(chunk(&last));
            }
            last = String::from_utf8_lossy(data).into_owned();
        }
        Continue(())
    });
    frames.extend(chunk(&measured(&last, ending)));
    frames
}

/// A last event, an object, with Amazon's figures in it.
fn measured(event: &str, ending: &Ending<'_>) -> String {
    let (input, output) = (ending.usage.input, ending.usage.output);
    let open = event.strip_suffix('}').unwrap_or_default();
    format!(r#"{open},"amazon-bedrock-invocationMetrics":{{"inputTokenCount":{input},"outputTokenCount":{output}}}}}"#)
}

/// A frame of what InvokeModel passes on.
fn chunk(event: &str) -> Vec<u8> {
    let payload = json!({"bytes": STANDARD.encode(event)});
    eventstream::write("event", "chunk", payload.to_string().as_bytes())
}
