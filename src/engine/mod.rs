//! One sans-IO exchange per HTTP stream.

pub mod effect;
pub mod event;
