//! What a call of a model costs: rates by direction, and the factor of the hour. All in integers.

use super::band::Band;
use super::unit::Consumed;
use crate::meter::dialect::{Api, Named};
use crate::meter::usage::Usage;
use crate::quota::MICRO;

/// Micro-units of credits or money for a million of each thing that a call consumes.
///
/// Rates are integers; the sum is rounded up once an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Uncached input tokens.
    pub input: u64,
    /// Input tokens read from a cache.
    pub cache_read: u64,
    /// Input tokens written to a cache, for some minutes.
    pub cache_write: u64,
    /// Input tokens written to a cache for an hour.
    pub cache_write_1h: u64,
    /// Output tokens that are no reasoning.
    pub output: u64,
    /// Output tokens that are reasoning.
    pub reasoning: u64,
    /// Requests.
    pub request: u64,
    /// Turns of a conversation.
    pub prompt: u64,
    /// Tools called in the answer.
    pub tool_call: u64,
    /// Images made.
    pub image: u64,
    /// Characters read aloud.
    pub character: u64,
    /// Seconds of sound or film.
    pub second: u64,
}

impl Rates {
    /// The rates with every input token at the dearest input rate, and every output token at the dearest output rate:
    /// which of them are cached, or reasoning, is not known before the answer.
    pub fn dearest(&self) -> Self {
        let input = self.input.max(self.cache_read).max(self.cache_write).max(self.cache_write_1h);
        let output = self.output.max(self.reasoning);
        let (cache_read, cache_write, cache_write_1h) = (input, input, input);
        Self { input, cache_read, cache_write, cache_write_1h, output, reasoning: output, ..*self }
    }

    /// The same rates for a call that keeps nothing in a cache for an hour.
    fn without_hours(&self) -> Self {
        Self { cache_write_1h: self.cache_write, ..*self }
    }

    /// All of them, in the order in which they are written above, but for the one of an hour: that was added when plans had
    /// been sold, and is told apart only where it is another than that of some minutes.
    pub(super) fn each(&self) -> impl Iterator<Item = u64> {
        let Self { input, cache_read, cache_write, output, reasoning, .. } = *self;
        let Self { request, prompt, tool_call, image, character, second, .. } = *self;
        let hour = Some(self.cache_write_1h).filter(|rate| *rate != cache_write);
        [input, cache_read, cache_write, output, reasoning, request, prompt, tool_call, image, character, second]
            .into_iter()
            .chain(hour)
    }

    /// Whether nothing costs anything.
    pub fn is_free(&self) -> bool {
        *self == Self::default()
    }

    /// Micro-units for `consumed`, times a million.
    fn sum(&self, consumed: &Consumed) -> u128 {
        let Consumed { prompts, tool_calls, .. } = consumed;
        let usage = consumed.all();
        let part = |count: u64, rate: u64| u128::from(count).saturating_mul(u128::from(rate));
        let reasoning = usage.reasoning.min(usage.output);
        let hour = usage.cache_write_1h.min(usage.cache_write);
        [
            part(usage.input, self.input),
            part(usage.cache_read, self.cache_read),
            part(usage.cache_write.saturating_sub(hour), self.cache_write),
            part(hour, self.cache_write_1h),
            part(usage.output.saturating_sub(reasoning), self.output),
            part(reasoning, self.reasoning),
            part(1, self.request),
            part(*prompts, self.prompt) / u128::from(MICRO),
            part(*tool_calls, self.tool_call),
            part(usage.images, self.image),
            part(usage.characters, self.character),
            part(usage.seconds, self.second),
        ]
        .into_iter()
        .fold(0, u128::saturating_add)
    }
}

/// The price at which one exchange is admitted: pinned then, whatever the clock or the policy says when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// In credits.
    pub credits: Rates,
    /// In the bundle's currency.
    pub money: Rates,
    /// What the model's calls weigh at this moment, in micro-units: 1,000,000 is once.
    pub factor: u64,
    /// What they weigh instead where the input has more than so many tokens.
    pub long: Option<(u64, u64)>,
    /// Priced amounts are rounded up to a multiple of this many micro-units; at least 1.
    pub round: u64,
    /// Whether the call may write to a cache that is kept for an hour: what is held has to cover that.
    pub hours: bool,
}

impl Default for Price {
    fn default() -> Self {
        Self { credits: Rates::default(), money: Rates::default(), factor: MICRO, long: None, round: 1, hours: true }
    }
}

impl Price {
    /// The dearest that this price can come to, whatever is cached, reasoned, or longer than thought.
    pub fn dearest(&self) -> Self {
        let factor = self.long.map_or(self.factor, |(_, factor)| factor.max(self.factor));
        let dearest = |rates: Rates| if self.hours { rates.dearest() } else { rates.without_hours().dearest() };
        Self { credits: dearest(self.credits), money: dearest(self.money), factor, long: None, ..*self }
    }

    fn factor_for(&self, usage: &Usage) -> u128 {
        let factor = self.long.filter(|(above, _)| usage.input_total() > *above).map_or(self.factor, |(_, f)| f);
        u128::from(factor)
    }

    /// `amount` micro-units times the factor, rounded up.
    pub(super) fn weighted(&self, amount: u64, usage: &Usage) -> u64 {
        let product = u128::from(amount).saturating_mul(self.factor_for(usage));
        u64::try_from(product.div_ceil(u128::from(MICRO))).unwrap_or(u64::MAX)
    }

    /// Micro-units that `consumed` costs at `rates`, rounded up once.
    pub(super) fn charge(&self, rates: &Rates, consumed: &Consumed) -> u64 {
        let sum = rates.sum(consumed).saturating_mul(self.factor_for(&consumed.usage));
        let micro = sum.div_ceil(u128::from(MICRO).saturating_mul(u128::from(MICRO)));
        let round = u128::from(self.round.max(1));
        u64::try_from(micro.div_ceil(round).saturating_mul(round)).unwrap_or(u64::MAX)
    }
}

/// One line of a model's `factor`: what its calls weigh when all that it names is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactorLine {
    /// In micro-units.
    pub factor: u64,
    /// Hours and days.
    pub band: Band,
    /// Unix milliseconds, from the first up to and without the second.
    pub dates: (u64, u64),
    /// The APIs; empty: any.
    pub apis: Vec<Named>,
    /// Inputs of more tokens than this.
    pub above: Option<u64>,
}

impl FactorLine {
    /// Whether it applies to every call.
    pub(super) fn is_always(&self) -> bool {
        let any_time = self.band.times.is_none() && !self.band.days.contains(&true);
        any_time && self.dates == (0, u64::MAX) && self.apis.is_empty() && self.above.is_none()
    }

    fn applies(&self, wall_ms: u64, api: Api) -> bool {
        let (from, until) = self.dates;
        let served = self.apis.is_empty() || self.apis.iter().any(|named| named.means(api));
        served && from <= wall_ms && wall_ms < until && self.band.has(wall_ms).unwrap_or(false)
    }
}

/// The factor that a call admitted now has, and the one it has instead with a longer input than so many tokens.
pub(super) fn factor(lines: &[FactorLine], wall_ms: u64, api: Api) -> (u64, Option<(u64, u64)>) {
    let mut applying = lines.iter().filter(|line| line.applies(wall_ms, api));
    let long = applying.clone().find_map(|line| line.above.map(|above| (above, line.factor)));
    let plain = applying.find(|line| line.above.is_none()).map_or(MICRO, |line| line.factor);
    (plain, long)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::dialect::{Dialect, Endpoint};

    const CHAT: Api = Api { dialect: Dialect::OpenAiChat, endpoint: Endpoint::Chat };

    fn ms(text: &str) -> u64 {
        let at: jiff::Timestamp = text.parse().unwrap();
        u64::try_from(at.as_millisecond()).unwrap()
    }

    fn line(factor: u64) -> FactorLine {
        FactorLine {
            factor: factor * MICRO,
            band: Band { times: None, days: [false; 7], zone: "Asia/Shanghai".to_owned() },
            dates: (0, u64::MAX),
            apis: Vec::new(),
            above: None,
        }
    }

    fn at(lines: &[FactorLine], moment: &str) -> u64 {
        factor(lines, ms(moment), CHAT).0 / MICRO
    }

    #[test]
    fn the_first_band_that_the_moment_lies_in_decides() {
        let mut peak = line(3);
        peak.band.times = Some((14 * 60, 18 * 60));
        let lines = [peak, line(2)];
        assert_eq!(at(&lines, "2026-11-25T13:59:59+08:00"), 2);
        assert_eq!(at(&lines, "2026-11-25T14:00:00+08:00"), 3);
        assert_eq!(at(&lines, "2026-11-25T17:59:59+08:00"), 3);
        assert_eq!(at(&lines, "2026-11-25T18:00:00+08:00"), 2);
        assert_eq!(at(&[], "2026-11-25T18:00:00+08:00"), 1);
    }

    #[test]
    fn a_band_over_midnight_belongs_to_the_day_it_begins_on() {
        let mut friday_night = line(5);
        friday_night.band.times = Some((22 * 60, 6 * 60));
        friday_night.band.days[4] = true;
        let lines = [friday_night];
        // 27 November 2026 is a Friday.
        assert_eq!(at(&lines, "2026-11-27T21:59:00+08:00"), 1);
        assert_eq!(at(&lines, "2026-11-27T22:00:00+08:00"), 5);
        assert_eq!(at(&lines, "2026-11-28T05:59:00+08:00"), 5);
        assert_eq!(at(&lines, "2026-11-28T06:00:00+08:00"), 1);
        assert_eq!(at(&lines, "2026-11-28T22:00:00+08:00"), 1);
        assert_eq!(at(&lines, "2026-11-27T05:00:00+08:00"), 1);
    }

    #[test]
    fn dates_end_before_their_end() {
        let promo = FactorLine { dates: (ms("2026-11-01T00:00:00+08:00"), ms("2026-12-01T00:00:00+08:00")), ..line(1) };
        let lines = [promo, line(2)];
        assert_eq!(at(&lines, "2026-10-31T23:59:59+08:00"), 2);
        assert_eq!(at(&lines, "2026-11-30T23:59:59+08:00"), 1);
        assert_eq!(at(&lines, "2026-12-01T00:00:00+08:00"), 2);
    }

    #[test]
    fn a_long_input_weighs_by_its_own_line_and_the_hold_takes_the_dearer() {
        let lines = [FactorLine { above: Some(200_000), ..line(2) }, line(1)];
        let (plain, long) = factor(&lines, 0, CHAT);
        let rates = Rates { input: MICRO * MICRO, ..Rates::default() };
        let price = Price { credits: rates, factor: plain, long, ..Price::default() };
        let charge = |input| {
            price.charge(&rates, &Consumed { usage: Usage { input, ..Usage::default() }, ..Consumed::default() })
        };
        assert_eq!(charge(200_000), 200_000 * MICRO);
        assert_eq!(charge(200_001), 400_002 * MICRO);
        assert_eq!(price.dearest().factor, 2 * MICRO);
    }

    #[test]
    fn an_hour_in_a_cache_has_a_rate_of_its_own() {
        // Anthropic, "Prompt caching": five minutes cost 1.25 times what input costs, an hour twice.
        let rates = Rates { input: 4, cache_write: 5, cache_write_1h: 8, ..Rates::default() };
        let usage = Usage { input: 1, cache_write: 100, cache_write_1h: 60, ..Usage::default() };
        let price = Price { credits: rates, round: 1, ..Price::default() };
        let consumed = Consumed { usage, ..Consumed::default() };
        let million = |sum: u64| sum.div_ceil(MICRO);
        assert_eq!(rates.sum(&consumed), u128::from(4 + 40 * 5 + 60 * 8u64));
        assert_eq!(price.charge(&rates, &consumed), million(684));
        // What cannot come is not held.
        let held = |hours| Price { hours, ..price }.dearest().credits;
        assert_eq!((held(true).input, held(true).cache_write_1h), (8, 8));
        assert_eq!((held(false).input, held(false).cache_write_1h), (5, 5));
    }

    #[test]
    fn the_example_of_alibaba_rounds_up_to_the_hundredth() {
        // Model Studio's help, "Token Plan": 8,349 tokens in, 40,794 cached, 573 out of qwen3.6-plus are 3.18 credits.
        let rates = Rates { input: 200_000_000, cache_read: 20_000_000, output: 1_200_000_000, ..Rates::default() };
        let usage = Usage { input: 8_349, cache_read: 40_794, output: 573, ..Usage::default() };
        let price = Price { credits: rates, round: MICRO / 100, ..Price::default() };
        assert_eq!(price.charge(&rates, &Consumed { usage, ..Consumed::default() }), 3_180_000);
    }
}
