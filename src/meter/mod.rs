//! Bytes in, usage out. Knows no policy.

pub mod count;
pub mod dialect;
pub mod usage;
