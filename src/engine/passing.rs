//! A call that goes through unmetered: nothing of it is counted, and what its plan screens for is looked for all the same.
//!
//! Where nobody knows the format, a body is one text, from its first byte to its last: names of members and their values,
//! marks of events and what they say; a text that is split over two events is two. What is not text (pictures, sound,
//! archives, by their content type) is not looked at; what says that it is and cannot be read goes by the plan's `on_error`.
//! Where only the request could not be read, its answer is screened as every other one.

use super::effect::{Effect, Flow};
use super::event::Header;
use super::screen;
use super::vm::Vm;
use crate::meter::dialect::Dialect;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Plan};

/// The answer of such a call on its way.
#[derive(Default)]
pub(super) struct Passing {
    plan: Option<usize>,
    dialect: Option<Dialect>,
    screen: Option<Box<screen::Answer>>,
    id: String,
    /// It was refused in its middle, and is to be broken off.
    breaks: bool,
    tail: screen::Tail,
    /// Nobody has looked at its body, and nothing of that leaves.
    unasked: bool,
    /// It has ended, by trailers: what is to leave before them.
    ended: Option<Vec<u8>>,
}

impl Passing {
    /// A call that is let through by this plan, if it got so far that it has one, in this format, if it is known.
    pub fn of(plan: Option<usize>, dialect: Option<Dialect>) -> Self {
        Self { plan, dialect, ..Self::default() }
    }

    /// A call that was answered before its body was here.
    pub fn unasked(plan: Option<usize>, dialect: Option<Dialect>) -> Self {
        Self { unasked: true, ..Self::of(plan, dialect) }
    }

    /// Whether its body must not leave.
    pub fn is_unasked(&self) -> bool {
        self.unasked
    }

    fn plan<'b>(&self, bundle: &'b Bundle) -> Option<&'b Plan> {
        bundle.plans.get(self.plan?)
    }

    /// Whether its answer is looked at.
    pub fn looks(&self, bundle: &Bundle) -> bool {
        self.plan(bundle).is_some_and(|plan| plan.security.output.is_some())
    }

    /// The headers of its answer. What an upstream says of its own failure is no answer.
    pub fn response_headers(&mut self, bundle: &Bundle, headers: &[Header], vm: &mut Vm, effects: &mut Vec<Effect>) {
        let field = |name: &[u8]| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice());
        let failed = field(b":status").is_some_and(|status| matches!(status.first(), Some(b'4' | b'5')));
        let Some(plan) = self.plan(bundle).filter(|_| !failed) else { return };
        let (kind, encoding) = (field(b"content-type"), field(b"content-encoding"));
        let screen = screen::Answer::unmetered(plan, bundle, self.dialect, kind, encoding).map(Box::new);
        if screen.is_some() {
            self.id = vm.refusal_id();
            if field(b"content-length").is_some() {
                effects.push(Effect::RemoveResponseHeader("content-length".to_owned()));
            }
        }
        self.screen = screen;
        self.tail = screen::Tail::of(field(b"trailer").is_some());
    }

    /// A piece of its answer.
    pub fn response_body(
        &mut self,
        bundle: &Bundle,
        chunk: &[u8],
        end: bool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let Some(plan) = self.plan(bundle) else { return Flow::Continue };
        let Some(screen) = &mut self.screen else { return Flow::Continue };
        let was_cut = screen.is_cut();
        let mut said = Vec::new();
        let out = screen.push(chunk, end, plan, self.dialect, &self.id, now, &mut said);
        let out = self.tail.through(out, end, screen);
        if out != chunk {
            effects.push(Effect::ReplaceChunk(out));
        }
        effects.append(&mut said);
        if screen.is_cut() && !was_cut && screen.is_stream() && !end {
            // In this callback it would take the last words with it.
            self.breaks = true;
            effects.push(Effect::WakeAt(now.mono_ms));
        }
        if self.tail.is_held() { Flow::Hold } else { Flow::Continue }
    }

    /// Its answer ended by trailers: what is held leaves before them, as soon as it can be written.
    pub fn response_trailers(&mut self, bundle: &Bundle, now: Now, effects: &mut Vec<Effect>) -> Flow {
        let (Some(plan), Some(screen)) = (self.plan(bundle), &mut self.screen) else { return Flow::Continue };
        if !self.tail.is_held() {
            screen.end_unheld(effects);
            return Flow::Continue;
        }
        let last = screen.push(&[], true, plan, self.dialect, &self.id, now, effects);
        self.ended = Some(self.tail.through(last, true, screen));
        effects.push(Effect::WakeAt(now.mono_ms));
        Flow::Hold
    }

    /// Nothing more of it comes.
    pub fn end(&mut self, effects: &mut Vec<Effect>) {
        if let Some(screen) = &mut self.screen {
            screen.end(effects);
        }
    }

    /// It is time to break off, or to let go what trailers wait behind.
    pub fn woken(&mut self, effects: &mut Vec<Effect>) -> Flow {
        if std::mem::take(&mut self.breaks) {
            effects.push(Effect::Break);
            return Flow::Continue;
        }
        if self.tail.is_held() {
            return Flow::Hold;
        }
        effects.extend(self.ended.take().map(Effect::ReplaceChunk));
        Flow::Continue
    }
}

#[cfg(test)]
#[path = "passing_tests.rs"]
mod tests;
