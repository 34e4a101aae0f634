//! Farebox turns stock Envoy into a token meter with a turnstile: every LLM request is identified, counted, held against
//! its quotas, guarded, settled to the token, and reported. This page is the project's architecture.
//!
//! # The house
//!
//! ```text
//!    hosts        envoy/ (wasm32)    sim/      cli/    collector/    upstream/     may do I/O and read clocks
//!                      │              │         │         │
//!    core           engine: one sans-IO Exchange per stream         events in, effects out, time is a parameter
//!                      │                                  │
//!    leaves         policy    meter    quota    report ◀──┘         plain data and arithmetic
//!                     └──▶ scan
//! ```
//!
//! Arrows point down only (`tests/arrows.rs`). The core, that is the engine and the leaves, is compiled for both worlds
//! and knows no host: `proxy-wasm` is a dependency of wasm32 builds only, servers, files and clocks of native ones.
//!
//! | where | what |
//! |---|---|
//! | [`now`] | time, as a parameter |
//! | `order` | sorting, in little code |
//! | `zone` | the time zones of the IANA database |
//! | [`policy`] | YAML or JSON in, a compiled [`Bundle`](policy::Bundle) out; its docs are the language's reference |
//! | [`meter`] | bytes in, [`Usage`](meter::usage::Usage) out: dialects, framing, counting |
//! | [`scan`] | text in, findings out: secrets and personal data, in whole texts and in streams |
//! | [`quota`] | accounts, holds and settles as step machines over a two-method store |
//! | [`report`] | records on their way; the wire format between filter and collector |
//! | [`engine`] | the contract with a host, and everything that decides |
//! | `envoy` | callbacks → events, effects → host calls; decides nothing |
//! | `sim` | the in-memory host: many processes and VMs, one clock, deterministic by seed |
//! | `cli` | `check`, `test`, `explain`, `count`, `run`, `usage`, `collector`, `upstream`: one file a verb |
//! | `collector` | the reference collector: the ledger, on SQLite |
//! | `upstream` | a model stand-in that sends tokens which it chose itself |
//!
//! # One exchange
//!
//! 1. **Headers.** Identity, the guards of the connection, path, tier. What is refused here never has its body read.
//!    Credentials are taken off: the provider's key is put in by Envoy.
//! 2. **Body.** Dialect, model, declared output; guards; the count of the prompt, or a bound of it. [`engine::admission`]
//!    weighs the dearest outcome against every quota of every level and finds the output limit that all of them can pay:
//!    the declared one, or a lower one down to the policy's floor. Where the ledger may have more than it granted here, the
//!    exchange waits for one fetch. Then the hold is made: all levels, or none.
//! 3. **Answer.** Read as it streams past, never buffered but for a JSON document that a guard must see whole; usage is
//!    the provider's last word, and what was counted here where it has none.
//! 4. **End.** Whichever callback says so first settles all levels once, by the outcome table in [`engine::settlement`],
//!    and leaves one record in the exchange's slot. Where the call came to more than was held, the hold is extended before,
//!    by what its funds have in their order.
//! 5. **Sync.** Records and standings go to the collector, acknowledgements and grants come back.
//!
//! # How the accounts stay exact
//!
//! Envoy's shared data has no transaction, no delete and no enumeration, and a panic loses a VM with everything it
//! knew. So an operation on several accounts is a *step machine* of single compare-and-swaps ([`quota::Operation`]): its
//! intent is written first, then each account, then the exchange's slot. A hold is committed by its slot and undone
//! otherwise; a settle is decided by its intent and finished by whoever finds it. Every change carries the generation of
//! the VM slot that made it, and who meets a newer generation than its own stops. A VM whose heartbeat stands still for
//! thirty beats of another is claimed by that one: its open operation is finished or undone, what it held is ended as
//! `unsettled`, and what it had settled is sent. The search in `quota::search` runs all interleavings of single store
//! calls over this very code.
//!
//! With a collector, a fund or a windowed cap is *granted* in slices by the ledger, in cumulative figures that are merged
//! by maximum: losing, repeating or reordering an answer changes nothing, and no Envoy can spend what another was given.
//! Buckets and concurrency are local to the process.
//!
//! What a window is charged beyond what it had (overage, a stream that outran its estimate) is a debt. The next window pays
//! it with all that it has, the one after it the rest, and one that nobody used pays too; with a collector the ledger
//! reckons it over all processes and grants so much less. What is only observed or throttled is none. Of several funds the
//! last that begins anew bears it: after a pack or a term no window comes that could pay.
//!
//! # Where this departs from the first plan, and why
//!
//! - **Waiting for a grant lasts until the ledger has nothing left or the deadline passes**, not for exactly one fetch: an
//!   answer may have been meant for somebody else's want. Each fetch gets what is missing or empties the ledger, so this
//!   ends.
//! - **Whoever takes over a dead VM keeps its VM slot beating until every record in it is acknowledged**, and only then
//!   gives it back. If the rescuer dies too, the slot falls silent again and the next one takes over; releasing it at once
//!   would strand its records.
//! - **An incarnation that failed in the middle of an operation is given up**, also when only the store failed: it may not
//!   begin another while one is unfinished.
//! - **An update is held against the policy in force** ([`policy::succession`]), by every VM and before a worker has seen
//!   it: what was sold under a version stays, and counters change their name only on purpose.
//! - **What was sold under a version is charged as it was sold.** Its own text is sealed, and so are the lines of the price
//!   list that it can come to, unless it says `prices: open`; a quota keeps its unit, level and kind of window as long as it
//!   keeps its counters.
//! - **A prompt is told by the call, not by a session and a pause.** A call that goes on with the results of tools begins
//!   none: that needs no memory, and is the same on every Envoy. To count the calls of one session within some minutes once
//!   could not be held exactly. Nobody vouches for a session's name, so that whoever sends always the same would pay one
//!   prompt for any number of calls; shared data forgets nothing, so that sessions share accounts, and two in one would be
//!   one; and what another Envoy saw a second ago no Envoy knows. What a vendor takes a prompt for on the average can be
//!   said: `prompts: {continued: 0.07 prompts}`.
//! - **What a call asks nothing of, it passes**, whatever debt that quota has. Bounds that are not zero are printed by
//!   `farebox explain`, from [`engine::overshoot`]: they hold in each window, and over all windows once.
//! - **What is owed is what was charged, not what is held.** A call that runs as its window ends adds to what the windows
//!   after it owe when it ends.
//! - **The end of an answer may wait for the ledger**, as a stream does for its next slice: where its call came to more than
//!   was held, and another fund may have it. Where it cannot wait, what is granted here has to do.
//! - **A long prompt is counted when that matters** (`engine::gauge`): where there is ample room it is held by the bound of
//!   its bytes, some four times its count, and its provider says what it came to. Together such calls hold no more than an
//!   eighth of what is left. One whose VM dies costs what it holds, as every other; `count: always` is for whom that is too
//!   much.
//! - **Envoy paces answers, not the filter.** A filter can let something leave only in the place of something that comes. What
//!   it held back of a burst would wait for the upstream's next word, however long that takes, and lie in the memory of a VM
//!   whose upstream nobody slows. Envoy's `bandwidth_limit` does both rightly, for all answers of a plan's tier together.
//! - **Unspent grants go back after a minute without use**, whoever holds them.
//! - **Account records, slots and VM slots are written by hand-made codecs of fixed order** (length-checked, with a format
//!   number in every key) instead of a mapped layout: subjects and lists of quotas have no fixed length.

pub mod now;
mod order;
mod zone;

pub mod meter;
pub mod policy;
pub mod quota;
pub mod report;
pub mod scan;

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
