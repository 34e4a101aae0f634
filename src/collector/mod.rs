//! The reference collector: the ledger behind one HTTP endpoint.
//!
//! ```text
//!   POST /v1/sync ─▶ http ─▶ writer (one thread, one transaction for many syncs) ─▶ store ─▶ SQLite
//!   GET  /v1/…    ─▶ http ─▶ a connection that only reads ───────────────────────────▲
//! ```
//!
//! A sync is answered after the commit that holds it ([`writer`]). What a sync means is in [`store`]: records are
//! applied once, missing ones are proven lost, and each Envoy gets grants. The wire format is
//! [`report::wire`](crate::report::wire).

pub mod amount;
pub mod clock;
mod http;
pub mod server;
pub mod store;
pub mod writer;

#[cfg(test)]
mod tests;
