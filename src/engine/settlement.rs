//! What an exchange costs, by how it ended: the outcome table of the product, in one place.

use crate::meter::usage::{Source, Usage};
use crate::policy::bundle::{Charge, FailedTry, HoldRule, Lost};
use crate::report::wire::Outcome;

/// What an outcome is charged by.
///
/// One row an outcome, and its record is of that kind. Where a plan may say otherwise, by the key in its `hold`, what
/// stands here is the default.
///
/// | outcome | record | charged | key |
/// |---|---|---|---|
/// | never sent | `never_sent` | nothing | |
/// | connect failure | `connect_failure` | nothing | |
/// | reset or timeout before headers | `no_response` | input | `no_response` |
/// | upstream 4xx/5xx | `upstream_error` | nothing | `upstream_error` |
/// | 200 with an error inside | `error_inside` | delivered | `error_inside` |
/// | aborted by the client | `aborted` | delivered | `aborted` |
/// | cut by us | `cut_by_us` | delivered, whatever the upstream ran on to | |
/// | cut by the upstream | `cut_by_upstream` | delivered | `cut_by_upstream` |
/// | complete, usage reported | `complete` | what the provider reported | |
/// | complete, usage silent | `complete_silent` | delivered | |
/// | VM lost | `unsettled` | held | `lost` |
/// | its work goes on behind its answer (`background`, `deferred`, a film), usage silent | as it ended | what is held of each account, no more and no less | |
///
/// Of images, films, songs and speech that are refused in a 200, as MiniMax refuses, nothing is delivered: where that is what
/// is charged, they cost nothing, and are no request either.
///
/// `Delivered` is the input as counted here and the output that passed to the client, and in their place whatever the
/// provider reported. Input that the provider is silent about and that this session has sent before is taken as cached,
/// as far as it was the last time (`prefix`).
///
/// A call that Envoy tried several times ends as its last try did. What each of those before costs is another
/// [rule](failed_try).
pub const fn rule(outcome: Outcome, hold: &HoldRule) -> Charge {
    match outcome {
        Outcome::NeverSent | Outcome::ConnectFailure => Charge::Nothing,
        Outcome::NoResponse => hold.charges.no_response,
        Outcome::UpstreamError => hold.charges.upstream_error,
        Outcome::ErrorInside => hold.charges.error_inside,
        Outcome::Aborted => hold.charges.aborted,
        Outcome::CutByUpstream => hold.charges.cut_by_upstream,
        Outcome::CutByUs | Outcome::Complete | Outcome::CompleteSilent => Charge::Delivered,
        Outcome::Unsettled => match hold.lost {
            Lost::Held => Charge::Held,
            Lost::Delivered => Charge::Delivered,
        },
    }
}

/// What each try costs that failed before the last.
///
/// Nothing by default; where the plan says so (`failed_try: input`), the input once more, whatever the last try costs.
/// Nobody is told why a try failed: one that could not connect counts as others do, as long as the last one could. Where
/// that could not either, and where nobody knows how many there were, they cost nothing.
pub const fn failed_try(outcome: Outcome, hold: &HoldRule) -> FailedTry {
    match outcome {
        Outcome::NeverSent | Outcome::ConnectFailure | Outcome::Unsettled => FailedTry::Nothing,
        _ => hold.failed_try,
    }
}

/// What was seen of an exchange when it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Input tokens counted here; 0 where that was left to the provider, which has said it.
    pub input: u64,
    /// Of these, what the provider read from a cache, or wrote to one, when this session last sent them.
    pub cached: u64,
    /// Output tokens delivered to the client, counted here.
    pub delivered: u64,
    /// Output tokens of a complete answer as its provider would have reported them, by what is known of it; of others what
    /// was delivered.
    pub written: u64,
    /// What the provider reported, complete or not.
    pub reported: Option<Usage>,
    /// Whether `reported` is the provider's last word.
    pub complete: bool,
    /// What was seen in the answer that is not counted in tokens; the rest is 0.
    pub made: Usage,
    /// Whether the stream was cut here: what the provider reports then was not all delivered.
    pub cut: bool,
    /// Output tokens that its limit allowed, all choices together.
    pub limit: u64,
    /// Milliseconds since it was admitted.
    pub ran_ms: u64,
}

impl Observed {
    /// The input that is charged for, and whether the provider said it.
    fn input(&self) -> (Usage, bool) {
        match self.reported.filter(|reported| reported.input_total() > 0) {
            Some(reported) => (Usage { output: 0, reasoning: 0, ..reported }, true),
            None => {
                let cache_read = self.cached.min(self.input);
                (Usage { input: self.input.saturating_sub(cache_read), cache_read, ..Usage::default() }, false)
            }
        }
    }

    /// Where figures come from of which the provider has said nothing this time.
    fn unsaid(&self) -> Source {
        if self.cached > 0 { Source::Mixed } else { Source::Estimated }
    }

    /// Input and output as delivered, and where they came from.
    fn delivered(&self) -> (Usage, Source) {
        let (input, said) = self.input();
        match self.reported {
            Some(reported) if self.cut => {
                let usage =
                    Usage { output: self.delivered, reasoning: reported.reasoning.min(self.delivered), ..input };
                (usage, if said { Source::Mixed } else { self.unsaid() })
            }
            Some(reported) if self.complete => (reported, Source::Reported),
            // An early report knows the input, and of the output only what had been written by then.
            Some(reported) => {
                let output = reported.output.max(self.delivered);
                (Usage { output, reasoning: reported.reasoning, ..input }, Source::Mixed)
            }
            None => {
                let Usage { images, characters, seconds, .. } = self.made;
                (Usage { output: self.written, images, characters, seconds, ..input }, self.unsaid())
            }
        }
    }

    /// The usage that is charged for by this rule, and where it came from.
    pub fn charged(&self, rule: Charge) -> (Usage, Source) {
        let at_least = |tokens: u64| {
            let (usage, source) = self.delivered();
            let more = tokens.min(self.limit).max(usage.output);
            let estimated = more > usage.output && source == Source::Reported;
            (Usage { output: more, ..usage }, if estimated { Source::Mixed } else { source })
        };
        match rule {
            Charge::Nothing => (Usage::default(), Source::Estimated),
            Charge::Input => {
                let (input, said) = self.input();
                (input, if said { Source::Reported } else { self.unsaid() })
            }
            Charge::Delivered => self.delivered(),
            Charge::Pace(pace) => at_least(pace.saturating_mul(self.ran_ms) / 1_000),
            Charge::Held => at_least(u64::MAX),
        }
    }
}

impl Observed {
    /// The usage that is charged for by this rule and how many more times its input is, when so many tries failed before
    /// the last; and where it came from.
    pub fn charged_with(&self, rule: Charge, failed: u64) -> (Usage, u64, Source) {
        let (rule, again) = match (rule, failed.checked_sub(1)) {
            // The first of them stands for the last try, which costs nothing.
            (Charge::Nothing, Some(others)) => (Charge::Input, others),
            _ => (rule, failed),
        };
        let (usage, source) = self.charged(rule);
        (usage, again, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy;
    use crate::policy::unit::Consumed;
    use Charge::{Delivered, Held, Input, Nothing, Pace};

    fn seen() -> Observed {
        Observed { input: 10, delivered: 7, written: 7, limit: 100, ran_ms: 500, ..Observed::default() }
    }

    fn plan(hold: &str) -> HoldRule {
        let text = format!(
            "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [authorization]}}]\n\
             models: {{m: {{count: o200k_base}}}}\n\
             plans: {{p: {{tokens: {{hold: {{{hold}}}, caps: {{c: {{limit: 9 requests, per: seat, window: first-use 5h}}}}}}}}}}\n\
             assign: [{{otherwise: p}}]\nseats:\n  s: {{org: o, keys: ['sha256:{:064x}']}}\n",
            1
        );
        policy::compile(&text, "b").unwrap().plans[0].hold.clone()
    }

    /// The rows of the table in this order, by default and as a plan may have them.
    #[test]
    fn the_table() {
        let rows = |hold: &str| Outcome::ALL.map(|outcome| rule(outcome, &plan(hold)));
        assert_eq!(
            rows(""),
            [Nothing, Nothing, Input, Nothing, Delivered, Delivered, Delivered, Delivered, Delivered, Delivered, Held]
        );
        let hold = "no_response: held, upstream_error: input, error_inside: nothing, aborted: 50 tokens a second, \
                    cut_by_upstream: input, lost: delivered";
        assert_eq!(
            rows(hold),
            [Nothing, Nothing, Held, Input, Nothing, Pace(50), Delivered, Input, Delivered, Delivered, Delivered]
        );
    }

    #[test]
    fn silence_is_counted_here() {
        let (usage, source) = seen().charged(Delivered);
        assert_eq!((usage.input, usage.output, source), (10, 7, Source::Estimated));
    }

    #[test]
    fn what_this_session_sent_before_is_cached_as_far_as_it_was_then() {
        let (usage, source) = Observed { cached: 8, ..seen() }.charged(Delivered);
        assert_eq!((usage.input, usage.cache_read, usage.output, source), (2, 8, 7, Source::Mixed));
        let (usage, source) = Observed { cached: 80, ..seen() }.charged(Input);
        assert_eq!((usage.input, usage.cache_read, source), (0, 10, Source::Mixed), "no more than there is");
        let reported = Usage { input: 3, cache_read: 5, output: 1, ..Usage::default() };
        let seen = Observed { cached: 8, reported: Some(reported), complete: true, ..seen() };
        assert_eq!(seen.charged(Delivered), (reported, Source::Reported), "the provider knows better");
    }

    #[test]
    fn the_last_word_of_the_provider_is_the_truth() {
        let reported = Usage { input: 3, cache_read: 8, output: 5, ..Usage::default() };
        let seen = Observed { reported: Some(reported), complete: true, ..seen() };
        assert_eq!(seen.charged(Delivered), (reported, Source::Reported));
    }

    #[test]
    fn an_early_report_gives_the_input_and_the_count_gives_the_output() {
        let reported = Usage { input: 3, cache_read: 8, output: 1, ..Usage::default() };
        let seen = Observed { reported: Some(reported), ..seen() };
        let (usage, source) = seen.charged(Delivered);
        assert_eq!((usage.input, usage.cache_read, usage.output, source), (3, 8, 7, Source::Mixed));
    }

    #[test]
    fn of_a_cut_stream_only_what_was_delivered_is_charged() {
        let reported = Usage { input: 3, cache_read: 8, output: 500, reasoning: 9, ..Usage::default() };
        let seen = Observed { reported: Some(reported), complete: true, cut: true, ..seen() };
        assert_eq!(seen.charged(Delivered), (Usage { output: 7, reasoning: 7, ..reported }, Source::Mixed));
        assert_eq!(Observed { reported: None, ..seen }.charged(Delivered), super::tests::seen().charged(Delivered));
    }

    #[test]
    fn what_nobody_saw_is_priced_by_time_or_by_the_limit() {
        let output = |seen: Observed, rule| seen.charged(rule).0.output;
        assert_eq!(output(seen(), Pace(50)), 25);
        assert_eq!(output(seen(), Pace(2)), 7, "no less than was delivered");
        assert_eq!(output(seen(), Pace(u64::MAX)), 100, "no more than the limit");
        assert_eq!(output(seen(), Held), 100);
        assert_eq!(output(Observed { written: 120, ..seen() }, Held), 120);
        let reported = Usage { input: 3, output: 5, ..Usage::default() };
        let seen = Observed { reported: Some(reported), complete: true, ..seen() };
        assert_eq!(seen.charged(Held), (Usage { output: 100, ..reported }, Source::Mixed));
    }

    #[test]
    fn tries_that_failed_cost_their_input_where_the_plan_says_so() {
        let paid = |hold: &str| Outcome::ALL.map(|outcome| failed_try(outcome, &plan(hold)) == FailedTry::Input);
        assert_eq!(paid(""), [false; 11]);
        let all = HoldRule { failed_try: FailedTry::Input, ..plan("") };
        let free: Vec<_> =
            Outcome::ALL.into_iter().filter(|end| failed_try(*end, &all) == FailedTry::Nothing).collect();
        assert_eq!(free, [Outcome::NeverSent, Outcome::ConnectFailure, Outcome::Unsettled]);
        let of = |rule, failed| {
            let (usage, again, _) = seen().charged_with(rule, failed);
            let all = Consumed { usage, again, ..Consumed::default() }.all();
            (all.input, all.output)
        };
        assert_eq!([of(Delivered, 0), of(Delivered, 2), of(Input, 1)], [(10, 7), (30, 7), (20, 0)]);
        assert_eq!([of(Nothing, 0), of(Nothing, 1), of(Nothing, 2)], [(0, 0), (10, 0), (20, 0)]);
        let cached = Observed { cached: 8, ..seen() }.charged_with(Delivered, 1);
        let all = Consumed { usage: cached.0, again: cached.1, ..Consumed::default() }.all();
        assert_eq!((all.input, all.cache_read), (4, 16), "of the same kinds");
    }

    #[test]
    fn nothing_and_the_input() {
        assert_eq!(seen().charged(Nothing).0, Usage::default());
        assert_eq!(seen().charged(Input).0, Usage { input: 10, ..Usage::default() });
        let reported = Usage { input: 3, cache_read: 8, output: 1, ..Usage::default() };
        let seen = Observed { reported: Some(reported), ..seen() };
        assert_eq!(seen.charged(Input), (Usage { output: 0, ..reported }, Source::Reported));
    }
}
