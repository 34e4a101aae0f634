//! What the collector hears.
//!
//! [`wire`] is the format, shared with the collector and open to anybody else's; [`outbox`] decides
//! when which settled records go out; [`id`] reads the ids that come back.

pub mod id;
mod msgpack;
pub mod outbox;
pub mod wire;
