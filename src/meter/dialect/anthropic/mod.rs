//! Anthropic messages.

pub mod answer;
pub mod ending;
pub mod request;
