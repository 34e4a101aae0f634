//! The call of a case, and what the upstream answers.

use std::net::IpAddr;

use super::{Answer, Api, Call, Ends, MOST_TOKENS, Prompt, status, wire};
use crate::policy::diagnostic::{Code, Complaint, Faults, shown};
use crate::policy::fields::{Fields, choice, form, list, switch, text, whole};
use crate::policy::scalar::duration;
use crate::policy::tree::Node;

const CALL_KEYS: [&str; 13] = [
    "api",
    "model",
    "input",
    "prompt",
    "max_output",
    "max_tokens",
    "images",
    "seconds",
    "stream",
    "from",
    "continues",
    "open",
    "headers",
];

/// The most images and seconds that a call asks for.
const MOST_PIECES: u64 = 100;

/// The `call` of a case and its `answer`.
pub(super) fn asked(fields: &Fields<'_>, faults: &mut Faults) -> Option<(Call, Answer)> {
    let call = fields
        .required("call", "describe the call: `call: {api: openai chat, model: …, input: …}`", faults)
        .and_then(|node| call(node, faults));
    let answer = answer(fields.optional("answer"), call.as_ref(), faults);
    Some((call?, answer))
}

fn call(node: &Node, faults: &mut Faults) -> Option<Call> {
    let fields = Fields::of(node, "call", &[&CALL_KEYS[..], &wire::KEYS].concat(), faults)?;
    let apis = [
        ("openai chat", Api::OpenAiChat),
        ("anthropic messages", Api::AnthropicMessages),
        ("openai images", Api::OpenAiImages),
        ("openai speech", Api::OpenAiSpeech),
        ("openai transcription", Api::OpenAiTranscription),
        ("openai embeddings", Api::OpenAiEmbeddings),
        ("minimax speech", Api::MiniMaxSpeech),
        ("minimax images", Api::MiniMaxImages),
        ("minimax video", Api::MiniMaxVideo),
        ("minimax music", Api::MiniMaxMusic),
    ];
    let api = fields
        .required("api", "write `api: openai chat` or `api: anthropic messages`", faults)
        .and_then(|node| choice(node, "call.api", &apis, faults));
    let model = fields
        .required("model", "name the model that is asked for", faults)
        .and_then(|node| text(node, "call.model", faults));
    let prompt = match (fields.optional("input"), fields.optional("prompt")) {
        (None, None) if api == Some(Api::OpenAiTranscription) => Some(Prompt::Text(String::new())),
        (Some(node), None) => whole(node, "call.input", 1, MOST_TOKENS, faults).map(Prompt::Tokens),
        (None, Some(node)) => text(node, "call.prompt", faults).map(|prompt| Prompt::Text(prompt.to_owned())),
        _ => {
            let help = "state how many tokens it has, `input: 500`, or its text, `prompt: \"…\"`";
            faults.add(node.at, Code::MissingKey, "a call has either `input` or `prompt`", help);
            None
        }
    };
    let number = |key: &str, most: u64, faults: &mut Faults| {
        let node = fields.optional(key)?;
        whole(node, &fields.path(key), 1, most, faults)
    };
    let (max_output, max_tokens) =
        (number("max_output", MOST_TOKENS, faults), number("max_tokens", MOST_TOKENS, faults));
    let (images, seconds) = (number("images", MOST_PIECES, faults), number("seconds", MOST_PIECES, faults));
    if max_tokens.is_some() && (api == Some(Api::AnthropicMessages) || max_output.is_none()) {
        let message = "`max_tokens` is the older name of a limit in OpenAI chat, here beside the newer one";
        faults.add(fields.key_at("max_tokens"), Code::Conflict, message, "state the limit as `max_output` alone");
    }
    if let Some(api) = api {
        fits(&fields, api, faults);
    }
    let stream = fields.optional("stream").and_then(|node| switch(node, "call.stream", faults));
    let from = fields.optional("from").and_then(|node| form(node, "call.from", faults, address));
    let continues = fields.optional("continues").and_then(|node| switch(node, "call.continues", faults));
    let open = fields.optional("open").and_then(|node| switch(node, "call.open", faults));
    let headers = fields.optional("headers").map(|node| wire::headers(node, faults));
    let wire = wire::read(&fields, faults);
    Some(Call {
        api: api?,
        model: model?.to_owned(),
        prompt: prompt?,
        max_output,
        max_tokens,
        images: images.unwrap_or(1),
        seconds: seconds.unwrap_or(if api == Some(Api::MiniMaxVideo) { 6 } else { 1 }),
        stream: stream.unwrap_or(false),
        from: from.map(|from| from.value),
        continues: continues.unwrap_or(false),
        open: open.unwrap_or(false),
        headers: headers.unwrap_or_default(),
        wire,
    })
}

/// What a request in this wire format cannot say.
fn fits(fields: &Fields<'_>, api: Api, faults: &mut Faults) {
    let others: &[&str] = match api {
        Api::OpenAiChat | Api::AnthropicMessages => &["images", "seconds"],
        Api::OpenAiImages | Api::MiniMaxImages => {
            &["seconds", "max_output", "max_tokens", "stream", "continues", "open"]
        }
        Api::MiniMaxVideo => &["images", "max_output", "max_tokens", "stream", "continues", "open"],
        Api::OpenAiSpeech | Api::OpenAiEmbeddings | Api::MiniMaxSpeech | Api::MiniMaxMusic => {
            &["images", "seconds", "max_output", "max_tokens", "stream", "continues", "open"]
        }
        Api::OpenAiTranscription => {
            &["images", "input", "prompt", "max_output", "max_tokens", "stream", "continues", "open"]
        }
    };
    for key in others.iter().filter(|key| fields.optional(key).is_some()) {
        let message = format!("a call of this api has no `{key}`");
        faults.add(fields.key_at(key), Code::Conflict, message, "remove it, or choose another `api`");
    }
}

fn address(written: &str) -> Result<IpAddr, Complaint> {
    written.parse().map_err(|_| {
        let message = format!("{} is no address", shown(written));
        Complaint::new(Code::BadValue, message, "write for example `10.1.2.3` or `fd00::1`")
    })
}

/// The most tools that an answer calls.
const MOST_TOOL_CALLS: u64 = 100;
/// The longest time that an answer takes: a real Envoy's case waits for it.
const LONGEST_MS: u64 = 10_000;
/// The most tries before an answer.
const MOST_FAILED: usize = 10;
/// The most tools that an answer has used.
const MOST_USED: usize = 8;
const ANSWER_KEYS: [&str; 20] = [
    "output",
    "input",
    "cached",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "tool_calls",
    "used",
    "images",
    "seconds",
    "failed",
    "status",
    "silent",
    "past_limit",
    "echo",
    "arguments",
    "after",
    "every",
    "served",
    "ends",
];

fn answer(node: Option<&Node>, call: Option<&Call>, faults: &mut Faults) -> Answer {
    let output = call.and_then(|call| call.max_output).unwrap_or(20).min(20);
    let none = Answer {
        output,
        input: None,
        cached: 0,
        cache_write: 0,
        cache_write_1h: 0,
        reasoning: 0,
        tool_calls: 0,
        used: Vec::new(),
        images: None,
        seconds: call.map_or(1, |call| call.seconds),
        failed: Vec::new(),
        status: 200,
        silent: false,
        past_limit: false,
        echo: false,
        arguments: false,
        after_ms: 0,
        every_ms: 0,
        served: None,
        ends: Ends::Whole,
    };
    let Some(fields) = node.and_then(|node| Fields::of(node, "answer", &ANSWER_KEYS, faults)) else { return none };
    let mut number = |key: &str, most: u64| {
        let node = fields.optional(key)?;
        whole(node, &fields.path(key), 0, most, faults)
    };
    let answer = Answer {
        output: number("output", MOST_TOKENS).unwrap_or(output),
        input: number("input", MOST_TOKENS),
        cached: number("cached", MOST_TOKENS).unwrap_or(0),
        cache_write: number("cache_write", MOST_TOKENS).unwrap_or(0),
        cache_write_1h: number("cache_write_1h", MOST_TOKENS).unwrap_or(0),
        reasoning: number("reasoning", MOST_TOKENS).unwrap_or(0),
        tool_calls: number("tool_calls", MOST_TOOL_CALLS).unwrap_or(0),
        images: number("images", MOST_PIECES),
        seconds: number("seconds", MOST_PIECES).unwrap_or(none.seconds),
        used: fields.optional("used").map(|node| used(node, faults)).unwrap_or_default(),
        failed: fields.optional("failed").map(|node| failed(node, &fields.path("failed"), faults)).unwrap_or_default(),
        status: status(fields.optional("status"), "answer.status", faults).unwrap_or(200),
        silent: flag(&fields, "silent", faults),
        past_limit: flag(&fields, "past_limit", faults),
        echo: flag(&fields, "echo", faults),
        arguments: flag(&fields, "arguments", faults),
        after_ms: time(&fields, "after", faults),
        every_ms: time(&fields, "every", faults),
        served: fields
            .optional("served")
            .and_then(|node| form(node, "answer.served", faults, served))
            .map(|at| at.value),
        ends: fields
            .optional("ends")
            .and_then(|node| form(node, "answer.ends", faults, ends))
            .map_or(Ends::Whole, |at| at.value),
    };
    can_be(&fields, &answer, call, faults);
    answer
}

/// `[web_search, mcp__files__read]`.
fn used(node: &Node, faults: &mut Faults) -> Vec<String> {
    let items = list(node, "answer.used", faults).unwrap_or_default();
    if let Some(beyond) = items.get(MOST_USED) {
        faults.add(beyond.at, Code::TooLarge, "no answer uses more tools", format!("list at most {MOST_USED}"));
    }
    items.iter().filter_map(|item| form(item, "answer.used", faults, served)).map(|used| used.value).collect()
}

/// `[503, no response]`.
fn failed(node: &Node, what: &str, faults: &mut Faults) -> Vec<Option<u16>> {
    let items = list(node, what, faults).unwrap_or_default();
    if let Some(beyond) = items.get(MOST_FAILED) {
        faults.add(beyond.at, Code::TooLarge, "no call is tried more often", format!("list at most {MOST_FAILED}"));
    }
    items.iter().filter_map(|item| form(item, what, faults, one_failed)).map(|failed| failed.value).collect()
}

fn one_failed(written: &str) -> Result<Option<u16>, Complaint> {
    let status = || written.parse().ok().filter(|status| (400..=599).contains(status)).map(Some);
    let failed = if written == "no response" { Some(None) } else { status() };
    failed.ok_or_else(|| {
        let message = format!("no try ends as {}", shown(written));
        Complaint::new(Code::BadValue, message, "write a status from 400 to 599, or `no response`")
    })
}

fn time(fields: &Fields<'_>, key: &str, faults: &mut Faults) -> u64 {
    let time = fields.optional(key).and_then(|node| form(node, &fields.path(key), faults, after));
    time.map_or(0, |time| time.value)
}

fn after(written: &str) -> Result<u64, Complaint> {
    duration(written).ok().filter(|ms| *ms <= LONGEST_MS).ok_or_else(|| {
        let message = format!("no answer of a case takes {}", shown(written));
        Complaint::new(Code::BadValue, message, format!("write up to {} s, such as `3s`", LONGEST_MS / 1_000))
    })
}

/// The name of a model as providers write it, such as `openai/gpt-4o` or `qwen3:8b`, or of a tool: what the stand-in can be
/// told in one word.
fn served(written: &str) -> Result<String, Complaint> {
    const LONGEST: usize = 128;
    let fits = written.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b';'));
    if fits && (1..=LONGEST).contains(&written.len()) {
        return Ok(written.to_owned());
    }
    let help = format!("write up to {LONGEST} ASCII characters without blanks, commas and semicolons");
    Err(Complaint::new(Code::BadValue, format!("no answer names {}", shown(written)), help))
}

/// `whole`, `error inside`, `broken after 5 tokens`, `hung up after 5 tokens`, `silent after 5 tokens`, `no response`,
/// `no connection` or `not sent`.
fn ends(written: &str) -> Result<Ends, Complaint> {
    let after = |words: &str| {
        let rest = written
            .strip_prefix(words)?
            .strip_suffix(" tokens")
            .or(written.strip_prefix(words)?.strip_suffix(" token"))?;
        rest.trim().parse().ok().filter(|tokens| *tokens <= MOST_TOKENS)
    };
    let some = |words: &str| after(words).filter(|tokens| *tokens > 0);
    match written {
        "whole" => Some(Ends::Whole),
        "error inside" => Some(Ends::ErrorInside),
        "hung up" => Some(Ends::HungUp(0)),
        "no response" => Some(Ends::NoResponse),
        "no connection" => Some(Ends::NoConnection),
        "not sent" => Some(Ends::NotSent),
        _ => some("broken after ")
            .map(Ends::Broken)
            .or_else(|| some("hung up after ").map(Ends::HungUp))
            .or_else(|| after("silent after ").map(Ends::Silent)),
    }
    .ok_or_else(|| {
        let help = "write `whole`, `error inside`, `broken after 5 tokens`, `hung up`, `hung up after 5 tokens`, \
                    `silent after 5 tokens`, `no response`, `no connection` or `not sent`";
        Complaint::new(Code::BadValue, format!("an answer does not end as {}", shown(written)), help)
    })
}

fn flag(fields: &Fields<'_>, key: &str, faults: &mut Faults) -> bool {
    fields.optional(key).and_then(|node| switch(node, &fields.path(key), faults)).unwrap_or(false)
}

/// Parts are no more than their whole, and a dialect tells them.
fn can_be(fields: &Fields<'_>, answer: &Answer, call: Option<&Call>, faults: &mut Faults) {
    let cached = answer.cached.saturating_add(answer.cache_write);
    if let Some(input) = answer.input.filter(|input| cached > *input) {
        let key = if answer.cached > input { "cached" } else { "cache_write" };
        let message = format!("{cached} tokens of {input} cannot have been cached");
        faults.add(fields.key_at(key), Code::Conflict, message, "`input` includes the cached tokens");
    }
    if let Ends::Broken(tokens) | Ends::HungUp(tokens @ 1..) | Ends::Silent(tokens) = answer.ends {
        if call.is_some_and(|call| !call.stream) {
            let message = "an answer that is no stream has no tokens to end after";
            faults.add(fields.key_at("ends"), Code::Conflict, message, "add `stream: true` to the call");
        } else if tokens >= answer.output {
            let message = format!("an answer of {} tokens does not end after {tokens} of them", answer.output);
            faults.add(fields.key_at("ends"), Code::Conflict, message, "let it have more `output`");
        }
    }
    if answer.ends != Ends::Whole && answer.status != 200 {
        let message = format!("an answer of {} has no such end", answer.status);
        faults.add(fields.key_at("ends"), Code::Conflict, message, "leave out `status` or `ends`");
    }
    if !answer.failed.is_empty() && matches!(answer.ends, Ends::NoConnection | Ends::NotSent) {
        let message = "no try of a call fails that is not sent";
        faults.add(fields.key_at("failed"), Code::Conflict, message, "leave out `failed` or `ends`");
    }
    if answer.arguments && (answer.echo || answer.tool_calls > 0) {
        let message = "an answer that is the call of a tool says nothing else";
        faults.add(
            fields.key_at("arguments"),
            Code::Conflict,
            message,
            "remove `arguments`, or `echo` and `tool_calls`",
        );
    }
    if answer.after_ms > 0
        && matches!(answer.ends, Ends::HungUp(0) | Ends::NoResponse | Ends::NoConnection | Ends::NotSent)
    {
        let message = "an answer that never comes takes no time";
        faults.add(fields.key_at("after"), Code::Conflict, message, "remove `after`, or let it end otherwise");
    }
    if answer.every_ms > 0 && call.is_some_and(|call| !call.stream) {
        let message = "an answer that is no stream comes at once";
        faults.add(fields.key_at("every"), Code::Conflict, message, "add `stream: true` to the call");
    }
    if answer.cache_write_1h > answer.cache_write {
        let message = format!("{} tokens of {} cannot have been kept", answer.cache_write_1h, answer.cache_write);
        faults.add(fields.key_at("cache_write_1h"), Code::Conflict, message, "`cache_write` includes them");
    }
    if answer.reasoning > answer.output {
        let message = format!("{} tokens of {} cannot have been reasoning", answer.reasoning, answer.output);
        faults.add(fields.key_at("reasoning"), Code::Conflict, message, "`output` includes the reasoning");
    }
    if let Some(call) = call {
        can_tell(fields, answer, call.api, faults);
    }
}

/// What an answer in this wire format says at all.
fn can_tell(fields: &Fields<'_>, answer: &Answer, api: Api, faults: &mut Faults) {
    let tells: [(&str, &[Api], &str); 5] = [
        ("reasoning", &[Api::OpenAiChat], "openai chat"),
        ("cache_write", &[Api::AnthropicMessages], "anthropic messages"),
        ("cache_write_1h", &[Api::AnthropicMessages], "anthropic messages"),
        ("images", &[Api::OpenAiImages, Api::MiniMaxImages], "openai images"),
        ("seconds", &[Api::OpenAiTranscription, Api::MiniMaxMusic], "openai transcription"),
    ];
    for (key, _, words) in tells.iter().filter(|(key, by, _)| !by.contains(&api) && fields.optional(key).is_some()) {
        let message = format!("answers in this dialect do not tell `{key}`");
        faults.add(fields.key_at(key), Code::Conflict, message, format!("remove it, or write `api: {words}`"));
    }
    if api.is_text() {
        return;
    }
    let of_text = [
        "output",
        "input",
        "cached",
        "tool_calls",
        "used",
        "silent",
        "past_limit",
        "echo",
        "arguments",
        "every",
        "served",
    ];
    let told = |key: &str| key == "input" && api == Api::OpenAiEmbeddings;
    for key in of_text.iter().filter(|key| fields.optional(key).is_some() && !told(key)) {
        let message = format!("an answer without text has no `{key}`");
        faults.add(fields.key_at(key), Code::Conflict, message, "remove it, or write `api: openai chat`");
    }
    let inside = answer.ends == Ends::ErrorInside && api.is_minimax();
    if !inside && !matches!(answer.ends, Ends::Whole | Ends::NoConnection | Ends::NotSent) {
        let message = "an answer without text ends whole, or never comes";
        faults.add(fields.key_at("ends"), Code::Conflict, message, "remove `ends`, or write `api: openai chat`");
    }
}

#[cfg(test)]
mod tests {
    use super::served;

    #[test]
    fn whatever_names_a_model_can_have_served() {
        for name in ["openai/gpt-4o", "qwen3:8b", "us.anthropic.claude-3-7-sonnet-20250219-v1:0", &"m".repeat(128)] {
            assert_eq!(served(name).as_deref(), Ok(name));
        }
        for name in ["", "a b", "a,b", "a;b", "a\nb", "modèle", &"m".repeat(129)] {
            assert!(served(name).is_err(), "{name}");
        }
    }
}
