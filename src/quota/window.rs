//! Which window a moment falls into.
//!
//! Windows that clocks and calendars set follow each other without gap or overlap, in every zone:
//!
//! - A day, and whatever begins with one, starts at the first moment at which the zone has that date. That is not
//!   always 00:00 (clocks may go forward over midnight), and a day that a zone skips is no window. Where clocks go back
//!   over midnight, the date before it is seen once more: that hour belongs to the day that has begun.
//! - Minutes and hours are the wall clock's. An hour that clocks repeat is two windows, one that they cut is shorter.

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ZonedDateTime};

use super::{AnniversaryPeriod, CalendarPeriod, Window};
use crate::now::Now;
use crate::zone;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// The mean year of the Gregorian calendar: 400 years are 146,097 days.
const YEAR_MS: u64 = 146_097 * DAY_MS / 400;

/// A window that time opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Span {
    /// Its start in Unix milliseconds, never 0.
    pub(super) start: u64,
    /// The first moment after it.
    pub(super) ends: u64,
}

/// The window that would open at `wall_ms`, or `None` where time opens none (buckets, sliding windows, concurrency).
/// A term is the same window at any moment, also outside of it: see [`outside`].
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

/// How long windows that follow each other without a gap are on the average, in milliseconds: what lies between two of
/// them, divided by this and rounded, is how many were skipped. `None`: they do not follow each other.
pub fn mean_length(window: &Window) -> Option<u64> {
    match window {
        Window::Calendar { period, .. } => Some(match period {
            CalendarPeriod::Minute => 60_000,
            CalendarPeriod::Hour => HOUR_MS,
            CalendarPeriod::Day => DAY_MS,
            CalendarPeriod::Week { .. } => 7 * DAY_MS,
            CalendarPeriod::Month => YEAR_MS / 12,
            CalendarPeriod::Year => YEAR_MS,
        }),
        Window::Anniversary { every: AnniversaryPeriod::Month, .. } => Some(YEAR_MS / 12),
        Window::Anniversary { every: AnniversaryPeriod::Year, .. } => Some(YEAR_MS),
        _ => None,
    }
}

/// Where a moment lies outside of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outside {
    /// It begins at this moment.
    Before(u64),
    /// It is over.
    After,
}

/// Whether `wall_ms` lies outside of the only window that there is.
pub(super) fn outside(window: &Window, wall_ms: u64) -> Option<Outside> {
    match window {
        Window::Term { until_ms, .. } if wall_ms >= *until_ms => Some(Outside::After),
        Window::Term { from_ms, .. } if wall_ms < *from_ms => Some(Outside::Before(*from_ms)),
        _ => None,
    }
}

/// The span around `wall_ms` in an IANA zone. An unknown zone, which `farebox check` refuses, is UTC. Beyond the year
/// 9999 time ends, and with it the counting of windows.
fn within(zone: &str, wall_ms: u64, bounds: impl Fn(&ZonedDateTime) -> Option<(Timestamp, Timestamp)>) -> Span {
    let zone = zone::get(zone).unwrap_or(TimeZone::UTC);
    let ms = |at: Timestamp| u64::try_from(at.as_millisecond()).unwrap_or(0);
    let at = i64::try_from(wall_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let span = at.and_then(|at| bounds(&at.to_zoned_datetime(zone)));
    span.map_or(Span { start: wall_ms.max(1), ends: u64::MAX }, |(start, ends)| Span {
        start: ms(start).max(1),
        ends: ms(ends),
    })
}

/// The first moment at which the zone has this date or a later one.
fn first_moment(date: Date, zone: &TimeZone) -> Option<Timestamp> {
    let midnight = zone.to_ambiguous_timestamp(date.at(0, 0, 0, 0));
    let skipped = matches!(midnight.offset(), AmbiguousOffset::Gap { .. });
    let moment = midnight.compatible().ok()?;
    if !skipped {
        return Some(moment);
    }
    // Clocks go over this midnight: the day begins when they do.
    let after = moment.checked_add(jiff::SignedDuration::from_millis(1)).ok()?;
    Some(zone.preceding(after).next().map_or(moment, |transition| transition.timestamp()))
}

/// The period around `at`, when period number `index` of all begins at the date `begins(index)`, and the date of `at`
/// falls into number `index`.
fn dated(at: &ZonedDateTime, index: i64, begins: impl Fn(i64) -> Option<Date>) -> Option<(Timestamp, Timestamp)> {
    let (mut index, now) = (index, at.timestamp());
    let moment = |index: i64| first_moment(begins(index)?, at.time_zone());
    let mut start = moment(index)?;
    // Where clocks go back over the midnight at which the next period begins, its first moment has been before.
    for _ in 0..3 {
        index = index.checked_add(1)?;
        let ends = moment(index)?;
        if now < ends {
            return Some((start, ends));
        }
        start = ends;
    }
    None
}

fn calendar(period: CalendarPeriod, at: &ZonedDateTime) -> Option<(Timestamp, Timestamp)> {
    let date = at.date();
    let since =
        |first: Date, step: jiff::Span| dated(at, 0, |index| first.checked_add(step.checked_mul(index).ok()?).ok());
    match period {
        CalendarPeriod::Minute => even(at, 60),
        CalendarPeriod::Hour => even(at, 3600),
        CalendarPeriod::Day => since(date, jiff::Span::new().days(1)),
        CalendarPeriod::Week { starts } => {
            let today = i64::from(date.weekday().to_monday_zero_offset());
            let days = today.saturating_sub(i64::from(starts % 7)).rem_euclid(7);
            since(date.checked_sub(jiff::Span::new().days(days)).ok()?, jiff::Span::new().days(7))
        }
        CalendarPeriod::Month => since(date.first_of_month(), jiff::Span::new().months(1)),
        CalendarPeriod::Year => since(date.first_of_year(), jiff::Span::new().years(1)),
    }
}

/// The minute or hour that the zone's clocks show, as long as they show it without being set.
fn even(at: &ZonedDateTime, seconds: i64) -> Option<(Timestamp, Timestamp)> {
    let (zone, offset) = (at.time_zone(), at.offset());
    let now = at.timestamp().as_millisecond().div_euclid(1000);
    let since = now.checked_add(i64::from(offset.seconds()))?.rem_euclid(seconds);
    let first = Timestamp::from_second(now.checked_sub(since)?).ok()?;
    let next = Timestamp::from_second(now.checked_sub(since)?.checked_add(seconds)?).ok()?;
    let (mut start, mut ends) = (first, next);
    if zone.to_offset(first) != offset {
        let other = |moment: Timestamp| zone.to_offset(moment) != offset;
        let before = |moment: Timestamp| moment.checked_sub(jiff::SignedDuration::from_millis(1)).ok();
        let after = at.timestamp().checked_add(jiff::SignedDuration::from_millis(1)).ok()?;
        let mut set = zone.preceding(after).map(|set| set.timestamp()).take_while(|set| *set > first);
        start = set.find(|set| before(*set).is_some_and(other)).unwrap_or(first);
    }
    let mut set = zone.following(at.timestamp()).take_while(|set| set.timestamp() < next);
    if let Some(set) = set.find(|set| set.offset() != offset) {
        ends = set.timestamp();
    }
    Some((start, ends))
}

/// Windows before the anchor are counted back from it: whether a subscription has begun is not asked here.
fn anniversary(every: AnniversaryPeriod, anchor: Date, at: &ZonedDateTime) -> Option<(Timestamp, Timestamp)> {
    let step = match every {
        AnniversaryPeriod::Month => 1,
        AnniversaryPeriod::Year => 12,
    };
    // Always counted from the anchor itself: from a clamped day it would stay clamped.
    let begins = |index: i64| anchor.checked_add(jiff::Span::new().try_months(index.checked_mul(step)?).ok()?).ok();
    let date = at.date();
    let years = i64::from(date.year()).checked_sub(i64::from(anchor.year()))?;
    let months = years.checked_mul(12)?.checked_add(i64::from(date.month()))?.checked_sub(i64::from(anchor.month()))?;
    let index = months.div_euclid(step);
    let index = if begins(index)? > date { index.checked_sub(1)? } else { index };
    dated(at, index, begins)
}

#[cfg(test)]
mod oracle;

#[cfg(test)]
mod tests {
    use super::{Outside, Span, mean_length, opening, outside};
    use crate::quota::{AnniversaryPeriod, CalendarPeriod, Date, Window};
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    fn ms(text: &str) -> u64 {
        let at: jiff::Timestamp = text.parse().unwrap();
        u64::try_from(at.as_millisecond()).unwrap()
    }

    fn calendar(period: CalendarPeriod, zone: &str, wall_ms: u64) -> Span {
        opening(&Window::Calendar { period, zone: zone.to_owned() }, wall_ms).unwrap()
    }

    fn month(zone: &str, wall_ms: u64) -> Span {
        calendar(CalendarPeriod::Month, zone, wall_ms)
    }

    fn span(start: &str, ends: &str) -> Span {
        Span { start: ms(start), ends: ms(ends) }
    }

    #[test]
    fn a_month_is_the_zones_month() {
        let october = span("2026-10-31T16:00:00Z", "2026-11-30T16:00:00Z");
        assert_eq!(month("Asia/Shanghai", ms("2026-10-31T16:00:00Z")), october);
        let before = month("Asia/Shanghai", ms("2026-10-31T15:59:59.999Z"));
        assert_eq!(before.ends, october.start);
        // Daylight saving changes inside the month: the two offsets differ.
        let march = month("Europe/Berlin", ms("2027-03-15T12:00:00Z"));
        assert_eq!(march, span("2027-02-28T23:00:00Z", "2027-03-31T22:00:00Z"));
        // In Asunción clocks went from 00:00 to 01:00 on 1 October 2017: that month begins without a midnight.
        let october = month("America/Asuncion", ms("2017-10-15T12:00:00Z"));
        assert_eq!(october.start, ms("2017-10-01T04:00:00Z"));
    }

    #[test]
    fn a_week_starts_on_its_day() {
        // 2026-11-25 is a Wednesday.
        let week = |starts| calendar(CalendarPeriod::Week { starts }, "America/New_York", ms("2026-11-25T12:00:00Z"));
        assert_eq!(week(0), span("2026-11-23T05:00:00Z", "2026-11-30T05:00:00Z"));
        assert_eq!(week(6), span("2026-11-22T05:00:00Z", "2026-11-29T05:00:00Z"));
        assert_eq!(week(2), span("2026-11-25T05:00:00Z", "2026-12-02T05:00:00Z"));
        assert_eq!(week(3), span("2026-11-19T05:00:00Z", "2026-11-26T05:00:00Z"));
        // The week in which clocks go back is an hour longer.
        let long = calendar(CalendarPeriod::Week { starts: 0 }, "America/New_York", ms("2026-10-28T12:00:00Z"));
        assert_eq!(long, span("2026-10-26T04:00:00Z", "2026-11-02T05:00:00Z"));
    }

    #[test]
    fn days_begin_when_their_date_does() {
        let day = |zone, at| calendar(CalendarPeriod::Day, zone, ms(at));
        // Clocks go over midnight.
        let short = day("Africa/Cairo", "2024-04-26T10:00:00Z");
        assert_eq!(short, span("2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z"));
        // They go back over it, from 00:01 to 23:01: what is seen twice belongs to the day that has begun.
        let again = day("America/St_Johns", "2009-11-01T02:45:00Z");
        assert_eq!(again, span("2009-11-01T02:30:00Z", "2009-11-02T03:30:00Z"));
        assert_eq!(month("America/St_Johns", ms("2009-11-01T02:45:00Z")).start, again.start);
        // Samoa had no 30 December 2011.
        let last = day("Pacific/Apia", "2011-12-30T09:00:00Z");
        assert_eq!(last, span("2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"));
        assert_eq!(day("Pacific/Apia", "2011-12-30T10:00:00Z").start, last.ends);
        // Toronto went from 23:30 to 00:30.
        assert_eq!(first("1919-03-31", "America/Toronto"), "1919-03-31T00:30:00-04:00[America/Toronto]");
    }

    fn first(date: &str, zone: &str) -> String {
        let tz = crate::zone::get(zone).unwrap();
        super::first_moment(date.parse().unwrap(), &tz).unwrap().to_zoned_datetime(tz).to_string()
    }

    #[test]
    fn hours_and_minutes_are_the_wall_clocks() {
        let hour = |zone, at| calendar(CalendarPeriod::Hour, zone, ms(at));
        assert_eq!(hour("Asia/Kolkata", "2026-11-25T09:45:00Z"), span("2026-11-25T09:30:00Z", "2026-11-25T10:30:00Z"));
        // Half an hour is skipped, and half an hour comes twice.
        let cut = hour("Australia/Lord_Howe", "2026-10-03T15:40:00Z");
        assert_eq!(cut, span("2026-10-03T15:30:00Z", "2026-10-03T16:00:00Z"));
        let twice = ["2026-04-04T14:10:00Z", "2026-04-04T15:10:00Z"].map(|at| hour("Australia/Lord_Howe", at));
        assert_eq!(twice[0], span("2026-04-04T14:00:00Z", "2026-04-04T15:00:00Z"));
        assert_eq!(twice[1], span("2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z"));
        let minute = calendar(CalendarPeriod::Minute, "UTC", ms("2026-11-25T09:45:59.999Z"));
        assert_eq!(minute, span("2026-11-25T09:45:00Z", "2026-11-25T09:46:00Z"));
    }

    fn anniversary(every: AnniversaryPeriod, anchor: &str, at: &str) -> Span {
        let anchor: Date = anchor.parse().unwrap();
        opening(&Window::Anniversary { every, anchor, zone: "UTC".to_owned() }, ms(at)).unwrap()
    }

    #[test]
    fn a_subscription_day_that_a_month_lacks_is_its_last_one() {
        let month = |at| anniversary(AnniversaryPeriod::Month, "2026-01-31", at);
        assert_eq!(month("2026-02-10T00:00:00Z"), span("2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"));
        assert_eq!(month("2026-02-28T00:00:00Z"), span("2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"));
        assert_eq!(month("2026-04-30T00:00:00Z"), span("2026-04-30T00:00:00Z", "2026-05-31T00:00:00Z"));
        assert_eq!(month("2028-02-29T12:00:00Z"), span("2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z"));
        // Before the day windows are counted back.
        assert_eq!(month("2025-12-01T00:00:00Z"), span("2025-11-30T00:00:00Z", "2025-12-31T00:00:00Z"));
        let year = |at| anniversary(AnniversaryPeriod::Year, "2024-02-29", at);
        assert_eq!(year("2026-02-28T00:00:00Z"), span("2026-02-28T00:00:00Z", "2027-02-28T00:00:00Z"));
        assert_eq!(year("2028-02-28T23:00:00Z"), span("2027-02-28T00:00:00Z", "2028-02-29T00:00:00Z"));
    }

    #[test]
    fn a_term_is_one_window() {
        let term = Window::Term { from_ms: 10, until_ms: 20 };
        assert_eq!(opening(&term, 500), Some(Span { start: 10, ends: 20 }));
        let sides = [9, 10, 19, 20].map(|at| outside(&term, at));
        assert_eq!(sides, [Some(Outside::Before(10)), None, None, Some(Outside::After)]);
        assert_eq!(outside(&Window::Lifetime, 0), None);
        assert_eq!(opening(&Window::Lifetime, 7), Some(Span { start: 1, ends: u64::MAX }));
    }

    #[test]
    fn strange_clocks_and_zones_still_have_windows() {
        assert_eq!(month("No/Where", ms("2026-02-10T00:00:00Z")), month("UTC", ms("2026-02-10T00:00:00Z")));
        assert_eq!(month("UTC", 0).start, 1);
        assert_eq!(month("UTC", u64::MAX).ends, u64::MAX);
        assert_eq!(opening(&Window::FirstUse { length_ms: u64::MAX }, 0), Some(Span { start: 1, ends: u64::MAX }));
        assert_eq!(opening(&Window::Concurrent, 5), None);
        assert_eq!(opening(&Window::Sliding { length_ms: 9 }, 5), None);
    }

    const PERIODS: [CalendarPeriod; 7] = [
        CalendarPeriod::Minute,
        CalendarPeriod::Hour,
        CalendarPeriod::Day,
        CalendarPeriod::Week { starts: 0 },
        CalendarPeriod::Week { starts: 6 },
        CalendarPeriod::Month,
        CalendarPeriod::Year,
    ];

    fn any_window(period: usize, zone: &str, anchor: i64) -> Window {
        let zone = zone.to_owned();
        let Some(period) = PERIODS.get(period) else {
            let anchor = Date::constant(2024, 1, 1).checked_add(jiff::Span::new().days(anchor)).unwrap();
            let every = if period == 7 { AnniversaryPeriod::Month } else { AnniversaryPeriod::Year };
            return Window::Anniversary { every, anchor, zone };
        };
        Window::Calendar { period: *period, zone }
    }

    const ZONES: [&str; 6] =
        ["UTC", "Asia/Kolkata", "America/St_Johns", "Pacific/Apia", "Australia/Lord_Howe", "Africa/Cairo"];

    proptest! {
        #[test]
        fn windows_tile_time(wall in 0_u64..4_000_000_000_000, zone in 0_usize..6, period in 0_usize..9, anchor in 0_i64..800) {
            let window = any_window(period, ZONES[zone], anchor);
            let span = opening(&window, wall).unwrap();
            prop_assert!(span.start <= wall.max(1) && wall < span.ends);
            prop_assert_eq!(opening(&window, span.ends).unwrap().start, span.ends);
            prop_assert_eq!(opening(&window, span.ends - 1), Some(span));
            prop_assert_eq!(opening(&window, span.start), Some(span));
        }

        /// How many windows were skipped can be told from the time between two of them.
        #[test]
        fn skipped_windows_are_counted(
            wall in 946_684_800_000_u64..4_000_000_000_000, period in 2_usize..9, anchor in 0_i64..800, skipped in 0_u64..60,
        ) {
            let window = any_window(period, "Europe/Berlin", anchor);
            let first = opening(&window, wall).unwrap();
            let later = (0..skipped).fold(first.ends, |ends, _| opening(&window, ends).unwrap().ends);
            let mean = mean_length(&window).unwrap();
            prop_assert_eq!((later - first.ends + mean / 2) / mean, skipped);
        }
    }
}
