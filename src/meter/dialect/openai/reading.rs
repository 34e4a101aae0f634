//! Reading the answers of work that writes nothing: embeddings, moderations, reranking, counting.

use super::usage::input_usage;
use crate::meter::answer::{Answer, count};
use crate::meter::json;
use crate::meter::usage::Usage;

/// Embeddings, moderations, reranking. `None`: not a JSON object.
///
/// Cohere bills reranking by searches, which are no tokens: then nothing is said.
pub fn body(answer: &mut Answer, raw: &str) -> Option<()> {
    let [error, model, said, meta] = json::fields(raw, ["error", "model", "usage", "meta"])?;
    answer.error |= error.is_some_and(json::says);
    answer.served_by(model);
    answer.hear(said.and_then(input_usage));
    if let Some([Some(billed)]) = meta.and_then(|raw| json::fields(raw, ["billed_units"])) {
        answer.hear(super::super::cohere::billed(billed));
    }
    Some(())
}

/// What a prompt would come to: told, but nothing was consumed, so that only the provider's total is kept.
///
/// Anthropic and OpenAI say `input_tokens`, Google `totalTokens`, Amazon `inputTokens`; others list the tokens.
pub fn counted(answer: &mut Answer, raw: &str) -> Option<()> {
    let names = ["error", "input_tokens", "totalTokens", "inputTokens", "count", "tokens"];
    let [error, input, total, camel, number, tokens] = json::fields(raw, names)?;
    answer.error |= error.is_some_and(json::says);
    let mut listed = 0;
    if let Some(tokens) = tokens {
        json::elements(tokens, |_| listed += 1);
    }
    let told = count(input.or(total).or(camel).or(number).or_else(|| tokens.filter(|raw| !raw.starts_with('['))));
    let told = told.map(|told| told.or((listed > 0).then_some(listed)));
    answer.hear(told.map(|told| told.map(|told| Usage { provider_total: told, ..Usage::default() })).transpose());
    Some(())
}
