//! Reading messages and their stream events.

use crate::meter::answer::{Absurd, Answer, Said, count};
use crate::meter::dialect::minimax;
use crate::meter::json;
use crate::meter::tally::{Kind, Voice};
use crate::meter::usage::Usage;

/// Reads the data of one event.
pub fn event(answer: &mut Answer, data: &str) {
    let names = ["type", "message", "index", "content_block", "delta", "usage", "error"];
    let Some([kind, message, index, block, delta, said, error]) = json::fields(data, names) else { return };
    answer.error |= error.is_some_and(json::says);
    let voice = Voice { kind: Kind::Block, answer: 0, part: index.and_then(json::whole).unwrap_or(0) };
    match kind.and_then(json::text).as_deref() {
        Some("message_start") => opening(answer, message),
        Some("content_block_start") => {
            answer.loose.begin(voice.part);
            if block.and_then(|raw| json::fields(raw, ["name"])).is_some_and(|[name]| name.is_some()) {
                answer.loose.calling(voice.part, 0);
            }
            block_start(answer, voice, block);
        }
        Some("content_block_delta") => block_delta(answer, voice, delta),
        Some("content_block_stop") => {
            answer.tally.end(voice);
            answer.tally.end(Voice { kind: Kind::Thinking, ..voice });
            answer.loose.end(voice.part);
        }
        Some("message_delta") => {
            let reason = delta.and_then(|raw| json::fields(raw, ["stop_reason"]));
            answer.ended |= matches!(reason, Some([Some(_)]));
            answer.loose.stopped |= answer.ended;
            closing(answer, said);
        }
        Some("message_stop") => answer.finished = true,
        Some("error") => answer.error = true,
        _ => {}
    }
}

/// Reads a whole message. `None`: not a JSON object.
pub fn body(answer: &mut Answer, raw: &str) -> Option<()> {
    let names = ["type", "content", "model", "usage", "error", "stop_reason", "base_resp"];
    let [kind, content, model, said, error, reason, base] = json::fields(raw, names)?;
    answer.served_by(model);
    answer.error |= error.is_some_and(json::says) || kind == Some("\"error\"") || minimax::failed(base);
    answer.ended |= reason.is_some();
    if let Some(content) = content {
        let mut part = 0;
        json::elements(content, |raw| {
            let voice = Voice { kind: Kind::Block, answer: 0, part };
            block_start(answer, voice, Some(raw));
            answer.tally.end(voice);
            answer.tally.end(Voice { kind: Kind::Thinking, ..voice });
            part += 1;
        });
    }
    closing(answer, said);
    Some(())
}

/// The message as it begins: the model, and usage with the output still open.
fn opening(answer: &mut Answer, message: Option<&str>) {
    let names = ["model", "usage", "content"];
    let Some([model, said, content]) = message.and_then(|raw| json::fields(raw, names)) else { return };
    answer.served_by(model);
    // Anthropic's own begins empty; what is there at others is a part of what clients string together.
    let mut part = 0;
    json::elements(content.unwrap_or("[]"), |raw| {
        block_start(answer, Voice { kind: Kind::Block, answer: 0, part }, Some(raw));
        part += 1;
    });
    match said.and_then(usage) {
        Some(Ok(usage)) => answer.opening = Some(Usage { output: 0, reasoning: 0, ..usage }),
        Some(Err(Absurd)) => answer.said = Said::Absurd,
        None => {}
    }
}

/// The last word on usage: cumulative, and with server tools it knows more input than the opening did. No figure is
/// smaller than before, unless less input and more of it cached come to no less: a gateway may know only at the end what
/// was cached.
fn closing(answer: &mut Answer, said: Option<&str>) {
    let Some(said) = said.and_then(usage) else { return };
    if answer.said == Said::Absurd {
        return;
    }
    let before = match answer.said {
        Said::Usage(usage) => usage,
        _ => answer.opening.unwrap_or_default(),
    };
    answer.hear(Some(said.map(|usage| {
        let anew = usage.input < before.input && usage.input_total() >= before.input_total();
        let part = |now: u64, then: u64| if anew { now } else { now.max(then) };
        // Who says again what was written may leave out for how long.
        let cache_write = part(usage.cache_write, before.cache_write);
        let hours = usage.cache_write_1h.max(before.cache_write_1h).min(cache_write);
        Usage {
            input: part(usage.input, before.input),
            cache_read: part(usage.cache_read, before.cache_read),
            cache_write,
            cache_write_1h: if anew { usage.cache_write_1h } else { hours },
            output: usage.output.max(before.output),
            reasoning: usage.reasoning.max(before.reasoning),
            ..usage
        }
    })));
}

fn block_start(answer: &mut Answer, voice: Voice, block: Option<&str>) {
    let names = ["text", "thinking", "name", "input"];
    let Some([text, thinking, name, input]) = block.and_then(|raw| json::fields(raw, names)) else { return };
    for (raw, kind) in [(text, voice.kind), (thinking, Kind::Thinking)] {
        speak(answer, Voice { kind, ..voice }, raw);
    }
    let elsewhere = block.is_some_and(|raw| answer.tells_own(raw));
    if let Some(name) = name.and_then(json::text) {
        if !elsewhere {
            answer.watch.hear(None, &name);
        }
        answer.tally.whole(&name);
        answer.tool_calls = answer.tool_calls.saturating_add(1);
    }
    // A streamed input begins as an empty object and comes as deltas.
    if let Some(input) = input.filter(|raw| json::Strings::of(raw).next().is_some() || raw.len() > 2) {
        answer.tally.push(voice, input);
    }
}

fn block_delta(answer: &mut Answer, voice: Voice, delta: Option<&str>) {
    let names = ["text", "thinking", "partial_json"];
    let Some([text, thinking, json]) = delta.and_then(|raw| json::fields(raw, names)) else { return };
    for (raw, kind) in [(text, voice.kind), (thinking, Kind::Thinking), (json, voice.kind)] {
        speak(answer, Voice { kind, ..voice }, raw);
    }
}

fn speak(answer: &mut Answer, voice: Voice, raw: Option<&str>) {
    if let Some(text) = raw.and_then(json::text) {
        answer.tally.push(voice, &text);
    }
}

/// A usage object in canonical form: input tokens here exclude what was cached. `None`: it says nothing.
///
/// What is billed is the sum of all `iterations` (Anthropic, "Compaction": the figures at the top leave summaries of the
/// conversation out; "Advisor tool": they have the input of the model's first turn alone, and nothing of the advisor's).
/// Where the figures at the top are more than those of the model's turns, they stand. An advisor is another model with
/// another price; its tokens are charged as those of the model that asked it, which is why the call is open.
fn usage(raw: &str) -> Option<Result<Usage, Absurd>> {
    let names = ["iterations"];
    let [iterations] = json::fields(raw, names)?;
    let whole = figures(raw)?;
    let (mut turns, mut others) = (Ok(Usage::default()), Ok(Usage::default()));
    json::elements(iterations.unwrap_or("[]"), |raw| {
        let [kind] = json::fields(raw, ["type"]).unwrap_or_default();
        let sum = match kind {
            Some("\"compaction\"" | "\"advisor_message\"") => &mut others,
            // What is no known kind, or has none, may be in the figures at the top.
            _ => &mut turns,
        };
        if let (Ok(before), Some(one)) = (*sum, figures(raw)) {
            *sum = one.map(|one| combined(&before, &one, u64::saturating_add));
        }
    });
    let sum = || Ok(combined(&combined(&whole?, &turns?, u64::max), &others?, u64::saturating_add));
    Some(sum())
}

/// Two usages made one, figure by figure.
fn combined(one: &Usage, other: &Usage, of: fn(u64, u64) -> u64) -> Usage {
    Usage {
        input: of(one.input, other.input),
        cache_read: of(one.cache_read, other.cache_read),
        cache_write: of(one.cache_write, other.cache_write),
        cache_write_1h: of(one.cache_write_1h, other.cache_write_1h),
        output: of(one.output, other.output),
        reasoning: of(one.reasoning, other.reasoning),
        ..*one
    }
}

fn figures(raw: &str) -> Option<Result<Usage, Absurd>> {
    let names = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"];
    let [input, read, written, output] = json::fields(raw, names)?;
    if input.is_none() && output.is_none() {
        return None;
    }
    let details = json::fields(raw, ["output_tokens_details"]).and_then(|[details]| details);
    let thought = details.and_then(|raw| json::fields(raw, ["thinking_tokens", "reasoning_tokens"]));
    let [made] = json::fields(raw, ["cache_creation"]).unwrap_or_default();
    let lives = made.and_then(|raw| json::fields(raw, ["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]));
    let [minutes, hour] = lives.unwrap_or_default();
    let read = || -> Result<Usage, Absurd> {
        let [thinking, reasoning] = thought.unwrap_or_default();
        let output = count(output)?.unwrap_or(0);
        // The sum is of both; who gives the parts alone means their sum.
        let parts = count(minutes)?.unwrap_or(0).saturating_add(count(hour)?.unwrap_or(0));
        let cache_write = count(written)?.unwrap_or(parts);
        Ok(Usage {
            input: count(input)?.unwrap_or(0),
            cache_read: count(read)?.unwrap_or(0),
            cache_write,
            cache_write_1h: count(hour)?.unwrap_or(0).min(cache_write),
            output,
            reasoning: count(thinking)?.or(count(reasoning)?).unwrap_or(0).min(output),
            ..Usage::default()
        })
    };
    Some(read())
}
