//! Reading generated content (Google, "GenerateContentResponse" and "UsageMetadata").
//!
//! Usage comes with every chunk and grows; the last word on each figure counts, because late chunks leave out what
//! has not changed. `promptTokenCount` includes what was cached; what tools read comes beside it in
//! `toolUsePromptTokenCount`; `candidatesTokenCount` excludes thoughts. The total is the sum of all four.

use crate::meter::answer::{Absurd, Answer, Said, count};
use crate::meter::json;
use crate::meter::tally::Kind;
use crate::meter::usage::Usage;

/// Reads a chunk, or a whole answer, which has the same frame. `None`: not a JSON object.
pub fn body(answer: &mut Answer, raw: &str) -> Option<()> {
    let names = ["candidates", "usageMetadata", "modelVersion", "error", "promptFeedback"];
    let [candidates, said, model, error, feedback] = json::fields(raw, names)?;
    answer.served_by(model);
    answer.error |= error.is_some_and(json::says);
    let blocked = feedback.and_then(|raw| json::fields(raw, ["blockReason"]));
    answer.ended |= matches!(blocked, Some([Some(_)]));
    if let Some(candidates) = candidates {
        let mut position = 0;
        json::elements(candidates, |raw| {
            candidate(answer, position, raw);
            position += 1;
        });
    }
    if let Some(said) = said {
        hear(answer, said);
    }
    Some(())
}

fn candidate(answer: &mut Answer, position: u64, raw: &str) {
    let names = ["index", "content", "finishReason", "groundingMetadata", "urlContextMetadata"];
    let Some([index, content, reason, grounds, fetched]) = json::fields(raw, names) else { return };
    answer.used("url_context", fetched.and_then(|raw| json::fields(raw, ["urlMetadata"])).and_then(|[urls]| urls));
    if let Some(raw) = grounds {
        grounded(answer, raw);
    }
    let index = index.and_then(json::whole).unwrap_or(position);
    answer.ended |= reason.is_some();
    answer.loose.begin(index);
    if reason.is_some() {
        answer.loose.end(index);
    }
    let Some([Some(parts)]) = content.and_then(|raw| json::fields(raw, ["parts"])) else { return };
    json::elements(parts, |raw| part(answer, index, raw));
}

/// What an answer stands on (Google, "GroundingMetadata"), and so which tools found it.
fn grounded(answer: &mut Answer, raw: &str) {
    let names = ["webSearchQueries", "imageSearchQueries", "searchEntryPoint", "retrievalQueries", "groundingChunks"];
    let Some([web, images, entry, retrieval, chunks]) = json::fields(raw, names) else { return };
    answer.used("google_search", web.or(images).or(entry));
    answer.used("file_search", retrieval);
    json::elements(chunks.unwrap_or("[]"), |chunk| {
        let sources = ["web", "image", "retrievedContext", "maps"];
        let [web, image, context, maps] = json::fields(chunk, sources).unwrap_or_default();
        answer.used("google_search", web.or(image));
        answer.used("file_search", context);
        answer.used("google_maps", maps);
    });
}

fn part(answer: &mut Answer, index: u64, raw: &str) {
    answer.tells_own(raw);
    let names = ["text", "thought", "functionCall", "executableCode", "inlineData"];
    let Some([text, thought, call, code, data]) = json::fields(raw, names) else { return };
    let kind = if thought == Some("true") { Kind::Thinking } else { Kind::Text };
    answer.speak(kind, index, 0, text);
    if let Some(call) = call {
        called(answer, index, call);
    }
    if let Some([code]) = code.and_then(|raw| json::fields(raw, ["code"])) {
        answer.speak(Kind::Tool, index, 0, code);
    }
    if let Some([Some(kind)]) = data.and_then(|raw| json::fields(raw, ["mimeType"])) {
        answer.made.images = answer.made.images.saturating_add(u64::from(kind.starts_with("\"image/")));
    }
}

/// A call of a function: whole, or in pieces, where it is told which arguments come (Vertex AI, "Stream function call
/// arguments": `partialArgs` of `jsonPath` and a value; `willContinue` for all pieces but the last).
fn called(answer: &mut Answer, index: u64, raw: &str) {
    let Some([name, args, pieces]) = json::fields(raw, ["name", "args", "partialArgs"]) else { return };
    answer.call_told(name, args);
    let part = answer.tool_calls;
    json::elements(pieces.unwrap_or("[]"), |piece| {
        let names = ["jsonPath", "willContinue", "stringValue", "numberValue", "boolValue"];
        let Some([path, more, text, number, flag]) = json::fields(piece, names) else { return };
        // Each piece has it, and the model wrote it once.
        if let Some(path) = path.filter(|_| more != Some("true")).and_then(json::text) {
            answer.tally.whole(path.trim_start_matches(['$', '.']));
        }
        answer.speak(Kind::Block, index, part, text);
        number.or(flag).into_iter().for_each(|raw| answer.tally.whole(raw));
    });
}

/// One more word on usage. A figure that is not repeated stays.
fn hear(answer: &mut Answer, raw: &str) {
    let before = match answer.said {
        Said::Usage(usage) => usage,
        Said::Nothing | Said::Absurd => Usage::default(),
    };
    match usage(answer, raw, &before) {
        Ok(None) => {}
        Ok(Some(usage)) => answer.said = Said::Usage(usage),
        Err(Absurd) => answer.said = Said::Absurd,
    }
}

fn usage(answer: &mut Answer, raw: &str, before: &Usage) -> Result<Option<Usage>, Absurd> {
    let names = [
        "promptTokenCount",
        "toolUsePromptTokenCount",
        "cachedContentTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        "totalTokenCount",
    ];
    let Some([prompt, tools, cached, written, thoughts, total]) = json::fields(raw, names) else { return Ok(None) };
    if prompt.or(written).or(thoughts).or(total).is_none() {
        return Ok(None);
    }
    let total = count(total)?;
    let reasoning = count(thoughts)?.unwrap_or(before.reasoning);
    let told = count(prompt)?;
    let read_by_tools = count(tools)?.unwrap_or(answer.by_tools);
    let input = match told {
        Some(prompt) => prompt.saturating_add(read_by_tools),
        // Without the other it is in what was said before.
        None => before.input_total().saturating_sub(answer.by_tools).saturating_add(read_by_tools),
    };
    answer.by_tools = read_by_tools;
    let visible = match count(written)? {
        Some(visible) => visible,
        // While nothing is written the figure is left out; a total beyond the others then tells it.
        None => total.unwrap_or(0).saturating_sub(input).saturating_sub(reasoning),
    };
    let cache_read = count(cached)?.unwrap_or(before.cache_read).min(input);
    let usage = Usage {
        input: input.saturating_sub(cache_read),
        cache_read,
        output: visible.saturating_add(reasoning),
        reasoning,
        provider_total: total.unwrap_or(before.provider_total),
        ..Usage::default()
    };
    Ok((usage.total() > 0).then_some(usage))
}
