//! OpenAI's wire formats, and what its many imitators add.

pub mod answer;
pub mod completion_ending;
pub mod ending;
pub mod media;
pub mod namespace;
pub mod reading;
pub mod request;
pub mod responses;
pub mod responses_ending;
pub mod responses_request;
pub mod usage;
