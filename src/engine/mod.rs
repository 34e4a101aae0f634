//! One sans-IO exchange per HTTP stream: events in, effects out, time is a parameter.
//!
//! # The contract with a host
//!
//! A host (Envoy's filter, the simulator, a bench) owns streams, clocks, sockets and the store. It keeps
//!
//! - one [`Vm`](vm::Vm) for each bundle *name* in each thread (in Envoy: each wasm VM), and
//! - one [`Exchange`](exchange::Exchange) for each HTTP stream,
//!
//! and tells them what happens. Nothing in here blocks, sleeps, or asks for the time.
//!
//! **Order of a stream's events.** [`RequestHeaders`](event::Event::RequestHeaders) first; then
//! [`RequestBody`](event::Event::RequestBody), each time with the *whole* body so far, until its `end` (trailers count
//! as the end); [`Woken`](event::Event::Woken) as often as the host likes while the exchange waits; then
//! [`ResponseHeaders`](event::Event::ResponseHeaders), [`ResponseBody`](event::Event::ResponseBody) with each *new*
//! piece, perhaps [`ResponseTrailers`](event::Event::ResponseTrailers); and
//! [`Over`](event::Event::Over) last. Any of them may be missing but the last, which always comes, also for a stream
//! whose headers were never seen. Telling an end twice is harmless: an exchange settles once.
//!
//! **Answers.** [`Exchange::handle`](exchange::Exchange::handle) pushes effects, which the host carries out in their
//! order, and returns a [`Flow`](effect::Flow) for the stream. After [`Flow::Reply`](effect::Flow::Reply) the host
//! tells that stream only `Over`. While it is held the host goes on buffering its body.
//!
//! **Limits on time.** An answer may have to begin, go on and end in time; the host wakes its exchange then, also when
//! nothing has come. Until something of an answer may leave, its [headers](event::Event::ResponseHeaders) are held:
//! they leave with the first piece that does, or [`Flow::Reply`](effect::Flow::Reply) takes the place of all of it,
//! whatever event it answers. Where headers leave first, nothing is held.
//!
//! **Holding an answer.** A stream whose hold must be extended by the ledger's leave returns
//! [`Flow::Hold`](effect::Flow::Hold) to a piece of its body (or to its trailers). The host then passes nothing on, not
//! even the end, until [`Woken`](event::Event::Woken) answers [`Continue`](effect::Flow::Continue), with all that leaves
//! then in one [`ReplaceChunk`](effect::Effect::ReplaceChunk). Pieces that arrive meanwhile are shown as ever.
//!
//! **Waiting.** An exchange that must wait for a grant returns [`Flow::Hold`](effect::Flow::Hold), with
//! [`SyncSoon`](effect::Effect::SyncSoon) and [`WakeAt`](effect::Effect::WakeAt). The host sends what
//! [`Vm::sync`](vm::Vm::sync) gives it, brings the answer to [`Vm::answered`](vm::Vm::answered), and wakes whom
//! [`Wake`](effect::Effect::Wake) names, now or at the deadline. Every wait ends by its deadline: a host that only ticks
//! needs no timers.
//!
//! **Time.** `now` never runs back in `mono_ms`; where `wall_ms` does, the current window is charged.
//!
//! # Inside
//!
//! | module | what it decides |
//! |---|---|
//! | [`exchange`] | the states of a stream; by what its headers and its body say, and how it is admitted |
//! | `accounts` | the accounts as one decision sees them |
//! | [`identity`], [`source`], [`guard`] | who calls, from where, asking what |
//! | `stuck` | agents that send the same call, or call the same tool, again and again |
//! | `screen` | what is found in prompts and answers, and what is done about it |
//! | `gauge` | whether a prompt is counted before it is admitted, or only bounded |
//! | [`expectation`] | what a call will come to, as others lately did |
//! | [`bill`] | which accounts a call is charged to, what is held of each, and what each is charged |
//! | [`fallback`] | which model answers while the upstream of another one is down or throttles |
//! | [`admission`] | whether the accounts can pay, and what happens where they cannot |
//! | [`balance`] | how the quotas of a key stand, told to that key |
//! | `open`, `slices` | metering the answer of an admitted exchange, extending its hold, cutting it, settling it |
//! | [`settlement`] | the outcome table: what each ending costs |
//! | [`served`] | whose price is paid where another model answered than was asked |
//! | `prefix` | what a session has sent before, and what of it was cached |
//! | `learned` | how providers count, for answers on which they are silent, and where they go above our bounds; learned by all VMs of a process together |
//! | `lost` | ending an exchange whose VM died |
//! | [`charter`] | what a new policy is held against |
//! | [`vm`], [`sync`], `watch` | what a VM owns, what it tells the collector, whom it watches |
//! | [`overshoot`] | by how much a quota can be passed, and when: what `farebox explain` prints |
//! | [`denial`], [`refusal`] | why not, and how that is said in each dialect |

mod accounts;
pub mod admission;
pub mod audit;
pub mod balance;
pub mod bill;
pub mod charter;
pub mod denial;
pub mod effect;
pub mod event;
pub mod exchange;
pub mod expectation;
pub mod fallback;
mod gauge;
mod guard;
pub mod identity;
mod learned;
mod lost;
mod open;
pub mod overshoot;
mod passing;
mod prefix;
pub mod refusal;
mod rejected;
mod screen;
pub mod served;
pub mod settlement;
mod slices;
pub mod source;
mod stuck;
pub mod sync;
pub mod vm;
mod watch;
