//! Google's error body (Google, "AIP-193 Errors" and "google.rpc.Status"; bodies recorded from Gemini and Vertex).

use serde_json::{Value, json};

use crate::engine::denial::{Denial, Kind};

/// `{"error": {code, message, status, details}}`. A wait is told in `RetryInfo`, where Google's SDKs look for it.
pub fn body(denial: &Denial, message: &str) -> Value {
    let status = match denial.kind {
        Kind::Conflict | Kind::Malformed | Kind::Unbounded | Kind::TooLarge | Kind::TooLong => "INVALID_ARGUMENT",
        Kind::Unauthenticated => "UNAUTHENTICATED",
        Kind::Forbidden => "PERMISSION_DENIED",
        Kind::UnknownModel | Kind::UnknownPath => "NOT_FOUND",
        Kind::Rate | Kind::Oversized | Kind::Exhausted => "RESOURCE_EXHAUSTED",
        Kind::Unavailable => "UNAVAILABLE",
        Kind::Late | Kind::Overlong => "DEADLINE_EXCEEDED",
    };
    let wait = denial.retry_ms.filter(|_| denial.kind.passes_later());
    let details: Vec<Value> = wait
        .map(|ms| {
            let delay = format!("{}s", ms.div_ceil(1000).max(1));
            json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay })
        })
        .into_iter()
        .collect();
    json!({ "error": { "code": denial.kind.status(), "message": message, "status": status, "details": details } })
}
