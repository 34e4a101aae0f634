//! Which window a moment falls into, and how a bucket drains.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use super::{AnniversaryPeriod, CalendarPeriod, Window};
use crate::now::Now;

/// A window that time opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Span {
    /// Its start in Unix milliseconds, never 0.
    pub(super) start: u64,
    /// The first moment after it.
    pub(super) ends: u64,
}

/// The window that would open at `wall_ms`, or `None` where time opens none (buckets, concurrency).
pub(super) fn opening(window: &Window, wall_ms: u64) -> Option<Span> {
    match window {
        Window::Calendar { period, zone } => Some(within(zone, wall_ms, |at| calendar(*period, at))),
        Window::Anniversary { every, anchor, zone } => {
            Some(within(zone, wall_ms, |at| anniversary(*every, *anchor, at)))
        }
        Window::FirstUse { length_ms } => {
            let start = wall_ms.max(1);
            Some(Span { start, ends: start.saturating_add((*length_ms).max(1)) })
        }
        Window::Term { from_ms, until_ms } => Some(Span { start: (*from_ms).max(1), ends: *until_ms }),
        Window::Lifetime => Some(Span { start: 1, ends: u64::MAX }),
        Window::Sliding { .. } | Window::Bucket { .. } | Window::Concurrent => None,
    }
}

/// Start and end of the window that would open now, in Unix milliseconds; `None` where time opens none.
pub fn next_window(window: &Window, now: Now) -> Option<(u64, u64)> {
    opening(window, now.wall_ms).map(|span| (span.start, span.ends))
}

/// The span around `wall_ms` in an IANA zone. An unknown zone, which `farebox check` refuses, is UTC. Beyond the year
/// 9999 time ends, and with it the counting of windows.
fn within(zone: &str, wall_ms: u64, bounds: impl Fn(&ZonedDateTime) -> Option<(ZonedDateTime, ZonedDateTime)>) -> Span {
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    let ms = |at: &ZonedDateTime| u64::try_from(at.timestamp().as_millisecond()).unwrap_or(0);
    let at = i64::try_from(wall_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let span = at.and_then(|at| bounds(&at.to_zoned_datetime(zone)));
    span.map_or(Span { start: wall_ms.max(1), ends: u64::MAX }, |(start, ends)| Span {
        start: ms(&start).max(1),
        ends: ms(&ends),
    })
}

/// A day starts at its first moment that exists in the zone: not always 00:00.
fn first_moment(date: Date, zone: &TimeZone) -> Option<ZonedDateTime> {
    date.to_zoned_datetime(zone.clone()).ok()
}

fn calendar(period: CalendarPeriod, at: &ZonedDateTime) -> Option<(ZonedDateTime, ZonedDateTime)> {
    let date = at.date();
    let (first, length) = match period {
        CalendarPeriod::Minute => return even(at, 60),
        CalendarPeriod::Hour => return even(at, 3600),
        CalendarPeriod::Day => (date, jiff::Span::new().days(1)),
        CalendarPeriod::Week { starts } => {
            let today = i64::from(date.weekday().to_monday_zero_offset());
            let since = (today - i64::from(starts % 7)).rem_euclid(7);
            (date.checked_sub(jiff::Span::new().days(since)).ok()?, jiff::Span::new().days(7))
        }
        CalendarPeriod::Month => (date.first_of_month(), jiff::Span::new().months(1)),
        CalendarPeriod::Year => (date.first_of_year(), jiff::Span::new().years(1)),
    };
    let zone = at.time_zone();
    Some((first_moment(first, zone)?, first_moment(first.checked_add(length).ok()?, zone)?))
}

/// Minutes and hours are told by the offset that the zone has at this moment, so that an hour that clocks repeat is
/// two windows.
fn even(at: &ZonedDateTime, seconds: i64) -> Option<(ZonedDateTime, ZonedDateTime)> {
    let offset = i64::from(at.offset().seconds());
    let now = at.timestamp().as_second();
    let since = (now + offset).rem_euclid(seconds);
    let moment = |second: i64| {
        Timestamp::from_second(second).ok().map(|moment| moment.to_zoned_datetime(at.time_zone().clone()))
    };
    Some((moment(now - since)?, moment(now - since + seconds)?))
}

fn anniversary(every: AnniversaryPeriod, anchor: Date, at: &ZonedDateTime) -> Option<(ZonedDateTime, ZonedDateTime)> {
    let zone = at.time_zone();
    let step = match every {
        AnniversaryPeriod::Month => 1,
        AnniversaryPeriod::Year => 12,
    };
    // Always counted from the anchor itself: from a clamped day it would stay clamped.
    let begins = |count: i64| {
        let months = jiff::Span::new().try_months(count.checked_mul(step)?).ok()?;
        first_moment(anchor.checked_add(months).ok()?, zone)
    };
    let date = at.date();
    let months = i64::from(date.year() - anchor.year()) * 12 + i64::from(date.month() - anchor.month());
    let mut count = months.div_euclid(step).max(0);
    if count > 0 && begins(count)? > *at {
        count -= 1;
    }
    Some((begins(count)?, begins(count + 1)?))
}

/// A bucket: `limit` micro-units that refill in `period_ms`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) limit: u64,
    pub(super) period_ms: u64,
}

impl Rate {
    fn period(self) -> u128 {
        u128::from(self.period_ms.max(1))
    }

    /// What drains in `elapsed_ms` and a remainder of earlier drains: whole micro-units, and the new remainder in
    /// micro-units times milliseconds of the period. Exact, however often it is asked.
    pub(super) fn drained(self, elapsed_ms: u64, remainder: u64) -> (u64, u64) {
        let product = u128::from(self.limit) * u128::from(elapsed_ms) + u128::from(remainder);
        let whole = u64::try_from(product / self.period()).unwrap_or(u64::MAX);
        (whole, u64::try_from(product % self.period()).unwrap_or(0))
    }

    /// The most that can have drained in `elapsed_ms`.
    pub(super) fn drained_at_most(self, elapsed_ms: u64) -> u64 {
        let product = u128::from(self.limit) * u128::from(elapsed_ms);
        u64::try_from(product.div_ceil(self.period())).unwrap_or(u64::MAX)
    }

    /// Milliseconds until `amount` has drained beyond a remainder of earlier drains, or `None` when nothing ever does.
    pub(super) fn time_for(self, amount: u64, remainder: u64) -> Option<u64> {
        let product = (u128::from(amount) * self.period()).saturating_sub(u128::from(remainder));
        (self.limit > 0).then(|| u64::try_from(product.div_ceil(u128::from(self.limit))).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::{Rate, Span, opening};
    use crate::quota::{CalendarPeriod, Window};
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    fn ms(text: &str) -> u64 {
        let at: jiff::Timestamp = text.parse().unwrap();
        u64::try_from(at.as_millisecond()).unwrap()
    }

    fn month(zone: &str, wall_ms: u64) -> Span {
        opening(&Window::Calendar { period: CalendarPeriod::Month, zone: zone.to_owned() }, wall_ms).unwrap()
    }

    #[test]
    fn a_month_is_the_zones_month() {
        let span = month("Asia/Shanghai", ms("2026-10-31T16:00:00Z"));
        assert_eq!(span, Span { start: ms("2026-10-31T16:00:00Z"), ends: ms("2026-11-30T16:00:00Z") });
        let before = month("Asia/Shanghai", ms("2026-10-31T15:59:59.999Z"));
        assert_eq!(before.ends, span.start);
        // Daylight saving changes inside the month: the two offsets differ.
        let march = month("Europe/Berlin", ms("2027-03-15T12:00:00Z"));
        assert_eq!(march, Span { start: ms("2027-02-28T23:00:00Z"), ends: ms("2027-03-31T22:00:00Z") });
        // In Asunción clocks went from 00:00 to 01:00 on 1 October 2017: that month begins without a midnight.
        let october = month("America/Asuncion", ms("2017-10-15T12:00:00Z"));
        assert_eq!(october.start, ms("2017-10-01T04:00:00Z"));
    }

    #[test]
    fn strange_clocks_and_zones_still_have_windows() {
        assert_eq!(month("No/Where", ms("2026-02-10T00:00:00Z")), month("UTC", ms("2026-02-10T00:00:00Z")));
        assert_eq!(month("UTC", 0).start, 1);
        assert_eq!(month("UTC", u64::MAX).ends, u64::MAX);
        assert_eq!(opening(&Window::FirstUse { length_ms: u64::MAX }, 0), Some(Span { start: 1, ends: u64::MAX }));
        assert_eq!(opening(&Window::Concurrent, 5), None);
    }

    proptest! {
        #[test]
        fn months_tile_time(wall in 0_u64..4_000_000_000_000, zone in 0_usize..4) {
            let zone = ["UTC", "Asia/Kolkata", "America/New_York", "Pacific/Apia"][zone];
            let span = month(zone, wall);
            prop_assert!(span.start <= wall.max(1) && wall < span.ends);
            prop_assert_eq!(month(zone, span.ends).start, span.ends);
            prop_assert_eq!(month(zone, span.start), span);
        }

        #[test]
        fn a_bucket_drains_the_same_in_one_step_or_many(
            limit in 1_u64..1_000_000_000_000, period in 1_u64..100_000_000,
            steps in proptest::collection::vec(0_u64..5_000, 1..40),
        ) {
            let rate = Rate { limit, period_ms: period };
            let (mut sum, mut remainder) = (0, 0);
            for step in &steps {
                let (drained, rest) = rate.drained(*step, remainder);
                sum += drained;
                remainder = rest;
            }
            prop_assert_eq!(rate.drained(steps.iter().sum(), 0), (sum, remainder));
            prop_assert!(rate.drained_at_most(steps.iter().sum()) >= sum);
        }

        #[test]
        fn a_wait_is_just_long_enough(
            limit in 1_u64..1_000_000, period in 1_u64..1_000_000, amount in 1_u64..1_000_000, part in 0_u64..1_000_000,
        ) {
            let (rate, remainder) = (Rate { limit, period_ms: period }, part % period);
            let wait = rate.time_for(amount, remainder).unwrap();
            prop_assert!(rate.drained(wait, remainder).0 >= amount);
            prop_assert!(wait == 0 || rate.drained(wait - 1, remainder).0 < amount);
        }
    }
}
