//! Settled exchanges, each applied once.

use rusqlite::{Connection, params};

use super::{Error, stored};
use crate::meter::usage::Source;
use crate::quota::ExchangeId;
use crate::report::id::exchange_id;
use crate::report::wire::{Record, encode_record};

/// More tokens than this in one exchange are no usage: 2⁴⁰, a million million.
const MOST_TOKENS: u64 = 1 << 40;
/// More micro-units than this in one charge are no charge: 2⁶⁰, a million million units.
const MOST_CHARGED: u64 = 1 << 60;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was applied now.
    New,
    /// It was applied before, the same in every field.
    Known,
    /// Another record was applied under its id before. That one stays.
    Conflict,
}

/// The record's id, or why the ledger will never take it.
pub(super) fn check(record: &Record) -> Result<ExchangeId, String> {
    let id = exchange_id(&record.id).ok_or_else(|| {
        format!("`{}` is no exchange id: `epoch-vm-generation-sequence`, the epoch as 16 hex digits", record.id)
    })?;
    if id.sequence == 0 || i64::try_from(id.sequence).is_err() {
        return Err(format!("`{}` is no exchange id: sequences count from 1", record.id));
    }
    if record.bundle.is_empty() {
        return Err("field `bundle` is missing or empty".to_owned());
    }
    let usage = &record.usage;
    let tokens = [usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning];
    if let Some(absurd) = tokens.iter().find(|&&tokens| tokens > MOST_TOKENS) {
        return Err(format!("`{absurd}` tokens in one exchange are absurd: at most {MOST_TOKENS} are taken"));
    }
    if let Some(charge) = record.charges.iter().find(|charge| charge.amount > MOST_CHARGED) {
        return Err(format!("a charge of `{}` micro-units is absurd: at most {MOST_CHARGED} are taken", charge.amount));
    }
    Ok(id)
}

/// Applies a record that passed [`check`], if its id is new.
pub(super) fn apply(db: &Connection, id: ExchangeId, record: &Record, now_ms: u64) -> Result<Fate, Error> {
    let key = (id.by.epoch.cast_signed(), id.by.vm, id.by.generation, stored(id.sequence));
    let body = encode_record(record);
    let inserted = db
        .prepare_cached("INSERT OR IGNORE INTO bodies (epoch, vm, generation, sequence, body) VALUES (?, ?, ?, ?, ?)")?
        .execute(params![key.0, key.1, key.2, key.3, body])?;
    if inserted == 0 {
        let first: Vec<u8> = db
            .prepare_cached("SELECT body FROM bodies WHERE epoch = ? AND vm = ? AND generation = ? AND sequence = ?")?
            .query_row(key, |row| row.get(0))?;
        return Ok(if first == body { Fate::Known } else { Fate::Conflict });
    }
    let usage = &record.usage;
    db.prepare_cached(
        "INSERT INTO records (epoch, vm, generation, sequence, bundle, org, seat, model, admitted_ms, received_ms,
            estimated, input, cache_read, cache_write, output, reasoning, credits)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        key.0,
        key.1,
        key.2,
        key.3,
        record.bundle,
        record.org,
        record.seat,
        record.model,
        stored(record.admitted_ms),
        stored(now_ms),
        record.source != Source::Reported,
        stored(usage.input),
        stored(usage.cache_read),
        stored(usage.cache_write),
        stored(usage.output),
        stored(usage.reasoning),
        stored(credits(record)),
    ])?;
    charge(db, id, record)?;
    Ok(Fate::New)
}

/// What the exchange cost in credits. Each level of quotas is charged the same cost, so it is the largest charge
/// in credits and not their sum.
fn credits(record: &Record) -> u64 {
    record.charges.iter().filter(|charge| charge.unit == "credits").map(|charge| charge.amount).max().unwrap_or(0)
}

/// Adds the charges to what the epoch's records have charged. The sum stays below SQLite's largest integer.
fn charge(db: &Connection, id: ExchangeId, record: &Record) -> Result<(), Error> {
    for charge in record.charges.iter().filter(|charge| charge.amount > 0) {
        db.prepare_cached(
            "INSERT INTO charged (bundle, subject, quota, window, epoch, amount) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET amount = amount + min(excluded.amount, 9223372036854775807 - amount)",
        )?
        .execute(params![
            record.bundle,
            charge.subject,
            charge.quota,
            stored(charge.window),
            id.by.epoch.cast_signed(),
            stored(charge.amount),
        ])?;
    }
    Ok(())
}
