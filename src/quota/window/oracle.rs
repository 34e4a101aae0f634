//! Windows against an independent oracle: days walked one after the other on the clocks of another library
//! (`chrono-tz`), over a hundred years in fourteen zones.

use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone, Timelike};
use chrono_tz::Tz;

use super::{Span, opening};
use crate::quota::{AnniversaryPeriod, CalendarPeriod, Date, Window};

/// Zones with and without daylight saving, on both sides of the equator and of the date line, with offsets of parts of
/// an hour, clocks that are set at midnight, and a day that was skipped.
const ZONES: [&str; 14] = [
    "UTC",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Santiago",
    "Europe/London",
    "Europe/Berlin",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Asia/Shanghai",
    "Asia/Tehran",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Apia",
];
const YEARS: std::ops::Range<i32> = 1990..2090;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// What the clocks of a zone show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    date: NaiveDate,
    hour: u32,
    minute: u32,
    offset: i32,
}

fn clock(zone: Tz, ms: i64) -> Clock {
    let local = zone.from_utc_datetime(&DateTime::from_timestamp_millis(ms).unwrap().naive_utc());
    let naive = local.naive_local();
    Clock {
        date: naive.date(),
        hour: naive.hour(),
        minute: naive.minute(),
        offset: local.offset().fix().local_minus_utc(),
    }
}

/// The first minute after `from` at which `what` holds, given that it holds by then at all.
fn first_minute(from: i64, what: impl Fn(i64) -> bool) -> i64 {
    let mut at = from;
    while !what(at + 15 * MINUTE) {
        at += 15 * MINUTE;
    }
    while !what(at) {
        at += MINUTE;
    }
    at
}

/// A day that was: its first moment, and its date.
type Day = (i64, NaiveDate);

/// Every day of the years, as the clocks came to it.
fn days(zone: Tz) -> Vec<Day> {
    let from = NaiveDate::from_ymd_opt(YEARS.start, 1, 1).unwrap();
    let utc = from.and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp_millis();
    let mut at = first_minute(utc - 20 * HOUR, |at| clock(zone, at).date >= from);
    let mut days = Vec::new();
    loop {
        let date = clock(zone, at).date;
        days.push((at, date));
        if date.year() >= YEARS.end {
            return days;
        }
        at = first_minute(at + 20 * HOUR, |at| clock(zone, at).date > date);
    }
}

/// The first moments of all days that `begins` picks, told from their date and that of the day before.
fn boundaries(days: &[Day], begins: impl Fn(NaiveDate, NaiveDate) -> bool) -> Vec<i64> {
    days.windows(2).filter(|pair| begins(pair[0].1, pair[1].1)).map(|pair| pair[1].0).collect()
}

/// The day of `date`'s month that anniversaries of this day of a month fall on.
fn clamped(year: i32, month: u32, day: u32) -> NaiveDate {
    (1..=day).rev().find_map(|day| NaiveDate::from_ymd_opt(year, month, day)).unwrap()
}

/// Checks that the window is exactly what lies between each two boundaries. Answers how many there were.
fn tiles(window: &Window, boundaries: &[i64]) -> usize {
    for pair in boundaries.windows(2) {
        let [start, ends] = [pair[0], pair[1]].map(|at| u64::try_from(at).unwrap());
        for at in [start, start + (ends - start) / 3, ends - 1] {
            assert_eq!(opening(window, at), Some(Span { start, ends }), "{window:?} at {at}");
        }
    }
    assert!(boundaries.len() > 1);
    boundaries.len()
}

fn calendar(period: CalendarPeriod, zone: &str) -> Window {
    Window::Calendar { period, zone: zone.to_owned() }
}

#[test]
fn a_hundred_years_of_windows_are_the_oracles() {
    let mut sum = 0;
    for name in ZONES {
        let days = days(name.parse().unwrap());
        let firsts: Vec<i64> = days.iter().map(|(at, _)| *at).collect();
        sum += tiles(&calendar(CalendarPeriod::Day, name), &firsts);
        for starts in [0_u8, 3, 6] {
            // The first day of each week that there was: of one that began on a skipped day, the second.
            let week = |date: NaiveDate| (i64::from(date.num_days_from_ce()) - 1 - i64::from(starts)).div_euclid(7);
            let weeks = boundaries(&days, |before, day| week(before) != week(day));
            sum += tiles(&calendar(CalendarPeriod::Week { starts }, name), &weeks);
        }
        let months = boundaries(&days, |before, day| (before.year(), before.month()) != (day.year(), day.month()));
        sum += tiles(&calendar(CalendarPeriod::Month, name), &months);
        let years = boundaries(&days, |before, day| before.year() != day.year());
        sum += tiles(&calendar(CalendarPeriod::Year, name), &years);
        for (year, month, day) in [(2024, 1, 31), (2024, 2, 29), (2026, 11, 30), (1990, 5, 15), (2011, 12, 30)] {
            let passed = |of: NaiveDate, before: NaiveDate, now: NaiveDate| before < of && of <= now;
            let monthly = boundaries(&days, |before, now| passed(clamped(now.year(), now.month(), day), before, now));
            let yearly = boundaries(&days, |before, now| passed(clamped(now.year(), month, day), before, now));
            let anchor = Date::constant(year, i8::try_from(month).unwrap(), i8::try_from(day).unwrap());
            for (every, boundaries) in [(AnniversaryPeriod::Month, monthly), (AnniversaryPeriod::Year, yearly)] {
                sum += tiles(&Window::Anniversary { every, anchor, zone: name.to_owned() }, &boundaries);
            }
        }
    }
    println!("{sum} boundaries in {} zones over {} years", ZONES.len(), YEARS.len());
}

/// Hours and minutes are what the clocks show without being set, also around each moment at which they are.
#[test]
fn hours_and_minutes_are_the_oracles() {
    let (mut sets, mut sum) = (0, 0);
    for name in ZONES {
        let zone: Tz = name.parse().unwrap();
        let days = days(zone);
        for pair in days.windows(2) {
            let (from, until) = (pair[0].0, pair[1].0);
            let quiet = clock(zone, from).offset == clock(zone, until).offset;
            if quiet && from / HOUR % 397 != 0 {
                continue;
            }
            let set = if quiet {
                from + 5 * HOUR
            } else {
                sets += 1;
                let offset = clock(zone, from).offset;
                first_minute(from - 15 * MINUTE, |at| clock(zone, at).offset != offset)
            };
            sum += hours(zone, name, set);
        }
    }
    println!("{sets} settings of clocks, {sum} hours and minutes");
    assert!(sets > 1_000);
}

/// Checks the hours within three of `around`, and their minutes.
fn hours(zone: Tz, name: &str, around: i64) -> usize {
    let minutes: Vec<(i64, Clock)> =
        (-180..180).map(|minute| around + minute * MINUTE).map(|at| (at, clock(zone, at))).collect();
    let same = |one: &Clock, other: &Clock| (one.offset, one.date, one.hour) == (other.offset, other.date, other.hour);
    let begins: Vec<i64> =
        minutes.windows(2).filter(|pair| !same(&pair[0].1, &pair[1].1)).map(|pair| pair[1].0).collect();
    let each: Vec<i64> = minutes.iter().map(|(at, _)| *at).collect();
    tiles(&calendar(CalendarPeriod::Hour, name), &begins)
        + tiles(&calendar(CalendarPeriod::Minute, name), &each[170..190])
}
