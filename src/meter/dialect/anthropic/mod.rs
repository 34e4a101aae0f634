//! Anthropic messages.

pub mod answer;
pub mod request;
