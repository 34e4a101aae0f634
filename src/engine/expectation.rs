//! What a call will come to, as calls of its model lately did: what a quota with `hold: expected` holds of it.
//!
//! The provider's cache decides what an agent's turn costs: of 100,000 tokens that are sent again all but a few hundred
//! may be read from it, at a tenth of the price. So the input is learned by direction, as a share of its bound.

use std::collections::BTreeMap;

use crate::meter::usage::{Source, Usage};
use crate::quota::MICRO;

/// What a call will come to, as far as that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No call of its model has ended here yet: all that its input may cost, and so many output tokens a choice.
    Assumed(u64),
    /// As calls of its model lately did; of the output, what one choice had.
    Learned(Usage),
}

impl Expected {
    /// The same as long as `needs` output tokens, all choices together, are not beyond it; else of the output all that the
    /// call may have.
    pub fn unless_beyond(self, needs: u64, choices: u64) -> Self {
        match self.of_choices(choices.max(1)) {
            Self::Assumed(output) if needs > output => Self::Assumed(u64::MAX),
            Self::Learned(usage) if needs > usage.output => Self::Learned(Usage { output: u64::MAX, ..usage }),
            _ => self,
        }
    }

    /// Output tokens of one choice.
    pub fn output(self) -> u64 {
        match self {
            Self::Assumed(output) => output,
            Self::Learned(usage) => usage.output,
        }
    }

    /// The same of a call with nothing in it.
    pub fn without_input(self) -> Self {
        match self {
            Self::Assumed(_) => self,
            Self::Learned(usage) => {
                Self::Learned(Usage { output: usage.output, reasoning: usage.reasoning, ..Usage::default() })
            }
        }
    }

    /// The same where all choices together are told as one.
    pub fn of_choices(self, choices: u64) -> Self {
        match self {
            Self::Assumed(output) => Self::Assumed(output.saturating_mul(choices)),
            Self::Learned(usage) => Self::Learned(Usage { output: usage.output.saturating_mul(choices), ..usage }),
        }
    }
}

/// What calls lately came to, by the model's line of the catalogue: as many entries as the policies of this VM had lines
/// that were called, the former ones' too.
#[derive(Default)]
pub(super) struct Habits(BTreeMap<String, Habit>);

/// What calls of one model lately came to.
#[derive(Clone, Copy, Default)]
struct Habit {
    /// Input tokens of each direction (fresh, read from a cache, written to one, of these for an hour), in millionths of the
    /// input's bound; `None`: no provider has told any yet.
    input: Option<[u64; 4]>,
    /// Output tokens of one choice, in micro-tokens.
    output: u64,
}

impl Habits {
    /// What a call of a model will come to whose input has at most `bound` tokens. `assumed`: output tokens a choice while
    /// nothing is known of the model.
    pub fn expect(&self, pattern: &str, bound: u64, assumed: u64) -> Expected {
        let Some(habit) = self.0.get(pattern) else { return Expected::Assumed(assumed) };
        let output = habit.output.div_ceil(MICRO);
        let Some(shares) = habit.input else { return Expected::Assumed(output) };
        let [input, cache_read, cache_write, cache_write_1h] = shares.map(|share| part(bound, share, MICRO));
        Expected::Learned(Usage { input, cache_read, cache_write, cache_write_1h, output, ..Usage::default() })
    }

    /// A call of a model has come to this: all of what is expected of the next if it is the first, else an eighth.
    pub fn learn(&mut self, pattern: &str, bound: u64, choices: u64, usage: &Usage, source: Source) {
        let output = part(usage.output, MICRO, choices.max(1));
        let told = source == Source::Reported && usage.input_total() > 0 && bound > 0;
        let input = [usage.input, usage.cache_read, usage.cache_write, usage.cache_write_1h];
        let shares = told.then(|| input.map(|tokens| part(tokens, MICRO, bound)));
        match self.0.get_mut(pattern) {
            Some(habit) => {
                habit.output = moved(habit.output, output);
                habit.input = match (habit.input, shares) {
                    (Some(mut known), Some(new)) => {
                        known.iter_mut().zip(new).for_each(|(known, new)| *known = moved(*known, new));
                        Some(known)
                    }
                    (known, new) => known.or(new),
                };
            }
            None => drop(self.0.insert(pattern.to_owned(), Habit { input: shares, output })),
        }
    }
}

/// `whole * of / by`, rounded up.
fn part(whole: u64, of: u64, by: u64) -> u64 {
    let product = u128::from(whole).saturating_mul(u128::from(of));
    u64::try_from(product.div_ceil(u128::from(by.max(1)))).unwrap_or(u64::MAX)
}

fn moved(known: u64, new: u64) -> u64 {
    known.saturating_sub(known / 8).saturating_add(new / 8)
}

#[cfg(test)]
mod tests {
    use super::{Expected, Habits};
    use crate::meter::usage::{Source, Usage};

    const TURN: Usage = Usage {
        input: 300,
        cache_read: 100_000,
        cache_write: 200,
        cache_write_1h: 0,
        output: 600,
        reasoning: 0,
        images: 0,
        characters: 0,
        seconds: 0,
        provider_total: 0,
    };

    #[test]
    fn what_is_not_known_is_assumed() {
        let mut habits = Habits::default();
        assert_eq!(habits.expect("m", 1_000, 1_024), Expected::Assumed(1_024));
        // A provider that is silent tells nothing of its cache.
        habits.learn("m", 150_000, 1, &TURN, Source::Estimated);
        assert_eq!(habits.expect("m", 150_000, 1_024), Expected::Assumed(600));
        assert_eq!(habits.expect("other", 1_000, 1_024), Expected::Assumed(1_024));
    }

    #[test]
    fn the_next_turn_is_expected_to_be_read_from_the_cache_as_the_last_was() {
        let mut habits = Habits::default();
        habits.learn("m", 150_000, 2, &TURN, Source::Reported);
        let Expected::Learned(next) = habits.expect("m", 300_000, 1_024) else { panic!() };
        assert_eq!((next.input, next.cache_read, next.cache_write, next.output), (600, 200_001, 401, 300));
        // One turn that misses the cache is an eighth of what is expected.
        let missed = Usage { input: 100_500, cache_read: 0, cache_write: 0, ..TURN };
        habits.learn("m", 150_000, 1, &missed, Source::Reported);
        let Expected::Learned(next) = habits.expect("m", 150_000, 1_024) else { panic!() };
        assert!((12_500..13_200).contains(&next.input) && (87_000..88_000).contains(&next.cache_read), "{next:?}");
    }

    #[test]
    fn absurd_figures_stop_at_the_largest_there_is() {
        let huge = Usage { input: u64::MAX, cache_read: u64::MAX, output: u64::MAX, ..Usage::default() };
        let most = u64::MAX.div_ceil(1_000_000);
        for (bound, choices, output, (next, input)) in [
            // Without a bound no share of it is known.
            (0, 0, most, (7, None)),
            // A call that was all that its bound allows: so will the next be, whatever its bound.
            (u64::MAX, 1, most, (7, Some(7))),
            (u64::MAX, 1, most, (u64::MAX, Some(u64::MAX))),
            // One that was far above it: nothing is larger than what can be said.
            (1, u64::MAX, 1, (u64::MAX, Some(u64::MAX))),
            (1, u64::MAX, 1, (0, Some(0))),
        ] {
            let mut habits = Habits::default();
            // What goes on like that moves nothing.
            for _ in 0..3 {
                habits.learn("m", bound, choices, &huge, Source::Reported);
                let expected = habits.expect("m", next, 5);
                assert_eq!(expected.output(), output, "{bound} {choices}");
                match (expected, input) {
                    (Expected::Assumed(_), None) => {}
                    (Expected::Learned(told), Some(input)) => {
                        assert_eq!(
                            (told.input, told.cache_read, told.cache_write),
                            (input, input, 0),
                            "{bound} {next}"
                        );
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!(expected.of_choices(u64::MAX).output(), output.saturating_mul(u64::MAX));
            }
        }
    }
}
