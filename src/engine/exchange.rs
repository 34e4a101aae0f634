//! One HTTP stream, from its headers to its record.
//!
//! The states: *fresh* → *reading* the body → perhaps *waiting* for a grant → *open* (admitted, running) → *over*.
//! What is refused goes straight to *over*; what is no LLM call and may pass is *passing* until it ends, and before that
//! *vetting*, where its plan looks at what is asked.

mod admit;
mod body;
mod headers;
mod vet;

use std::rc::Rc;

use super::audit::Trail;
use crate::engine::accounts::Accounts;
use crate::engine::bill::Bill;
use crate::engine::denial::{Denial, Kind};
use crate::engine::effect::{Effect, Flow, Handle};
use crate::engine::event::{Cause, Event};
use crate::engine::guard::{self, Trace};
use crate::engine::open::{Course, Desk, Open};
use crate::engine::passing::Passing;
use crate::engine::rejected::Rejected;
use crate::engine::screen::Content;
use crate::engine::vm::Vm;
use crate::engine::{balance, refusal};
use crate::meter::dialect::{Api, Dialect, Route};
use crate::now::Now;
use crate::policy::bundle::{Bundle, Plan, Seat};
use crate::quota::Cells;
pub(super) use body::Prepared;

/// The request header that routes match on.
pub const TIER_HEADER: &str = "x-farebox-tier";
/// The request header that tells routes in which region a call stays.
pub const REGION_HEADER: &str = "x-farebox-region";
/// The request header that routes match on when a call was sent to another model than it asked for.
pub const MODEL_HEADER: &str = "x-farebox-model";

const JSON: &str = "application/json";

/// See the module's docs, and [`engine`](crate::engine) for the contract with a host.
pub struct Exchange {
    bundle: Rc<Bundle>,
    handle: Handle,
    state: State,
    api: Option<Api>,
    /// What the path says.
    route: Option<Route>,
    /// What comes back is told in seconds.
    seconds: bool,
    /// The content type of a body that is a form.
    form: Option<Vec<u8>>,
    /// Whose it is, once that is known.
    seat: Option<usize>,
    /// Which of its seat's session accounts it falls to.
    session: u8,
    /// The session as it names itself, if it does.
    named: Option<Vec<u8>>,
    /// What guards have found that only observe.
    trace: Trace,
    /// What its record keeps beside its figures.
    trail: Option<Box<Trail>>,
}

enum State {
    Fresh,
    /// No LLM call; not metered. Its body is awaited, because the plan wants to look at it.
    Vetting {
        plan: usize,
        content: Content,
    },
    /// No LLM call; not metered.
    Passing(Passing),
    /// Headers are judged; the body is awaited.
    Reading {
        seat: usize,
    },
    /// Everything is known but whether it fits: a grant is on its way, or the policy lets it wait.
    Waiting {
        prepared: Box<Prepared>,
    },
    /// Admitted.
    Open(Box<Open>),
    /// Refused, or settled.
    Over,
}

/// What a judgement came to, when it is not "go on".
enum Turn {
    Deny(Box<Denial>),
    Pass,
    /// Tell the seat how its quotas stand.
    Balance(usize),
}

impl From<Denial> for Turn {
    fn from(denial: Denial) -> Self {
        Self::Deny(Box::new(denial))
    }
}

impl Exchange {
    /// A new stream. `handle` is the host's own name for it.
    pub fn new(bundle: Rc<Bundle>, handle: Handle) -> Self {
        Self {
            bundle,
            handle,
            state: State::Fresh,
            api: None,
            route: None,
            seconds: false,
            form: None,
            seat: None,
            session: 0,
            named: None,
            trace: Trace::default(),
            trail: None,
        }
    }

    /// Tells the exchange what happened; it answers with what to do.
    pub fn handle(
        &mut self,
        event: Event<'_>,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let before = effects.len();
        let flow = self.goes_on(event, now, vm, cells, effects);
        if let (State::Open(open), Flow::Continue | Flow::Hold) = (&self.state, &flow) {
            open.set_alarm(before, effects);
        }
        flow
    }

    fn goes_on(
        &mut self,
        event: Event<'_>,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        match event {
            Event::RequestHeaders { headers, peer, vouched, end } => {
                let judged = self.judge_headers(headers, peer, vouched, now, effects);
                match judged {
                    Ok(seat) if end => {
                        self.state = State::Reading { seat };
                        self.request_body(&[], now, vm, cells, effects)
                    }
                    Ok(seat) => {
                        self.state = State::Reading { seat };
                        self.await_body(effects)
                    }
                    Err(Turn::Balance(seat)) => self.tell_balance(seat, now, vm, cells, effects),
                    Err(Turn::Pass) if !end => self.vet_headers(headers, now, vm, cells, effects),
                    Err(turn) => self.turn(turn, now, vm, cells, effects),
                }
            }
            Event::RequestBody { body, end } => match self.state {
                State::Vetting { plan, ref content } if end => {
                    let content = content.clone();
                    self.vet(plan, Some(body), content, now, vm, cells, effects)
                }
                State::Vetting { plan, .. } => match self.so_far(Some(plan), body.len() as u64) {
                    Ok(()) => Flow::Hold,
                    Err(denial) => self.turn(denial.into(), now, vm, cells, effects),
                },
                State::Reading { .. } if end => self.request_body(body, now, vm, cells, effects),
                State::Reading { .. } => match self.so_far(self.plan(), body.len() as u64) {
                    Ok(()) => Flow::Hold,
                    Err(denial) => self.turn(denial.into(), now, vm, cells, effects),
                },
                State::Waiting { .. } => Flow::Hold,
                State::Passing(ref passing) if passing.is_unasked() => Flow::Hold,
                _ => Flow::Continue,
            },
            Event::Woken { body } => match std::mem::replace(&mut self.state, State::Over) {
                State::Waiting { prepared } => {
                    vm.stop_waiting(self.handle);
                    self.admit(prepared, body, now, vm, cells, effects)
                }
                State::Open(open) => {
                    vm.stop_waiting(self.handle);
                    self.state = State::Open(open);
                    self.answer_goes_on(Turned::Woken, now, vm, cells, effects)
                }
                mut state => {
                    let flow = match &mut state {
                        State::Passing(passing) => passing.woken(effects),
                        _ => Flow::Continue,
                    };
                    self.state = state;
                    flow
                }
            },
            Event::ResponseHeaders { headers, upstream, attempts, end } => {
                self.answered_early(vm);
                if let State::Passing(passing) = &mut self.state
                    && upstream
                    && !end
                {
                    passing.response_headers(&self.bundle, headers, vm, effects);
                }
                if let State::Open(open) = &mut self.state {
                    let judged = open.response_headers(&self.bundle, headers, upstream, attempts, now, effects);
                    if let Err(denial) = judged {
                        return self.answer_instead(&denial, now, vm, cells, effects);
                    }
                    if upstream {
                        open.tell_standing(&self.bundle, now, vm, cells, effects);
                    }
                    if end && upstream {
                        self.ended(Cause::Finished, None, now, vm, cells, effects);
                    } else if open.holds_headers() {
                        return Flow::Hold;
                    }
                }
                Flow::Continue
            }
            Event::ResponseBody { chunk, end } => {
                if let State::Passing(passing) = &mut self.state {
                    return passing.response_body(&self.bundle, chunk, end, now, effects);
                }
                self.answer_goes_on(Turned::Chunk(chunk, end), now, vm, cells, effects)
            }
            Event::ResponseTrailers => {
                if let State::Passing(passing) = &mut self.state {
                    return passing.response_trailers(&self.bundle, now, effects);
                }
                self.answer_goes_on(Turned::Trailers, now, vm, cells, effects)
            }
            Event::Over { cause, attempts } => {
                vm.stop_waiting(self.handle);
                if let State::Passing(passing) = &mut self.state {
                    passing.end(effects);
                }
                self.ended(cause, Some(attempts), now, vm, cells, effects);
                self.state = State::Over;
                Flow::Continue
            }
        }
    }

    /// The wire format that it speaks; `None`: none that is known.
    fn dialect(&self) -> Option<Dialect> {
        self.api.map(|api| api.dialect)
    }

    /// The answer is refused before any of it has left.
    fn answer_instead(
        &mut self,
        denial: &Denial,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let State::Open(open) = &self.state else { return Flow::Continue };
        let id = open.id();
        self.ended(Cause::Finished, None, now, vm, cells, effects);
        Flow::Reply(refusal::reply(self.dialect(), denial, &id, now))
    }

    /// Something has happened to the answer.
    fn answer_goes_on(
        &mut self,
        turned: Turned<'_>,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let dialect = self.dialect();
        let State::Open(open) = &mut self.state else { return Flow::Continue };
        let (chunk, before) = (turned.chunk(), effects.len());
        let can_wait = !matches!(turned, Turned::Trailers);
        let late = match turned {
            // What has ended is not late any more.
            Turned::Chunk(_, true) | Turned::Trailers => None,
            Turned::Chunk(_, false) => open.is_late(&self.bundle, true, now.mono_ms, effects),
            Turned::Woken => open.is_late(&self.bundle, false, now.mono_ms, effects),
        };
        if let Some(denial) = late.as_ref().filter(|_| open.is_withheld()) {
            // Settled when the stream is over: only then is it known whether it ever reached an upstream.
            return Flow::Reply(refusal::reply(dialect, denial, &open.id(), now));
        }
        let mut desk = Desk { bundle: &self.bundle, handle: self.handle, now, vm, cells, effects };
        let course = match turned {
            _ if late.is_some() => open.end_late(turned.piece(), &mut desk),
            Turned::Chunk(chunk, end) => open.response_body(chunk, end, desk),
            Turned::Trailers => open.response_trailers(desk),
            Turned::Woken => open.woken(desk),
        };
        let mut desk = Desk { bundle: &self.bundle, handle: self.handle, now, vm, cells, effects };
        let course = if can_wait { open.await_excess(course, chunk, before, &mut desk) } else { course };
        if let Some(chunk) = chunk {
            open.hear(chunk, now.mono_ms);
        }
        open.judge_calls(&self.bundle, effects);
        open.screen(&self.bundle, chunk, &course, now, before, effects);
        let kept = open.keep(chunk, &course, before, effects);
        open.listen(chunk, &course, before, effects);
        match course {
            Course::On if kept || open.holds_tail() => Flow::Hold,
            Course::On => Flow::Continue,
            Course::Waits => Flow::Hold,
            Course::Over(cause) => {
                self.ended(cause, None, now, vm, cells, effects);
                Flow::Continue
            }
            Course::Fenced => {
                self.state = State::Over;
                Flow::Continue
            }
        }
    }

    /// Where headers leave first an upstream may answer before anybody has looked at the body. The answer is screened as
    /// that of any call that goes through. Of the body nothing leaves any more: with an answer under way nobody can be
    /// told that it is refused, and what has come of that answer is not to be lost by it.
    fn answered_early(&mut self, vm: &mut Vm) {
        if let State::Vetting { .. } | State::Reading { .. } | State::Waiting { .. } = self.state {
            vm.stop_waiting(self.handle);
            self.state = State::Passing(Passing::unasked(self.plan(), self.dialect()));
        }
    }

    fn ended(
        &mut self,
        cause: Cause,
        attempts: Option<u32>,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Open(open) => open.settle(&self.bundle, cause, attempts, now, vm, cells, effects),
            state @ State::Passing(_) => self.state = state,
            _ => {}
        }
    }

    /// The plan of the caller, once that is known.
    fn plan(&self) -> Option<usize> {
        seat_plan(&self.bundle, self.seat?).map(|(_, _, plan)| plan)
    }

    /// Whether an answer that is let through is to be shown all the same.
    pub fn looks_at_answer(&self) -> bool {
        matches!(&self.state, State::Passing(passing) if passing.looks(&self.bundle))
    }

    /// The most bytes of the request body that are waited for. A host that shows only whole bodies shows what it has as
    /// soon as there is more.
    pub fn most_body_bytes(&self) -> u64 {
        let plan = match self.state {
            State::Reading { .. } => self.plan(),
            State::Vetting { plan, .. } => Some(plan),
            _ => None,
        };
        plan.and_then(|plan| self.bundle.plans.get(plan)).map_or(u64::MAX, guard::most_bytes)
    }

    /// Whether so much of a body is not too much for this plan.
    fn so_far(&self, plan: Option<usize>, bytes: u64) -> Result<(), Denial> {
        plan.and_then(|plan| self.bundle.plans.get(plan)).map_or(Ok(()), |plan| guard::so_far(plan, bytes))
    }

    /// Answers for the upstream: how the quotas of the seat stand.
    fn tell_balance(
        &mut self,
        seat: usize,
        now: Now,
        vm: &mut Vm,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let bundle = Rc::clone(&self.bundle);
        let Some((seat, plan, _)) = seat_plan(&bundle, seat) else {
            return self.turn(no_plan().into(), now, vm, cells, effects);
        };
        self.state = State::Over;
        effects.push(Effect::Note("decision", "balance".to_owned()));
        effects.push(Effect::Note("seat", seat.name.clone()));
        effects.push(Effect::Count { metric: "balances_total", labels: vec![], by: 1 });
        let bill = Bill::all(&bundle, plan, seat, self.session, now.wall_ms);
        let mut accounts = Accounts::default();
        Flow::Reply(balance::page(&bill, now, |subject, quota| accounts.standing(subject, quota, now, vm, cells)))
    }

    fn turn(&mut self, turn: Turn, now: Now, vm: &mut Vm, cells: &mut dyn Cells, effects: &mut Vec<Effect>) -> Flow {
        match turn {
            Turn::Pass | Turn::Balance(_) => {
                effects.push(Effect::Note("admitted", "passed".to_owned()));
                effects.push(Effect::Count { metric: "passed_total", labels: vec![], by: 1 });
                self.state = State::Passing(Passing::of(self.plan(), self.dialect()));
                Flow::Continue
            }
            Turn::Deny(denial) => {
                self.state = State::Over;
                // What cannot be told just now is nobody's fault.
                if let Some(seat) = self.seat.filter(|_| denial.kind != Kind::Unavailable) {
                    let rejected = Rejected {
                        seat,
                        session: self.session,
                        dialect: self.dialect(),
                        rule: denial.rule.clone(),
                        came_ms: now.wall_ms,
                    };
                    vm.reject(&Rc::clone(&self.bundle), rejected, now, cells, effects);
                }
                let id = vm.refusal_id();
                effects.push(Effect::Note("decision", "deny".to_owned()));
                effects.push(Effect::Note("denied_by", denial.rule.clone()));
                effects.push(Effect::Note("reason", denial.inside.clone()));
                effects.push(Effect::Note("id", id.clone()));
                effects.push(Effect::Count {
                    metric: "refusals_total",
                    labels: vec![("kind", denial.kind.name().to_owned()), ("by", denial.rule.clone())],
                    by: 1,
                });
                Flow::Reply(refusal::reply(self.dialect(), &denial, &id, now))
            }
        }
    }
}

/// What happened to an answer.
enum Turned<'a> {
    Chunk(&'a [u8], bool),
    Trailers,
    Woken,
}

impl<'a> Turned<'a> {
    /// A piece of the answer, and whether it is the last.
    fn piece(&self) -> Option<(&'a [u8], bool)> {
        match self {
            Self::Chunk(chunk, end) => Some((chunk, *end)),
            Self::Trailers | Self::Woken => None,
        }
    }

    fn chunk(&self) -> Option<&'a [u8]> {
        match self {
            Self::Chunk(chunk, _) => Some(chunk),
            Self::Trailers | Self::Woken => None,
        }
    }
}

fn seat_plan(bundle: &Bundle, seat: usize) -> Option<(&Seat, &Plan, usize)> {
    let seat = bundle.seats.get(seat)?;
    let index = seat.subscription?.plan;
    Some((seat, bundle.plans.get(index)?, index))
}

fn no_plan() -> Denial {
    Denial::guard(
        Kind::Forbidden,
        "assign",
        "this key has no plan; ask your administrator for one",
        "the seat has no plan",
    )
}

/// How soon a caller may try again when we could not tell, in milliseconds.
const SOON_MS: u64 = 1_000;

fn unavailable(rule: &str, why: &str) -> Denial {
    Denial::unavailable(rule, why, SOON_MS)
}
