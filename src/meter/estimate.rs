//! What a request's input comes to, as well as that can be told: its texts, and what the model's [manner](Manner) adds.

use super::call::{Call, THINKING};
use super::count::Encoding;
use super::dialect::{Dialect, namespace};
use super::image;
use super::json;
use super::manner::{Definitions, Manner};
use super::part::{Kind, Part};

/// Tokens of a part in our vocabulary; 0 for what is no text.
pub fn count(part: &Part, call: &Call, manner: &Manner, encoding: Encoding) -> u64 {
    let raw = part.raw(call.body_text());
    match part.kind {
        Kind::Text | Kind::Query | Kind::Label | Kind::Thought => {
            json::text(raw).map_or(raw.len() as u64, |text| encoding.count(&text))
        }
        Kind::Tools if manner.definitions == Definitions::Namespace => encoding.count(&namespace::of(raw)),
        Kind::Json | Kind::Schema | Kind::Tools | Kind::Format => encoding.count(raw),
        Kind::Image | Kind::Audio | Kind::Sealed => 0,
    }
}

/// The estimate of the input, from the `counts` of its parts.
pub fn of(call: &Call, manner: &Manner, counts: &[u64]) -> u64 {
    if call.dialect == Dialect::CountTokens {
        return 0;
    }
    let parts = call.parts.iter().zip(counts).map(|(part, count)| match part.kind {
        Kind::Query => count.saturating_mul(call.frames.max(1)),
        _ => self::part(part, call, manner, *count),
    });
    parts.fold(framing(call, manner), u64::saturating_add)
}

fn part(part: &Part, call: &Call, manner: &Manner, count: u64) -> u64 {
    let raw = part.raw(call.body_text());
    let bytes = raw.len() as u64;
    match part.kind {
        Kind::Text | Kind::Query | Kind::Json => count,
        // Templates leave out what was thought in turns before.
        Kind::Label | Kind::Thought => 0,
        Kind::Schema => count.saturating_mul(3) / 5,
        Kind::Tools => match manner.definitions {
            Definitions::Namespace => count,
            Definitions::Percent(percent) => count.saturating_mul(percent) / 100,
        },
        Kind::Format => count.saturating_mul(manner.format) / 100,
        Kind::Image => image::tokens(raw, &call.model),
        Kind::Audio => bytes / 400,
        Kind::Sealed if manner.sealed => bytes / 6,
        Kind::Sealed => 0,
    }
}

/// Tokens around the parts.
fn framing(call: &Call, manner: &Manner) -> u64 {
    let fixed = match call.thinking {
        None => call.fixed,
        Some(asked) => call.fixed.saturating_sub(THINKING).saturating_add(if asked { manner.thinking } else { 0 }),
    };
    let Some(chat) = chat(call) else { return fixed };
    let beside = call.offered.saturating_add(call.calls).saturating_add(call.systems);
    let times = [
        (call.frames.saturating_sub(beside), manner.message),
        (call.systems, manner.system),
        (call.calls, manner.call),
        (call.offered, manner.tool),
        (u64::from(call.offered > 0), manner.tools),
        (u64::from(chat), manner.once),
    ];
    times.iter().fold(fixed, |sum, (count, each)| sum.saturating_add(count.saturating_mul(*each)))
}

/// Whether a chat template stands around it; `None`: nothing does.
fn chat(call: &Call) -> Option<bool> {
    match call.dialect {
        Dialect::OpenAiCompletions
        | Dialect::OpenAiEmbeddings
        | Dialect::OpenAiModerations
        | Dialect::AnthropicComplete
        | Dialect::GeminiEmbed
        | Dialect::VertexPredict
        | Dialect::CohereEmbed
        | Dialect::CohereGenerate
        | Dialect::OpenAiImages
        | Dialect::OpenAiSpeech
        | Dialect::OpenAiTranscription
        | Dialect::MiniMaxSpeech
        | Dialect::MiniMaxMedia
        | Dialect::Generate => None,
        // Each reading of a document by itself.
        Dialect::OllamaEmbed | Dialect::Rerank => Some(false),
        _ => Some(true),
    }
}
