//! Which exchanges are missing, and which of them are proven lost.
//!
//! Sequences are contiguous within an incarnation, and each sync states the lowest that is not acknowledged. So
//! whatever is below that and not here will not come from its sender any more: a proven loss. Each sequence is
//! looked at once; `searched` is how far. A record that turns up all the same takes itself off the list.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::{Error, quantity, stored};
use crate::quota::{ExchangeId, Incarnation};

/// What never became part of the ledger, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Exchanges whose records are proven lost.
    pub proven: u64,
    /// Records that were refused for good, because they are no records of this format.
    pub rejected: u64,
    /// Records that came under the id of another one. The first stays.
    pub conflicts: u64,
}

/// An incarnation that has begun exchanges of which no record is here yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Bundle name.
    pub bundle: String,
    /// The incarnation, written like the beginning of its exchange ids.
    pub incarnation: String,
    /// Exchanges without a record that are not proven lost.
    pub missing: u64,
    /// When it was last heard, Unix milliseconds.
    pub heard_ms: u64,
    /// A later generation of its VM slot was heard: what is missing can only come from the successor.
    pub ended: bool,
}

/// Takes note of where an incarnation stands: (exchanges newly proven lost).
pub(super) fn hear(
    db: &Connection,
    by: Incarnation,
    bundle: &str,
    (lowest, next): (u64, u64),
    now_ms: u64,
) -> Result<u64, Error> {
    let key = (by.epoch.cast_signed(), by.vm, by.generation);
    db.prepare_cached(
        "INSERT INTO incarnations (epoch, vm, generation, bundle, next, searched, heard_ms) VALUES (?, ?, ?, ?, ?, 0, ?)
         ON CONFLICT DO UPDATE SET next = max(next, excluded.next), heard_ms = max(heard_ms, excluded.heard_ms)",
    )?
    .execute(params![key.0, key.1, key.2, bundle, stored(next), stored(now_ms)])?;
    let searched: i64 = db
        .prepare_cached("SELECT searched FROM incarnations WHERE epoch = ? AND vm = ? AND generation = ?")?
        .query_row(key, |row| row.get(0))?;
    let last = stored(lowest).saturating_sub(1);
    if last <= searched {
        return Ok(0);
    }
    let lost = search(db, key, searched.saturating_add(1), last, now_ms)?;
    db.prepare_cached("UPDATE incarnations SET searched = ? WHERE epoch = ? AND vm = ? AND generation = ?")?
        .execute(params![last, key.0, key.1, key.2])?;
    Ok(lost)
}

/// Writes down the gaps in `first..=last`.
fn search(db: &Connection, key: (i64, u16, u32), first: i64, last: i64, now_ms: u64) -> Result<u64, Error> {
    let mut present = db.prepare_cached(
        "SELECT sequence FROM records
         WHERE epoch = ? AND vm = ? AND generation = ? AND sequence BETWEEN ? AND ? ORDER BY sequence",
    )?;
    let mut rows = present.query(params![key.0, key.1, key.2, first, last])?;
    let (mut expected, mut gaps) = (first, Vec::new());
    while let Some(row) = rows.next()? {
        let sequence: i64 = row.get(0)?;
        if sequence > expected {
            gaps.push((expected, sequence.saturating_sub(1)));
        }
        expected = sequence.saturating_add(1);
    }
    if expected <= last {
        gaps.push((expected, last));
    }
    let mut lost = 0u64;
    for (first, last) in gaps {
        insert(db, key, first, last, now_ms)?;
        lost = lost.saturating_add(quantity(last.saturating_sub(first).saturating_add(1)));
    }
    Ok(lost)
}

fn insert(db: &Connection, key: (i64, u16, u32), first: i64, last: i64, now_ms: u64) -> Result<(), Error> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO losses (epoch, vm, generation, first, last, proven_ms) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![key.0, key.1, key.2, first, last, stored(now_ms)])?;
    Ok(())
}

/// A record came: if it was thought lost, it is not any more.
pub(super) fn found(db: &Connection, id: ExchangeId, now_ms: u64) -> Result<(), Error> {
    let key = (id.by.epoch.cast_signed(), id.by.vm, id.by.generation);
    let sequence = stored(id.sequence);
    let mut statement = db.prepare_cached(
        "SELECT first, last FROM losses
         WHERE epoch = ? AND vm = ? AND generation = ? AND first <= ? ORDER BY first DESC LIMIT 1",
    )?;
    let mut rows = statement.query(params![key.0, key.1, key.2, sequence])?;
    let Some(row) = rows.next()? else { return Ok(()) };
    let (first, last): (i64, i64) = (row.get(0)?, row.get(1)?);
    if last < sequence {
        return Ok(());
    }
    db.prepare_cached("DELETE FROM losses WHERE epoch = ? AND vm = ? AND generation = ? AND first = ?")?
        .execute(params![key.0, key.1, key.2, first])?;
    if first < sequence {
        insert(db, key, first, sequence.saturating_sub(1), now_ms)?;
    }
    if sequence < last {
        insert(db, key, sequence.saturating_add(1), last, now_ms)?;
    }
    Ok(())
}

/// Adds to one of the ledger's counters.
pub(super) fn count(db: &Connection, name: &str, by: u64) -> Result<(), Error> {
    if by > 0 {
        db.prepare_cached(
            "INSERT INTO counters (name, value) VALUES (?, ?)
             ON CONFLICT DO UPDATE SET value = value + min(excluded.value, 9223372036854775807 - value)",
        )?
        .execute(params![name, stored(by)])?;
    }
    Ok(())
}

/// What never became part of the ledger, of all bundles.
pub fn losses(db: &Connection) -> Result<Losses, Error> {
    let counter = |name: &str| -> Result<u64, Error> {
        let sql = "SELECT coalesce(max(value), 0) FROM counters WHERE name = ?";
        Ok(quantity(db.query_row(sql, [name], |row| row.get(0))?))
    };
    // One absurd range may be as long as all integers, so the sum is taken here and not by SQLite.
    let mut statement = db.prepare("SELECT last - first + 1 FROM losses")?;
    let proven = statement
        .query_map([], |row| row.get(0))?
        .try_fold(0u64, |sum, row| row.map(|length| sum.saturating_add(quantity(length))))?;
    Ok(Losses { proven, rejected: counter("rejected")?, conflicts: counter("conflicts")? })
}

/// Incarnations with exchanges that have no record yet, most recently heard first, at most 1,000 of them.
pub fn unfinished(db: &Connection) -> Result<Vec<Unfinished>, Error> {
    let mut statement = db.prepare(
        "SELECT bundle, epoch, vm, generation, heard_ms, next - 1 - searched - (
             SELECT count(*) FROM records r WHERE r.epoch = i.epoch AND r.vm = i.vm
               AND r.generation = i.generation AND r.sequence > i.searched AND r.sequence < i.next) AS missing,
           EXISTS (SELECT 1 FROM incarnations n WHERE n.epoch = i.epoch AND n.vm = i.vm
               AND n.generation > i.generation) AS ended
         FROM incarnations i WHERE missing > 0 ORDER BY heard_ms DESC LIMIT 1000",
    )?;
    let rows = statement.query_map([], |row| {
        let (epoch, vm, generation): (i64, u16, u32) = (row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(Unfinished {
            bundle: row.get(0)?,
            incarnation: format!("{:016x}-{vm}-{generation}", epoch.cast_unsigned()),
            missing: quantity(row.get(5)?),
            heard_ms: quantity(row.get(4)?),
            ended: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
