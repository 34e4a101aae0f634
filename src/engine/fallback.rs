//! Which model answers while the upstream of another one is down or throttles.
//!
//! A filter cannot send a request again: a call that fails keeps its answer (Envoy may have tried it again before). But it
//! tells what those that follow would meet. Where the plan names another model for such a time, the one that failed *rests*:
//! calls for it go to the other one until its upstream's `retry-after` is over, or a time that the plan says.
//!
//! Rests lie in shared data, so that all workers of an Envoy know of them, one small value for each line of the catalogue,
//! region and tier that ever failed: names of callers' making share the line of their glob. What Envoy sent nowhere by its own
//! choice (no route, a circuit breaker) says nothing of an upstream, or callers could let a model rest by asking for a path
//! that leads nowhere. Calls whose model stands in their path, or in a form, cannot be sent elsewhere and go where they
//! would have gone. After a rest calls come back at once; the first that fails begins another one.

use super::admission::{How, Passed};
use super::event::Header;
use super::exchange::Prepared;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Fallback, LONGEST_REST_MS, Model, Plan};
use crate::quota::{Cells, Expect, Keys};

/// Where a call goes that would go to a model that rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The line of the catalogue that rests.
    from: String,
    /// The model that takes its place.
    pub to: String,
}

impl Step {
    /// What the record says of it.
    pub fn passed(self) -> Passed {
        Passed { how: How::FellBack, quota: self.from }
    }
}

/// The line of the catalogue whose upstream it is: an alias has that of the model that it stands for.
pub(super) fn line(model: &Model) -> &str {
    model.alias.as_deref().unwrap_or(&model.pattern)
}

fn rule<'p>(plan: &'p Plan, model: &Model, name: &str) -> Option<&'p Fallback> {
    plan.connectivity.fallback.iter().find(|rule| rule.takes(name, model.real(name)))
}

/// Where a call is to go instead; `None`: it goes where it was to go. It goes to no model twice, and to none that rests too,
/// unless another one takes the place of that.
pub(super) fn next(
    bundle: &Bundle,
    plan: &Plan,
    prepared: &Prepared,
    now: Now,
    keys: &Keys,
    cells: &mut dyn Cells,
) -> Option<Step> {
    let Prepared { model, call, api, patience, .. } = prepared;
    let first = rule(plan, model, &call.model).filter(|_| call.can_be_sent())?;
    if !rests(plan, model, first, now, keys, cells) {
        return None;
    }
    let mut seen = vec![line(model)];
    let mut rule = first;
    loop {
        let to = bundle.models.find(&rule.to).filter(|to| to.speaks(*api))?;
        if seen.contains(&line(to)) || patience.models.contains(&rule.to) {
            return None;
        }
        // Where no rule is for it, nobody asks whether it rests.
        match self::rule(plan, to, &rule.to) {
            Some(next) if rests(plan, to, next, now, keys, cells) => {
                seen.push(line(to));
                rule = next;
            }
            _ => return Some(Step { from: line(model).to_owned(), to: rule.to.clone() }),
        }
    }
}

/// Whether a model rests for calls of this plan, by the rule that is for it.
fn rests(plan: &Plan, model: &Model, rule: &Fallback, now: Now, keys: &Keys, cells: &mut dyn Cells) -> bool {
    // A store that does not answer says nothing of upstreams.
    let cell = cells.load(&keys.rest(&upstream(plan, model))).ok().flatten();
    cell.and_then(|cell| Rest::read(&cell.value)).is_some_and(|rest| rest.is_under_way(rule.longest_ms, now))
}

/// What routes tell upstreams apart by, as far as plans say it: the region, the tier, and the line of the catalogue. What is
/// down for one of these need not be so for another.
fn upstream(plan: &Plan, model: &Model) -> String {
    let region = model.region(&plan.connectivity.regions).unwrap_or_default();
    let tier = plan.connectivity.tier.as_deref().unwrap_or_default();
    format!("{region}/{tier}/{}", line(model))
}

/// Since when and until when a model rests, in milliseconds of the clock that all workers share.
#[derive(Clone, Copy, Debug)]
struct Rest {
    since_ms: u64,
    until_ms: u64,
}

impl Rest {
    fn read(value: &[u8]) -> Option<Self> {
        let (since, until) = value.split_first_chunk()?;
        let (since_ms, until_ms) = (u64::from_le_bytes(*since), u64::from_le_bytes(until.try_into().ok()?));
        Some(Self { since_ms, until_ms })
    }

    fn bytes(self) -> Vec<u8> {
        [self.since_ms.to_le_bytes(), self.until_ms.to_le_bytes()].concat()
    }

    /// For those who wait no longer than `longest_ms`. A rest that begins later than now was written by a stranger, or before
    /// the clock began anew.
    fn is_under_way(self, longest_ms: u64, now: Now) -> bool {
        let longest = self.since_ms.saturating_add(longest_ms.min(LONGEST_REST_MS));
        self.since_ms <= now.mono_ms && now.mono_ms < self.until_ms.min(longest)
    }
}

/// Lets a model rest whose upstream is down or throttles, and `said` for how long. For how many milliseconds it rests from
/// now on; `None`: no rule of the plan is for it, or it rests for longer already.
pub(super) fn rest(
    plan: &Plan,
    model: &Model,
    name: &str,
    said: Option<u64>,
    now: Now,
    keys: &Keys,
    cells: &mut dyn Cells,
) -> Option<u64> {
    let rule = rule(plan, model, name)?;
    let ms = said.unwrap_or(rule.rest_ms).min(rule.longest_ms);
    let key = keys.rest(&upstream(plan, model));
    let begun = Rest { since_ms: now.mono_ms, until_ms: now.mono_ms.saturating_add(ms) };
    let there = cells.load(&key).ok()?;
    let known = there.as_ref().and_then(|cell| Rest::read(&cell.value));
    let known = known.filter(|known| known.is_under_way(rule.longest_ms, now));
    if ms == 0 || known.is_some_and(|known| known.until_ms >= begun.until_ms) {
        return None;
    }
    let expect = there.map_or(Expect::Absent, |cell| Expect::Version(cell.version));
    // Whoever was faster has just met the same upstream.
    cells.swap(&key, expect, &begun.bytes()).ok()?.then_some(ms)
}

/// For how long an answer asks not to be asked again, in milliseconds: OpenAI's `retry-after-ms`, or `retry-after` in
/// seconds or as a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &[Header], now: Now) -> Option<u64> {
    let field = |name: &[u8]| {
        let value = headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim_ascii());
        value.and_then(|value| std::str::from_utf8(value).ok())
    };
    let in_ms = field(b"retry-after-ms").and_then(|ms| whole(ms.split('.').next().unwrap_or_default()));
    in_ms.or_else(|| {
        let said = field(b"retry-after")?;
        let seconds = whole(said.split('.').next().unwrap_or_default()).map(|seconds| seconds.saturating_mul(1_000));
        seconds.or_else(|| Some(date(said)?.saturating_sub(now.wall_ms)))
    })
}

fn whole(digits: &str) -> Option<u64> {
    (digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// Unix milliseconds of `Sun, 06 Nov 1994 08:49:37 GMT`, the only form in which dates are sent (RFC 9110, 5.6.7).
fn date(written: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words = written.strip_suffix(" GMT")?.split_once(", ")?.1;
    let mut words = words.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)?.checked_add(1)?;
    let mut clock = time.split(':').map(|part| part.parse::<i8>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let day = jiff::civil::Date::new(year.parse().ok()?, i8::try_from(month).ok()?, day.parse().ok()?).ok()?;
    let time = jiff::civil::Time::new(hour, minute, second.min(59), 0).ok()?;
    let at = jiff::tz::TimeZone::UTC.to_timestamp(day.to_datetime(time)).ok()?;
    u64::try_from(at.as_millisecond()).ok()
}

#[cfg(test)]
#[path = "fallback_tests.rs"]
mod tests;
