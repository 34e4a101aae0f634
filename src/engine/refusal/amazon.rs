//! Amazon's error body and its type in a header (Amazon Bedrock, "Converse": errors; AWS SDKs, `x-amzn-errortype`).

use serde_json::{Value, json};

use crate::engine::denial::{Denial, Kind};

/// `{"message"}`.
pub fn body(message: &str) -> Value {
    json!({ "message": message })
}

/// The header by which the SDKs tell exceptions apart.
///
/// `ServiceQuotaExceededException` is not retried, `ThrottlingException` is.
pub fn headers(denial: &Denial) -> Vec<(String, String)> {
    let kind = match denial.kind {
        Kind::Conflict | Kind::Malformed | Kind::Unbounded | Kind::TooLarge | Kind::TooLong => "ValidationException",
        Kind::Unauthenticated | Kind::Forbidden => "AccessDeniedException",
        Kind::UnknownModel | Kind::UnknownPath => "ResourceNotFoundException",
        Kind::Rate | Kind::Oversized => "ThrottlingException",
        Kind::Exhausted => "ServiceQuotaExceededException",
        Kind::Unavailable => "ServiceUnavailableException",
        Kind::Late | Kind::Overlong => "ModelTimeoutException",
    };
    vec![("x-amzn-errortype".to_owned(), kind.to_owned())]
}
