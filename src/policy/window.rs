//! Windows as people write them: `calendar week from sunday in America/New_York`, `first-use 5h`, `lifetime`.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::diagnostic::{Code, Complaint, listed, meant, shown};
use super::document::zone;
use super::scalar::{duration, duration_text};
use crate::quota::{AnniversaryPeriod, CalendarPeriod, Window};

type Parsed<T> = Result<T, Complaint>;

/// A window as written. One without a zone of its own is in the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WindowText {
    Calendar(CalendarPeriod, Option<String>),
    Anniversary(AnniversaryPeriod, Option<String>),
    /// Its length in milliseconds.
    FirstUse(u64),
    /// Its length in milliseconds.
    Sliding(u64),
    /// The milliseconds in which it refills.
    Bucket(u64),
    /// From the one moment until before the other.
    Term(MomentText, MomentText),
    Lifetime,
    Concurrent,
}

/// A moment as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MomentText {
    /// The first moment of this day in the file's zone.
    Day(Date),
    /// Unix milliseconds.
    At(u64),
}

const WINDOWS: [&str; 8] = [
    "calendar month",
    "anniversary month",
    "first-use 5h",
    "sliding 5h",
    "bucket 1m",
    "term 2026-11-01 until 2027-11-01",
    "lifetime",
    "concurrent",
];
const PERIODS: [(&str, CalendarPeriod); 6] = [
    ("minute", CalendarPeriod::Minute),
    ("hour", CalendarPeriod::Hour),
    ("day", CalendarPeriod::Day),
    ("week", CalendarPeriod::Week { starts: 0 }),
    ("month", CalendarPeriod::Month),
    ("year", CalendarPeriod::Year),
];
const ANNIVERSARIES: [(&str, AnniversaryPeriod); 2] =
    [("month", AnniversaryPeriod::Month), ("year", AnniversaryPeriod::Year)];
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
/// The shortest and the longest window that is given by its length. Slices of a shorter one would be of no length.
const SHORTEST_MS: u64 = 1_000;

/// Reads a window.
pub(super) fn window(written: &str) -> Parsed<WindowText> {
    let words: Vec<&str> = written.split_whitespace().collect();
    match words.as_slice() {
        ["calendar", period, rest @ ..] => {
            let period = one_of(period, &PERIODS, "calendar periods")?;
            match (period, rest) {
                (CalendarPeriod::Week { .. }, ["from", day, rest @ ..]) => {
                    let days: Vec<(&str, u8)> = WEEKDAYS.into_iter().zip(0..).collect();
                    let starts = one_of(day, &days, "days of the week")?;
                    Ok(WindowText::Calendar(CalendarPeriod::Week { starts }, in_zone(rest, written)?))
                }
                (_, ["from", ..]) => {
                    let message = "only a week begins on a day of choice";
                    Err(Complaint::new(
                        Code::BadValue,
                        message,
                        "write `calendar week from sunday`, or leave `from` out",
                    ))
                }
                _ => Ok(WindowText::Calendar(period, in_zone(rest, written)?)),
            }
        }
        ["anniversary", every, rest @ ..] => {
            let every = one_of(every, &ANNIVERSARIES, "anniversaries")?;
            Ok(WindowText::Anniversary(every, in_zone(rest, written)?))
        }
        ["first-use", length] => length_of(length).map(WindowText::FirstUse),
        ["sliding", length] => length_of(length).map(WindowText::Sliding),
        ["bucket", period] => length_of(period).map(WindowText::Bucket),
        ["term", from, "until", until] => term(from, until),
        ["lifetime"] => Ok(WindowText::Lifetime),
        ["concurrent"] => Ok(WindowText::Concurrent),
        _ => Err(unknown(written)),
    }
}

fn unknown(written: &str) -> Complaint {
    let help = format!("the windows are {}", listed(&WINDOWS));
    Complaint::new(Code::UnknownWindow, format!("unknown window {}", shown(written)), help)
}

fn one_of<T: Copy>(written: &str, known: &[(&str, T)], what: &str) -> Parsed<T> {
    known.iter().find(|(name, _)| *name == written).map(|(_, value)| *value).ok_or_else(|| {
        let help = meant(written, known.iter().map(|(name, _)| *name), what);
        Complaint::new(Code::UnknownWindow, format!("{} is none of the {what}", shown(written)), help)
    })
}

fn in_zone(rest: &[&str], written: &str) -> Parsed<Option<String>> {
    match rest {
        [] => Ok(None),
        ["in", name] => zone(name).map(Some),
        _ => Err(unknown(written)),
    }
}

fn length_of(length: &str) -> Parsed<u64> {
    let ms = duration(length)?;
    if ms >= SHORTEST_MS {
        return Ok(ms);
    }
    let help = format!("write {} or more", duration_text(SHORTEST_MS));
    Err(Complaint::new(Code::BadValue, format!("a window of {} is too short", shown(length)), help))
}

fn term(from: &str, until: &str) -> Parsed<WindowText> {
    let (from_at, until_at) = (moment(from)?, moment(until)?);
    if std::mem::discriminant(&from_at) != std::mem::discriminant(&until_at) {
        let message = format!("of {} and {} one is a day and one a moment", shown(from), shown(until));
        return Err(Complaint::new(
            Code::BadValue,
            message,
            "write both as days, or both as moments with their offset",
        ));
    }
    if until_at <= from_at {
        let message = format!("the term ends before it begins: {} is not after {}", shown(until), shown(from));
        return Err(Complaint::new(Code::BadValue, message, "`until` names the first day or moment after the term"));
    }
    Ok(WindowText::Term(from_at, until_at))
}

/// A day, `2026-11-01`, or a moment with its offset from UTC as in RFC 3339.
pub(super) fn moment(written: &str) -> Parsed<MomentText> {
    let day = || written.parse::<Date>().ok().filter(|_| written.len() == "2026-11-01".len()).map(MomentText::Day);
    let at = || u64::try_from(written.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok().map(MomentText::At);
    let since_1970 = |moment: &MomentText| moment.ms("UTC") > 86_400_000;
    day().or_else(at).filter(since_1970).ok_or_else(|| {
        let help = "write a day such as `2026-11-01`, or a moment such as `2026-11-01T10:00:00+08:00`";
        Complaint::new(Code::BadValue, format!("{} is no day and no moment since 1970", shown(written)), help)
    })
}

impl MomentText {
    /// Unix milliseconds, days being those of `zone`; 0 before 1970.
    pub(super) fn ms(self, zone: &str) -> u64 {
        match self {
            Self::At(ms) => ms,
            Self::Day(day) => {
                let zone = crate::zone::get(zone).unwrap_or(TimeZone::UTC);
                let first = day.to_zoned_datetime(zone).map(|first| first.timestamp().as_millisecond());
                first.ok().and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0)
            }
        }
    }
}

impl WindowText {
    /// Whether it says how fast, and not how much: such a quota is local to a process, and no fund.
    pub(super) fn is_rate(&self) -> bool {
        matches!(self, Self::Bucket(_) | Self::Sliding(_) | Self::Concurrent)
    }

    /// Whether another window of the same kind follows it.
    pub(super) fn begins_anew(&self) -> bool {
        matches!(self, Self::Calendar(..) | Self::Anniversary(..) | Self::FirstUse(_))
    }

    /// Whether it is counted from the subscription day.
    pub(super) fn is_anniversary(&self) -> bool {
        matches!(self, Self::Anniversary(..))
    }

    /// What kind of window it is, in the zone that it is told in, without its length: by this its counters mean what they
    /// say. Of another kind they would begin anew, or stand for something else.
    pub(super) fn kind(&self, zone: &str) -> String {
        let within = |own: &Option<String>| own.as_deref().unwrap_or(zone).to_owned();
        match self {
            Self::Calendar(CalendarPeriod::Week { starts }, own) => {
                let day = WEEKDAYS.get(usize::from(*starts)).copied().unwrap_or("monday");
                format!("calendar week from {day} in {}", within(own))
            }
            Self::Calendar(period, own) => {
                let name = PERIODS.iter().find(|(_, known)| known == period).map_or("", |(name, _)| name);
                format!("calendar {name} in {}", within(own))
            }
            Self::Anniversary(every, own) => {
                let name = ANNIVERSARIES.iter().find(|(_, known)| known == every).map_or("", |(name, _)| name);
                format!("anniversary {name} in {}", within(own))
            }
            Self::Term(MomentText::Day(_), _) => format!("term in {zone}"),
            Self::Term(..) => "term".to_owned(),
            Self::FirstUse(_) => "first-use".to_owned(),
            Self::Sliding(_) => "sliding".to_owned(),
            Self::Bucket(_) => "bucket".to_owned(),
            Self::Lifetime => "lifetime".to_owned(),
            Self::Concurrent => "concurrent".to_owned(),
        }
    }

    /// The window itself: in the file's `zone` unless it has its own, with a bucket's `burst` in micro-units, and
    /// counted from the subscription day.
    pub(super) fn window(&self, zone: &str, burst: u64, day: Option<Date>) -> Window {
        let own = |own: &Option<String>| own.as_deref().unwrap_or(zone).to_owned();
        match self {
            Self::Calendar(period, zone) => Window::Calendar { period: *period, zone: own(zone) },
            Self::Anniversary(every, zone) => {
                Window::Anniversary { every: *every, anchor: day.unwrap_or_default(), zone: own(zone) }
            }
            Self::FirstUse(length_ms) => Window::FirstUse { length_ms: *length_ms },
            Self::Sliding(length_ms) => Window::Sliding { length_ms: *length_ms },
            Self::Bucket(period_ms) => Window::Bucket { period_ms: *period_ms, burst },
            Self::Term(from, until) => Window::Term { from_ms: from.ms(zone), until_ms: until.ms(zone) },
            Self::Lifetime => Window::Lifetime,
            Self::Concurrent => Window::Concurrent,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_window_is_read() {
        use CalendarPeriod::{Day, Hour, Minute, Month, Week, Year};
        let calendar = |period| Ok(WindowText::Calendar(period, None));
        assert_eq!(window("calendar minute"), calendar(Minute));
        assert_eq!(window("calendar hour"), calendar(Hour));
        assert_eq!(window("calendar day"), calendar(Day));
        assert_eq!(window("calendar week"), calendar(Week { starts: 0 }));
        assert_eq!(window("calendar  week from sunday"), calendar(Week { starts: 6 }));
        assert_eq!(window("calendar month"), calendar(Month));
        assert_eq!(window("calendar year"), calendar(Year));
        let there = WindowText::Calendar(Week { starts: 5 }, Some("America/New_York".to_owned()));
        assert_eq!(window("calendar week from saturday in america/new_york"), Ok(there));
        assert_eq!(window("anniversary month"), Ok(WindowText::Anniversary(AnniversaryPeriod::Month, None)));
        let tokyo = Some("Asia/Tokyo".to_owned());
        assert_eq!(
            window("anniversary year in Asia/Tokyo"),
            Ok(WindowText::Anniversary(AnniversaryPeriod::Year, tokyo))
        );
        assert_eq!(window("first-use 5h"), Ok(WindowText::FirstUse(18_000_000)));
        assert_eq!(window("sliding 5h"), Ok(WindowText::Sliding(18_000_000)));
        assert_eq!(window("bucket 1m"), Ok(WindowText::Bucket(60_000)));
        assert_eq!(window("lifetime"), Ok(WindowText::Lifetime));
        assert_eq!(window("concurrent"), Ok(WindowText::Concurrent));
    }

    #[test]
    fn a_window_is_in_the_files_zone_unless_it_has_its_own() {
        let built = |written: &str| window(written).unwrap().window("Asia/Shanghai", 7, None);
        let term = Window::Term { from_ms: 1_793_462_400_000, until_ms: 1_793_548_800_000 };
        assert_eq!(built("term 2026-11-01 until 2026-11-02"), term);
        assert_eq!(built("term 2026-10-31T16:00:00Z until 2026-11-02T00:00:00+08:00"), term);
        assert_eq!(built("bucket 1m"), Window::Bucket { period_ms: 60_000, burst: 7 });
        let zones = ["calendar day", "calendar day in UTC"].map(|written| match built(written) {
            Window::Calendar { zone, .. } => zone,
            other => format!("{other:?}"),
        });
        assert_eq!(zones, ["Asia/Shanghai", "UTC"]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(calendar|term|first-use|anniversary)?\\PC{0,24}", zone in "\\PC{0,8}") {
            let _ = window(&text).map(|window| window.window(&zone, 1, None));
        }
    }
}
