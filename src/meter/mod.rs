//! Bytes in, usage out. Knows no policy.
//!
//! A request body becomes a [`call::Call`]: what it asks for, what bounds its cost, and the byte ranges
//! at which its output limit can be changed. A response body runs through a [`reader::Reader`]: what was
//! delivered, counted here, and what the provider reported. Both are framed on bytes, so that the way a
//! body is cut into chunks changes nothing.
//!
//! ```text
//!   request body ──▶ call ─────┐                      ┌──── reader ◀── response body
//!                     │        ▼                      ▼      │
//!                     │      dialect: one module a wire format
//!                     ▼               │               │      ▼
//!   bound, estimate, image, form     json  stream, sse, values, eventstream   tally
//!                     ├──────▶ count, running ◀──────────────┤
//!                     └──────▶ name, manner, cut ◀───────────┘
//! ```
//!
//! Where a provider is silent, what its model's [family](manner) adds to texts is added to their counts, and a
//! [calibration](calibration) of its earlier reports corrects the rest. Where one reports more than our bound, that is
//! raised by the [excess].
//!
//! Where texts of an answer are to be changed, a [`rewrite::Rewriter`] does it behind the reader.

pub mod built_in;
pub mod calibration;
pub mod call;
pub mod called;
pub mod count;
#[cfg(any(test, feature = "test-hooks"))]
pub mod deltas;
pub mod dialect;
pub mod excess;
pub mod form;
pub mod image;
#[cfg(feature = "bench")]
pub mod measure;
pub mod media;
pub mod members;
pub mod name;
pub mod offer;
pub mod reader;
pub mod rewrite;
pub mod server;
pub mod system;
pub mod usage;
pub mod watch;
pub mod written;

mod answer;
mod arguments;
mod beside;
mod bound;
mod bytes;
mod credentials;
mod cues;
mod cut;
mod estimate;
mod eventstream;
mod framing;
mod json;
mod loose;
mod manner;
mod origin;
mod part;
mod partial;
mod schema;
mod sse;
mod stream;
mod tally;
mod told;
mod unpack;
mod values;

pub use json::Closing;

/// The longest document that is read or kept whole, in bytes: an answer, or one of the objects that a stream is made of.
pub const LONGEST_DOCUMENT: usize = 8 * 1024 * 1024;
