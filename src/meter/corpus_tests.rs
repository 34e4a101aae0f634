//! Every recorded exchange of our two dialects, when the corpus is there: `FAREBOX_CORPUS` names a folder with
//! `exchanges.jsonl` (unpacked). It is not part of the project; without it this says so and passes.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::meter::call::{read_call, splice};
use crate::meter::count::Encoding;
use crate::meter::dialect::Dialect;
use crate::meter::reader::{Forward, Reader};
use crate::meter::usage::Usage;

#[derive(Default)]
struct Row {
    exchanges: u32,
    usage_equal: u32,
    usage_differs: u32,
    finished: u32,
    unread_calls: u32,
    open_calls: u32,
    below_bound: u32,
    above_bound: u32,
    input_exact: u32,
    output_close: u32,
    output_all: u32,
}

#[test]
fn corpus() {
    let Some(folder) = std::env::var_os("FAREBOX_CORPUS") else {
        eprintln!("SKIPPED: FAREBOX_CORPUS names no corpus");
        return;
    };
    let text = std::fs::read_to_string(std::path::Path::new(&folder).join("exchanges.jsonl")).unwrap();
    let mut table: BTreeMap<String, Row> = BTreeMap::new();
    for line in text.lines() {
        let exchange: Value = serde_json::from_str(line).unwrap();
        let Some(dialect) = dialect_of(&exchange) else { continue };
        let kind = if exchange["stream"] == true { "stream" } else { "json" };
        let name = format!("{} {} {kind}", dialect.name(), exchange["provider"].as_str().unwrap_or("?"));
        let row = table.entry(name).or_default();
        row.exchanges += 1;
        check(&exchange, dialect, row);
    }
    println!(
        "{:55} {:>4} {:>5} {:>5} {:>5} | {:>6} {:>5} {:>6} {:>6} {:>6} | {:>6}",
        "", "n", "usage", "not", "ended", "unread", "open", "bound", "above", "input=", "output"
    );
    for (name, row) in &table {
        println!(
            "{name:55} {:4} {:5} {:5} {:5} | {:6} {:5} {:6} {:6} {:6} | {:3}/{:3}",
            row.exchanges,
            row.usage_equal,
            row.usage_differs,
            row.finished,
            row.unread_calls,
            row.open_calls,
            row.below_bound,
            row.above_bound,
            row.input_exact,
            row.output_close,
            row.output_all
        );
    }
    let differs: u32 = table.values().map(|row| row.usage_differs).sum();
    assert_eq!(differs, 0);
}

fn dialect_of(exchange: &Value) -> Option<Dialect> {
    match exchange["api"].as_str()? {
        "chat_completions" => Some(Dialect::OpenAiChat),
        "messages" => Some(Dialect::AnthropicMessages),
        _ => None,
    }
}

fn check(exchange: &Value, dialect: Dialect, row: &mut Row) {
    let Some(body) = exchange["response_body"].as_str() else { return };
    let status = exchange["status"].as_u64().unwrap_or(200) as u16;
    let headers = exchange["response_headers"].as_object();
    let kind = headers.and_then(|h| h.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type")));
    let kind = kind.and_then(|(_, value)| value.as_str().or_else(|| value[0].as_str()));
    let read = |size: usize, hide: bool| {
        let mut reader = Reader::new(dialect, Encoding::O200kBase, status, kind.map(str::as_bytes), None, hide);
        let mut out = Vec::new();
        let chunks: Vec<&[u8]> = body.as_bytes().chunks(size).collect();
        for (position, chunk) in chunks.iter().enumerate() {
            match reader.push(chunk, position + 1 == chunks.len()) {
                Forward::Same => out.extend_from_slice(chunk),
                Forward::Replace(bytes) => out.extend(bytes),
            }
        }
        (reader, out)
    };
    let (reader, out) = read(usize::MAX, false);
    let (cut, hidden) = read(7, true);
    let (_, hidden_whole) = read(usize::MAX, true);
    assert_eq!(out, body.as_bytes());
    assert_eq!(hidden, hidden_whole);
    assert_eq!((reader.reported(), reader.delivered()), (cut.reported(), cut.delivered()));
    row.finished += u32::from(reader.finished());
    let id = exchange["id"].as_str().unwrap_or("?");
    let expected = expected(dialect, &exchange["usage"]);
    if reader.reported().map(|usage| (usage.input_total(), usage.output)) == expected {
        row.usage_equal += 1;
    } else {
        row.usage_differs += 1;
        println!(
            "{id} {status} reported {:?}, usage {} unreadable {:?}",
            reader.reported(),
            exchange["usage"],
            reader.unreadable()
        );
    }
    if let Some(usage) = reader.reported() {
        let visible = usage.output - usage.reasoning;
        row.output_all += 1;
        row.output_close += u32::from(visible.abs_diff(reader.delivered()) <= 1 + visible / 50);
        request(exchange, dialect, usage, row);
    }
}

/// Input and output in all, from the provider's object by the rules of the corpus's README.
fn expected(dialect: Dialect, usage: &Value) -> Option<(u64, u64)> {
    let number = |object: &Value, key: &str| object[key].as_u64();
    if dialect == Dialect::AnthropicMessages {
        let start = &usage["message_start"];
        let end = if usage["message_delta"].is_object() { &usage["message_delta"] } else { usage };
        let larger = |key| number(start, key).unwrap_or(0).max(number(end, key).unwrap_or(0));
        let input = larger("input_tokens") + larger("cache_read_input_tokens") + larger("cache_creation_input_tokens");
        return number(end, "output_tokens").map(|output| (input, output));
    }
    let prompt = number(usage, "prompt_tokens")?;
    let completion = number(usage, "completion_tokens")?;
    let total = number(usage, "total_tokens").unwrap_or(prompt + completion);
    let audio = number(&usage["prompt_tokens_details"], "audio_tokens").unwrap_or(0);
    let gap = total.saturating_sub(prompt + completion);
    if gap > 0 && gap == audio { Some((prompt + gap, completion)) } else { Some((prompt, completion + gap)) }
}

fn request(exchange: &Value, dialect: Dialect, usage: Usage, row: &mut Row) {
    let body = match &exchange["request_body"] {
        Value::String(body) => body.clone(),
        Value::Null => return,
        other => other.to_string(),
    };
    let call = match read_call(dialect, body.as_bytes()) {
        Ok(call) => call,
        Err(error) => {
            println!("{} call: {error}", exchange["id"]);
            row.unread_calls += 1;
            return;
        }
    };
    let clamped = splice(body.as_bytes(), &call.edits(Some(1), true));
    let again = read_call(dialect, &clamped).unwrap();
    assert!(again.output_limit.is_some_and(|limit| limit <= 1));
    assert!(dialect != Dialect::OpenAiChat || !call.stream || again.asks_usage);
    let bound = call.input_bound(Encoding::O200kBase);
    if call.open.is_some() {
        row.open_calls += 1;
    } else if usage.input_total() <= bound {
        row.below_bound += 1;
    } else {
        row.above_bound += 1;
        println!("{} {} input {} above bound {bound}", exchange["id"], call.model, usage.input_total());
    }
    row.input_exact += u32::from(call.count_input(Encoding::O200kBase) == usage.input_total());
}
