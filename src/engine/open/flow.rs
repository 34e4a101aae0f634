//! How the answer of an admitted exchange goes on: it is metered as it passes, its hold is extended, and where that cannot
//! be done it is cut.

use super::guarded::Guarded;
use super::in_force::InForce;
use super::{Answer, Course, Desk, Open};
use crate::engine::accounts::Accounts;
use crate::engine::bill::{Bill, Borne, Size};
use crate::engine::denial::Denial;
use crate::engine::effect::Effect;
use crate::engine::event::{Cause, Header};
use crate::engine::fallback;
use crate::engine::screen;
use crate::engine::slices::{self, Room};
use crate::engine::vm::Place;
use crate::meter::dialect::Dialect;
use crate::meter::reader::{Forward, Need, Reader, Terms};
use crate::meter::rewrite::Expected;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Cut, Lost, StreamHold};
use crate::quota::{self, Operation};

/// How many output tokens may pass until what was delivered is written down again.
const NOTED_EVERY: u64 = 64;
/// How often an extension is tried when the accounts move between weighing and holding.
pub(super) const TRIES: u32 = 8;

impl Open {
    pub(in crate::engine) fn response_headers(
        &mut self,
        bundle: &Bundle,
        headers: &[Header],
        upstream: bool,
        attempts: u32,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Denial> {
        self.attempts = attempts;
        let field = |name: &[u8]| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice());
        let status = field(b":status")
            .and_then(|status| std::str::from_utf8(status).ok())
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        if (100..200).contains(&status) {
            return Ok(());
        }
        if !upstream {
            self.answer = Answer::Local;
            self.timing.local();
            return Ok(());
        }
        let mut reader = Reader::new(
            self.api.dialect,
            self.model.encoding,
            status,
            field(b"content-type"),
            field(b"content-encoding"),
            self.hides_usage,
        );
        headers.iter().for_each(|(name, value)| reader.header(name, value));
        self.retry_after_ms = fallback::retry_after(headers, now).filter(|_| status >= 400);
        if self.in_pieces {
            reader.comes_in_pieces();
        }
        if let Some(slices) = self.slices.filter(|_| status < 400) {
            reader.keep_to(Terms { allowance: slices.allowance(), ..self.terms() });
        }
        // An error of the upstream has no texts of a model, and calls nothing.
        let mut judged = Ok(());
        if let Some(plan) = bundle.plans.get(self.plan).filter(|_| status < 400) {
            let encoding = field(b"content-encoding").map(<[u8]>::trim_ascii).unwrap_or_default();
            let compressed = !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity");
            judged = self.guard_answer(plan, &mut reader, field(b"content-length"), compressed, effects);
            let expected = Expected {
                dialect: self.api.dialect,
                stream: self.streams,
                in_pieces: self.in_pieces,
                content_type: field(b"content-type"),
                content_encoding: field(b"content-encoding"),
            };
            self.screen = screen::Answer::of(plan, &self.mask, &expected).map(Box::new);
            if let Some(trail) = &mut self.trail {
                trail.expects(&expected, &self.mask);
            }
            self.tail = screen::Tail::of(field(b"trailer").is_some());
            let held = self.guarded.as_ref().is_some_and(Guarded::changes);
            if self.timing.cuts(plan) && self.slices.is_none() && !held {
                reader.keep_to(Terms { allowance: u64::MAX, unweighed: true, ..self.terms() });
            }
        }
        let plan = bundle.plans.get(self.plan);
        if let Some(plan) = plan {
            let document = reader.is_declared_json() && !self.streams;
            self.timing.headers(plan, bundle.headers, status < 400, document, now.mono_ms);
        }
        let guarded = self.guarded.as_ref().is_some_and(Guarded::changes);
        let cuts = plan.is_some_and(|plan| status < 400 && self.timing.cuts(plan));
        let timed = self.timing.holds() || cuts;
        // Of bytes nothing is changed: what is broken off is not whole by its length.
        let slices = self.slices.is_some() && self.api.dialect != Dialect::Bytes;
        let changes = self.hides_usage || slices || self.screen.is_some() || guarded || timed;
        if changes && judged.is_ok() && field(b"content-length").is_some() {
            effects.push(Effect::RemoveResponseHeader("content-length".to_owned()));
        }
        self.answer = Answer::Upstream { status, reader: Box::new(reader) };
        judged
    }

    /// What a stream is kept to, but for how much may pass: nothing.
    pub(super) fn terms(&self) -> Terms {
        let (choices, tells_usage) = (self.size.choices.max(1), self.asks_usage);
        Terms { allowance: 0, choices, tells_usage, unweighed: false }
    }

    /// Meters a piece of the answer.
    pub(super) fn pass_on(&mut self, chunk: &[u8], end: bool, mut desk: Desk<'_>) -> Course {
        if self.is_fenced(&mut desk) {
            return Course::Fenced;
        }
        if self.breaks {
            desk.effects.push(Effect::ReplaceChunk(Vec::new()));
            desk.effects.push(Effect::Break);
            return Course::Over(Cause::Other);
        }
        let Answer::Upstream { reader, .. } = &mut self.answer else { return Course::On };
        let forward = reader.push(chunk, end);
        self.body_ended |= end;
        self.unasked = self.unasked.saturating_add(chunk.len() as u64);
        if let Some((_, ready)) = &mut self.held_back {
            if let Forward::Replace(mut bytes) = forward {
                ready.append(&mut bytes);
            }
            desk.effects.push(Effect::ReplaceChunk(Vec::new()));
            // More than is kept waits: nothing but a cut is left.
            return if reader.waits() == Some(Need::Never) { self.woken(desk) } else { Course::Waits };
        }
        let waits = reader.waits().is_some();
        match forward {
            Forward::Same if !waits => {}
            Forward::Same => return self.make_way(chunk.to_vec(), &mut desk),
            Forward::Replace(bytes) if waits => return self.make_way(bytes, &mut desk),
            Forward::Replace(bytes) => desk.effects.push(Effect::ReplaceChunk(bytes)),
        }
        if end {
            return Course::Over(Cause::Finished);
        }
        self.progress(&mut desk)
    }

    /// Keeps for the record what leaves now: what the effects from `from` on send, or else the chunk.
    pub(in crate::engine) fn listen(&mut self, chunk: Option<&[u8]>, course: &Course, from: usize, effects: &[Effect]) {
        let Some(trail) = self.trail.as_mut().filter(|_| !matches!(course, Course::Fenced)) else { return };
        let replaced = effects.iter().skip(from).find_map(|effect| match effect {
            Effect::ReplaceChunk(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        // Trailers end it too, and bring nothing.
        let ended = (self.body_ended && matches!(course, Course::Over(_))).then_some(&[][..]);
        if let Some(bytes) = replaced.or(chunk).or(ended) {
            trail.hears(bytes, self.body_ended && !matches!(course, Course::Waits));
        }
    }

    /// Whether the answer was refused while it came.
    pub(super) fn is_refused(&self) -> bool {
        let guarded = self.guarded.as_ref().is_some_and(Guarded::is_refused);
        guarded || self.timing.is_refused() || self.screen.as_ref().is_some_and(|screen| screen.is_cut())
    }

    /// What it waited for may be there, or it is time to break off.
    pub(in crate::engine) fn woken(&mut self, mut desk: Desk<'_>) -> Course {
        if self.breaks {
            desk.effects.push(Effect::Break);
            return Course::Over(Cause::Other);
        }
        let Some((deadline_ms, ready)) = self.held_back.take() else { return Course::On };
        if self.is_fenced(&mut desk) {
            return Course::Fenced;
        }
        let last = desk.now.mono_ms >= deadline_ms;
        let course = self.make_way_until(Some(deadline_ms), last, ready, &mut desk);
        if self.held_back.is_none() {
            self.timing.resumes(desk.now.mono_ms);
        }
        course
    }

    /// The answer ended by trailers.
    pub(in crate::engine) fn response_trailers(&mut self, mut desk: Desk<'_>) -> Course {
        let Answer::Upstream { reader, .. } = &mut self.answer else { return Course::On };
        // Nothing can be sent after trailers: what was held back to look at it is lost only if it was incomplete.
        reader.push(&[], true);
        self.body_ended = true;
        if (self.timing.holds() || self.tail.is_held()) && self.held_back.is_none() {
            // Behind trailers nothing can be sent; before them it can.
            self.held_back = Some((desk.now.mono_ms, Vec::new()));
            desk.effects.push(Effect::WakeAt(desk.now.mono_ms));
        }
        if self.held_back.is_some() {
            // Whether somebody else has ended this exchange is asked when it goes on: here nothing can be replaced.
            return Course::Waits;
        }
        if reader_waits(&self.answer) {
            self.cut(&mut desk);
        }
        Course::Over(Cause::Finished)
    }

    /// An event waits for a larger hold. `ready`: what leaves before it.
    fn make_way(&mut self, ready: Vec<u8>, desk: &mut Desk<'_>) -> Course {
        self.make_way_until(None, false, ready, desk)
    }

    /// `last`: there is no time left to ask the ledger.
    fn make_way_until(
        &mut self,
        deadline_ms: Option<u64>,
        last: bool,
        mut ready: Vec<u8>,
        desk: &mut Desk<'_>,
    ) -> Course {
        loop {
            let Answer::Upstream { reader, .. } = &mut self.answer else { return Course::On };
            let Some(need) = reader.waits() else { break };
            let made = match need {
                Need::Tokens(tokens) => self.extend(tokens, desk),
                Need::Never => Extension::Refused,
            };
            match made {
                Extension::Made => {}
                Extension::Fenced => {
                    desk.effects.push(Effect::ReplaceChunk(Vec::new()));
                    desk.effects.push(Effect::Break);
                    return Course::Fenced;
                }
                Extension::Asked if !last => return self.wait(deadline_ms, ready, desk),
                Extension::Asked | Extension::Refused => {
                    if !self.give_grace() {
                        ready.extend(self.cut(desk));
                        return self.after_cut(ready, desk);
                    }
                }
            }
            let Answer::Upstream { reader, .. } = &mut self.answer else { return Course::On };
            ready.extend(reader.go_on());
        }
        desk.effects.push(Effect::ReplaceChunk(ready));
        if self.body_ended { Course::Over(Cause::Finished) } else { self.progress(desk) }
    }

    fn wait(&mut self, deadline_ms: Option<u64>, ready: Vec<u8>, desk: &mut Desk<'_>) -> Course {
        let patience = desk.bundle.collector.as_ref().map_or(0, |collector| collector.patience_ms);
        let deadline_ms = deadline_ms.unwrap_or_else(|| desk.now.mono_ms.saturating_add(patience));
        self.held_back = Some((deadline_ms, ready));
        desk.vm.wait(desk.handle, deadline_ms);
        desk.effects.push(Effect::ReplaceChunk(Vec::new()));
        desk.effects.push(Effect::WakeAt(deadline_ms));
        desk.effects.push(Effect::SyncSoon);
        Course::Waits
    }

    /// Ends the stream towards the client; answers the last events.
    pub(super) fn cut(&mut self, desk: &mut Desk<'_>) -> Vec<u8> {
        let seat = desk.bundle.seats.get(self.seat);
        let counted = seat.map_or(0, |seat| self.count_input(seat, desk.now, desk.vm));
        match &mut self.answer {
            Answer::Upstream { reader, .. } => reader.cut(counted),
            Answer::None | Answer::Local => Vec::new(),
        }
    }

    pub(super) fn after_cut(&mut self, last: Vec<u8>, desk: &mut Desk<'_>) -> Course {
        if self.api.dialect == Dialect::Bytes {
            return self.break_off(last, desk);
        }
        let how = match desk.bundle.plans.get(self.plan).map(|plan| plan.hold.stream) {
            Some(StreamHold::Slices { cut: Cut::Stop, .. }) => Cut::Stop,
            _ => Cut::Clean,
        };
        if how == Cut::Stop {
            return self.stop_after(last, desk);
        }
        self.say_last(last, "clean", desk);
        if self.body_ended { Course::Over(Cause::Finished) } else { Course::On }
    }

    /// What has no legal end is broken off, so that nobody takes it for whole.
    fn break_off(&mut self, last: Vec<u8>, desk: &mut Desk<'_>) -> Course {
        if !self.body_ended {
            return self.stop_after(last, desk);
        }
        self.say_last(last, "stop", desk);
        desk.effects.push(Effect::Break);
        Course::Over(Cause::Other)
    }

    /// The last events of a stream leave, and then it is broken off.
    pub(super) fn stop_after(&mut self, last: Vec<u8>, desk: &mut Desk<'_>) -> Course {
        self.say_last(last, "stop", desk);
        if self.body_ended {
            return Course::Over(Cause::Finished);
        }
        // In this callback it would take the last events with it.
        self.breaks = true;
        desk.effects.push(Effect::WakeAt(desk.now.mono_ms));
        Course::On
    }

    fn say_last(&self, last: Vec<u8>, how: &str, desk: &mut Desk<'_>) {
        desk.effects.push(Effect::ReplaceChunk(last));
        desk.effects.push(Effect::Note("cut", how.to_owned()));
        desk.effects.push(Effect::Count { metric: "cuts_total", labels: vec![("how", how.to_owned())], by: 1 });
    }

    fn give_grace(&mut self) -> bool {
        let grace = self.slices.map_or(0, |slices| slices.grace());
        match &mut self.answer {
            Answer::Upstream { reader, .. } => grace > 0 && reader.give_grace(grace),
            Answer::None | Answer::Local => false,
        }
    }

    /// Holds enough so that `needs` output tokens can be delivered, and up to a slice more.
    fn extend(&mut self, needs: u64, desk: &mut Desk<'_>) -> Extension {
        let Desk { bundle, now, vm, cells, effects, .. } = desk;
        let Some((seat, plan)) = bundle.seats.get(self.seat).zip(bundle.plans.get(self.plan)) else {
            return Extension::Refused;
        };
        let (Some(slices), Answer::Upstream { reader, .. }) = (&mut self.slices, &mut self.answer) else {
            return Extension::Refused;
        };
        let bill = Bill::of(bundle, plan, seat, self.session, &self.sent_model, self.came_ms);
        // More than was expected is wanted: from now on what may be delivered is held.
        let size = Size { expected: self.size.expected.unless_beyond(needs, self.size.choices), ..self.size };
        let known =
            slices::Known { price: &self.price, size: &size, before: &self.size, held: &self.held, over: &self.over };
        let in_force = InForce::of(bundle, plan, vm);
        for _ in 0..TRIES {
            let mut accounts = Accounts::default();
            let found = slices::room(&bill, known, slices, needs, &mut |subject, quota, window| {
                accounts.standing_in(subject, &in_force.quota(&quota.quota), window, *now, vm, *cells)
            });
            let (held, mut more, borne) = match found {
                Room::Not => return Extension::Refused,
                Room::Wants(wants) => {
                    vm.touch(&bill, *now);
                    wants.iter().for_each(|want| vm.want(&want.subject, want.quota, want.missing));
                    return Extension::Asked;
                }
                Room::Made { held, more, borne } => (held, more, borne),
            };
            in_force.apply(&mut more);
            more.iter_mut().flat_map(|level| &mut level.lines).for_each(|line| line.amount = vm.to_hold(line.amount));
            let (Place { id, slot }, delivered) = (self.place, reader.delivered());
            let mut operation = Operation::extend(&vm.keys, id.by, slot, id, more, delivered, *now);
            match operation.run(*cells) {
                Ok(quota::Outcome::Done) => {
                    slices::add(&mut self.held, operation.holds());
                    if let Some(borne) = borne {
                        let known =
                            self.beyond.borne.filter(|known| known.by == borne.by).map_or(0, |known| known.amount);
                        self.beyond.borne = Some(Borne { amount: borne.amount.saturating_add(known), ..borne });
                    }
                    slices.held = held;
                    self.size = size;
                    reader.allow(slices.allowance());
                    self.noted = delivered;
                    self.asked_early = false;
                    vm.touch(&bill, *now);
                    effects.push(Effect::Note("delivered", delivered.to_string()));
                    return Extension::Made;
                }
                // The accounts moved between weighing and holding.
                Ok(quota::Outcome::Refused(_)) => {}
                _ => {
                    vm.fenced_as(id.by, effects);
                    return Extension::Fenced;
                }
            }
        }
        Extension::Refused
    }

    /// Writes down what has been delivered, every so often: for the access log, which outlives this process, and where
    /// the plan charges a lost exchange by it, for whoever ends this one if the VM dies. And asks for the next slice
    /// before this one is at its end.
    fn progress(&mut self, desk: &mut Desk<'_>) -> Course {
        let Answer::Upstream { reader, .. } = &self.answer else { return Course::On };
        // A token has a byte at least, and asking may count again: not for each byte of an answer that drips.
        if self.unasked < NOTED_EVERY || reader.is_cut() {
            return Course::On;
        }
        self.unasked = 0;
        let delivered = reader.delivered();
        if self.slices.is_some_and(|slices| slices.is_near(delivered)) && !self.asked_early {
            return self.ask_early(delivered, desk);
        }
        if delivered < self.noted.saturating_add(NOTED_EVERY) {
            return Course::On;
        }
        self.noted = delivered;
        desk.effects.push(Effect::Note("delivered", delivered.to_string()));
        if desk.bundle.plans.get(self.plan).is_none_or(|plan| plan.hold.lost != Lost::Delivered) {
            return Course::On;
        }
        let Place { id, slot } = self.place;
        let extended = Operation::extend(&desk.vm.keys, id.by, slot, id, Vec::new(), delivered, desk.now);
        let mut extended = extended;
        if extended.run(desk.cells) != Ok(quota::Outcome::Done) {
            desk.vm.fenced_as(id.by, desk.effects);
        }
        Course::On
    }

    /// Extends the hold before it must be, once a slice. What cannot be had now is asked of the ledger.
    fn ask_early(&mut self, delivered: u64, desk: &mut Desk<'_>) -> Course {
        self.asked_early = true;
        let needs = self.slices.map_or(0, |slices| slices.allowance()).max(delivered).saturating_add(1);
        match self.extend(needs, desk) {
            Extension::Asked => desk.effects.push(Effect::SyncSoon),
            Extension::Fenced => {
                desk.effects.push(Effect::ReplaceChunk(Vec::new()));
                desk.effects.push(Effect::Break);
                return Course::Fenced;
            }
            Extension::Made | Extension::Refused => {}
        }
        Course::On
    }

    /// Whether somebody else has ended this exchange: what it was charged stands, so nothing more may be delivered.
    pub(super) fn is_fenced(&self, desk: &mut Desk<'_>) -> bool {
        let fenced = desk.vm.incarnation() != Some(self.place.id.by);
        if fenced {
            desk.effects.push(Effect::ReplaceChunk(Vec::new()));
            desk.effects.push(Effect::Break);
        }
        fenced
    }
}

/// What became of an extension.
enum Extension {
    Made,
    /// The ledger may have more.
    Asked,
    Refused,
    Fenced,
}

fn reader_waits(answer: &Answer) -> bool {
    matches!(answer, Answer::Upstream { reader, .. } if reader.waits().is_some())
}
