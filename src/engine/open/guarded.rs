//! What guards of the answer do: those of its size, and of the tools that it calls.
//!
//! A stream ends as its dialect ends at a length limit, before what must not leave. A JSON document leaves when it is
//! whole, or an error of the dialect in its place. Of other bodies (sound, text) nothing can be said any more when they
//! have begun: they are broken off.

use std::rc::Rc;

use super::{Answer, Course, Desk, Open};
use crate::engine::denial::Denial;
use crate::engine::effect::Effect;
use crate::engine::event::Cause;
use crate::engine::{guard, refusal};
use crate::meter::reader::{Forward, Reader, Terms};
use crate::meter::watch::MayCall;
use crate::meter::{Closing, LONGEST_DOCUMENT};
use crate::policy::bundle::{Bundle, Guard, Plan, Tools};

/// An answer that guards look at.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    /// Its size matters.
    sized: bool,
    /// The tools that it calls matter.
    watched: bool,
    /// Something of it is enforced, so that it may have to be held.
    holds: bool,
    /// Bytes that have come.
    came: u64,
    shape: Shape,
    /// It was refused: nothing of it leaves any more.
    refused: bool,
}

/// What the answer turned out to be.
#[derive(Debug, Default)]
enum Shape {
    #[default]
    Unknown,
    /// A JSON document, held until it is whole.
    Document { held: Vec<u8>, closing: Closing, whole: bool },
    /// Anything else.
    Other,
}

impl Guarded {
    /// `None`: no guard of this plan looks at answers.
    fn of(plan: &Plan) -> Option<Self> {
        let named = |tools: &Tools| {
            let Tools { names, servers, .. } = tools;
            [&names.allow, &names.deny, &servers.allow, &servers.deny].iter().any(|list| !list.is_empty())
        };
        let sized = plan.connectivity.largest_response.is_some();
        let watched = plan.security.tools.as_ref().is_some_and(named);
        let holds = sized && !plan.observes(Guard::Response) || watched && !plan.observes(Guard::Tools);
        (sized || watched).then(|| Self { sized, watched, holds, ..Self::default() })
    }

    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether it was refused before any of it left: a document, in whose place an error went.
    pub fn is_withheld(&self) -> bool {
        self.refused && matches!(self.shape, Shape::Document { .. })
    }

    /// Whether what leaves may differ from what comes.
    pub fn changes(&self) -> bool {
        self.holds
    }
}

impl Open {
    /// Sets the guards of the plan on an answer whose headers are here. A refusal: it must not leave at all.
    pub(super) fn guard_answer(
        &mut self,
        plan: &Plan,
        reader: &mut Reader,
        length: Option<&[u8]>,
        compressed: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Denial> {
        let Some(guarded) = Guarded::of(plan) else { return Ok(()) };
        let (watched, sized, holds) = (guarded.watched, guarded.sized, guarded.holds);
        self.guarded = Some(guarded);
        if let Some(tools) = plan.security.tools.clone().filter(|_| watched) {
            let servers = self.servers.clone();
            let may = MayCall(Rc::new(move |called| guard::may_call(&tools, &servers, called)));
            reader.watch(may, !plan.observes(Guard::Tools));
        }
        if holds && self.slices.is_none() {
            reader.keep_to(Terms { allowance: u64::MAX, ..self.terms() });
        }
        let announced = length.and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
        let sized = match announced.filter(|_| sized) {
            Some(bytes) => self.judge(plan, Guard::Response, guard::answer_size(plan, bytes), effects),
            None => Ok(()),
        };
        sized.and_then(|()| match watched && compressed {
            true => self.judge(plan, Guard::Tools, Err(guard::unseen("it is compressed")), effects),
            false => Ok(()),
        })
    }

    /// Takes what a guard says of the answer.
    pub(super) fn judge(
        &mut self,
        plan: &Plan,
        guard: Guard,
        judged: guard::Judged,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Denial> {
        let taken = self.trace.take(plan, guard, judged, effects);
        if let Err(denial) = &taken {
            if let Some(guarded) = &mut self.guarded {
                guarded.refused = true;
            }
            effects.push(Effect::Note("decision", "cut".to_owned()));
            effects.push(Effect::Note("denied_by", denial.rule.clone()));
            effects.push(Effect::Note("reason", denial.inside.clone()));
            let labels = vec![("by", denial.rule.clone())];
            effects.push(Effect::Count { metric: "refused_answers_total", labels, by: 1 });
        }
        taken
    }

    /// Meters a piece of the answer, as far as guards let it pass.
    pub(in crate::engine) fn response_body(&mut self, chunk: &[u8], end: bool, mut desk: Desk<'_>) -> Course {
        if self.guarded.is_some() && self.is_fenced(&mut desk) {
            return Course::Fenced;
        }
        let Some(plan) = desk.bundle.plans.get(self.plan) else { return self.pass_on(chunk, end, desk) };
        let (Some(guarded), Answer::Upstream { reader, .. }, false) =
            (&mut self.guarded, &mut self.answer, self.breaks)
        else {
            return self.pass_on(chunk, end, desk);
        };
        if guarded.refused {
            reader.push(chunk, end);
            self.body_ended |= end;
            desk.effects.push(Effect::ReplaceChunk(Vec::new()));
            return if end { Course::Over(Cause::Finished) } else { Course::On };
        }
        if let Shape::Unknown = guarded.shape {
            match reader.begins_document(chunk, self.streams) {
                Some(true) if guarded.holds => {
                    guarded.shape = Shape::Document { held: Vec::new(), closing: Closing::default(), whole: false };
                }
                Some(_) => guarded.shape = Shape::Other,
                None => {}
            }
        }
        let before = guarded.came;
        guarded.came = before.saturating_add(chunk.len() as u64);
        let (came, sized) = (guarded.came, guarded.sized);
        if sized && !self.trace.guards().contains(&Guard::Response) {
            let judged = guard::answer_size(plan, came);
            if let Err(denial) = self.judge(plan, Guard::Response, judged, desk.effects) {
                let largest = plan.connectivity.largest_response.unwrap_or(u64::MAX);
                let room = usize::try_from(largest.saturating_sub(before)).unwrap_or(usize::MAX);
                self.body_ended |= end;
                return self.break_here(chunk, room, &denial, &mut desk);
            }
        }
        match &self.guarded {
            Some(Guarded { shape: Shape::Document { .. }, .. }) => self.hold_document(chunk, end, plan, &mut desk),
            _ => self.pass_on(chunk, end, desk),
        }
    }

    /// Ends an answer that has been refused in its middle; of this chunk the first `room` bytes may still leave. The rest
    /// is read for what the provider reports.
    fn break_here(&mut self, chunk: &[u8], room: usize, denial: &Denial, desk: &mut Desk<'_>) -> Course {
        let Answer::Upstream { reader, .. } = &mut self.answer else { return Course::On };
        let (fits, rest) = chunk.split_at_checked(room).unwrap_or((chunk, &[]));
        if let Some(Guarded { shape: Shape::Document { held, .. }, .. }) = &mut self.guarded {
            held.clear();
            reader.push(chunk, self.body_ended);
            let id = self.place.id.to_string();
            let said = refusal::reply(Some(self.api.dialect), denial, &id, desk.now).body;
            desk.effects.push(Effect::ReplaceChunk(said));
            return if self.body_ended { Course::Over(Cause::Finished) } else { Course::On };
        }
        let forward = reader.push(fits, false);
        if !reader.is_kept() {
            desk.effects.push(Effect::ReplaceChunk(Vec::new()));
            desk.effects.push(Effect::Break);
            return Course::Over(Cause::Other);
        }
        let mut ready = self.held_back.take().map(|(_, ready)| ready).unwrap_or_default();
        ready.extend(match forward {
            Forward::Same => fits.to_vec(),
            Forward::Replace(bytes) => bytes,
        });
        ready.extend(self.cut(desk));
        if let Answer::Upstream { reader, .. } = &mut self.answer {
            reader.push(rest, self.body_ended);
        }
        self.after_cut(ready, desk)
    }

    /// Keeps a document until it is whole. Nothing leaves before, and then all of it: what ends by trailers has no last
    /// chunk.
    fn hold_document(&mut self, chunk: &[u8], end: bool, plan: &Plan, desk: &mut Desk<'_>) -> Course {
        let (Some(guarded), Answer::Upstream { reader, .. }) = (&mut self.guarded, &mut self.answer) else {
            return Course::On;
        };
        let watched = guarded.watched;
        let Shape::Document { held, closing, whole } = &mut guarded.shape else { return Course::On };
        self.body_ended |= end;
        held.extend_from_slice(chunk);
        let ends = end || chunk.iter().any(|byte| closing.closes(*byte));
        if !*whole {
            reader.push(chunk, ends);
        }
        *whole |= ends;
        let too_long = held.len() > LONGEST_DOCUMENT;
        if !*whole && !too_long {
            desk.effects.push(Effect::ReplaceChunk(Vec::new()));
            return Course::On;
        }
        let judged = match (reader.forbidden(), reader.unreadable()) {
            (Some(name), _) if watched => Err(guard::called(plan, name)),
            (None, Some(why)) if watched => Err(guard::unseen(why)),
            (None, None) if watched && too_long => Err(guard::unseen("it is longer than 8 MiB")),
            _ => Ok(()),
        };
        if let Err(denial) = self.judge(plan, Guard::Tools, judged, desk.effects) {
            return self.break_here(&[], 0, &denial, desk);
        }
        if let Some(guarded) = &mut self.guarded
            && let Shape::Document { held, whole, .. } = &mut guarded.shape
        {
            desk.effects.push(Effect::ReplaceChunk(std::mem::take(held)));
            if !*whole {
                guarded.shape = Shape::Other;
            }
        }
        if end { Course::Over(Cause::Finished) } else { Course::On }
    }

    /// Says what a stream called that it may not, once it has: where that is enforced, the stream has been cut before.
    pub(in crate::engine) fn judge_calls(&mut self, bundle: &Bundle, effects: &mut Vec<Effect>) {
        let (Some(guarded), Answer::Upstream { reader, .. }) = (&self.guarded, &self.answer) else { return };
        let Some(plan) = bundle.plans.get(self.plan) else { return };
        if guarded.refused || self.trace.guards().contains(&Guard::Tools) {
            return;
        }
        let Some(name) = reader.forbidden().filter(|_| reader.is_cut() || plan.observes(Guard::Tools)) else { return };
        // What it is answered with has left already.
        let _ = self.judge(plan, Guard::Tools, Err(guard::called(plan, name)), effects);
    }
}
