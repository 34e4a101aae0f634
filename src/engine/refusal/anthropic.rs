//! Anthropic's error body and rate-limit headers.
//!
//! Sources: Anthropic's "errors" and "rate limits" pages, and the types of the SDK (`types/shared/error_type.py`).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::limits::{Columns, columns};
use crate::engine::denial::{Denial, Kind, LimitView};
use crate::now::Now;
use crate::policy::unit::Unit;

/// `{"type": "error", "error": {type, message}, "request_id"}`.
pub fn body(denial: &Denial, message: &str, decision_id: &str) -> Value {
    json!({ "type": "error", "error": error(denial, message), "request_id": decision_id })
}

/// The inner object.
///
/// An exhausted fund carries `details.error_code` beside the `rate_limit_error` that 429 implies: with the SDK
/// `error.error_code` is then what tells "spent" from "too fast".
pub fn error(denial: &Denial, message: &str) -> Value {
    let kind = match denial.kind {
        Kind::Conflict | Kind::Malformed | Kind::Unbounded | Kind::TooLong => "invalid_request_error",
        Kind::Unauthenticated => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::UnknownModel | Kind::UnknownPath => "not_found_error",
        Kind::TooLarge => "request_too_large",
        Kind::Rate | Kind::Oversized | Kind::Exhausted => "rate_limit_error",
        Kind::Unavailable => "overloaded_error",
        Kind::Late | Kind::Overlong => "timeout_error",
    };
    if denial.kind == Kind::Exhausted {
        let details = json!({ "error_code": "enforced_spend_limit_reached" });
        return json!({ "type": kind, "message": message, "details": details });
    }
    json!({ "type": kind, "message": message })
}

/// `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`; the reset is a time.
pub fn limit_headers(limit: &LimitView, now: Now) -> Vec<(String, String)> {
    let unit = match limit.unit {
        Unit::Requests => "requests",
        Unit::Tokens => "tokens",
        Unit::InputTokens => "input-tokens",
        Unit::OutputTokens => "output-tokens",
        _ => return Vec::new(),
    };
    let Some(Columns { limit: all, remaining, reset_ms }) = columns(limit, now) else { return Vec::new() };
    let mut headers = vec![
        (format!("anthropic-ratelimit-{unit}-limit"), all.to_string()),
        (format!("anthropic-ratelimit-{unit}-remaining"), remaining.to_string()),
    ];
    let reset = reset_ms.and_then(|ms| rfc3339(now.wall_ms.saturating_add(ms)));
    headers.extend(reset.map(|time| (format!("anthropic-ratelimit-{unit}-reset"), time)));
    headers
}

/// A time as RFC 3339 in UTC, rounded up to a second. `None` beyond the year 9999.
fn rfc3339(unix_ms: u64) -> Option<String> {
    let seconds = i64::try_from(unix_ms.div_ceil(1000)).ok()?;
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_rounded_up_and_never_panic() {
        assert_eq!(rfc3339(1_764_000_000_001).as_deref(), Some("2025-11-24T16:00:01Z"));
        assert_eq!(rfc3339(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(rfc3339(u64::MAX), None);
    }
}
