//! Bytes in, usage out. Knows no policy.

pub mod count;
pub mod usage;
