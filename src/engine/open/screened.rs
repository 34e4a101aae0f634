//! The screen that an answer goes through on its way.

use super::{Course, Open};
use crate::engine::effect::Effect;
use crate::now::Now;
use crate::policy::bundle::Bundle;

impl Open {
    /// Puts what leaves now through the screen of the plan, if it has one: the bytes that the effects from `from` on send,
    /// or else the chunk.
    pub(in crate::engine) fn screen(
        &mut self,
        bundle: &Bundle,
        chunk: Option<&[u8]>,
        course: &Course,
        now: Now,
        from: usize,
        effects: &mut Vec<Effect>,
    ) {
        let (Some(screen), Some(plan)) = (&mut self.screen, bundle.plans.get(self.plan)) else { return };
        if matches!(course, Course::Fenced) {
            return;
        }
        let replaced = effects.iter_mut().skip(from).find_map(|effect| match effect {
            Effect::ReplaceChunk(bytes) => Some(bytes),
            _ => None,
        });
        let bytes: &[u8] = match (&replaced, chunk) {
            (Some(bytes), _) => bytes,
            (None, Some(chunk)) => chunk,
            // Trailers: nothing can be sent behind them.
            (None, None) if self.body_ended && !matches!(course, Course::Waits) => return screen.end_unheld(effects),
            (None, None) => return,
        };
        let was_cut = screen.is_cut();
        let last = self.body_ended && !matches!(course, Course::Waits);
        let id = self.place.id.to_string();
        let mut said = Vec::new();
        let out = screen.push(bytes, last, plan, Some(self.api.dialect), &id, now, &mut said);
        let out = self.tail.through(out, last, screen);
        match replaced {
            Some(bytes) => *bytes = out,
            None if chunk != Some(&out[..]) => effects.push(Effect::ReplaceChunk(out)),
            None => {}
        }
        effects.append(&mut said);
        if screen.is_cut() && !was_cut && screen.is_stream() && !self.body_ended {
            // In this callback it would take the last event with it.
            self.breaks = true;
            effects.push(Effect::WakeAt(now.mono_ms));
        }
    }

    /// Whether the answer is held, so that something can still be written before its trailers.
    pub(in crate::engine) fn holds_tail(&self) -> bool {
        self.tail.is_held()
    }
}
