//! The checks that need no quota and no look at the text: who, from where, asking what, how long.
//!
//! Each is a pure function that says what it found; the rule's name is the guard's. They stand in two lists, cheapest
//! first: [`head`] is asked when the request headers are here, before any body is read, and [`body`] when the body is.
//! The texts themselves (`screen`) and the [`longest_input`] come last, because all of them has to be read.
//!
//! A guard that the plan lists under `observe` decides like any other; what it finds is noted ([`Trace`]), and the call
//! goes on.

mod connection;
mod content;
mod tools;

use std::net::IpAddr;

use super::denial::{Denial, Kind};
use super::effect::Effect;
use super::event::Header;
use crate::meter::call::{Call, Input, Longer};
use crate::meter::dialect::{Dialect, Endpoint};
use crate::now::Now;
use crate::policy::bundle::{Bundle, Guard, Model, OnUnknown, Plan, Seat, Subscription};
use crate::policy::unit::Unit;

pub use connection::{answer_size, late};
pub use content::not_forced;
pub use tools::{Servers, called, may_call, unseen};

/// The plan of a seat. A seat without one is known, but may do nothing (rule `assign`).
pub fn plan<'b>(bundle: &'b Bundle, seat: &Seat) -> Result<&'b Plan, Denial> {
    bundle.plan_for(seat).ok_or_else(|| {
        let inside = format!("no line of `assign` gives seat `{}` a plan", seat.name);
        Denial::guard(Kind::Forbidden, "assign", "this key has no plan; ask your administrator for one", inside)
    })
}

/// The seat's subscription runs (rule `subscription`).
pub fn subscription(seat: &Seat, now: Now) -> Result<(), Denial> {
    let Some(Subscription { term: (from, until), frozen, .. }) = seat.subscription else { return Ok(()) };
    let (state, outside) = if frozen {
        ("frozen", "this subscription is suspended; ask your administrator to resume it")
    } else if now.wall_ms < from {
        ("not begun", "this subscription has not begun yet")
    } else if now.wall_ms >= until {
        ("expired", "this subscription has expired; ask your administrator to renew it")
    } else {
        return Ok(());
    };
    let inside = format!("the subscription of seat `{}` is {state}", seat.name);
    Err(Denial::guard(Kind::Forbidden, "subscription", outside, inside))
}

/// What a guard has against a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    kind: Kind,
    /// What is to be judged cannot be read: the plan says what happens then.
    unread: bool,
    /// Milliseconds until the same call may pass, where that can be told.
    retry_ms: Option<u64>,
    outside: String,
    inside: String,
}

impl Found {
    pub(super) fn new(kind: Kind, outside: impl Into<String>, inside: impl Into<String>) -> Box<Self> {
        Box::new(Self { kind, unread: false, retry_ms: None, outside: outside.into(), inside: inside.into() })
    }

    /// What is over in so many milliseconds.
    pub(super) fn until(kind: Kind, retry_ms: u64, outside: String, inside: String) -> Box<Self> {
        Box::new(Self { kind, unread: false, retry_ms: Some(retry_ms), outside, inside })
    }

    /// The most common sort: known, but not allowed to do this.
    fn forbidden(outside: impl Into<String>, inside: impl Into<String>) -> Box<Self> {
        Self::new(Kind::Forbidden, outside, inside)
    }

    /// What is to be judged cannot be read; `why` is for both sides.
    fn unread(why: String) -> Box<Self> {
        Box::new(Self { kind: Kind::Forbidden, unread: true, retry_ms: None, outside: why.clone(), inside: why })
    }

    fn denial(self, guard: Guard) -> Denial {
        Denial { retry_ms: self.retry_ms, ..Denial::guard(self.kind, guard.name(), self.outside, self.inside) }
    }
}

/// What a guard says.
pub type Judged = Result<(), Box<Found>>;

/// What guards have found in one exchange that went on all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    observed: Vec<Guard>,
    slowed: Vec<Guard>,
}

impl Trace {
    /// The guards that would have refused it, in the order in which they were asked; each once.
    pub fn guards(&self) -> &[Guard] {
        &self.observed
    }

    /// The guards that slowed it down.
    pub fn slowed(&self) -> &[Guard] {
        &self.slowed
    }

    /// A guard slows it down.
    pub fn slow(&mut self, guard: Guard, effects: &mut Vec<Effect>) {
        self.slowed.push(guard);
        let labels = vec![("by", guard.name().to_owned())];
        effects.push(Effect::Count { metric: "slowed_total", labels, by: 1 });
    }

    /// Takes what a guard says: a refusal, or, where the plan says that it only observes, a note.
    pub fn take(&mut self, plan: &Plan, guard: Guard, judged: Judged, effects: &mut Vec<Effect>) -> Result<(), Denial> {
        let Err(found) = judged else { return Ok(()) };
        if found.unread {
            let passes = plan.security.on_error == OnUnknown::Pass && !plan.observes(guard);
            let action = if passes { "pass" } else { "deny" };
            let labels = vec![("by", guard.name().to_owned()), ("action", action.to_owned())];
            effects.push(Effect::Count { metric: "unread_total", labels, by: 1 });
            if passes {
                return Ok(());
            }
        }
        if !plan.observes(guard) {
            return Err(found.denial(guard));
        }
        if !self.observed.contains(&guard) {
            self.observed.push(guard);
            let labels = vec![("by", guard.name().to_owned())];
            effects.push(Effect::Count { metric: "observed_total", labels, by: 1 });
            effects.push(Effect::Note("would_deny", self.names(&[]).join(",")));
            effects.push(Effect::Note("would_deny_reason", found.inside));
        }
        Ok(())
    }

    /// The names of these guards and, behind them, of quotas that would have refused it too.
    pub fn names<'a>(&'a self, quotas: &[&'a str]) -> Vec<&'a str> {
        self.observed.iter().map(|guard| guard.name()).chain(quotas.iter().copied()).collect()
    }
}

/// A call as its headers show it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The caller's plan.
    pub plan: &'a Plan,
    /// What the clocks say.
    pub now: Now,
    /// All headers, duplicates included.
    pub headers: &'a [Header],
    /// The key that it is made with, if any.
    pub key: Option<&'a [u8]>,
    /// The method; empty where there is none.
    pub method: &'a [u8],
    /// The path with its query; empty where there is none.
    pub path: &'a [u8],
    /// The caller's address, where it is known.
    pub address: Option<IpAddr>,
    /// The wire format, where the path is of one.
    pub dialect: Option<Dialect>,
    /// The kinds of work, if it may and does only ask after work that goes on.
    pub asks_after: &'a [Endpoint],
    /// It only asks how the quotas of its key stand, so that only who asks and from where matters.
    pub asks_balance: bool,
}

/// A call as its body shows it.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// The caller's plan.
    pub plan: &'a Plan,
    /// What is asked.
    pub call: &'a Call,
    /// The line of the catalogue that it falls to.
    pub model: &'a Model,
    /// The length of the body in bytes.
    pub bytes: u64,
}

/// How a guard is asked about the headers, and about the body.
type OfHead = fn(&Head<'_>) -> Judged;
type OfBody = fn(&Body<'_>) -> Judged;

/// Asked when the headers are here, in this order.
const HEAD: [(Guard, OfHead); 11] = [
    (Guard::Methods, connection::methods),
    (Guard::Endpoints, content::endpoints),
    (Guard::Request, connection::announced),
    (Guard::Headers, content::headers),
    (Guard::Clients, content::clients),
    (Guard::Keys, connection::keys),
    (Guard::Hosts, connection::hosts),
    (Guard::DeniedSources, connection::denied_sources),
    (Guard::Sources, connection::sources),
    (Guard::Paths, connection::paths),
    (Guard::Hours, connection::hours),
];

/// Asked when the body is here, in this order.
const BODY: [(Guard, OfBody); 9] = [
    (Guard::Request, connection::request),
    (Guard::Streaming, connection::streaming),
    (Guard::LongestOutput, content::longest_output),
    (Guard::Models, content::models),
    (Guard::Regions, connection::regions),
    (Guard::Modalities, content::modalities),
    (Guard::Images, content::images),
    (Guard::Tools, tools::tools),
    (Guard::SystemPrompt, content::system_prompt),
];

/// The most bytes of a body that are waited for; more are refused as soon as they are here.
pub fn most_bytes(plan: &Plan) -> u64 {
    plan.connectivity.largest_request.filter(|_| !plan.observes(Guard::Request)).unwrap_or(u64::MAX)
}

/// So many bytes of a body are here, and more may come.
pub fn so_far(plan: &Plan, bytes: u64) -> Result<(), Denial> {
    // Only what is enforced is asked before the end: what observes says so once, of the whole.
    let judged = if bytes > most_bytes(plan) { connection::size(plan, bytes) } else { Ok(()) };
    judged.map_err(|found| found.denial(Guard::Request))
}

/// Asks the guards that need the headers only. The first that refuses decides.
pub fn head(head: &Head<'_>, trace: &mut Trace, effects: &mut Vec<Effect>) -> Result<(), Denial> {
    HEAD.iter().try_for_each(|(guard, ask)| trace.take(head.plan, *guard, ask(head), effects))
}

/// Asks the guards that need the body. The first that refuses decides.
pub fn body(body: &Body<'_>, trace: &mut Trace, effects: &mut Vec<Effect>) -> Result<(), Denial> {
    BODY.iter().try_for_each(|(guard, ask)| trace.take(body.plan, *guard, ask(body), effects))
}

/// Output tokens that a call is taken to ask for which states no limit.
pub fn unstated_output(plan: &Plan) -> u64 {
    let longest = plan.security.longest_output.filter(|_| !plan.observes(Guard::LongestOutput));
    plan.hold.unstated_output.min(longest.unwrap_or(u64::MAX))
}

/// Input tokens to be held of a call that points at what cannot be read (rule `open`), should it go to `model`: the plan's
/// ceiling. 0 where nothing in the plan depends on what cannot be told: its input, and of work that goes on behind its
/// answer what it writes too.
pub fn ceiling(plan: &Plan, call: &Call, model: &str) -> Result<u64, Denial> {
    let Some(what) = call.open else { return Ok(0) };
    if let Some(ceiling) = plan.hold.assume_input {
        return Ok(ceiling);
    }
    let of = |unit: Unit| unit.counts_input() || call.deferred && unit.counts_output();
    let counts = plan.quotas.iter().any(|quota| quota.takes(model) && of(quota.unit))
        || plan.packs.iter().any(|packs| of(packs.unit));
    let longest = plan.security.longest_input.is_some() && !plan.observes(Guard::Longest);
    if counts || longest || plan.security.input.is_some() {
        return Err(Denial::unbounded(what));
    }
    Ok(0)
}

/// Input up to so many times the longest is counted to its end, so that a caller hears by how much to shorten it; what is
/// longer still is not worth the work.
const TOLD: u64 = 2;

/// How many tokens of the input are counted: see [`longest_input`]. All of them where it is only observed: the call goes
/// on, and what goes on is held and charged.
pub fn told_input(plan: &Plan) -> u64 {
    let enforced = plan.security.longest_input.filter(|_| !plan.observes(Guard::Longest));
    enforced.map_or(u64::MAX, |longest| longest.saturating_mul(TOLD))
}

/// The input is no longer than the plan takes, in tokens. It was counted up to [`told_input`].
///
/// The words are those of Anthropic's own error: agents know them, read the numbers and compact their conversation.
pub fn longest_input(plan: &Plan, input: Result<Input, Longer>) -> Judged {
    let longest = plan.security.longest_input.unwrap_or(u64::MAX);
    let (tokens, more) = match input {
        Ok(input) if input.counted <= longest => return Ok(()),
        Ok(input) => (input.counted, ""),
        Err(longer) => (longer.at_least, "at least "),
    };
    let outside = format!("prompt is too long: {more}{tokens} tokens > {longest} maximum");
    let inside = format!("{more}{tokens} input tokens, plan `{}` takes {longest}", plan.name);
    Err(Found::new(Kind::TooLong, outside, inside))
}

#[cfg(test)]
pub(super) mod tests;
