//! What the collector hears.
//!
//! [`wire`] is the format, shared with the collector and open to anybody else's; [`id`] reads the ids that
//! come back.

pub mod id;
mod msgpack;
pub mod wire;
