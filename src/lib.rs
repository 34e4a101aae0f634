//! Farebox turns stock Envoy into a token meter with a turnstile.
//!
//! ```text
//!    hosts        envoy/ (wasm32)    sim/      cli/    collector/    upstream/     may do I/O and read clocks
//!                      │              │         │         │
//!    core           engine: one sans-IO Exchange per stream         events in, effects out, time is a parameter
//!                      │                                  │
//!    leaves         policy    meter    quota    report ◀──┘         plain data and arithmetic
//! ```
//!
//! Arrows point down only. The core (`engine` and the leaves) is compiled for both worlds and knows no
//! host: `proxy-wasm` exists only in wasm32 builds, servers and files only in native ones.

pub mod now;

pub mod meter;
pub mod policy;
pub mod quota;
pub mod report;

pub mod engine;

#[cfg(not(target_arch = "wasm32"))]
pub mod cli;
#[cfg(not(target_arch = "wasm32"))]
pub mod collector;
#[cfg(target_arch = "wasm32")]
mod envoy;
#[cfg(not(target_arch = "wasm32"))]
pub mod sim;
#[cfg(not(target_arch = "wasm32"))]
pub mod upstream;
