//! The request of a case, the same for every host.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::engine::bill::{Bill, session_account};
use crate::engine::event::Header;
use crate::policy::Bundle;
use crate::policy::bundle::{Plan, PlanQuota, Seat};
use crate::policy::case::{self, Answer, Api, Asked, Case, Ends, Prompt, Who};
use crate::sim::call::{
    Call, Ending, body, embeddings, go_on, header, images, offer_tool, point, prompt, speech, transcription,
};
use crate::upstream::ask;
use crate::upstream::script;

/// The request, with the upstream's orders in a header that the stand-in understands. `key` is the caller's.
pub(super) fn request(asked: &Asked<'_>, key: &str, bundle: &Bundle) -> Call {
    let Asked { call: wanted, answer, .. } = asked;
    let words = match &wanted.prompt {
        Prompt::Tokens(tokens) => prompt(*tokens),
        Prompt::Text(text) => text.clone(),
    };
    let mut call = match wanted.api {
        Api::OpenAiChat => chat(ask::Api::OpenAiChat, &words, asked, key),
        Api::AnthropicMessages => chat(ask::Api::AnthropicMessages, &words, asked, key),
        Api::OpenAiImages => Call::to("/v1/images/generations", key, images(&wanted.model, &words, wanted.images)),
        Api::OpenAiSpeech => Call::to("/v1/audio/speech", key, speech(&wanted.model, &words)),
        Api::OpenAiEmbeddings => Call::to("/v1/embeddings", key, embeddings(&wanted.model, &words)),
        Api::OpenAiTranscription => {
            Call::to("/v1/audio/transcriptions", key, transcription(&wanted.model, wanted.seconds))
        }
        Api::MiniMaxSpeech => minimax("/v1/t2a_v2", key, json!({"model": wanted.model, "text": words})),
        Api::MiniMaxImages => {
            let body = json!({"model": wanted.model, "prompt": words, "n": wanted.images});
            minimax("/v1/image_generation", key, body)
        }
        Api::MiniMaxVideo => {
            let body = json!({"model": wanted.model, "prompt": words, "duration": wanted.seconds});
            minimax("/v1/video_generation", key, body)
        }
        Api::MiniMaxMusic => {
            minimax("/v1/music_generation", key, json!({"model": wanted.model, "prompt": "jazz", "lyrics": words}))
        }
    };
    call.headers.push(header(script::HEADER, &orders(wanted, answer)));
    call.plot.ending = ending(answer.ends);
    call.plot.after_ms = answer.after_ms;
    if let Some(from) = wanted.from {
        match bundle.trusted_proxies {
            0 => call.peer = Some(from),
            proxies => call.headers.push(forwarded(from, proxies)),
        }
    }
    call.headers.extend(wanted.headers.iter().map(|(name, value)| header(name, value)));
    super::wire::apply(&wanted.wire, &mut call);
    call
}

/// A request to MiniMax's own paths.
fn minimax(path: &str, key: &str, body: Value) -> Call {
    Call::to(path, key, ("application/json", body.to_string().into_bytes()))
}

/// A request to a model that writes.
fn chat(api: ask::Api, words: &str, asked: &Asked<'_>, key: &str) -> Call {
    let Asked { call: wanted, answer, .. } = asked;
    let mut body = body(api, &wanted.model, words, wanted.max_output, wanted.stream);
    if wanted.open {
        point(api, &mut body);
    }
    if wanted.continues {
        go_on(api, &mut body);
    }
    if answer.tool_calls > 0 || answer.arguments {
        offer_tool(api, &mut body);
    }
    if let (Some(limit), Some(body)) = (wanted.max_tokens, body.as_object_mut()) {
        body.insert("max_tokens".to_owned(), limit.into());
    }
    Call::new(api, key, &body)
}

/// What trusted proxies in front have written: the caller, and all of them but the nearest.
fn forwarded(from: IpAddr, proxies: u8) -> Header {
    let mut entries = vec![from];
    entries.resize(usize::from(proxies), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let entries: Vec<String> = entries.iter().map(IpAddr::to_string).collect();
    header("x-forwarded-for", &entries.join(", "))
}

/// What the stand-in is to do.
fn orders(call: &case::Call, answer: &Answer) -> String {
    let Answer { output, cached, cache_write, cache_write_1h, reasoning, tool_calls, .. } = answer;
    let mut orders = format!("output={output} cached={cached}");
    for (name, number) in [
        ("cache-write", cache_write),
        ("cache-write-1h", cache_write_1h),
        ("reasoning", reasoning),
        ("tool-calls", tool_calls),
    ] {
        if *number > 0 {
            orders.push_str(&format!(" {name}={number}"));
        }
    }
    for tool in &answer.used {
        orders.push_str(&format!(" used={tool}"));
    }
    if let Some(images) = answer.images {
        orders.push_str(&format!(" images={images}"));
    }
    if matches!(call.api, Api::OpenAiTranscription | Api::MiniMaxMusic) {
        orders.push_str(&format!(" seconds={}", answer.seconds));
    }
    if let Some(input) = answer.input {
        orders.push_str(&format!(" input={input}"));
    }
    for failed in &answer.failed {
        let how = failed.map_or("reset".to_owned(), |status| status.to_string());
        orders.push_str(&format!(" fail={how}"));
    }
    if answer.status != 200 {
        orders.push_str(&format!(" error={}", answer.status));
    }
    if answer.echo {
        orders.push_str(" echo");
    }
    if answer.arguments {
        orders.push_str(" arguments");
    }
    if answer.after_ms > 0 {
        orders.push_str(&format!(" slow-headers={}ms", answer.after_ms));
    }
    if answer.every_ms > 0 {
        orders.push_str(&format!(" pace={}ms", answer.every_ms));
    }
    if answer.silent {
        orders.push_str(" silent");
    }
    if answer.past_limit {
        orders.push_str(" ignore-limit");
    }
    if let Some(served) = &answer.served {
        orders.push_str(&format!(" served={served}"));
    }
    orders.push_str(&match answer.ends {
        Ends::Whole | Ends::NoConnection | Ends::NotSent => String::new(),
        Ends::ErrorInside => " inside-error".to_owned(),
        Ends::Broken(tokens) => format!(" break={tokens}"),
        Ends::HungUp(0) => " slow-headers=60s".to_owned(),
        Ends::HungUp(tokens) | Ends::Silent(tokens) => format!(" stall={tokens}"),
        Ends::NoResponse => " no-response".to_owned(),
    });
    orders
}

/// How the simulator's stream ends. The first piece of one that is heard has no token yet, and each of the others one.
fn ending(ends: Ends) -> Ending {
    let pieces = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX).saturating_add(1);
    match ends {
        Ends::Whole | Ends::ErrorInside | Ends::Silent(_) => Ending::Finished,
        Ends::Broken(tokens) => Ending::UpstreamCut(pieces(tokens)),
        Ends::HungUp(0) => Ending::ClientLeaves,
        Ends::HungUp(tokens) => Ending::ClientAbort(pieces(tokens)),
        Ends::NoResponse => Ending::UpstreamCut(0),
        Ends::NoConnection => Ending::ConnectFailure,
        Ends::NotSent => Ending::LocalReply,
    }
}

/// Why the stand-in cannot answer like this, if so.
pub(super) fn unanswerable(case: &Case) -> Option<String> {
    let odd = |asked: &Asked<'_>| Some(asked.answer.status).filter(|status| *status != 200 && *status < 400);
    let odd = case.calls().iter().find_map(odd)?;
    Some(format!("the stand-in answers 200 or an error, not {odd}"))
}

/// Why nobody can see what is expected, if so.
pub(super) fn unseen(case: &Case, bundle: &Bundle) -> Option<String> {
    let expect = &case.expect;
    let said = [
        ("passed", expect.passed.is_some()),
        ("outcome", expect.outcome.is_some()),
        ("reached", expect.reached.is_some()),
        ("graced", expect.graced.is_some()),
        ("tries", expect.tries.is_some()),
        ("audit", expect.audit.is_some()),
    ];
    let (name, _) = said.into_iter().find(|(_, said)| *said && bundle.collector.is_none())?;
    Some(format!("`{name}` stands in the record, and there are none without a collector"))
}

/// The caller's seat and plan, where there are such.
pub(super) fn caller<'b>(who: &Who, bundle: &'b Bundle) -> Option<(&'b Seat, &'b Plan)> {
    let seat = match who {
        Who::Seat(name) => bundle.seats.iter().find(|seat| seat.name == *name)?,
        Who::Key(key) => bundle.seats.get(crate::engine::identity::seat_by_key(key.as_bytes(), &bundle.keys)?)?,
    };
    Some((seat, bundle.plan_for(seat)?))
}

/// All quotas that the call may fall to, whatever the model: those of the plan and its account's packs.
pub(super) fn quotas<'b>(who: &Who, call: &case::Call, bundle: &'b Bundle) -> Vec<(String, &'b PlanQuota)> {
    let Some((seat, plan)) = caller(who, bundle) else { return Vec::new() };
    let session = call.headers.iter().find(|(name, _)| bundle.session.contains(name));
    let session = session_account(session.map(|(_, value)| value.as_bytes()));
    let bill = Bill { plan, seat, session, quotas: Vec::new() };
    let of_plan = plan.quotas.iter().map(|quota| (bill.subject(quota.per), quota));
    let packs = bundle.packs.iter().filter(|pack| seat.subjects.contains(&pack.subject));
    of_plan.chain(packs.map(|pack| (pack.subject.clone(), &pack.fund))).collect()
}

/// One of these by its name, and the account that it is in.
pub(super) fn quota<'b>(
    who: &Who,
    call: &case::Call,
    name: &str,
    bundle: &'b Bundle,
) -> Option<(String, &'b PlanQuota)> {
    quotas(who, call, bundle).into_iter().find(|(_, quota)| quota.name == name)
}
