//! What an exchange costs, by how it ended: the outcome table of the product, in one place.

use crate::meter::usage::{Source, Usage};
use crate::report::wire::Outcome;

/// What an outcome is charged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing, on any quota.
    Nothing,
    /// The input, as counted here: the upstream has read it, and nothing came back.
    Input,
    /// What the provider reported, and what was counted here where it did not.
    Observed,
    /// All that was held.
    Held,
}

/// The table: one row an outcome.
///
/// | outcome | charged |
/// |---|---|
/// | never sent | nothing |
/// | connect failure | nothing |
/// | reset or timeout before headers | input |
/// | upstream 4xx/5xx | nothing |
/// | 200 with an error inside | observed |
/// | aborted by the client | observed |
/// | cut by us | observed |
/// | cut by the upstream | observed |
/// | complete, usage reported | observed (the provider's figures) |
/// | complete, usage silent | observed (counted here) |
/// | VM lost | held, or observed where the policy says so |
pub const fn rule(outcome: Outcome) -> Rule {
    match outcome {
        Outcome::NeverSent | Outcome::ConnectFailure | Outcome::UpstreamError => Rule::Nothing,
        Outcome::NoResponse => Rule::Input,
        Outcome::ErrorInside
        | Outcome::Aborted
        | Outcome::CutByUs
        | Outcome::CutByUpstream
        | Outcome::Complete
        | Outcome::CompleteSilent => Rule::Observed,
        Outcome::Unsettled => Rule::Held,
    }
}

/// What was seen of an exchange when it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Input tokens counted here.
    pub input: u64,
    /// Output tokens delivered to the client, counted here.
    pub delivered: u64,
    /// What the provider reported, complete or not.
    pub reported: Option<Usage>,
    /// Whether `reported` is the provider's last word.
    pub complete: bool,
}

impl Observed {
    /// The usage that is charged for, and where it came from.
    pub fn usage(&self) -> (Usage, Source) {
        match self.reported {
            Some(reported) if self.complete => (reported, Source::Reported),
            Some(reported) => {
                // An early report knows the input, and of the output only what had been written by then.
                let input = if reported.input_total() == 0 { self.input } else { reported.input };
                let output = reported.output.max(self.delivered);
                (Usage { input, output, ..reported }, Source::Mixed)
            }
            None => (Usage { input: self.input, output: self.delivered, ..Usage::default() }, Source::Estimated),
        }
    }

    /// The usage that `outcome` is charged for: nothing at all, the input alone, or all that was observed.
    pub fn charged(&self, outcome: Outcome) -> (Usage, Source) {
        match rule(outcome) {
            Rule::Nothing => (Usage::default(), Source::Estimated),
            Rule::Input => (Usage { input: self.input, ..Usage::default() }, Source::Estimated),
            Rule::Observed | Rule::Held => self.usage(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Observed = Observed { input: 10, delivered: 7, reported: None, complete: false };

    #[test]
    fn silence_is_counted_here() {
        let (usage, source) = SEEN.charged(Outcome::CompleteSilent);
        assert_eq!((usage.input, usage.output, source), (10, 7, Source::Estimated));
    }

    #[test]
    fn the_last_word_of_the_provider_is_the_truth() {
        let reported = Usage { input: 3, cache_read: 8, output: 5, ..Usage::default() };
        let seen = Observed { reported: Some(reported), complete: true, ..SEEN };
        assert_eq!(seen.charged(Outcome::Complete), (reported, Source::Reported));
    }

    #[test]
    fn an_early_report_gives_the_input_and_the_count_gives_the_output() {
        let reported = Usage { input: 3, cache_read: 8, output: 1, ..Usage::default() };
        let seen = Observed { reported: Some(reported), ..SEEN };
        let (usage, source) = seen.charged(Outcome::Aborted);
        assert_eq!((usage.input, usage.cache_read, usage.output, source), (3, 8, 7, Source::Mixed));
    }

    #[test]
    fn what_never_reached_a_model_is_free() {
        for outcome in [Outcome::NeverSent, Outcome::ConnectFailure, Outcome::UpstreamError] {
            assert_eq!(rule(outcome), Rule::Nothing);
            assert_eq!(SEEN.charged(outcome).0, Usage::default());
        }
    }

    #[test]
    fn a_lost_answer_still_costs_its_input() {
        assert_eq!(SEEN.charged(Outcome::NoResponse).0, Usage { input: 10, ..Usage::default() });
    }
}
