//! OpenAI's error body and rate-limit headers.
//!
//! Sources: OpenAI's "error codes" and "rate limits" guides, bodies seen in public issue trackers, and the SDK.

use serde_json::{Value, json};

use super::limits::{Columns, columns};
use crate::engine::denial::{Denial, Kind, LimitView};
use crate::now::Now;
use crate::policy::unit::Unit;

/// `{"error": {message, type, param, code}}`.
pub fn body(denial: &Denial, message: &str) -> Value {
    json!({ "error": error(denial, message) })
}

/// The inner object. All four members are always there; SDKs read them by name.
pub fn error(denial: &Denial, message: &str) -> Value {
    let (kind, code) = words(denial);
    let param = match denial.kind {
        Kind::UnknownModel => Some("model"),
        Kind::TooLong => Some("messages"),
        _ => None,
    };
    json!({ "message": message, "type": kind, "param": param, "code": code })
}

/// `type` and `code`.
fn words(denial: &Denial) -> (&'static str, &'static str) {
    const INVALID: &str = "invalid_request_error";
    match denial.kind {
        Kind::Unauthenticated => (INVALID, "invalid_api_key"),
        Kind::Conflict => (INVALID, "conflicting_api_keys"),
        Kind::Forbidden => ("request_forbidden", "forbidden"),
        Kind::Malformed => (INVALID, "invalid_request_body"),
        Kind::Unbounded => (INVALID, "unbounded_request"),
        Kind::TooLarge => (INVALID, "request_too_large"),
        Kind::TooLong => (INVALID, "context_length_exceeded"),
        Kind::UnknownModel => (INVALID, "model_not_found"),
        Kind::UnknownPath => (INVALID, "unknown_url"),
        // The type says which limit it was: `requests` or `tokens`. There is none for credits.
        Kind::Rate | Kind::Oversized if denial.limit.as_ref().is_some_and(|limit| limit.unit == Unit::Requests) => {
            ("requests", "rate_limit_exceeded")
        }
        Kind::Rate | Kind::Oversized => ("tokens", "rate_limit_exceeded"),
        Kind::Exhausted => ("insufficient_quota", "insufficient_quota"),
        Kind::Unavailable => ("service_unavailable_error", "server_is_overloaded"),
        Kind::Late | Kind::Overlong => ("server_error", "timeout"),
    }
}

/// `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`; the reset is a span until the limit is whole again.
pub fn limit_headers(limit: &LimitView, now: Now) -> Vec<(String, String)> {
    let unit = match limit.unit {
        Unit::Requests => "requests",
        Unit::Tokens | Unit::InputTokens | Unit::OutputTokens | Unit::FreshTokens => "tokens",
        _ => return Vec::new(),
    };
    let Some(Columns { limit: all, remaining, reset_ms }) = columns(limit, now) else { return Vec::new() };
    let mut headers = vec![
        (format!("x-ratelimit-limit-{unit}"), all.to_string()),
        (format!("x-ratelimit-remaining-{unit}"), remaining.to_string()),
    ];
    headers.extend(reset_ms.map(|ms| (format!("x-ratelimit-reset-{unit}"), go_span(ms))));
    headers
}

/// A span as Go's `time.Duration` prints it, which OpenAI's headers use: `12ms`, `1.5s`, `6m0s`, `1h0m0s`.
fn go_span(ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let (seconds, rest) = (ms / 1000, ms % 1000);
    let fraction = match rest {
        0 => String::new(),
        rest => format!(".{rest:03}").trim_end_matches('0').to_owned(),
    };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, minutes) => format!("{minutes}m{seconds}{fraction}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::go_span;

    #[test]
    fn spans_are_printed_as_go_prints_them() {
        let printed = [0, 12, 999, 1000, 1500, 1010, 60_000, 360_000, 361_250, 3_600_000, 90_061_000].map(go_span);
        let expected = ["0s", "12ms", "999ms", "1s", "1.5s", "1.01s", "1m0s", "6m0s", "6m1.25s", "1h0m0s", "25h1m1s"];
        assert_eq!(printed, expected);
    }
}
