//! Anthropic messages, and the completions that were before them.

pub mod answer;
pub mod complete;
pub mod complete_ending;
pub mod ending;
pub mod request;
