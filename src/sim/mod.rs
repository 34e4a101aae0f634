//! The in-memory host: what Envoy gives a filter, without Envoy, and repeatable to the last operation.
//!
//! | module | what it stands for |
//! |---|---|
//! | [`store`] | Envoy's shared data and clocks; where a VM can be killed, failed or stalled at any operation |
//! | [`world`] | processes, their VMs and streams, on one virtual clock |
//! | [`call`], [`upstream`] | a client's request and what is to become of it; who answers, in both dialects |
//! | [`network`] | the way to the collector: late, lost, doubled, garbled |
//! | [`ledger`] | the real collector's store, in memory, behind the real wire format |
//!
//! Nothing here reads a clock or draws lots that its seed does not decide.

pub mod call;
pub mod ledger;
pub mod network;
mod station;
pub mod store;
mod stream;
mod tries;
pub mod upstream;
pub mod world;

pub use store::{Fate, Hook, Op, OpKind, SharedData, SimCells, VirtualClock};
