//! The own routes of open servers: Text Generation Inference and SGLang (`/generate`), llama.cpp (`/completion`).
//!
//! | server | input | output |
//! |---|---|---|
//! | SGLang, `meta_info` | `prompt_tokens`, `cached_tokens` of it | `completion_tokens` |
//! | llama.cpp | `tokens_evaluated`, of it read anew only `timings.prompt_n` | `tokens_predicted` |
//! | TGI, `details` | not told | `generated_tokens` |

pub mod ending;
pub mod request;

use super::Host;
use crate::meter::answer::{Absurd, Answer, count};
use crate::meter::json;
use crate::meter::loose::Family;
use crate::meter::tally::Kind;
use crate::meter::usage::Usage;

/// The one field that surely limits the output: the settings that it lies in, and its name. llama.cpp reads `n_predict`, and
/// `max_tokens` only where that is not there; SGLang has a text or ids, or settings that only it knows; the others are read
/// as Text Generation Inference. Each passes over the fields of the other two in silence.
pub fn limit_field(host: Host, body: &str) -> (Option<&'static str>, &'static str) {
    if host == Host::LlamaCpp {
        return (None, "n_predict");
    }
    let sglang = json::fields(body, ["text", "input_ids", "input_embeds", "sampling_params"]);
    let sglang = sglang.is_some_and(|fields| fields.iter().any(Option::is_some));
    (Some(if sglang { "sampling_params" } else { "parameters" }), "max_new_tokens")
}

/// Whether it is what llama.cpp answers in its own format: also where the path is that of OpenAI's completions without a
/// version.
pub fn is_llama(raw: &str) -> bool {
    matches!(json::fields(raw, ["choices", "content", "stop"]), Some([None, Some(_), Some(_)]))
}

/// Reads an event, or a whole answer. `None`: neither a JSON object nor an array of them.
pub fn body(answer: &mut Answer, raw: &str) -> Option<()> {
    if raw.trim_ascii() == "[DONE]" {
        answer.finished = true;
        return Some(());
    }
    if raw.trim_ascii_start().starts_with('[') {
        return json::elements(raw, |raw| one(answer, raw).unwrap_or_default());
    }
    one(answer, raw)
}

fn one(answer: &mut Answer, raw: &str) -> Option<()> {
    let names = ["error", "token", "generated_text", "details", "text", "meta_info", "content", "stop"];
    let [error, token, whole, details, sglang, meta, llama, stop] = json::fields(raw, names)?;
    answer.error |= error.is_some_and(json::says);
    let [piece] = token.and_then(|raw| json::fields(raw, ["text"])).unwrap_or_default();
    answer.speak(Kind::Text, 0, 0, piece.or(llama).or(whole.filter(|_| token.is_none())));
    answer.speak_or_repeat(Kind::Text, 0, 0, sglang);
    answer.ended |= details.is_some() || whole.is_some() || stop == Some("true");
    if let Some([Some(written)]) = details.and_then(|raw| json::fields(raw, ["generated_tokens"])) {
        answer.hear(count(Some(written)).map(|written| written.map(output_only)).transpose());
        answer.input_silent = true;
    }
    if let Some(raw) = meta {
        let [reason] = json::fields(raw, ["finish_reason"]).unwrap_or_default();
        answer.ended |= reason.is_some();
        answer.hear(figures(raw, ["prompt_tokens", "completion_tokens", "cached_tokens"]).transpose());
    }
    if llama.is_some() && stop.is_some() {
        answer.loose.family = Some(Family::LlamaCpp);
    }
    if stop == Some("true") {
        answer.hear(figures(raw, ["tokens_evaluated", "tokens_predicted", ""]).transpose());
    }
    Some(())
}

fn output_only(output: u64) -> Usage {
    Usage { output, ..Usage::default() }
}

fn figures(raw: &str, names: [&str; 3]) -> Result<Option<Usage>, Absurd> {
    let Some([input, output, cached]) = json::fields(raw, names) else { return Ok(None) };
    let all = count(input)?.unwrap_or(0);
    let cache_read = count(cached)?.unwrap_or(0).min(all);
    let output = count(output)?.unwrap_or(0);
    let usage = Usage { input: all.saturating_sub(cache_read), cache_read, output, ..Usage::default() };
    Ok((usage.total() > 0).then_some(usage))
}
