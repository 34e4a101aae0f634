//! A random policy and random calls under it.

use std::fmt::Write as _;

use farebox::sim::call::{Call, Ending, Plot, body, prompt};
use farebox::upstream::ask::Api;
use farebox::upstream::script::{Report, Script};
use farebox::upstream::vocabulary::Draw;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Seats, by organisation.
pub const SEATS: [(&str, &str); 4] = [("s0", "o0"), ("s1", "o0"), ("s2", "o1"), ("s3", "o1")];

fn one<'a>(draw: &mut Draw, of: &[&'a str]) -> &'a str {
    of[draw.below(of.len() as u64) as usize]
}

/// A cap or fund: what it limits, in which window.
fn terms(draw: &mut Draw, fund: bool) -> String {
    let per = one(draw, &["seat", "org"]);
    let scale = if per == "org" { 2 } else { 1 };
    let window = match draw.below(if fund { 2 } else { 4 }) {
        0 => "calendar month".to_owned(),
        1 => format!("first-use {}", one(draw, &["1h", "5h", "7d"])),
        2 => format!("bucket {}", one(draw, &["1m", "1h"])),
        _ => {
            let limit = 1 + draw.below(3) * scale;
            return format!("limit: {limit} requests, per: {per}, window: concurrent");
        }
    };
    let amount = match draw.below(5) {
        0 => format!("{} input tokens", (100 + draw.below(800)) * scale),
        1 => format!("{} output tokens", (40 + draw.below(400)) * scale),
        2 => format!("{} credits", (1 + draw.below(4)) * scale),
        3 if !fund => format!("{} requests", (2 + draw.below(10)) * scale),
        _ => format!("{} tokens", (150 + draw.below(1500)) * scale),
    };
    format!("{}: {amount}, per: {per}, window: {window}", if fund { "amount" } else { "limit" })
}

/// The policy of a seed.
pub fn policy(seed: u64) -> String {
    let draw = &mut Draw::new(seed, 1);
    let zone = one(draw, &["UTC", "Asia/Shanghai", "America/New_York"]);
    let mut text = format!(
        "farebox: 1\nbundle: {{name: sim, version: \"{seed}\"}}\nzone: {zone}\nidentity: [{{key: [authorization, x-api-key]}}]\n\
         models:\n  priced: {{count: o200k_base, credits: {{input: 1, cache_read: 0.1, cache_write: 1.25, output: 4}}}}\n  \
         free: {{count: o200k_base, credits: 0}}\nplans:\n  p:\n    tokens:\n"
    );
    if draw.below(3) > 0 {
        let _ = writeln!(text, "      funds: {{fund: {{{}}}}}", terms(draw, true));
    }
    text.push_str("      caps:\n");
    for cap in 0..=draw.below(4) {
        let _ = writeln!(text, "        cap{cap}: {{{}}}", terms(draw, false));
    }
    let lost = one(draw, &["charge", "delivered"]);
    let _ = writeln!(text, "      hold: {{unstated_output: 40, shrink_to: {}, lost: {lost}}}", 1 + draw.below(12));
    text.push_str("seats:\n");
    for (seat, org) in SEATS {
        let hash: String = Sha256::digest(key(seat)).iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(text, "  {seat}: {{org: {org}, keys: [\"sha256:{hash}\"]}}");
    }
    let _ = writeln!(text, "envoy: {{headers: {}}}", one(draw, &["held", "first"]));
    text.push_str("assign: [{otherwise: p}]\nunknown: {path: pass, body: deny}\n");
    if draw.below(10) > 0 {
        let patience = one(draw, &["1s", "2s", "5s"]);
        let _ = writeln!(text, "collector: {{cluster: c, sync: 1s, buffer: 1 MiB, patience: {patience}}}");
    }
    text
}

fn key(seat: &str) -> String {
    format!("key-{seat}")
}

/// A random call.
pub fn call(draw: &mut Draw) -> Call {
    let api = if draw.below(2) == 0 { Api::OpenAiChat } else { Api::AnthropicMessages };
    let (seat, _) = SEATS[draw.below(SEATS.len() as u64) as usize];
    let model = if draw.below(5) == 0 { "free" } else { "priced" };
    let limit = (draw.below(4) > 0).then(|| 1 + draw.below(60));
    let words = prompt(8 + draw.below(40));
    let mut body = body(api, model, &words, limit, draw.below(3) > 0);
    if api == Api::OpenAiChat && draw.below(8) == 0 {
        body["n"] = json!(1 + draw.below(3));
    }
    if draw.below(10) == 0 {
        body["stream_options"] = json!({"include_usage": true});
    }
    let mut call = Call::new(api, &key(seat), &body);
    if draw.below(40) == 0 {
        call.headers
            .iter_mut()
            .filter(|(name, _)| name == b":path")
            .for_each(|(_, path)| *path = b"/v1/models".to_vec());
    }
    call.plot = plot(draw);
    if body["stream"] != true && matches!(call.plot.ending, Ending::ClientAbort(_) | Ending::UpstreamCut(_)) {
        // Half a token of half a document may count as more than the whole token: an estimate, not exact.
        call.plot.chunks = None;
    }
    call
}

fn plot(draw: &mut Draw) -> Plot {
    let mut script = Script { crlf: draw.below(4) == 0, comments: draw.below(4) == 0, ..Script::default() };
    script.output = (draw.below(2) == 0).then(|| draw.below(70));
    match draw.below(12) {
        0 => script.report = Report::Silent,
        1 => script.report = Report::Absurd,
        2 => script.cached = draw.below(8),
        3 => script.error = Some([400, 429, 500, 503][draw.below(4) as usize]),
        4 => script.inside_error = true,
        5 => script.garbage = draw.below(2) == 0,
        _ => {}
    }
    let ending = match draw.below(16) {
        0 => Ending::Trailers,
        1 | 2 => Ending::ClientAbort(draw.below(12) as u32),
        3 => Ending::UpstreamCut(draw.below(12) as u32),
        4 => Ending::ConnectFailure,
        5 => Ending::LocalReply,
        _ => Ending::Finished,
    };
    Plot { script, after_ms: 0, chunks: (draw.below(2) == 0).then(|| draw.next()), ending }
}
