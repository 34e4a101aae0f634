//! What this VM has learned of how providers count, model by model, from the calls on which they reported usage; for those
//! on which they are silent. Models whose vocabularies are built in need no such thing.

use std::collections::BTreeMap;

use crate::meter::calibration::{Calibration, Learned, is_private};
use crate::meter::dialect::Dialect;
use crate::meter::usage::Usage;

/// A kind of call, as far as providers count by it.
#[derive(Clone, Copy, Debug)]
pub struct Counting<'a> {
    /// Whose call it is, by its place in the policy.
    pub seat: u32,
    /// The model's line of the catalogue.
    pub pattern: &'a str,
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

/// What was learned. Memory: below two KiB for each line of the catalogue and dialect that was in use in this VM, those of
/// former policies too.
#[derive(Debug, Default)]
pub struct Counts {
    models: BTreeMap<(String, &'static str), Lines>,
}

impl Counts {
    /// Learns from a call that the provider reported in full. Tells what came of it, for input and output.
    pub fn learn(&mut self, of: &Counting<'_>, counted: &Counted, reported: &Usage) -> [(&'static str, Learned); 2] {
        let names = ["input", "output"];
        if !is_private(of.model) || !of.text {
            return names.map(|name| (name, Learned::Nothing));
        }
        let lines = self.models.entry((of.pattern.to_owned(), of.dialect.name())).or_default();
        // What was thought in secret is not to be foretold from what was said.
        let secret = reported.reasoning.saturating_sub(counted.thoughts);
        let told = [
            (of.tools, counted.input, reported.input_total()),
            (of.calls, counted.output, reported.output.saturating_sub(secret)),
        ];
        let mut fates = names.map(|name| (name, Learned::Nothing));
        for (((with, counted, reported), line), (_, fate)) in told.into_iter().zip(lines).zip(&mut fates) {
            if let Some(line) = line.get_mut(usize::from(with)) {
                *fate = line.learn(of.seat, counted, reported);
            }
        }
        fates
    }

    /// Whether more calls of this kind are wanted before it can be told how their input is counted.
    pub fn wants(&self, of: &Counting<'_>) -> bool {
        let lines = self.models.get(&(of.pattern.to_owned(), of.dialect.name()));
        let line = lines.and_then(|[input, _]| input.get(usize::from(of.tools)));
        is_private(of.model) && of.text && line.and_then(|line| line.foretell(of.seat, 1)).is_none()
    }

    /// What a provider that is silent would have reported, where enough was learned; else as it was counted.
    pub fn foretell(&self, of: &Counting<'_>, counted: &Counted) -> Counted {
        let key = (of.pattern.to_owned(), of.dialect.name());
        let Some([input, output]) = self.models.get(&key).filter(|_| is_private(of.model)) else { return *counted };
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
}

#[cfg(test)]
mod tests {
    use super::{Counted, Counting, Counts, Dialect, Learned, Usage};
    use crate::meter::calibration::ENOUGH;

    fn of(model: &str) -> Counting<'_> {
        let dialect = Dialect::OpenAiChat;
        Counting { seat: 0, pattern: model, model, dialect, tools: true, calls: false, text: true }
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
        let (counts, counted) = (taught("qwen-max"), Counted { input: 200, output: 50, thoughts: 0 });
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
