//! Error bodies of few words: Cohere, Ollama, DashScope, MiniMax, open servers.
//!
//! Sources: recorded bodies; Alibaba Cloud Model Studio, "Error codes"; MiniMax, "Error codes"; Text Generation
//! Inference, `ErrorResponse`.

use serde_json::{Value, json};

use crate::engine::denial::{Denial, Kind};

/// Cohere: `{"id", "message"}`.
pub fn cohere(message: &str, decision_id: &str) -> Value {
    json!({ "id": decision_id, "message": message })
}

/// Ollama: `{"error"}`.
pub fn ollama(message: &str) -> Value {
    json!({ "error": message })
}

/// DashScope: `{"code", "message", "request_id"}`.
pub fn dashscope(denial: &Denial, message: &str, decision_id: &str) -> Value {
    let code = match denial.kind {
        Kind::Conflict | Kind::Malformed | Kind::Unbounded | Kind::TooLarge | Kind::TooLong => "InvalidParameter",
        Kind::Unauthenticated => "InvalidApiKey",
        Kind::Forbidden => "AccessDenied",
        Kind::UnknownModel => "ModelNotFound",
        Kind::UnknownPath => "InvalidURL",
        Kind::Rate | Kind::Oversized => "Throttling.RateQuota",
        Kind::Exhausted => "Throttling.AllocationQuota",
        Kind::Unavailable => "ServiceUnavailable",
        Kind::Late | Kind::Overlong => "RequestTimeOut",
    };
    json!({ "code": code, "message": message, "request_id": decision_id })
}

/// MiniMax: `{"base_resp": {status_code, status_msg}}`, its own numbers.
pub fn minimax(denial: &Denial, message: &str, decision_id: &str) -> Value {
    let code = match denial.kind {
        Kind::Unauthenticated | Kind::Forbidden => 1004,
        Kind::Rate | Kind::Oversized => 1002,
        Kind::Exhausted => 1008,
        Kind::TooLong => 1039,
        Kind::Unavailable => 1000,
        Kind::Late | Kind::Overlong => 1001,
        Kind::Conflict
        | Kind::Malformed
        | Kind::Unbounded
        | Kind::TooLarge
        | Kind::UnknownModel
        | Kind::UnknownPath => 2013,
    };
    json!({ "base_resp": { "status_code": code, "status_msg": message }, "trace_id": decision_id })
}

/// Text Generation Inference: `{"error", "error_type"}`.
pub fn generate(denial: &Denial, message: &str) -> Value {
    let kind = match denial.kind {
        Kind::Rate | Kind::Oversized | Kind::Exhausted | Kind::Unavailable => "overloaded",
        Kind::Late | Kind::Overlong => "generation",
        _ => "validation",
    };
    json!({ "error": message, "error_type": kind })
}
