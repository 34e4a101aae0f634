//! How the accounts stand, as the ledger sees them.

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::grant::Share;
use super::{Error, quantity, stored};
use crate::collector::amount::Amount;

/// Most quotas in one answer.
const MOST: usize = 10_000;

/// Which accounts: the query string of `GET /v1/accounts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Question {
    /// Only this bundle.
    pub bundle: Option<String>,
    /// Only this account, for example `org/acme`.
    pub subject: Option<String>,
}

/// The answer of `GET /v1/accounts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Answer {
    /// By bundle, account and quota.
    pub quotas: Vec<Standing>,
    /// There are more than fit one answer: ask for one account.
    pub more: bool,
}

/// How a granted quota stands in its latest window. Amounts are whole units with their decimals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Standing {
    /// Bundle name.
    pub bundle: String,
    /// The account.
    pub subject: String,
    /// `plan/quota`.
    pub quota: String,
    /// What its amounts are.
    pub unit: String,
    /// Start of the window, Unix milliseconds.
    pub window: u64,
    /// Its end.
    pub ends: u64,
    /// Whether it runs now.
    pub open: bool,
    /// What the window has: as last reported, with what was carried into it, without what it passed on and what it owes.
    pub limit: Amount,
    /// What windows before it were charged beyond theirs, and this one pays.
    pub owed: Amount,
    /// Granted to Envoys and not given back.
    pub granted: Amount,
    /// Used, by what the Envoys report.
    pub used: Amount,
    /// Used, by the sum of the records' charges. It differs from `used` while records are on their way.
    pub used_by_records: Amount,
    /// What can still be granted.
    pub left: Amount,
    /// Envoy by Envoy.
    pub epochs: Vec<Epoch>,
}

/// One Envoy process's part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Epoch {
    /// The process epoch, 16 hex digits, as exchange ids begin.
    pub epoch: String,
    /// Granted, cumulative.
    pub granted: Amount,
    /// Given back, cumulative.
    pub returned: Amount,
    /// Used, by its reports.
    pub used: Amount,
    /// Used, by its records.
    pub used_by_records: Amount,
    /// When it was last heard, Unix milliseconds.
    pub heard_ms: u64,
}

/// The latest window of each granted quota that the question is about.
pub fn answer(db: &Connection, question: &Question, now_ms: u64) -> Result<Answer, Error> {
    // A window that begins in the future (an Envoy's clock is wrong) does not hide the present one.
    let mut statement = db.prepare(
        "SELECT q.bundle, q.subject, q.quota, q.unit, q.amount + w.carried - w.passed - w.owed, w.window, w.ends, w.owed
         FROM quotas q
         JOIN windows w ON w.bundle = q.bundle AND w.subject = q.subject AND w.quota = q.quota AND w.window = (
             SELECT window FROM windows l WHERE l.bundle = q.bundle AND l.subject = q.subject AND l.quota = q.quota
             ORDER BY l.window <= ?1 DESC, l.window DESC LIMIT 1)
         WHERE (?2 IS NULL OR q.bundle = ?2) AND (?3 IS NULL OR q.subject = ?3)
         ORDER BY q.bundle, q.subject, q.quota LIMIT ?4",
    )?;
    let most = i64::try_from(MOST).unwrap_or(i64::MAX).saturating_add(1);
    let rows = statement.query_map(params![stored(now_ms), question.bundle, question.subject, most], standing)?;
    let mut quotas = rows.collect::<Result<Vec<Standing>, _>>()?;
    let more = quotas.len() > MOST;
    quotas.truncate(MOST);
    quotas.iter_mut().try_for_each(|standing| fill(db, standing, now_ms))?;
    Ok(Answer { quotas, more })
}

fn standing(row: &Row<'_>) -> rusqlite::Result<Standing> {
    Ok(Standing {
        bundle: row.get(0)?,
        subject: row.get(1)?,
        quota: row.get(2)?,
        unit: row.get(3)?,
        limit: quantity(row.get(4)?).into(),
        window: quantity(row.get(5)?),
        ends: quantity(row.get(6)?),
        owed: quantity(row.get(7)?).into(),
        ..Standing::default()
    })
}

/// Adds what the epochs have.
fn fill(db: &Connection, standing: &mut Standing, now_ms: u64) -> Result<(), Error> {
    let mut statement = db.prepare_cached(
        "SELECT epoch, granted, returned, used, heard_ms, coalesce((SELECT amount FROM charged c
             WHERE c.bundle = g.bundle AND c.subject = g.subject AND c.quota = g.quota AND c.window = g.window
               AND c.epoch = g.epoch), 0)
         FROM grants g WHERE bundle = ? AND subject = ? AND quota = ? AND window = ? ORDER BY heard_ms DESC",
    )?;
    let key = params![standing.bundle, standing.subject, standing.quota, stored(standing.window)];
    let mut rows = statement.query(key)?;
    let (mut granted, mut used, mut recorded, mut taken) = (0u128, 0u128, 0u128, 0u128);
    while let Some(row) = rows.next()? {
        let epoch: i64 = row.get(0)?;
        let share =
            Share { granted: quantity(row.get(1)?), returned: quantity(row.get(2)?), used: quantity(row.get(3)?) };
        let by_records = quantity(row.get(5)?);
        granted = granted.saturating_add(share.entitled().into());
        used = used.saturating_add(share.used.into());
        recorded = recorded.saturating_add(by_records.into());
        taken = taken.saturating_add(share.taken().into());
        standing.epochs.push(Epoch {
            epoch: format!("{:016x}", epoch.cast_unsigned()),
            granted: share.granted.into(),
            returned: share.returned.into(),
            used: share.used.into(),
            used_by_records: by_records.into(),
            heard_ms: quantity(row.get(4)?),
        });
    }
    standing.open = standing.window <= now_ms && now_ms < standing.ends;
    standing.granted = Amount(granted);
    standing.used = Amount(used);
    standing.used_by_records = Amount(recorded);
    standing.left = Amount(standing.limit.0.saturating_sub(taken));
    Ok(())
}
