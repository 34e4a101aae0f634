//! A denial in the caller's own words: status, body and headers that their SDK understands.
//!
//! What the official SDKs do with an answer (read in `openai` 3.57 and `anthropic` 2.13 for Python, `_base_client.py`):
//! `x-should-retry: true|false` decides alone; without it 408, 409, 429 and 5xx are retried. Before a retry both
//! wait for `retry-after`, `openai` up to two minutes (beyond that it gives up), `anthropic` up to 49 days. Hence
//! [`PATIENCE_S`]: a call that passes only hours from now says so, but does not ask anybody to sit and wait.
//! The exception's class goes by the status; `openai` reads `error.{message,type,param,code}` and the request's id
//! from `x-request-id`, `anthropic` reads `error.{type,message,details}` and `request-id`.

mod amazon;
mod anthropic;
mod google;
mod limits;
mod openai;
mod short;
#[cfg(test)]
mod tests;
mod tongue;

use serde_json::{Value, json};

use self::tongue::Tongue;
use super::denial::{Denial, Kind, LimitView};
use super::effect::Reply;
use crate::meter::dialect::Dialect;
use crate::now::Now;

/// The longest wait in seconds for which a retry is invited: the most that both SDKs would wait.
pub const PATIENCE_S: u64 = 120;

/// The reply that tells `denial` to a caller of `dialect` (`None`: no dialect was recognised).
///
/// `decision_id` is in the message, in the headers, and in the body where the dialect has a place for it, so that
/// "why was I blocked" can be answered afterwards.
pub fn reply(dialect: Option<Dialect>, denial: &Denial, decision_id: &str, now: Now) -> Reply {
    let message = format!("{} (decision {decision_id})", denial.outside);
    let tongue = Tongue::of(dialect);
    let body = match tongue {
        Tongue::OpenAi => openai::body(denial, &message),
        Tongue::Anthropic => anthropic::body(denial, &message, decision_id),
        Tongue::Google => google::body(denial, &message),
        Tongue::Amazon => amazon::body(&message),
        Tongue::Cohere => short::cohere(&message, decision_id),
        Tongue::Ollama => short::ollama(&message),
        Tongue::DashScope => short::dashscope(denial, &message, decision_id),
        Tongue::MiniMax => short::minimax(denial, &message, decision_id),
        Tongue::Generate => short::generate(denial, &message),
        Tongue::Neutral => neutral(denial, &message, decision_id),
    };
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    headers.extend(request_id(tongue, decision_id));
    if tongue == Tongue::Amazon {
        headers.extend(amazon::headers(denial));
    }
    headers.extend(retry(denial));
    if denial.kind == Kind::Unauthenticated {
        // RFC 9110 §11.6.1: a 401 names a way in.
        headers.push(("www-authenticate".to_owned(), "Bearer".to_owned()));
    }
    if let Some(limit) = &denial.limit {
        headers.extend(limit_headers(dialect, limit, denial.retry_ms, now));
    }
    Reply { status: denial.kind.status(), headers, body: body.to_string().into_bytes() }
}

/// The headers that say how a quota stands, for a refusal or an answer that passed: the IETF's for everybody, and
/// the dialect's own where its vocabulary has the unit.
///
/// `retry_ms`: when some of the quota comes back, if that is before the window begins anew.
pub fn limit_headers(
    dialect: Option<Dialect>,
    limit: &LimitView,
    retry_ms: Option<u64>,
    now: Now,
) -> Vec<(String, String)> {
    let mut headers = match Tongue::of(dialect) {
        Tongue::OpenAi => openai::limit_headers(limit, now),
        Tongue::Anthropic => anthropic::limit_headers(limit, now),
        _ => Vec::new(),
    };
    headers.extend(limits::ietf(limit, retry_ms, now));
    headers
}

/// Whether to retry, and when.
fn retry(denial: &Denial) -> Vec<(String, String)> {
    let wait = if denial.kind.passes_later() { denial.retry_ms.map(|ms| ms.div_ceil(1000).max(1)) } else { None };
    let invited = denial.kind.passes_later() && wait.is_none_or(|seconds| seconds <= PATIENCE_S);
    let mut headers = vec![("x-should-retry".to_owned(), invited.to_string())];
    headers.extend(wait.map(|seconds| ("retry-after".to_owned(), seconds.to_string())));
    headers
}

/// The header in which the dialect's SDK looks for the id of a request.
fn request_id(tongue: Tongue, decision_id: &str) -> Vec<(String, String)> {
    let names: &[&str] = match tongue {
        Tongue::Anthropic => &["request-id"],
        Tongue::Neutral => &["x-request-id", "request-id"],
        Tongue::Amazon => &["x-amzn-requestid"],
        _ => &["x-request-id"],
    };
    names.iter().map(|name| ((*name).to_owned(), decision_id.to_owned())).collect()
}

/// For callers whose dialect we do not know: a body in which both SDKs find what they look for.
fn neutral(denial: &Denial, message: &str, decision_id: &str) -> Value {
    let mut error = openai::error(denial, message);
    if let (Some(error), Some(theirs)) = (error.as_object_mut(), anthropic::error(denial, message).as_object_mut()) {
        theirs.remove("message");
        error.append(theirs);
    }
    json!({ "type": "error", "error": error, "request_id": decision_id })
}
