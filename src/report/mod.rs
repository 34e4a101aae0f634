//! What the collector hears.

pub mod wire;
