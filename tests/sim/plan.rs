//! A random policy and random calls under it.

use std::fmt::Write as _;

use farebox::sim::call::{Call, Ending, Plot, body, header, offer_tool, prompt};
use farebox::upstream::ask::Api;
use farebox::upstream::script::{Report, Script};
use farebox::upstream::vocabulary::Draw;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::era::Era;

/// Seats, by organisation.
pub const SEATS: [(&str, &str); 4] = [("s0", "o0"), ("s1", "o0"), ("s2", "o1"), ("s3", "o1")];

/// How sessions call themselves, if at all.
pub const SESSIONS: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("c")];

fn one<'a>(draw: &mut Draw, of: &[&'a str]) -> &'a str {
    of[draw.below(of.len() as u64) as usize]
}

/// In what a quota is measured, and an amount that some calls fill.
fn measure(draw: &mut Draw, fund: bool, scale: u64) -> (&'static str, u64) {
    let (unit, amount) = match draw.below(if fund { 7 } else { 10 }) {
        0 => ("input tokens", 100 + draw.below(800)),
        1 => ("output tokens", 40 + draw.below(400)),
        2 | 3 => ("credits", 1 + draw.below(4)),
        4 => ("weighted tokens", 200 + draw.below(2_000)),
        7 => ("requests", 2 + draw.below(10)),
        8 => ("weighted requests", 2 + draw.below(20)),
        9 => ("tool calls", 1 + draw.below(6)),
        _ => ("tokens", 150 + draw.below(1_500)),
    };
    (unit, amount * scale)
}

fn window(draw: &mut Draw, era: &Era, fund: bool) -> String {
    match draw.below(if fund { 7 } else { 10 }) {
        0 | 1 => {
            let periods = ["month", "month", "week", "week from sunday", "day", "hour", "minute", "year"];
            format!("calendar {}", one(draw, &periods))
        }
        2 | 3 => format!("first-use {}", one(draw, &["10m", "1h", "5h", "7d"])),
        4 => format!("anniversary {}", one(draw, &["month", "month", "year"])),
        5 => format!("term {} until {}", era.term[0], era.term[1]),
        6 => "lifetime".to_owned(),
        7 => format!("sliding {}", one(draw, &["1m", "1h"])),
        _ => format!("bucket {}", one(draw, &["1m", "1h"])),
    }
}

/// What happens instead of a refusal: up to three steps, in any order. `overage`: somebody would bear one.
fn reliefs(draw: &mut Draw, unit: &str, overage: bool) -> Option<String> {
    let count = [0, 0, 0, 1, 1, 2, 2, 3][draw.below(8) as usize];
    let mut steps: Vec<String> = Vec::new();
    for _ in 0..count {
        let step = match draw.below(8) {
            0 | 1 if overage => format!("overage {} {unit}", 1 + draw.below(40)),
            2 | 3 => format!("throttle {} requests per {}", 1 + draw.below(3), one(draw, &["1s", "1m"])),
            4 | 5 => format!("wait {}", one(draw, &["300ms", "1s", "5s"])),
            6 => "observe".to_owned(),
            _ => "downgrade free".to_owned(),
        };
        let is_last = step == "observe";
        steps.push(step);
        if is_last {
            return Some(steps.join(", "));
        }
    }
    steps.push("deny".to_owned());
    (count > 0).then(|| steps.join(", "))
}

/// The terms of a cap. `funds`: of which it may be, and whether there is one behind that.
fn cap(draw: &mut Draw, era: &Era, funds: &[(&str, bool)]) -> String {
    let per = one(draw, &["seat", "seat", "org", "session"]);
    let scale = if per == "org" { 2 } else { 1 };
    if draw.below(6) == 0 {
        return format!("limit: {} requests, per: {per}, window: concurrent", 1 + draw.below(3) * scale);
    }
    let (unit, limit) = measure(draw, false, scale);
    let mut text = format!("limit: {limit} {unit}, per: {per}, window: {}", window(draw, era, false));
    if draw.below(6) == 0 {
        text.push_str(", hold: expected");
    }
    let of_models = draw.below(8) == 0;
    if of_models {
        let _ = write!(text, ", models: [\"{}\"]", one(draw, &["priced", "p*"]));
    }
    let of = Some(funds).filter(|funds| !funds.is_empty() && draw.below(3) == 0);
    let of = of.map(|funds| funds[draw.below(funds.len() as u64) as usize]);
    if let Some((fund, _)) = of {
        let _ = write!(text, ", of: {fund}");
    } else if unit == "requests" && per != "org" && !of_models && draw.below(2) == 0 {
        text.push_str(", rejected: count");
    }
    match reliefs(draw, unit, true) {
        _ if of.is_some_and(|(_, followed)| followed) && draw.below(3) > 0 => text.push_str(", full: [next fund]"),
        Some(full) => {
            let _ = write!(text, ", full: [{full}]");
        }
        None => {}
    }
    text
}

/// The funds of a plan, and the packs of its organisations.
fn funds(draw: &mut Draw, era: &Era, tokens: &mut String) -> String {
    let expected = if draw.below(6) == 0 { ", hold: expected" } else { "" };
    let (unit, amount) = measure(draw, true, 1);
    let fund = |draw: &mut Draw, name: &str, unit: &str, amount: u64| {
        let (per, window) = (one(draw, &["seat", "org"]), window(draw, era, true));
        let begins_anew = !window.starts_with("term") && window != "lifetime";
        let rollover = if begins_anew && draw.below(4) == 0 {
            format!(", rollover: {} {unit}", amount / 2 + 1)
        } else {
            String::new()
        };
        format!("        {name}: {{amount: {amount} {unit}, per: {per}, window: {window}{rollover}{expected}}}\n")
    };
    tokens.push_str("      funds:\n");
    tokens.push_str(&fund(draw, "fund", unit, amount));
    let packs = draw.below(3) == 0;
    let here = format!("        packs: {{from: packs, unit: {unit}, per: org}}\n");
    let first = draw.below(2) == 0;
    if packs && first {
        tokens.push_str(&here);
    }
    if draw.below(2) == 0 {
        let more = 1 + amount / (1 + draw.below(3));
        tokens.push_str(&fund(draw, "second", unit, more));
    }
    if packs && !first {
        tokens.push_str(&here);
    }
    let renews = ["calendar", "first-use", "anniversary"].iter().any(|window| tokens.contains(window));
    if let Some(empty) = reliefs(draw, unit, renews) {
        let _ = writeln!(tokens, "      empty: [{empty}]");
    }
    if !packs {
        return String::new();
    }
    let mut text = String::from("packs:\n");
    for (at, (org, until)) in ["o0", "o0", "o1"].into_iter().zip(era.packs_until).enumerate() {
        let amount = 1 + amount / (1 + draw.below(4));
        let _ = writeln!(
            text,
            "  pack{at}: {{for: {{org: {org}}}, amount: {amount} {unit}, from: {}, until: {until}}}",
            era.packs_from
        );
    }
    text
}

/// The policy of a seed.
pub fn policy(seed: u64) -> String {
    let draw = &mut Draw::new(seed, 1);
    let era = Era::of(seed);
    let zone = one(draw, &era.zones);
    let tool = one(draw, &["", ", tool_call: 0.2"]);
    let factor = one(draw, &["", ", factor: [{factor: 1.5}]", ", factor: [{factor: 3, above: 20 tokens}]"]);
    let mut tokens = String::new();
    let packs = if draw.below(3) > 0 { funds(draw, era, &mut tokens) } else { String::new() };
    tokens.push_str("      caps:\n");
    let at = |name: &str| tokens.find(&format!("        {name}: {{"));
    let last = ["fund", "second", "packs"].into_iter().filter_map(at).max();
    let funds = ["fund", "second"].into_iter().filter_map(|name| Some((name, at(name)? < last?)));
    let funds: Vec<(&str, bool)> = funds.collect();
    for at in 0..=draw.below(4) {
        let cap = cap(draw, era, &funds);
        let _ = writeln!(tokens, "        cap{at}: {{{cap}}}");
    }
    let price = one(draw, &["requested", "requested", "served", "dearer"]);
    let _ = writeln!(tokens, "      price: {price}");
    let lost = one(draw, &["charge", "delivered"]);
    let stream =
        one(draw, &["", "", ", stream: slices, slice: 12", ", stream: slices, slice: 14, grace: 4, cut: stop"]);
    let _ = writeln!(
        tokens,
        "      hold: {{unstated_output: 40, shrink_to: {}, lost: {lost}{stream}}}",
        1 + draw.below(12)
    );
    let mut text = format!(
        "farebox: 1\nbundle: {{name: sim, version: \"{seed}\"}}\nzone: {zone}\nidentity: [{{key: [authorization, x-api-key]}}]\n\
         session: [x-session]\nmodels:\n  \
         priced: {{count: o200k_base, credits: {{input: 1, cache_read: 0.1, cache_write: 1.25, output: 4{tool}}}{factor}}}\n  \
         free: {{count: o200k_base, credits: 0}}\nplans:\n  p:\n    tokens:\n{tokens}{packs}"
    );
    text.push_str(&people());
    let _ = writeln!(text, "envoy: {{headers: {}}}", one(draw, &["held", "first"]));
    text.push_str(
        "assign:\n  - {when: {org: o0}, plan: p, anniversary: 2026-08-26}\n  - {when: {org: o1}, plan: p, anniversary: 2026-08-31}\n\
         unknown: {path: pass, body: deny}\n",
    );
    if draw.below(10) > 0 {
        let patience = one(draw, &["1s", "2s", "5s"]);
        let _ = writeln!(text, "collector: {{cluster: c, sync: 1s, buffer: 1 MiB, patience: {patience}}}");
    }
    text
}

fn people() -> String {
    let mut text = "seats:\n".to_owned();
    for (seat, org) in SEATS {
        let hash: String = Sha256::digest(key(seat)).iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(text, "  {seat}: {{org: {org}, keys: [\"sha256:{hash}\"]}}");
    }
    text
}

/// A policy whose windows are short, and passed often.
pub fn passed(seed: u64) -> String {
    let draw = &mut Draw::new(seed, 3);
    let window = |draw: &mut Draw| one(draw, &["calendar minute", "calendar hour", "calendar hour", "first-use 10m"]);
    let (per, fund, cap) = (one(draw, &["seat", "org"]), window(draw), window(draw));
    let rollover = one(draw, &["", "", ", rollover: 0.2 credits"]);
    let empty = one(draw, &["overage 0.3 credits, deny", "overage 2 credits, deny", "deny"]);
    format!(
        "farebox: 1\nbundle: {{name: sim, version: \"{seed}\"}}\nidentity: [{{key: [authorization, x-api-key]}}]\n\
         session: [x-session]\nmodels:\n  priced: {{count: o200k_base, credits: {{input: 1, output: 4, tool_call: 0.2}}}}\n  \
         free: {{count: o200k_base, credits: 0}}\nplans:\n  p:\n    tokens:\n      \
         funds: {{fund: {{amount: 0.6 credits, per: {per}, window: {fund}{rollover}}}}}\n      empty: [{empty}]\n      \
         caps: {{cap: {{limit: 300 tokens, per: org, window: {cap}, full: [overage 150 tokens, deny]}}}}\n      \
         hold: {{unstated_output: 40, shrink_to: 4}}\n{}assign: [{{otherwise: p}}]\n\
         unknown: {{path: pass, body: deny}}\n\
         collector: {{cluster: c, sync: 1s, buffer: 1 MiB, patience: 2s}}\n",
        people()
    )
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
    let tools = draw.below(8) == 0;
    if tools {
        offer_tool(api, &mut body);
    }
    let mut call = Call::new(api, &key(seat), &body);
    if draw.below(40) == 0 {
        call.headers
            .iter_mut()
            .filter(|(name, _)| name == b":path")
            .for_each(|(_, path)| *path = b"/v1/models".to_vec());
    }
    if let Some(session) = SESSIONS[draw.below(SESSIONS.len() as u64) as usize] {
        call.headers.push(header("x-session", session));
    }
    call.plot = plot(draw);
    if tools {
        // Half a call of a tool is no call, and counts as something else.
        call.plot.ending = Ending::Finished;
        call.plot.script = Script { tool_calls: draw.below(4), ..Script::default() };
    }
    if body["stream"] != true && matches!(call.plot.ending, Ending::ClientAbort(_) | Ending::UpstreamCut(_)) {
        // Half a token of half a document may count as more than the whole token: an estimate, not exact.
        call.plot.chunks = None;
    }
    call
}

fn plot(draw: &mut Draw) -> Plot {
    let mut script = Script { crlf: draw.below(4) == 0, comments: draw.below(4) == 0, ..Script::default() };
    script.output = (draw.below(2) == 0).then(|| draw.below(70));
    script.ignore_limit = draw.below(16) == 0;
    if draw.below(12) == 0 {
        script.served = Some(one(draw, &["priced", "free"]).to_owned());
    }
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
