//! What was learned of how providers count, model by model, from the calls on which they reported usage; for those on
//! which they are silent. Models whose vocabularies are built in need no such thing. And by how much calls of any model went
//! above the bounds that they were held by, for those that come after.
//!
//! It is learned by line of the catalogue, wire format and vocabulary: another `count` in the policy begins anew. Each VM learns from its own calls at once, and [shares](shared) them with the other VMs of its process a beat later.

mod shared;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use shared::Name;

use crate::engine::effect::Effect;
use crate::meter::calibration::{Calibration, Learned, is_private};
use crate::meter::count::Encoding;
use crate::meter::dialect::Dialect;
use crate::meter::excess::{Excess, Taught, Told};
use crate::meter::usage::Usage;
use crate::now::Now;
use crate::order;
use crate::policy::bundle::Bundle;
use crate::quota::{Cells, Keys, StoreError};

/// Most calls of a model that wait for its page: of each kind as many as are remembered at all.
const MOST_FRESH: usize = 48;
/// Most models that are shared in one beat.
const MOST_A_BEAT: usize = 16;
/// How often a page is swapped for, in one beat.
const SWAPS: u32 = 4;
/// How old what was read of a model whose provider is silent may be, in milliseconds.
const READ_AGAIN_MS: u64 = 30_000;
/// The same of one whose calls are admitted: what others had above their bounds is known here a beat later.
const READ_SOON_MS: u64 = 1_000;

/// A kind of call, as far as providers count by it.
#[derive(Clone, Copy, Debug)]
pub struct Counting<'a> {
    /// Whose call it is: a number of the seat's name, that is the same in all VMs and policies.
    pub seat: u32,
    /// The model's line of the catalogue.
    pub pattern: &'a str,
    /// How that line counts.
    pub count: Encoding,
    /// The model that it was sent to.
    pub model: &'a str,
    /// The wire format: templates differ by it.
    pub dialect: Dialect,
    /// Tools are offered: their instructions are long.
    pub tools: bool,
    /// Tools were called.
    pub calls: bool,
    /// All of it is text. Of images, sound and what is sealed the count is a guess, which says nothing of a vocabulary.
    pub text: bool,
}

/// Tokens of one call, as counted here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Of its input.
    pub input: u64,
    /// Of its output, as its provider would count it.
    pub output: u64,
    /// Of the output those of thoughts that were seen.
    pub thoughts: u64,
}

/// Calibrations of one model in one dialect: of input without tools and with them, of output without calls and with them.
type Lines = [[Calibration; 2]; 2];

/// All that was learned of one model in one dialect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sheet {
    lines: Lines,
    /// What its calls had above their bounds: of text alone and of others, without tools and with them.
    excess: [[Excess; 2]; 2],
}

impl Counted {
    /// What was foretold, as far as it is believed: whatever was learned, an input is no less than half of what was
    /// `counted` here and no more than is `held`, an output no less than was `delivered` and no more than its `limit`.
    pub fn within(self, counted: u64, held: u64, delivered: u64, limit: u64) -> Self {
        Self {
            input: self.input.max(counted / 2).min(held.max(counted)),
            output: self.output.max(delivered).min(limit.max(delivered)),
            ..self
        }
    }
}

/// What was learned of one model and dialect.
#[derive(Debug, Default)]
struct Model {
    sheet: Sheet,
    /// Calls that are not on its page yet, the oldest in front.
    fresh: VecDeque<Lesson>,
    /// Since its page was read it was asked what a silent provider would have said.
    asked: bool,
    /// Since then calls of it were weighed.
    weighed: bool,
    /// When its page was read, by the monotonic clock.
    read_ms: u64,
}

/// A call that was learned from.
#[derive(Clone, Copy, Debug)]
enum Lesson {
    /// How its provider counts: whose it was; and of input and of output: of which kind, as counted, as reported.
    Counts(u32, [(bool, u64, u64); 2]),
    /// What it had above its bound, or within it: of which kind it was.
    Bound([bool; 2], Told),
}

/// What was learned. Memory: below ten KiB for each line of the catalogue and dialect that was in use in this VM, those of
/// former policies too.
#[derive(Debug, Default)]
pub struct Counts {
    models: BTreeMap<Name, Model>,
}

impl Counts {
    /// Learns from a call that the provider reported in full. Tells what came of it, for input and output.
    pub fn learn(&mut self, of: &Counting<'_>, counted: &Counted, reported: &Usage) -> [(&'static str, Learned); 2] {
        let names = ["input", "output"];
        if !of.can_be_learned() || !of.text {
            return names.map(|name| (name, Learned::Nothing));
        }
        // What was thought in secret is not to be foretold from what was said.
        let secret = reported.reasoning.saturating_sub(counted.thoughts);
        let told = [
            (of.tools, counted.input, reported.input_total()),
            (of.calls, counted.output, reported.output.saturating_sub(secret)),
        ];
        let model = self.models.entry(of.name()).or_default();
        let fates = model.sheet.count(of.seat, told);
        if fates.iter().any(|fate| *fate != Learned::Nothing) {
            model.note(Lesson::Counts(of.seat, told));
        }
        let [input, output] = fates;
        [("input", input), ("output", output)]
    }

    /// By how much the bound of a call of this kind is raised.
    pub fn raise(&mut self, of: &Counting<'_>, bound: u64, now: Now) -> u64 {
        let Some(model) = self.models.get_mut(&of.name()) else { return 0 };
        model.weighed = true;
        model.sheet.excess(of.kind()).map_or(0, |excess| excess.raise(of.seat, bound, now.wall_ms))
    }

    /// Learns from a call what its provider made of it, against its `bound` as it is without anything learned.
    pub fn exceed(&mut self, of: &Counting<'_>, bound: u64, reported: u64, now: Now) -> Taught {
        let told = Told { seat: of.seat, bound, reported, wall_ms: now.wall_ms };
        let model = self.models.entry(of.name()).or_default();
        let Some(excess) = model.sheet.excess(of.kind()).filter(|excess| excess.concerns(&told)) else {
            return Taught::Nothing;
        };
        let taught = excess.learn(&told);
        model.note(Lesson::Bound(of.kind(), told));
        taught
    }

    /// Whether more calls of this kind are wanted before it can be told how their input is counted.
    pub fn wants(&self, of: &Counting<'_>) -> bool {
        let model = self.models.get(&of.name());
        let line = model.and_then(|model| model.sheet.lines.first()?.get(usize::from(of.tools)));
        of.can_be_learned() && of.text && line.and_then(|line| line.foretell(of.seat, 1)).is_none()
    }

    /// What a provider that is silent would have reported, where enough was learned; else as it was counted.
    pub fn foretell(&mut self, of: &Counting<'_>, counted: &Counted) -> Counted {
        let Some(model) = self.models.get_mut(&of.name()).filter(|_| of.can_be_learned()) else { return *counted };
        model.asked = true;
        let [input, output] = &model.sheet.lines;
        let told = |lines: &[Calibration; 2], with: bool, counted: u64| {
            let line = lines.get(usize::from(with)).filter(|_| counted > 0);
            line.and_then(|line| line.foretell(of.seat, counted)).unwrap_or(counted)
        };
        Counted {
            input: told(input, of.tools, counted.input),
            output: told(output, of.calls, counted.output),
            ..*counted
        }
    }

    /// Reads what others have learned of a model that this VM meets for the first time.
    pub fn meet(&mut self, of: &Counting<'_>, bundle: &Bundle, keys: &Keys, now: Now, cells: &mut dyn Cells) {
        if self.models.contains_key(&of.name()) {
            return;
        }
        // A store that does not answer is asked again with the beats.
        let found = shared::find(&of.name(), &known(bundle), keys, cells).ok().flatten();
        let sheet = found.and_then(|found| found.sheet).unwrap_or_default();
        self.models.insert(of.name(), Model { sheet, read_ms: now.mono_ms, ..Model::default() });
    }

    /// Puts what is fresh onto the pages, and reads those that somebody asks for. Hosts' beats call it: a few models
    /// at a time, those first whose turn was longest ago.
    pub fn share(
        &mut self,
        bundle: &Bundle,
        keys: &Keys,
        now: Now,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        let due = |model: &Model| {
            let age = now.mono_ms.saturating_sub(model.read_ms);
            !model.fresh.is_empty() || (model.asked && age >= READ_AGAIN_MS) || (model.weighed && age >= READ_SOON_MS)
        };
        let mut models: Vec<_> = self.models.iter_mut().filter(|(_, model)| due(model)).collect();
        order::by_key(&mut models, |(_, model)| model.read_ms);
        for (name, model) in models.into_iter().take(MOST_A_BEAT) {
            let calls = model.fresh.len() as u64;
            let Some(fate) = model.share(name, bundle, keys, now, cells)? else { continue };
            if calls > 0 {
                let labels = vec![("model", name.0.clone()), ("fate", fate.to_owned())];
                effects.push(Effect::Count { metric: "calibration_shared_total", labels, by: calls });
            }
        }
        Ok(())
    }
}

/// The number of a seat.
pub fn seat(name: &str) -> u32 {
    crc32fast::hash(name.as_bytes())
}

impl Counting<'_> {
    fn name(&self) -> Name {
        (self.pattern.to_owned(), self.dialect.name(), self.count.name())
    }

    /// Of which kind its bound is: whether of text alone, and whether with tools.
    fn kind(&self) -> [bool; 2] {
        [self.text, self.tools]
    }

    /// Whether there is anything to be learned of the model.
    fn can_be_learned(&self) -> bool {
        is_private(self.model)
    }
}

impl Sheet {
    /// Learns how a provider counts. Tells what came of it, for input and output.
    fn count(&mut self, seat: u32, told: [(bool, u64, u64); 2]) -> [Learned; 2] {
        let mut fates = [Learned::Nothing; 2];
        for (((with, counted, reported), line), fate) in told.into_iter().zip(&mut self.lines).zip(&mut fates) {
            if let Some(line) = line.get_mut(usize::from(with)) {
                *fate = line.learn(seat, counted, reported);
            }
        }
        fates
    }

    fn excess(&mut self, [text, tools]: [bool; 2]) -> Option<&mut Excess> {
        self.excess.get_mut(usize::from(!text))?.get_mut(usize::from(tools))
    }

    /// Learns from a call of another VM, or from one of this VM once more, beside those of others.
    fn take(&mut self, lesson: &Lesson) {
        match lesson {
            Lesson::Counts(seat, told) => {
                self.count(*seat, *told);
            }
            Lesson::Bound(kind, told) => {
                if let Some(excess) = self.excess(*kind) {
                    excess.learn(told);
                }
            }
        }
    }
}

impl Model {
    /// Keeps a call for the page.
    fn note(&mut self, lesson: Lesson) {
        if self.fresh.len() >= MOST_FRESH {
            self.fresh.pop_front();
        }
        self.fresh.push_back(lesson);
    }

    /// What came of its fresh calls. `None`: others were faster, again and again; with the next beat, then.
    fn share(
        &mut self,
        name: &Name,
        bundle: &Bundle,
        keys: &Keys,
        now: Now,
        cells: &mut dyn Cells,
    ) -> Result<Option<&'static str>, StoreError> {
        for _ in 0..SWAPS {
            let Some(mut found) = shared::find(name, &known(bundle), keys, cells)? else {
                self.is_shared(now);
                return Ok(Some("no_room"));
            };
            let sheet = match found.sheet.take() {
                Some(mut sheet) => {
                    self.fresh.iter().for_each(|lesson| sheet.take(lesson));
                    sheet
                }
                // What is not shared yet, or was lost, is this VM's to begin with.
                None => self.sheet.clone(),
            };
            if self.fresh.is_empty() || shared::put(name, &found, &sheet, cells)? {
                self.sheet = sheet;
                self.is_shared(now);
                return Ok(Some("shared"));
            }
        }
        self.read_ms = now.mono_ms;
        Ok(None)
    }

    fn is_shared(&mut self, now: Now) {
        self.fresh.clear();
        (self.asked, self.weighed) = (false, false);
        self.read_ms = now.mono_ms;
    }
}

/// Which lines of the catalogue there are, and how they count.
fn known(bundle: &Bundle) -> impl Fn(&str, &str) -> bool + '_ {
    |pattern, count| bundle.models.rows.iter().any(|row| row.pattern == pattern && row.encoding.name() == count)
}

#[cfg(test)]
mod tests {
    use super::{Counted, Counting, Counts, Dialect, Encoding, Learned, Usage};
    use crate::meter::calibration::ENOUGH;

    fn of(model: &str) -> Counting<'_> {
        let dialect = Dialect::OpenAiChat;
        let count = Encoding::O200kBase;
        Counting { seat: 0, pattern: model, count, model, dialect, tools: true, calls: false, text: true }
    }

    fn taught(model: &str) -> Counts {
        let mut counts = Counts::default();
        for call in 0..u64::from(ENOUGH) {
            let counted = Counted { input: 100 + call * 30, output: 10 + call * 20, thoughts: 0 };
            let reported =
                Usage { input: 400 + call * 30, output: 1_015 + call * 20, reasoning: 1_000, ..Usage::default() };
            counts.learn(&of(model), &counted, &reported);
        }
        counts
    }

    #[test]
    fn a_silent_provider_is_counted_as_it_counted_before() {
        let counted = Counted { input: 200, output: 50, thoughts: 0 };
        assert_eq!(
            taught("qwen-max").foretell(&of("qwen-max"), &counted),
            Counted { input: 500, output: 55, ..counted }
        );
    }

    #[test]
    fn other_kinds_of_calls_and_other_models_are_not_touched() {
        let (mut counts, counted) = (taught("qwen-max"), Counted { input: 200, output: 50, thoughts: 0 });
        let other = Counting { calls: true, tools: false, ..of("qwen-max") };
        assert_eq!(counts.foretell(&other, &counted), counted);
        assert_eq!(counts.foretell(&of("qwen-plus"), &counted), counted);
        let anthropic = Counting { dialect: Dialect::AnthropicMessages, ..of("qwen-max") };
        assert_eq!(counts.foretell(&anthropic, &counted), counted);
    }

    #[test]
    fn nothing_is_learned_from_images_nor_from_one_caller_for_another() {
        let (mut counts, counted) = (Counts::default(), Counted { input: 200, output: 50, thoughts: 0 });
        let pictured = Counting { text: false, ..of("qwen-max") };
        for call in 0..u64::from(ENOUGH) {
            let fates = counts.learn(&pictured, &counted, &Usage { input: 900 + call, output: 90, ..Usage::default() });
            assert!(fates.iter().all(|(_, fate)| *fate == Learned::Nothing));
        }
        assert_eq!(counts.foretell(&of("qwen-max"), &counted), counted);
        assert_eq!(taught("qwen-max").foretell(&Counting { seat: 1, ..of("qwen-max") }, &counted), counted);
    }

    #[test]
    fn what_is_foretold_is_kept_in_bounds() {
        let told = |input, output| {
            let Counted { input, output, .. } = Counted { input, output, thoughts: 0 }.within(1_000, 1_500, 40, 100);
            (input, output)
        };
        assert_eq!(told(1, 1), (500, 40), "half of the count, and what was delivered");
        assert_eq!(told(1_200, 60), (1_200, 60));
        assert_eq!(told(9_000, 9_000), (1_500, 100), "what is held, and the limit");
        // Where more was counted or delivered than was held or allowed, that much.
        let past = Counted { input: 9_000, output: 9_000, thoughts: 0 }.within(1_000, 0, 40, 0);
        assert_eq!((past.input, past.output), (1_000, 40));
    }

    #[test]
    fn nothing_is_learned_of_a_vocabulary_that_is_built_in() {
        let (mut counts, counted) = (taught("gpt-4o"), Counted { input: 200, output: 50, thoughts: 0 });
        assert_eq!(counts.foretell(&of("gpt-4o"), &counted), counted);
        let fates = counts.learn(&of("gpt-4o"), &counted, &Usage { input: 9, output: 9, ..Usage::default() });
        assert!(fates.iter().all(|(_, fate)| *fate == Learned::Nothing));
    }
}
