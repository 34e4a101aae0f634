//! OpenAI chat completions, and what its many imitators add.

pub mod answer;
pub mod ending;
pub mod request;
