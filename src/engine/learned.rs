//! What this VM has learned of how providers count, model by model, from the calls on which they reported usage; for those
//! on which they are silent. Models whose vocabularies are built in need no such thing.

use std::collections::BTreeMap;

use crate::meter::calibration::{Calibration, Learned, is_private};
use crate::meter::dialect::Dialect;
use crate::meter::usage::Usage;

/// A kind of call, as far as providers count by it.
#[derive(Clone, Copy, Debug)]
pub struct Counting<'a> {
    /// The model's line of the catalogue, and its name.
    pub pattern: &'a str,
    /// The model that it was sent to.
    pub model: &'a str,
    /// The wire format: templates differ by it.
    pub dialect: Dialect,
    /// Tools are offered: their instructions are long.
    pub tools: bool,
    /// Tools were called.
    pub calls: bool,
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

/// What was learned. Memory: below a KiB for each of the catalogue's lines and dialects in use.
#[derive(Debug, Default)]
pub struct Counts {
    models: BTreeMap<(String, &'static str), Lines>,
}

impl Counts {
    /// Learns from a call that the provider reported in full. Tells what came of it, for input and output.
    pub fn learn(&mut self, of: &Counting<'_>, counted: &Counted, reported: &Usage) -> [(&'static str, Learned); 2] {
        let names = ["input", "output"];
        if !is_private(of.model) {
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
                *fate = line.learn(counted, reported);
            }
        }
        fates
    }

    /// What a provider that is silent would have reported, where enough was learned; else as it was counted.
    pub fn foretell(&self, of: &Counting<'_>, counted: &Counted) -> Counted {
        let key = (of.pattern.to_owned(), of.dialect.name());
        let Some([input, output]) = self.models.get(&key).filter(|_| is_private(of.model)) else { return *counted };
        let told = |lines: &[Calibration; 2], with: bool, counted: u64| {
            let line = lines.get(usize::from(with)).filter(|_| counted > 0);
            line.and_then(|line| line.foretell(counted)).unwrap_or(counted)
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
        Counting { pattern: model, model, dialect: Dialect::OpenAiChat, tools: true, calls: false }
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
    fn nothing_is_learned_of_a_vocabulary_that_is_built_in() {
        let (mut counts, counted) = (taught("gpt-4o"), Counted { input: 200, output: 50, thoughts: 0 });
        assert_eq!(counts.foretell(&of("gpt-4o"), &counted), counted);
        let fates = counts.learn(&of("gpt-4o"), &counted, &Usage { input: 9, output: 9, ..Usage::default() });
        assert!(fates.iter().all(|(_, fate)| *fate == Learned::Nothing));
    }
}
