//! Reading embeddings and predictions (Google, "Embeddings"; Vertex AI, "predict").

use crate::meter::answer::{Absurd, Answer, count};
use crate::meter::json;
use crate::meter::usage::Usage;

/// Embeddings: most models say nothing, newer ones the tokens of the input. `None`: not a JSON object.
pub fn embeddings(answer: &mut Answer, raw: &str) -> Option<()> {
    let [said, error] = json::fields(raw, ["usageMetadata", "error"])?;
    answer.error |= error.is_some_and(json::says);
    let said = said.and_then(|raw| json::fields(raw, ["promptTokenCount", "totalTokenCount"]));
    let read = |[prompt, total]: [Option<&str>; 2]| -> Result<Option<Usage>, Absurd> {
        let input = count(prompt)?.or(count(total)?);
        Ok(input.filter(|input| *input > 0).map(|input| Usage { input, ..Usage::default() }))
    };
    answer.hear(said.and_then(|fields| read(fields).transpose()));
    Some(())
}

/// Predictions: text embeddings tell their tokens one by one and all characters; image models send images.
pub fn predictions(answer: &mut Answer, raw: &str) -> Option<()> {
    let [list, meta, error] = json::fields(raw, ["predictions", "metadata", "error"])?;
    answer.error |= error.is_some_and(json::says);
    let (mut sum, mut told, mut absurd) = (0u64, false, false);
    json::elements(list.unwrap_or("[]"), |raw| {
        let Some([embedding, kind]) = json::fields(raw, ["embeddings", "mimeType"]) else { return };
        let image = kind.is_some_and(|kind| kind.starts_with("\"image/"));
        answer.made.images = answer.made.images.saturating_add(u64::from(image));
        let statistics = embedding.and_then(|raw| json::fields(raw, ["statistics"])).and_then(|[raw]| raw);
        let Some([tokens]) = statistics.and_then(|raw| json::fields(raw, ["token_count"])) else { return };
        match count(tokens) {
            Ok(tokens) => (sum, told) = (sum.saturating_add(tokens.unwrap_or(0)), told | tokens.is_some()),
            Err(Absurd) => absurd = true,
        }
    });
    let characters = meta.and_then(|raw| json::fields(raw, ["billableCharacterCount"])).and_then(|[raw]| raw);
    let characters = count(characters).unwrap_or_default().unwrap_or(0);
    if absurd {
        answer.hear(Some(Err(Absurd)));
    } else if told {
        answer.hear(Some(Ok(Usage { input: sum, characters, ..Usage::default() })));
    }
    Some(())
}
