//! Reading what InvokeModel passes on: each model family's own body, told by its keys.
//!
//! A stream's frames hold the family's events in base64; the last one has Amazon's metrics beside it. A family's own
//! word on usage goes before them, because it knows more; both agree where they overlap.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{converse, usage};
use crate::meter::answer::{Answer, Said, count};
use crate::meter::dialect::{anthropic, cohere, openai};
use crate::meter::json;
use crate::meter::loose::Family;
use crate::meter::tally::Kind;
use crate::meter::usage::Usage;

/// Reads the payload of one `chunk` frame: `{"bytes": "…"}`.
pub fn frame(answer: &mut Answer, payload: &str) {
    let Some([Some(bytes)]) = json::fields(payload, ["bytes"]) else { return };
    let Some(bytes) = json::text(bytes).and_then(|text| STANDARD.decode(text.as_bytes()).ok()) else { return };
    event(answer, &String::from_utf8_lossy(&bytes));
}

/// Reads one event of a family's stream.
fn event(answer: &mut Answer, raw: &str) {
    const METRICS: &str = "amazon-bedrock-invocationMetrics";
    let names =
        ["type", METRICS, "choices", "event_type", "contentBlockDelta", "contentBlockStart", "messageStop", "metadata"];
    let Some([kind, metrics, choices, event, delta, start, stop, meta]) = json::fields(raw, names) else { return };
    let nova = [("contentBlockDelta", delta), ("contentBlockStart", start), ("messageStop", stop), ("metadata", meta)];
    if let Some((kind, Some(payload))) = nova.into_iter().find(|(_, payload)| payload.is_some()) {
        answer.loose.family = Some(Family::Nova);
        converse::frame(answer, kind, payload);
    } else if kind.is_some() {
        answer.loose.family = Some(Family::Claude);
        anthropic::answer::event(answer, raw);
    } else if let Some(choices) = choices {
        answer.loose.family.get_or_insert(if goes_on(choices) { Family::DeepSeek } else { Family::OpenAi });
        openai::answer::event(answer, raw);
    } else if event.is_some() {
        answer.loose.family = Some(Family::CohereChat);
        cohere::answer::body(answer, raw);
    } else {
        answer.loose.family = answer.loose.family.or_else(|| plain_family(raw));
        plain(answer, raw);
    }
    if let Some(metrics) = metrics {
        if answer.said == Said::Nothing {
            answer.hear(usage::usage(metrics));
        }
        answer.finished |= answer.ended || answer.said != Said::Nothing;
    }
}

/// Whether choices are of a text that goes on, and not of a conversation.
fn goes_on(choices: &str) -> bool {
    let mut goes_on = false;
    json::elements(choices, |raw| goes_on |= matches!(json::fields(raw, ["text"]), Some([Some(_)])));
    goes_on
}

/// Whose event it is, by the key that its text stands under.
fn plain_family(raw: &str) -> Option<Family> {
    let names = ["outputText", "generation", "outputs", "completion", "text", "is_finished"];
    let [titan, llama, mistral, claude, cohere, finished] = json::fields(raw, names)?;
    [
        (titan, Family::Titan),
        (llama, Family::Llama),
        (mistral, Family::Mistral),
        (claude, Family::ClaudeText),
        (cohere.or(finished), Family::Cohere),
    ]
    .into_iter()
    .find_map(|(value, family)| value.map(|_| family))
}

/// Reads a whole answer. `None`: not a JSON object.
pub fn body(answer: &mut Answer, raw: &str) -> Option<()> {
    let [kind, choices, output] = json::fields(raw, ["type", "choices", "output"])?;
    if kind.is_some() {
        anthropic::answer::body(answer, raw)
    } else if choices.is_some() {
        openai::answer::body(answer, raw).map(|_| ())
    } else if output.is_some() {
        converse::body(answer, raw)
    } else {
        plain(answer, raw);
        Some(())
    }
}

/// Images: `images` (Titan, Nova Canvas, Stability's models), `artifacts` (its first one).
fn images(answer: &mut Answer, raw: &str) {
    let [images, artifacts, error] = json::fields(raw, ["images", "artifacts", "error"]).unwrap_or_default();
    answer.error |= error.is_some_and(json::says);
    for list in [images, artifacts].into_iter().flatten() {
        json::elements(list, |image| {
            answer.made.images = answer.made.images.saturating_add(u64::from(!json::is_null(image)));
        });
    }
}

/// Titan, Llama, Mistral, Cohere, AI21: text under one key or another, and their own names for usage.
fn plain(answer: &mut Answer, raw: &str) {
    images(answer, raw);
    let names = ["outputText", "generation", "completion", "text", "results", "outputs", "generations", "completions"];
    let Some([titan, llama, claude, cohere_text, results, outputs, generations, completions]) =
        json::fields(raw, names)
    else {
        return;
    };
    for text in [titan, llama, claude, cohere_text].into_iter().flatten() {
        answer.speak(Kind::Text, 0, 0, Some(text));
    }
    let mut tokens = 0u64;
    for list in [results, outputs, generations, completions].into_iter().flatten() {
        let mut number = 0;
        json::elements(list, |raw| {
            let names = ["outputText", "text", "tokenCount", "data"];
            let [titan, text, told, data] = json::fields(raw, names).unwrap_or_default();
            let inner = data.and_then(|raw| json::fields(raw, ["text"])).and_then(|[text]| text);
            answer.speak(Kind::Text, number, 0, titan.or(text).or(inner));
            tokens = tokens.saturating_add(count(told).unwrap_or_default().unwrap_or(0));
            number += 1;
        });
    }
    let names = ["stop_reason", "completionReason", "is_finished", "finish_reason"];
    let [stop, completion, finished, finish] = json::fields(raw, names).unwrap_or_default();
    answer.ended |= stop.or(completion).or(finish).is_some() || finished == Some("true");
    figures(answer, raw, tokens);
}

/// `prompt_token_count` (Llama), `inputTextTokenCount` (Titan, with the output's in its results or beside it).
fn figures(answer: &mut Answer, raw: &str, in_results: u64) {
    let names =
        ["prompt_token_count", "inputTextTokenCount", "generation_token_count", "totalOutputTextTokenCount", "meta"];
    let Some([prompt, titan, written, total, meta]) = json::fields(raw, names) else { return };
    if let Some([Some(billed)]) = meta.and_then(|raw| json::fields(raw, ["billed_units"])) {
        answer.hear(cohere::billed(billed));
    }
    let before = match answer.said {
        Said::Usage(usage) => usage,
        Said::Nothing | Said::Absurd => Usage::default(),
    };
    let read = || {
        let input = count(prompt)?.or(count(titan)?).unwrap_or(before.input);
        let output = count(written)?.or(count(total)?).or((in_results > 0).then_some(in_results));
        Ok(Usage { input, output: output.unwrap_or(before.output), ..before })
    };
    answer.ended |= total.is_some();
    if prompt.or(titan).or(written).or(total).is_some() {
        answer.hear(Some(read()));
    }
}
