//! How many input tokens a request comes to: estimated, and at most.
//!
//! The bound, by part (ACCOUNTING: the rule is per dialect and part, because providers expand what they get):
//!
//! | part | at most |
//! |---|---|
//! | text, vocabulary known | its exact count |
//! | a query | as text, with each document |
//! | text, other vocabularies | one and a half times the count of ours, two more a character of rare scripts, and never above its bytes |
//! | a role that is not the usual | as text |
//! | a tool call's id | 0 at OpenAI, elsewhere as text: templates write it out |
//! | a tool call's input | the same, on its raw JSON |
//! | tool definitions, schemas, unknown values | 2 tokens a byte (1.9 were measured) |
//! | image | the published maximum of its model family |
//! | sound | 1 token for 8 bytes of base64 (10 a second, at the lowest bit rate of MP3); in a form 10 a second, of 500 bytes |
//! | encrypted thinking | 1 token for 2 bytes of base64 |
//! | message, tool call, tool | 8 tokens of framing each, 16 once |
//! | tools or an output schema, vocabulary not known | 600 tokens of instructions that providers add |
//! | the model's family | what its chat template writes by itself: see [`template`] |
//!
//! Where a provider makes more of it all the same, the bounds of calls like that are raised by what was seen:
//! [`excess`](super::excess).

use std::borrow::Cow;

use super::call::{Call, Input, Longer};
use super::count::Encoding;
use super::count::known::Known;
use super::dialect::Dialect;
use super::estimate;
use super::image;
use super::json;
use super::manner::Manner;
use super::name::Name;
use super::part::{Kind, Part};

/// Tokens that a second of sound comes to at most: 10 at OpenAI, 32 at Google, which takes no forms.
const TOKENS_A_SECOND: u64 = 10;

/// Instructions for tools and output schemas: 264 to 530 tokens at Anthropic ("Tool use"), about as many in the
/// chat templates of open models.
const INSTRUCTIONS: u64 = 600;

/// Input tokens, as well as they can be told, and at most. Counting a text is the dearest step of an admission, so both
/// come from one count, and it stops when more than `most` have been estimated.
pub fn up_to(call: &Call, encoding: Encoding, known: &mut Known, most: u64) -> Result<Input, Longer> {
    // Nothing is generated, and nothing billed.
    if call.dialect == Dialect::CountTokens {
        return Ok(Input { counted: 0, bound: 0 });
    }
    if call.dialect == Dialect::Bytes {
        return Ok(Input { counted: call.fixed, bound: call.fixed });
    }
    let manner = Manner::of(&call.model, call.dialect, call.host);
    let mut counted = estimate::framing(call, &manner);
    let mut counts = Vec::with_capacity(call.parts.len());
    let longer = Longer { at_least: most.saturating_add(1) };
    for part in &call.parts {
        let room = most.checked_sub(counted).ok_or(longer)?;
        let count = estimate::count(part, call, &manner, encoding, known, room).ok_or(longer)?;
        counted = counted.saturating_add(estimate::part(part, call, &manner, count));
        counts.push(count);
    }
    if counted > most {
        return Err(longer);
    }
    Ok(Input { counted, bound: bound(call, &counts) })
}

/// Input tokens at most, told with little counting, and how many bytes would have to be counted to know better. No lower
/// than both the count and the bound that [`up_to`] gives. `None`: tools alone, which must be counted for it, come to more
/// than `most`, so that [`up_to`] would stop too.
pub fn at_most(call: &Call, encoding: Encoding, known: &mut Known, most: u64) -> Option<(u64, usize)> {
    if call.dialect == Dialect::CountTokens {
        return Some((0, 0));
    }
    if call.dialect == Dialect::Bytes {
        return Some((call.fixed, 0));
    }
    let manner = Manner::of(&call.model, call.dialect, call.host);
    let (mut unknown, mut estimate) = (0_usize, estimate::framing(call, &manner));
    let mut counts = Vec::with_capacity(call.parts.len());
    for part in &call.parts {
        let (count, bytes) = estimate::at_most(part, call, &manner, encoding, known, most)?;
        unknown = unknown.saturating_add(bytes);
        estimate = estimate.saturating_add(estimate::part(part, call, &manner, count));
        counts.push(count);
    }
    Some((bound(call, &counts).max(estimate), unknown))
}

fn bound(call: &Call, counts: &[u64]) -> u64 {
    let name = Name::of(&call.model);
    let exact = name.is_at_openai()
        && matches!(
            call.dialect,
            Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::OpenAiCompletions | Dialect::OpenAiEmbeddings
        );
    let parts = call.parts.iter().zip(counts).map(|(part, count)| match part.kind {
        Kind::Query => bound_part(call, part, *count, exact).saturating_mul(call.frames.max(1)),
        _ => bound_part(call, part, *count, exact),
    });
    let instructions = if call.schemas && !exact { INSTRUCTIONS } else { 0 };
    let once = 16 + instructions + template(&name).max(preamble(call.dialect, &name));
    let sound = if call.sound > 0 { call.asked.seconds.saturating_mul(TOKENS_A_SECOND) } else { 0 };
    let framing = call.frames.saturating_mul(8).saturating_add(once).saturating_add(call.fixed).saturating_add(sound);
    parts.fold(framing, u64::saturating_add)
}

fn bound_part(call: &Call, part: &Part, count: u64, exact: bool) -> u64 {
    let bytes = part.raw(&call.body).len() as u64;
    match part.kind {
        Kind::Text | Kind::Thought | Kind::Json if exact => count,
        Kind::Label if exact => 0,
        Kind::Text | Kind::Thought | Kind::Query | Kind::Label | Kind::Json => {
            loosened(count).saturating_add(rare(part.raw(&call.body))).min(bytes)
        }
        Kind::Schema | Kind::Tools | Kind::Format => bytes.saturating_mul(2),
        Kind::Image | Kind::File => image::most(&call.model),
        Kind::Audio => bytes / 8,
        Kind::Sealed => bytes / 2,
    }
}

/// Two tokens for each character of a script that ours knows well and other vocabularies may not: from Hebrew to
/// Georgian, with Arabic, the scripts of India and of Thailand between them.
fn rare(raw: &str) -> u64 {
    if raw.is_ascii() && !raw.contains("\\u") {
        return 0;
    }
    let text = json::text(raw).unwrap_or(Cow::Borrowed(raw));
    let rare = text.chars().filter(|letter| matches!(letter, '\u{590}'..='\u{10ff}' | '\u{1780}'..='\u{18af}'));
    (rare.count() as u64).saturating_mul(2)
}

/// A count in our vocabulary, for a model that has another one.
fn loosened(count: u64) -> u64 {
    count.saturating_add(count.div_ceil(2)).saturating_add(2)
}

/// What the chat templates of model families write although nobody asked: dates, default system prompts. Measured
/// on recorded exchanges, rounded up. A gateway's own hidden prompt is nothing that can be known here.
fn template(name: &Name) -> u64 {
    if name.is_at_openai() {
        return 0;
    }
    // Guards read their whole rule book first.
    let families = [
        ("guard", 1_024),
        ("gpt-oss", 128),
        ("deepseek", 128),
        ("mistral", 640),
        ("grok", 2_048),
        ("sonar", 256),
        ("nova", 256),
    ];
    families.iter().find(|(family, _)| name.has(family)).map_or(64, |(_, tokens)| *tokens)
}

/// What Cohere puts in front of every chat: 200 tokens with the oldest models, 1,400 with those that reason. It bills
/// none of them.
fn preamble(dialect: Dialect, name: &Name) -> u64 {
    if dialect == Dialect::CohereChat || name.has("command") { 1_600 } else { 0 }
}
