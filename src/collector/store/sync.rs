//! What one sync does to the ledger.

use rusqlite::Connection;

use super::grant::{self, Of};
use super::record::{self, Fate};
use super::{Error, loss};
use crate::quota::Incarnation;
use crate::report::wire::{Record, Rejection, SyncHead, SyncReply, VERSION};

/// Log lines of one kind that a sync may cause; the rest is only counted.
const MOST_LINES: usize = 3;

/// A sync that was applied. It holds once the transaction around it is committed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// What to answer.
    pub reply: SyncReply,
    /// Records that were new.
    pub new: u64,
    /// What the operator should know, ready to be logged.
    pub warnings: Vec<String>,
}

/// Applies the records, takes note of the sender's sequence, and answers its accounts.
pub fn apply(
    db: &Connection,
    head: &SyncHead,
    records: &[Result<Record, String>],
    now_ms: u64,
) -> Result<Applied, Error> {
    let mut applied = Applied { reply: SyncReply { farebox: VERSION, ..SyncReply::default() }, ..Applied::default() };
    let mut conflicts = Vec::new();
    for (position, record) in (0..).zip(records) {
        match record.as_ref().map_err(Clone::clone).and_then(|record| Ok((record, record::check(record)?))) {
            Err(reason) => applied.reply.rejected.push(Rejection { position, reason }),
            Ok((record, id)) => {
                match record::apply(db, id, record, now_ms)? {
                    Fate::New => {
                        applied.new = applied.new.saturating_add(1);
                        loss::found(db, id, now_ms)?;
                    }
                    Fate::Known => {}
                    Fate::Conflict => conflicts.push(record.id.as_str()),
                }
                applied.reply.acknowledged.push(record.id.clone());
            }
        }
    }
    loss::count(db, "rejected", applied.reply.rejected.len() as u64)?;
    loss::count(db, "conflicts", conflicts.len() as u64)?;

    let by = Incarnation { epoch: head.epoch, vm: head.vm, generation: head.generation };
    let lost = loss::hear(db, by, &head.bundle, (head.lowest, head.next), now_ms)?;
    for account in &head.accounts {
        let of = Of { bundle: &head.bundle, subject: &account.subject, epoch: head.epoch };
        for quota in &account.quotas {
            applied.reply.grants.push(grant::report(db, of, quota, now_ms)?);
        }
    }
    applied.warnings = warnings(head, &applied.reply.rejected, &conflicts, lost);
    Ok(applied)
}

fn warnings(head: &SyncHead, rejected: &[Rejection], conflicts: &[&str], lost: u64) -> Vec<String> {
    let from = format!("bundle `{}`, sender {:016x}-{}-{}", head.bundle, head.epoch, head.vm, head.generation);
    let refusals =
        rejected.iter().take(MOST_LINES).map(|one| format!("{from}: record {} rejected: {}", one.position, one.reason));
    let disputes = conflicts
        .iter()
        .take(MOST_LINES)
        .map(|id| format!("{from}: record `{id}` differs from the one that is kept under this id"));
    let mut lines: Vec<String> = refusals.chain(disputes).collect();
    if lost > 0 {
        lines.push(format!("{from}: {lost} exchanges below sequence {} have no record: proven lost", head.lowest));
    }
    lines
}

#[cfg(test)]
mod tests;
