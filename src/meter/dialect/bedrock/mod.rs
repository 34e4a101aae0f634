//! Amazon Bedrock: its own Converse, and the bodies of all model families that InvokeModel passes on.

pub mod converse;
pub mod ending;
pub mod family;
pub mod invoke;
pub mod request;
pub mod usage;
