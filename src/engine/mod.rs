//! One sans-IO exchange per HTTP stream.

pub mod denial;
pub mod effect;
pub mod event;
pub mod guard;
pub mod identity;
pub mod refusal;
pub mod secrets;
pub mod source;
