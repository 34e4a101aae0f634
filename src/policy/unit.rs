//! Units: what a quota measures, and how much of it an exchange has consumed.

use super::price::Price;
use crate::meter::usage::Usage;
use crate::quota::MICRO;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// All tokens.
    Tokens,
    /// Input tokens, cached ones included.
    InputTokens,
    /// What the provider had to read or write anew: input that came from no cache, and output.
    FreshTokens,
    /// Input tokens that were neither read from nor written to a cache.
    UncachedTokens,
    /// Input tokens read from a cache.
    CacheReadTokens,
    /// Input tokens written to a cache.
    CacheWriteTokens,
    /// Output tokens, reasoning included.
    OutputTokens,
    /// The part of the output that was reasoning.
    ReasoningTokens,
    /// All tokens, times the factor of the model.
    WeightedTokens,
    /// Admitted exchanges.
    Requests,
    /// Admitted exchanges, times the factor of the model.
    WeightedRequests,
    /// Turns of a conversation: an exchange that only goes on with tool results begins none.
    Prompts,
    /// Turns of a conversation, times the factor of the model.
    WeightedPrompts,
    /// Tools called in answers.
    ToolCalls,
    /// Images made.
    Images,
    /// Characters read aloud.
    Characters,
    /// Seconds of sound or film.
    Seconds,
    /// The weighted sum of the model's [`Rates`](super::price::Rates).
    Credits,
    /// The same in a currency (ISO 4217).
    Money(&'static str),
}

/// Every unit but money: the words of policies and messages, and the name in records.
const UNITS: [(Unit, &str, &str); 18] = [
    (Unit::Tokens, "tokens", "tokens"),
    (Unit::InputTokens, "input tokens", "input_tokens"),
    (Unit::FreshTokens, "fresh tokens", "fresh_tokens"),
    (Unit::UncachedTokens, "uncached tokens", "uncached_tokens"),
    (Unit::CacheReadTokens, "cache read tokens", "cache_read_tokens"),
    (Unit::CacheWriteTokens, "cache write tokens", "cache_write_tokens"),
    (Unit::OutputTokens, "output tokens", "output_tokens"),
    (Unit::ReasoningTokens, "reasoning tokens", "reasoning_tokens"),
    (Unit::WeightedTokens, "weighted tokens", "weighted_tokens"),
    (Unit::Requests, "requests", "requests"),
    (Unit::WeightedRequests, "weighted requests", "weighted_requests"),
    (Unit::Prompts, "prompts", "prompts"),
    (Unit::WeightedPrompts, "weighted prompts", "weighted_prompts"),
    (Unit::ToolCalls, "tool calls", "tool_calls"),
    (Unit::Images, "images", "images"),
    (Unit::Characters, "characters", "characters"),
    (Unit::Seconds, "seconds", "seconds"),
    (Unit::Credits, "credits", "credits"),
];

/// Currencies that amounts may be in (ISO 4217).
const CURRENCIES: [&str; 20] = [
    "AED", "AUD", "BRL", "CAD", "CHF", "CNY", "EUR", "GBP", "HKD", "IDR", "INR", "JPY", "KRW", "MYR", "RUB", "SAR",
    "SGD", "THB", "TWD", "USD",
];

/// What one exchange has consumed, of everything that can be measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumed {
    /// Tokens.
    pub usage: Usage,
    /// Turns of a conversation, in micro-units.
    pub prompts: u64,
    /// Tools called in the answer.
    pub tool_calls: u64,
    /// How many more times its input was sent, by tries that failed. They make no prompt longer.
    pub again: u64,
}

impl Consumed {
    /// The tokens of all tries together.
    pub fn all(&self) -> Usage {
        let Self { usage, again, .. } = self;
        let each = |tokens: u64| tokens.saturating_add(tokens.saturating_mul(*again));
        let (input, cache_read, cache_write) = (each(usage.input), each(usage.cache_read), each(usage.cache_write));
        Usage { input, cache_read, cache_write, cache_write_1h: each(usage.cache_write_1h), ..*usage }
    }
}

impl Unit {
    /// The unit as policies and messages write it, in the plural.
    pub fn words(self) -> &'static str {
        match self {
            Self::Money(currency) => currency,
            _ => UNITS.iter().find(|(unit, ..)| *unit == self).map_or("units", |(_, words, _)| words),
        }
    }

    /// Its name in records: `report::wire::Charge::unit`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Money(currency) => currency,
            _ => UNITS.iter().find(|(unit, ..)| *unit == self).map_or("units", |(_, _, name)| name),
        }
    }

    /// The unit of these [`words`](Self::words), in the singular or the plural; of a currency its code.
    pub fn from_words(words: &str) -> Option<Self> {
        let same = |name: &str| words == name || name.strip_suffix('s') == Some(words);
        let unit = UNITS.iter().find(|(_, name, _)| same(name)).map(|(unit, ..)| *unit);
        unit.or_else(|| currency(words).map(Self::Money))
    }

    /// All words but those of currencies, for a help line.
    pub(super) fn all_words() -> impl Iterator<Item = &'static str> {
        UNITS.iter().map(|(_, words, _)| *words)
    }

    /// Whether half of one means something.
    pub fn has_fractions(self) -> bool {
        matches!(self, Self::Credits | Self::Money(_)) || self.is_weighted() || self == Self::Prompts
    }

    /// Whether the model's factor applies to it, and not a price of its own.
    pub fn is_weighted(self) -> bool {
        matches!(self, Self::WeightedTokens | Self::WeightedRequests | Self::WeightedPrompts)
    }

    /// Whether it depends on how long prompts are.
    pub fn counts_input(self) -> bool {
        use Unit::{Credits, FreshTokens, InputTokens, Money, Tokens, UncachedTokens, WeightedTokens};
        let cached = matches!(self, Self::CacheReadTokens | Self::CacheWriteTokens);
        cached
            || matches!(self, Tokens | InputTokens | FreshTokens | UncachedTokens | WeightedTokens | Credits | Money(_))
    }

    /// Whether it depends on how long answers are.
    pub fn counts_output(self) -> bool {
        use Unit::{Credits, FreshTokens, Money, OutputTokens, ReasoningTokens, Tokens, WeightedTokens};
        matches!(self, Tokens | FreshTokens | OutputTokens | ReasoningTokens | WeightedTokens | Credits | Money(_))
    }

    /// Whether it is a sum of prices.
    pub fn is_priced(self) -> bool {
        matches!(self, Self::Credits | Self::Money(_))
    }

    /// Micro-units that `consumed` comes to, by the price that its exchange was admitted at. Priced and weighted units
    /// are rounded up to the micro-unit once.
    pub fn amount(self, consumed: &Consumed, price: &Price) -> u64 {
        let Consumed { usage: one, prompts, tool_calls, .. } = consumed;
        let usage = consumed.all();
        let whole = |count: u64| count.saturating_mul(MICRO);
        match self {
            Self::Tokens => whole(usage.total()),
            Self::InputTokens => whole(usage.input_total()),
            Self::FreshTokens => whole(usage.input.saturating_add(usage.cache_write).saturating_add(usage.output)),
            Self::UncachedTokens => whole(usage.input),
            Self::CacheReadTokens => whole(usage.cache_read),
            Self::CacheWriteTokens => whole(usage.cache_write),
            Self::OutputTokens => whole(usage.output),
            Self::ReasoningTokens => whole(usage.reasoning),
            Self::Requests => MICRO,
            Self::Prompts => *prompts,
            Self::ToolCalls => whole(*tool_calls),
            Self::Images => whole(usage.images),
            Self::Characters => whole(usage.characters),
            Self::Seconds => whole(usage.seconds),
            Self::WeightedTokens => price.weighted(whole(usage.total()), one),
            Self::WeightedRequests => price.weighted(MICRO, one),
            Self::WeightedPrompts => price.weighted(*prompts, one),
            Self::Credits => price.charge(&price.credits, consumed),
            Self::Money(_) => price.charge(&price.money, consumed),
        }
    }
}

/// The code of a currency, if it is one that is known.
pub(super) fn currency(code: &str) -> Option<&'static str> {
    CURRENCIES.iter().find(|known| **known == code).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::price::Rates;

    #[test]
    fn words_are_read_again_in_singular_and_plural() {
        for words in Unit::all_words() {
            assert_eq!(Unit::from_words(words).unwrap().words(), words);
            assert_eq!(Unit::from_words(words), Unit::from_words(words.strip_suffix('s').unwrap()));
        }
        assert_eq!(Unit::from_words("CNY").unwrap().words(), "CNY");
        assert_eq!((Unit::from_words("XXX"), Unit::from_words("cny")), (None, None));
    }

    #[test]
    fn each_unit_takes_its_part() {
        let usage = Usage {
            input: 1,
            cache_read: 20,
            cache_write: 300,
            output: 4_000,
            reasoning: 1_000,
            images: 5,
            characters: 6,
            seconds: 7,
            ..Usage::default()
        };
        let consumed = Consumed { usage, prompts: MICRO / 2, tool_calls: 3, again: 0 };
        let rates = Rates { input: MICRO * MICRO, ..Rates::default() };
        let price = Price { credits: rates, factor: 2 * MICRO, ..Price::default() };
        let of = |words: &str| Unit::from_words(words).unwrap().amount(&consumed, &price) as f64 / MICRO as f64;
        for (words, amount) in [
            ("tokens", 4321.0),
            ("input tokens", 321.0),
            ("fresh tokens", 4301.0),
            ("uncached tokens", 1.0),
            ("cache read tokens", 20.0),
            ("cache write tokens", 300.0),
            ("output tokens", 4000.0),
            ("reasoning tokens", 1000.0),
            ("weighted tokens", 8642.0),
            ("requests", 1.0),
            ("weighted requests", 2.0),
            ("prompts", 0.5),
            ("weighted prompts", 1.0),
            ("tool calls", 3.0),
            ("images", 5.0),
            ("characters", 6.0),
            ("seconds", 7.0),
            ("credits", 2.0),
        ] {
            assert_eq!(of(words), amount, "{words}");
        }
    }
}
