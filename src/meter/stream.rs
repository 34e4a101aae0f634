//! A stream of events on its way to the client, however it is framed, and how much of it may be delivered.
//!
//! What may be delivered is told event by event: one that would take the count above what is allowed waits, and so does
//! all that comes behind it, until more is allowed or the stream is cut. An event is never divided, so what is left of
//! the allowance when a stream is cut is less than its next event has. Of a stream that is kept to an allowance no part
//! of an event leaves before its end; of others everything leaves at once.

use std::mem;
use std::ops::ControlFlow::{self, Break, Continue};

use super::answer::Answer;
use super::called::marks;
use super::dialect::{Dialect, Shape};
use super::framing::{Framing, Kind, Piece};
use super::loose::Within;

/// The most bytes that are kept behind an event that waits.
const MOST_BEHIND: usize = 1024 * 1024;

/// The framing of one stream, and the way to the client.
#[derive(Clone, Debug)]
pub struct Stream {
    dialect: Dialect,
    /// Usage was asked for on the client's behalf, so the chunk that only carries it is taken out.
    hide: bool,
    /// Output tokens that may be delivered; `None`: any number.
    allowance: Option<u64>,
    /// What cannot be read passes, whatever the allowance.
    unweighed: bool,
    /// A part of an event has left that is not read.
    amid_unread: bool,
    framing: Framing,
    /// An event has left.
    begun: bool,
    /// Bytes of the event under way, where events may have to be dropped or wait.
    held: Vec<u8>,
    /// The last event was dropped, and an LF of its line end may still come.
    dropped: bool,
    way: Way,
    grace: Option<Grace>,
    /// Output tokens that were delivered by grace.
    graced: u64,
}

/// Whether there is a way to the client.
#[derive(Clone, Debug)]
enum Way {
    Free,
    /// An event waits.
    Blocked(Waiting),
    /// The stream was cut when this many output tokens had been delivered.
    Cut(u64),
}

/// An event that would pass the allowance, and what came behind it.
#[derive(Clone, Debug)]
struct Waiting {
    event: Vec<u8>,
    /// Output tokens that must be allowed for it; `None`: its size cannot be told.
    needs: Option<u64>,
    behind: Vec<u8>,
    ended: bool,
}

/// Calls of tools that are let end.
#[derive(Clone, Debug)]
struct Grace {
    calls: Vec<(u64, u64)>,
    /// Output tokens that had been delivered when it was given.
    from: u64,
}

/// What a stream tells its reader while it is read.
pub struct Report<'a> {
    /// What has been learned of the answer.
    pub answer: &'a mut Answer,
    /// Why a part of it could not be read.
    pub unreadable: &'a mut Option<&'static str>,
}

impl Stream {
    /// `unweighed`: what cannot be read passes, whatever the allowance.
    pub fn new(dialect: Dialect, framing: Framing, hide: bool, allowance: Option<u64>, unweighed: bool) -> Self {
        Self {
            dialect,
            hide,
            allowance,
            unweighed,
            amid_unread: false,
            framing,
            begun: false,
            held: Vec::new(),
            dropped: false,
            way: Way::Free,
            grace: None,
            graced: 0,
        }
    }

    /// Whether a part of an event has left that is not read.
    pub fn is_amid_unread(&self) -> bool {
        self.amid_unread
    }

    fn weighs(&self) -> bool {
        self.allowance.is_some() && !self.unweighed
    }

    /// Whether what leaves may differ from what comes.
    pub fn changes(&self) -> bool {
        self.hide || self.allowance.is_some()
    }

    /// The next chunk; what leaves in its place is added to `out`.
    pub fn push(&mut self, chunk: &[u8], end: bool, report: Report<'_>, out: &mut Vec<u8>) {
        if let Way::Blocked(waiting) = &mut self.way {
            waiting.ended |= end;
            // Whoever should have decided by now has not: no more of it is kept, and it can only be cut.
            if waiting.behind.len().saturating_add(chunk.len()) > MOST_BEHIND {
                waiting.needs = None;
            }
            if waiting.needs.is_some() {
                waiting.behind.extend_from_slice(chunk);
            }
            return;
        }
        let mut reading = Reading {
            dialect: self.dialect,
            kind: self.framing.kind(),
            hide: self.hide,
            allowance: &mut self.allowance,
            unweighed: self.unweighed,
            amid_unread: &mut self.amid_unread,
            begun: &mut self.begun,
            held: &mut self.held,
            dropped: &mut self.dropped,
            way: &mut self.way,
            grace: &mut self.grace,
            graced: &mut self.graced,
            report,
            out,
        };
        let rest = self.framing.push(chunk, end, |piece| reading.piece(piece));
        if let Way::Blocked(waiting) = &mut self.way {
            waiting.behind = rest.to_vec();
            waiting.ended = end;
        } else if end && !matches!(self.way, Way::Cut(_)) {
            // Of an event that is not complete nobody can say what it would cost.
            if self.weighs() && !self.framing.unfinished().is_empty() {
                self.held.clear();
            }
            out.append(&mut self.held);
        }
    }

    /// Whether an event waits, and the output tokens that must be allowed for it: `Some(None)` where no allowance helps.
    pub fn waits(&self) -> Option<Option<u64>> {
        match &self.way {
            Way::Blocked(waiting) => Some(waiting.needs),
            Way::Free | Way::Cut(_) => None,
        }
    }

    /// Allows so many output tokens in all.
    pub fn allow(&mut self, tokens: u64) {
        self.allowance = Some(tokens);
        self.grace = None;
    }

    /// Lets the calls of tools that have begun end within `tokens` more. Tells whether there are any, and no grace before.
    pub fn give_grace(&mut self, tokens: u64, answer: &mut Answer) -> bool {
        if answer.loose.calls.is_empty() || self.graced > 0 || self.grace.is_some() {
            return false;
        }
        self.allowance = self.allowance.map(|allowance| allowance.saturating_add(tokens));
        self.grace = Some(Grace { calls: answer.loose.calls.clone(), from: answer.tally.so_far() });
        true
    }

    /// Output tokens that were delivered by grace.
    pub fn graced(&self) -> u64 {
        self.graced
    }

    /// Tries the event that waits again, and what came behind it. Tells whether the body has ended with that.
    pub fn go_on(&mut self, mut report: Report<'_>, out: &mut Vec<u8>) -> bool {
        let Way::Blocked(waiting) = mem::replace(&mut self.way, Way::Free) else { return false };
        if waiting.needs.is_none() {
            self.way = Way::Blocked(waiting);
            return false;
        }
        let Waiting { event, behind, ended, .. } = waiting;
        let mut reading = Reading {
            dialect: self.dialect,
            kind: self.framing.kind(),
            hide: self.hide,
            allowance: &mut self.allowance,
            unweighed: self.unweighed,
            amid_unread: &mut self.amid_unread,
            begun: &mut self.begun,
            held: &mut self.held,
            dropped: &mut self.dropped,
            way: &mut self.way,
            grace: &mut self.grace,
            graced: &mut self.graced,
            report: Report { answer: report.answer, unreadable: report.unreadable },
            out,
        };
        if reading.event(&event).is_break() {
            if let Way::Blocked(again) = &mut self.way {
                (again.behind, again.ended) = (behind, ended);
            }
            return false;
        }
        report = Report { answer: report.answer, unreadable: report.unreadable };
        self.push(&behind, ended, report, out);
        ended && !matches!(self.way, Way::Blocked(_))
    }

    /// From now on nothing is delivered; what still comes is only read. Tells whether the body has ended.
    pub fn cut(&mut self, mut report: Report<'_>) -> bool {
        let delivered = report.answer.tally.so_far();
        let way = mem::replace(&mut self.way, Way::Cut(delivered));
        self.held = Vec::new();
        let Way::Blocked(Waiting { event, behind, ended, .. }) = way else { return false };
        self.framing.kind().read(self.dialect, report.answer, &event);
        report = Report { answer: report.answer, unreadable: report.unreadable };
        self.push(&behind, ended, report, &mut Vec::new());
        ended
    }

    /// How it is divided.
    pub fn framing(&self) -> &Framing {
        &self.framing
    }

    /// What an event would be written into that is put behind those that left.
    pub fn within(&self) -> Within {
        self.framing.within(self.begun)
    }

    /// Bytes of an event that cannot be read before its end, and have left.
    pub fn unread(&self) -> &[u8] {
        if self.allowance.is_some() || self.cut_at().is_some() { &[] } else { self.framing.unfinished() }
    }

    /// Output tokens that had been delivered when it was cut.
    pub fn cut_at(&self) -> Option<u64> {
        match self.way {
            Way::Cut(delivered) => Some(delivered),
            Way::Free | Way::Blocked(_) => None,
        }
    }
}

/// The parts of a stream that one piece touches.
struct Reading<'a> {
    dialect: Dialect,
    kind: Kind,
    hide: bool,
    allowance: &'a mut Option<u64>,
    unweighed: bool,
    amid_unread: &'a mut bool,
    begun: &'a mut bool,
    held: &'a mut Vec<u8>,
    dropped: &'a mut bool,
    way: &'a mut Way,
    grace: &'a mut Option<Grace>,
    graced: &'a mut u64,
    report: Report<'a>,
    out: &'a mut Vec<u8>,
}

impl Reading<'_> {
    fn piece(&mut self, piece: Piece<'_>) -> ControlFlow<()> {
        match piece {
            Piece::Event(data) => return self.event(data),
            Piece::Raw { bytes, pending } => self.raw(bytes, pending),
            Piece::LineFeed => self.line_feed(),
            Piece::Huge(bytes) => self.huge(bytes),
            Piece::Oversized(bytes) => {
                *self.report.unreadable = Some(self.kind.oversized());
                *self.amid_unread = false;
                if self.is_free() {
                    // Delivered it was: four bytes a token.
                    self.report.answer.tally.add(bytes.div_ceil(4));
                }
            }
            Piece::Broken => {
                *self.report.unreadable = Some("a frame with a wrong checksum");
                self.block();
            }
        }
        Continue(())
    }

    fn is_free(&self) -> bool {
        matches!(self.way, Way::Free)
    }

    fn event(&mut self, data: &[u8]) -> ControlFlow<()> {
        match self.way {
            Way::Free => {}
            Way::Cut(_) => {
                self.kind.read(self.dialect, self.report.answer, data);
                return Continue(());
            }
            // Behind what cannot be weighed: it will never be delivered.
            Way::Blocked(_) => return Continue(()),
        }
        let (near, may_call) = (self.is_near(data.len()), self.may_call(data));
        let before = (near || may_call).then(|| self.report.answer.clone());
        let shape = self.kind.read(self.dialect, self.report.answer, data);
        if let Some(before) = before {
            let needs = match self.calls_none_forbidden(&before) {
                false => Err(None),
                true if near => self.passes(before).map_err(Some),
                true => Ok(()),
            };
            if let Err(needs) = needs {
                let event = data.to_vec();
                *self.way = Way::Blocked(Waiting { event, needs, behind: Vec::new(), ended: false });
                return Break(());
            }
        }
        *self.dropped = self.hide && shape == Shape::UsageOnly;
        if *self.dropped {
            self.held.clear();
        } else {
            *self.begun = true;
            self.out.append(self.held);
        }
        self.watch_grace();
        Continue(())
    }

    /// Whether an event could call a tool, where that matters. What has none of its marks in any spelling cannot; Amazon's
    /// messages may have their event in Base64, in which no spelling shows.
    fn may_call(&self, data: &[u8]) -> bool {
        let has = |part: &&[u8]| memchr::memmem::find(data, part).is_some();
        let seen = || self.kind == Kind::Messages || marks(self.dialect).any(|mark| has(&mark));
        self.allowance.is_some() && self.report.answer.watch.is_enforced() && seen()
    }

    /// Whether the event that was just read calls no tool that may not be called. If it does, the answer is again what it
    /// was `before`, but for the name.
    fn calls_none_forbidden(&mut self, before: &Answer) -> bool {
        if before.watch.forbidden().is_some() || self.report.answer.watch.forbidden().is_none() {
            return true;
        }
        let forbidden = self.report.answer.watch.take_forbidden();
        *self.report.answer = before.clone();
        self.report.answer.watch.found(forbidden);
        false
    }

    /// Whether an event of this length could take the count above the allowance.
    fn is_near(&self, length: usize) -> bool {
        let most = self.report.answer.tally.ceiling().saturating_add(length as u64);
        self.allowance.is_some_and(|allowance| most > allowance)
    }

    /// Whether the event that was just read may leave. If not, the answer is again what it was `before`; the error is
    /// the count that must be allowed.
    fn passes(&mut self, before: Answer) -> Result<(), u64> {
        let Some(allowance) = *self.allowance else { return Ok(()) };
        let answer = &mut *self.report.answer;
        let stranger = |grace: &Grace| answer.loose.calls.iter().any(|call| !grace.calls.contains(call));
        let beside = self.grace.as_ref().is_some_and(stranger);
        if !beside && answer.tally.ceiling() <= allowance {
            return Ok(());
        }
        let count = answer.tally.so_far();
        // What adds nothing costs nothing.
        if !beside && count <= allowance || count <= before.tally.so_far() {
            return Ok(());
        }
        *answer = before;
        Err(count)
    }

    /// Grace is over when the calls that it was given for have ended.
    fn watch_grace(&mut self) {
        let Some(grace) = self.grace.as_ref() else { return };
        let count = self.report.answer.tally.so_far();
        *self.graced = count.saturating_sub(grace.from);
        if !grace.calls.iter().any(|call| self.report.answer.loose.calls.contains(call)) {
            *self.grace = None;
            *self.allowance = Some(count);
        }
    }

    fn raw(&mut self, bytes: &[u8], pending: bool) {
        if !self.is_free() {
            return;
        }
        if !self.hide && self.allowance.is_none() {
            return;
        }
        *self.dropped = false;
        self.held.extend_from_slice(bytes);
        if !pending {
            self.out.append(self.held);
        }
    }

    /// What cannot be weighed cannot be allowed.
    fn huge(&mut self, bytes: &[u8]) {
        if self.allowance.is_none() || self.unweighed {
            *self.amid_unread = true;
            return self.raw(bytes, false);
        }
        self.block();
    }

    /// Lets nothing leave any more of a stream that is kept to an allowance.
    fn block(&mut self) {
        if self.allowance.is_some() && !self.unweighed && self.is_free() {
            self.held.clear();
            *self.way = Way::Blocked(Waiting { event: Vec::new(), needs: None, behind: Vec::new(), ended: false });
        }
    }

    /// The second half of a line end goes where the first half went.
    fn line_feed(&mut self) {
        if *self.dropped || !self.is_free() || !self.hide && self.allowance.is_none() {
            return;
        }
        if self.held.is_empty() {
            self.out.push(b'\n');
        } else {
            self.held.push(b'\n');
        }
    }
}
