//! How Amazon's event streams end at their length limit.

use std::ops::ControlFlow::Continue;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::meter::dialect::anthropic;
use crate::meter::framing::Piece;
use crate::meter::loose::{Ending, Family};
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

/// What InvokeModel passes on, as the model's family ends it. Empty: a family that says nothing there.
pub fn invoke(ending: &Ending<'_>) -> Vec<u8> {
    match ending.loose.family {
        Some(Family::Nova) => {
            events(ending).into_iter().flat_map(|(kind, payload)| chunk(&json!({kind: payload}).to_string())).collect()
        }
        Some(Family::Claude) => claude(ending),
        Some(Family::LlamaCpp) | None => Vec::new(),
    }
}

/// The events by which Anthropic ends a stream, each in a frame; Amazon's figures are beside the last.
fn claude(ending: &Ending<'_>) -> Vec<u8> {
    let mut last: Option<Value> = None;
    let mut frames = Vec::new();
    let events = anthropic::ending::ending(ending);
    sse::Frames::default().push(&events, true, |piece| {
        if let Piece::Event(data) = piece {
            frames.extend(last.take().into_iter().flat_map(|event| chunk(&event.to_string())));
            last = serde_json::from_slice(data).ok();
        }
        Continue(())
    });
    if let Some(Value::Object(mut event)) = last {
        let figures = json!({"inputTokenCount": ending.usage.input, "outputTokenCount": ending.usage.output});
        event.insert("amazon-bedrock-invocationMetrics".to_owned(), figures);
        frames.extend(chunk(&Value::Object(event).to_string()));
    }
    frames
}

/// A frame of what InvokeModel passes on.
fn chunk(event: &str) -> Vec<u8> {
    let payload = json!({"bytes": STANDARD.encode(event)});
    eventstream::write("event", "chunk", payload.to_string().as_bytes())
}
