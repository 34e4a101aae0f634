//! Hours of days of the week, by the clock of some zone.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::diagnostic::Faults;
use super::fields::{Fields, choice, form, list};
use super::scalar::times;
use crate::zone;

/// A band of hours, on all days or some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// Minutes of the day, from the first up to and without the second; one that ends before it begins spans midnight.
    pub times: Option<(u16, u16)>,
    /// Days of the week, Monday first; all false where none is named. Of a band that spans midnight: where it begins.
    pub days: [bool; 7],
    /// The zone that times and days are told in.
    pub zone: String,
}

impl Band {
    /// Whether the moment, Unix milliseconds, lies in it. `None`: beyond the calendar.
    ///
    /// What counts is what clocks on the wall show: an hour that a zone skips is in no band, and one that it has twice is
    /// inside or outside both times.
    pub fn has(&self, wall_ms: u64) -> Option<bool> {
        let any_day = !self.days.contains(&true);
        if self.times.is_none() && any_day {
            return Some(true);
        }
        let zone = zone::get(&self.zone).unwrap_or(TimeZone::UTC);
        let at = Timestamp::from_millisecond(i64::try_from(wall_ms).ok()?).ok()?.to_zoned_datetime(zone);
        let minute = u16::try_from(i32::from(at.hour()) * 60 + i32::from(at.minute())).ok()?;
        let (from, until) = self.times.unwrap_or((0, 24 * 60));
        let spans = until <= from;
        let inside = if spans { minute >= from || minute < until } else { (from..until).contains(&minute) };
        let began_yesterday = spans && minute < until;
        let today = usize::try_from(at.weekday().to_monday_zero_offset()).ok()?;
        let day = if began_yesterday { (today + 6) % 7 } else { today };
        Some(inside && (any_day || self.days.get(day).copied().unwrap_or(false)))
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Reads `times`, `days` and `zone` of a mapping. `None`: at fault, and noted.
pub(super) fn read(fields: &Fields<'_>, zone: &str, faults: &mut Faults) -> Option<Band> {
    let mut band = Band { times: None, days: [false; 7], zone: zone.to_owned() };
    if let Some(node) = fields.optional("zone") {
        band.zone = form(node, &fields.path("zone"), faults, super::document::zone)?.value;
    }
    if let Some(node) = fields.optional("times") {
        band.times = Some(form(node, &fields.path("times"), faults, times)?.value);
    }
    for item in fields.optional("days").and_then(|node| list(node, &fields.path("days"), faults)).unwrap_or_default() {
        let words: Vec<(&str, usize)> = DAYS.iter().enumerate().map(|(at, day)| (*day, at)).collect();
        let day = choice(item, &fields.path("days"), &words, faults)?;
        if let Some(day) = band.days.get_mut(day) {
            *day = true;
        }
    }
    Some(band)
}

#[cfg(test)]
mod tests {
    use super::Band;

    fn has(band: &Band, moment: &str) -> bool {
        let at: jiff::Timestamp = moment.parse().unwrap();
        band.has(u64::try_from(at.as_millisecond()).unwrap()).unwrap()
    }

    fn berlin(times: (u16, u16)) -> Band {
        Band { times: Some(times), days: [false; 7], zone: "Europe/Berlin".to_owned() }
    }

    #[test]
    fn a_band_follows_the_clocks_on_the_wall_through_summer_time() {
        let office = berlin((9 * 60, 17 * 60));
        // 9:00 is 8:00 in UTC in winter, and 7:00 in summer.
        assert!(!has(&office, "2026-03-28T07:59:00Z") && has(&office, "2026-03-28T08:00:00Z"));
        assert!(!has(&office, "2026-03-29T06:59:00Z") && has(&office, "2026-03-29T07:00:00Z"));
        assert!(!has(&office, "2026-10-25T07:59:00Z") && has(&office, "2026-10-25T08:00:00Z"));
    }

    #[test]
    fn an_hour_that_comes_twice_is_inside_twice_and_one_that_is_skipped_never() {
        let small = berlin((2 * 60, 3 * 60));
        // 25 October 2026: from 3:00 back to 2:00, so 2:30 is 0:30 and 1:30 in UTC.
        assert!(has(&small, "2026-10-25T00:30:00Z") && has(&small, "2026-10-25T01:30:00Z"));
        assert!(!has(&small, "2026-10-25T02:00:00Z"));
        // 29 March 2026: from 2:00 forth to 3:00.
        assert!(!has(&small, "2026-03-29T00:59:59Z") && !has(&small, "2026-03-29T01:00:00Z"));
    }

    #[test]
    fn a_night_that_loses_an_hour_belongs_to_its_first_day() {
        let mut days = [false; 7];
        days[5] = true;
        let night = Band { days, ..berlin((22 * 60, 6 * 60)) };
        assert!(has(&night, "2026-03-28T21:00:00Z"), "Saturday 22:00");
        assert!(has(&night, "2026-03-29T03:59:00Z"), "Sunday 5:59, summer time");
        assert!(!has(&night, "2026-03-29T04:00:00Z"), "Sunday 6:00");
        assert!(!has(&night, "2026-03-29T20:00:00Z"), "Sunday 22:00");
    }
}
