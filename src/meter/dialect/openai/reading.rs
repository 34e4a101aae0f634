//! Reading the answers of work that writes nothing: embeddings, moderations, reranking, counting.

use super::usage::input_usage;
use crate::meter::answer::{Answer, count};
use crate::meter::dialect::{cohere, minimax};
use crate::meter::json;
use crate::meter::usage::Usage;

/// Embeddings, moderations, reranking. `None`: not a JSON object.
///
/// Cohere bills reranking by searches, which are no tokens: then nothing is said. SiliconFlow has `meta.tokens` ("Create
/// rerank"); MiniMax's embeddings have their `total_tokens` at the top ("Embeddings").
pub fn body(answer: &mut Answer, raw: &str) -> Option<()> {
    let names = ["error", "model", "usage", "meta", "total_tokens", "base_resp"];
    let [error, model, said, meta, total, base] = json::fields(raw, names)?;
    answer.error |= error.is_some_and(json::says) || minimax::failed(base);
    answer.served_by(model);
    if said.is_none() && total.is_some() {
        answer.hear(input_usage(raw));
    }
    answer.hear(said.and_then(input_usage));
    let [billed, tokens] = meta.and_then(|raw| json::fields(raw, ["billed_units", "tokens"])).unwrap_or_default();
    answer.hear(billed.and_then(cohere::billed).or_else(|| tokens.and_then(cohere::billed)));
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
