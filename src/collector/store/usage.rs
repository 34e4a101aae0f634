//! What was used, summed from the records.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use rusqlite::{Connection, Row, ToSql};
use serde::{Deserialize, Serialize};

use super::{Error, Losses, losses, quantity, stored};
use crate::collector::amount::Amount;
use crate::zone;

/// Every zone's midnight is a whole number of these, in milliseconds: days of any zone are summed from quarters.
const QUARTER_MS: u64 = 15 * 60 * 1000;

/// What the sums are told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Seat, and the organisation it is in.
    #[default]
    Seat,
    /// Organisation.
    Org,
    /// The model that was asked for.
    Model,
    /// Day of admission, in the question's zone.
    Day,
}

/// A question about usage: the query string of `GET /v1/usage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Question {
    /// What the sums are told apart by; by seat when not said.
    pub by: By,
    /// First moment of admission: Unix milliseconds, a date, or an RFC 3339 time. All time when not said.
    pub from: Option<String>,
    /// The first moment after it, in the same forms.
    pub to: Option<String>,
    /// IANA name of the zone that dates and days are meant in; UTC when not said.
    pub zone: Option<String>,
    /// Only this organisation.
    pub org: Option<String>,
    /// Only this seat.
    pub seat: Option<String>,
    /// Only this model.
    pub model: Option<String>,
    /// Only this bundle.
    pub bundle: Option<String>,
}

/// The answer of `GET /v1/usage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Answer {
    /// What the rows are told apart by.
    pub by: By,
    /// Sorted by what they are told apart by.
    pub rows: Vec<Used>,
    /// All rows together.
    pub total: Used,
    /// What never became part of the ledger, at any time and of all bundles.
    pub losses: Losses,
}

/// What some exchanges used. Tokens are told apart as in [`Usage`](crate::meter::usage::Usage).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Used {
    /// Their seat.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seat: Option<String>,
    /// Their organisation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub org: Option<String>,
    /// The model that was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// The day they were admitted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub day: Option<String>,
    /// How many exchanges.
    pub requests: u64,
    /// How many of them have usage that is wholly or partly counted by Farebox.
    pub estimated: u64,
    /// Uncached input tokens.
    pub input: u64,
    /// Input tokens read from a cache.
    pub cache_read: u64,
    /// Input tokens written to a cache.
    pub cache_write: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
    /// Reasoning tokens.
    pub reasoning: u64,
    /// Credits: of each exchange, the largest charge in credits on any one quota.
    pub credits: Amount,
}

impl Used {
    fn add(&mut self, more: &Used) {
        let pairs = [
            (&mut self.requests, more.requests),
            (&mut self.estimated, more.estimated),
            (&mut self.input, more.input),
            (&mut self.cache_read, more.cache_read),
            (&mut self.cache_write, more.cache_write),
            (&mut self.output, more.output),
            (&mut self.reasoning, more.reasoning),
        ];
        pairs.into_iter().for_each(|(sum, part)| *sum = sum.saturating_add(part));
        self.credits = Amount(self.credits.0.saturating_add(more.credits.0));
    }
}

/// Answers a question about usage.
pub fn answer(db: &Connection, question: &Question) -> Result<Answer, Error> {
    let name = question.zone.as_deref().unwrap_or("UTC");
    let zone = zone::get(name).ok_or_else(|| {
        Error::Question(format!(
            "`{name}` is no time zone that is known here: use an IANA name such as `Asia/Shanghai`"
        ))
    })?;
    let mut rows: BTreeMap<[Option<String>; 2], Used> = BTreeMap::new();
    let mut total = Used::default();
    for (key, used) in sums(db, question, &zone)? {
        total.add(&used);
        rows.entry(named(question.by, key, &zone)).or_default().add(&used);
    }
    let rows = rows.into_iter().map(|([first, second], used)| match question.by {
        By::Seat => Used { org: first, seat: second, ..used },
        By::Org => Used { org: first, ..used },
        By::Model => Used { model: first, ..used },
        By::Day => Used { day: first, ..used },
    });
    Ok(Answer { by: question.by, rows: rows.collect(), total, losses: losses(db)? })
}

/// The key of a row: text as it is, or the number of a quarter as its day.
fn named(by: By, [first, second]: [String; 2], zone: &TimeZone) -> [Option<String>; 2] {
    if by != By::Day {
        return [Some(first), Some(second)];
    }
    let quarter: u64 = first.parse().unwrap_or(0);
    let start = Timestamp::from_millisecond(stored(quarter.saturating_mul(QUARTER_MS))).unwrap_or_default();
    [Some(zone.to_datetime(start).date().to_string()), None]
}

/// Sums by two keys, as SQLite makes them.
fn sums(db: &Connection, question: &Question, zone: &TimeZone) -> Result<Vec<([String; 2], Used)>, Error> {
    let keys = match question.by {
        By::Seat => "org, seat".to_owned(),
        By::Org => "org, ''".to_owned(),
        By::Model => "model, ''".to_owned(),
        By::Day => format!("CAST(admitted_ms / {QUARTER_MS} AS TEXT), ''"),
    };
    let from = moment(question.from.as_deref(), "from", zone)?.unwrap_or(0);
    let to = moment(question.to.as_deref(), "to", zone)?.unwrap_or(i64::MAX);
    let mut conditions = "admitted_ms >= ? AND admitted_ms < ?".to_owned();
    let mut values: Vec<&dyn ToSql> = vec![&from, &to];
    for (column, value) in
        [("org", &question.org), ("seat", &question.seat), ("model", &question.model), ("bundle", &question.bundle)]
    {
        if let Some(value) = value {
            conditions.push_str(&format!(" AND {column} = ?"));
            values.push(value);
        }
    }
    // Credits are summed in two parts, because a fleet's can pass 64 bits.
    let mut statement = db.prepare(&format!(
        "SELECT {keys}, count(*), sum(estimated), sum(input), sum(cache_read), sum(cache_write), sum(output),
            sum(reasoning), sum(credits >> 20), sum(credits & 1048575)
         FROM records WHERE {conditions} GROUP BY 1, 2"
    ))?;
    let rows = statement.query_map(values.as_slice(), row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn row(row: &Row<'_>) -> rusqlite::Result<([String; 2], Used)> {
    let number = |column: usize| -> rusqlite::Result<u64> { Ok(quantity(row.get(column)?)) };
    let used = Used {
        requests: number(2)?,
        estimated: number(3)?,
        input: number(4)?,
        cache_read: number(5)?,
        cache_write: number(6)?,
        output: number(7)?,
        reasoning: number(8)?,
        credits: Amount((u128::from(number(9)?) << 20) + u128::from(number(10)?)),
        ..Used::default()
    };
    Ok(([row.get(0)?, row.get(1)?], used))
}

/// A moment as people and programs write it, in Unix milliseconds.
fn moment(text: Option<&str>, field: &str, zone: &TimeZone) -> Result<Option<i64>, Error> {
    let Some(text) = text else { return Ok(None) };
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let date = |text: &str| {
        let midnight = text.parse::<Date>().ok()?.to_datetime(Time::midnight());
        zone.to_timestamp(midnight).ok()
    };
    let milliseconds = text.parse::<i64>().ok().or_else(|| {
        // A date is looked for first: a timestamp's parser would want an offset.
        if text.len() == "2026-11-24".len() { date(text) } else { time(text) }.map(Timestamp::as_millisecond)
    });
    milliseconds.map(Some).ok_or_else(|| {
        Error::Question(format!(
            "`{field}={text}` is no moment: write a date (2026-11-24), a time with its offset (2026-11-24T08:00:00Z) or Unix milliseconds"
        ))
    })
}

#[cfg(test)]
mod tests;
