//! What all VMs of a process have learned of how providers count, in shared data.
//!
//! Each model and dialect has a *page*: one value that holds what [`Calibration`](crate::meter::calibration::Calibration)
//! remembers of it, the last calls of each kind, and what calls had [above their bounds](crate::meter::excess). A VM notes the calls that it learns from; with its next beat it reads the
//! page, learns them there too, and swaps it for what it read, so that no call is lost to a VM that was faster, and goes
//! on with what came of it. A page is doubted by the calls on it, as a VM doubts its own: whoever finds that a model has
//! become another one empties it for all.
//!
//! Shared data has no delete, so there are [`PAGES`] places and no more. A model looks at [`TRIES`] of them, from one
//! that its name gives, and takes the first that is its own, or was never used, or is that of a model which the policy
//! does not name any more. If all are others', what is learned stays in the VM.

use serde::{Deserialize, Serialize};

use super::Sheet;
use crate::quota::{Cells, Expect, Keys, StoreError};

/// Pages of one bundle name: with [`LONGEST`] bytes each they are three quarters of a megabyte at most.
pub const PAGES: u16 = 256;
/// Places that are looked at for a model's page.
const TRIES: u16 = 8;
/// The longest page in bytes: 96 calls of three numbers, 24 of five, and a name.
const LONGEST: usize = 3_072;
/// The version of a page's layout. One of another version is taken for a stranger's, and written over.
const LAYOUT: u8 = 2;
/// How deep what is kept may nest.
const DEEPEST: usize = 32;

/// A model of the catalogue, as called in a dialect and counted in a vocabulary.
pub type Name = (String, &'static str, &'static str);

/// A page as it lies in shared data: MessagePack, fields by position.
#[derive(Serialize, Deserialize)]
struct Page {
    layout: u8,
    /// The line of the catalogue.
    pattern: String,
    dialect: String,
    /// The vocabulary that it is counted in.
    count: String,
    sheet: Sheet,
}

/// Where a model's page is, and what is on it.
pub struct Found {
    key: Vec<u8>,
    expect: Expect,
    /// `None`: nothing yet.
    pub sheet: Option<Sheet>,
}

/// Looks for the page of a model. `known` tells which lines of the catalogue there are, and how they count.
/// `None`: there is no room for one.
pub fn find(
    name: &Name,
    known: &dyn Fn(&str, &str) -> bool,
    keys: &Keys,
    cells: &mut dyn Cells,
) -> Result<Option<Found>, StoreError> {
    let (pattern, dialect, count) = name;
    let first = crc32fast::hash(format!("{dialect} {pattern}").as_bytes());
    let mut left = None;
    for place in 0..u32::from(TRIES) {
        let place = first.wrapping_add(place) % u32::from(PAGES);
        let key = keys.calibration(u16::try_from(place).unwrap_or(0));
        let Some(cell) = cells.load(&key)? else {
            return Ok(left.or(Some(Found { key, expect: Expect::Absent, sheet: None })));
        };
        let expect = Expect::Version(cell.version);
        match read(&cell.value) {
            Some(page) if page.pattern == *pattern && page.dialect == *dialect && page.count == *count => {
                return Ok(Some(Found { key, expect, sheet: Some(page.sheet) }));
            }
            Some(page) if known(&page.pattern, &page.count) => {}
            _ => {
                left.get_or_insert(Found { key, expect, sheet: None });
            }
        }
    }
    Ok(left)
}

/// Puts what was learned onto the page that was found. `false`: somebody was faster.
pub fn put(name: &Name, found: &Found, sheet: &Sheet, cells: &mut dyn Cells) -> Result<bool, StoreError> {
    let (pattern, dialect, count) = name;
    let (dialect, count) = ((*dialect).to_owned(), (*count).to_owned());
    let page = Page { layout: LAYOUT, pattern: pattern.clone(), dialect, count, sheet: sheet.clone() };
    cells.swap(&found.key, found.expect, &write(&page))
}

fn read(bytes: &[u8]) -> Option<Page> {
    if bytes.len() > LONGEST {
        return None;
    }
    // By way of a tree: little code, for what is seldom read.
    let tree = rmpv::decode::read_value_with_max_depth(&mut &*bytes, DEEPEST).ok()?;
    rmpv::ext::from_value(tree).ok().filter(|page: &Page| page.layout == LAYOUT)
}

/// Writing into memory has no way to fail; what is not there would be read as nothing.
fn write(page: &Page) -> Vec<u8> {
    rmp_serde::to_vec(page).unwrap_or_default()
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
