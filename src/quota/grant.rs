//! What the ledger says about an account, merged so that repeating, reordering or losing an answer is harmless.

use super::account::{Account, Entry, Kind};
use super::edit::{Decision, Edit, Edited};
use super::keys::Keys;
use super::standing::Carry;
use super::{Cells, Outcome, QuotaId, StoreError};

/// What this process may spend of one quota, as the ledger says. Cumulative within the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GrantLine {
    /// Which quota.
    pub quota: QuotaId,
    /// Start of the window that this is for, Unix milliseconds; for first use: when it opened. 0 is ignored.
    pub window: u64,
    /// Its end.
    pub ends: u64,
    /// Micro-units this process may spend in this window, cumulative: what was returned is not deducted.
    pub granted: u64,
    /// Micro-units the ledger could still grant to anybody.
    pub left: u64,
    /// Micro-units of debts of earlier windows that this one, of which nothing is granted then, cannot pay.
    pub owed: u64,
}

/// Merges the ledger's answer into the account of `subject`, which it makes where it is missing.
pub fn grant(keys: &Keys, subject: &str, lines: &[GrantLine], cells: &mut dyn Cells) -> Result<Outcome, StoreError> {
    let key = keys.account(subject);
    edit(key, cells, |bytes| {
        let found = bytes.map_or_else(|| Some(Account::new(subject)), |bytes| Account::decode(subject, bytes));
        let mut account = found?;
        lines.iter().for_each(|line| account.merge(line));
        Some(account)
    })
}

/// Returns to the ledger what is granted in the current window and neither used nor held, but for `keep` micro-units.
/// The report that follows says so.
pub fn give_back(
    keys: &Keys,
    subject: &str,
    quota: QuotaId,
    keep: u64,
    cells: &mut dyn Cells,
) -> Result<Outcome, StoreError> {
    edit(keys.account(subject), cells, |bytes| {
        let mut account = Account::decode(subject, bytes?)?;
        if let Some(entry) = account.entry_mut(quota, Kind::Windowed) {
            entry.give_back(keep);
        }
        Some(account)
    })
}

/// Returns all of a first-use window in which nothing was used and nothing is held: the first exchange that is admitted
/// opens it, and none was. The next one needs another from the ledger, which opens it then, if nobody else uses this one.
/// Answers how much went back.
pub fn give_back_unused(keys: &Keys, subject: &str, quota: QuotaId, cells: &mut dyn Cells) -> Result<u64, StoreError> {
    let mut returned = 0;
    let outcome = edit(keys.account(subject), cells, |bytes| {
        let mut account = Account::decode(subject, bytes?)?;
        returned = 0;
        if let Some(entry) = account.entry_mut(quota, Kind::Windowed)
            && entry.current.is_unused()
            && entry.current.unspent() > 0
        {
            returned = entry.give_back(0);
            entry.closed = true;
        }
        Some(account)
    })?;
    Ok(if outcome == Outcome::Done { returned } else { 0 })
}

/// Returns to the ledger what is granted and neither used nor held in windows that have ended: those before, and the
/// current one if it has. Only so can it roll over into the next.
pub fn give_back_past(
    keys: &Keys,
    subject: &str,
    quota: QuotaId,
    wall_ms: u64,
    cells: &mut dyn Cells,
) -> Result<Outcome, StoreError> {
    edit(keys.account(subject), cells, |bytes| {
        let mut account = Account::decode(subject, bytes?)?;
        if let Some(entry) = account.entry_mut(quota, Kind::Windowed) {
            for past in entry.before.iter_mut().chain([&mut entry.current]) {
                if past.ends <= wall_ms {
                    past.returned = past.returned.saturating_add(past.unspent());
                }
            }
        }
        Some(account)
    })
}

/// Writes what `change` makes of an account; `None`: it cannot be read.
fn edit(
    key: Vec<u8>,
    cells: &mut dyn Cells,
    mut change: impl FnMut(Option<&[u8]>) -> Option<Account>,
) -> Result<Outcome, StoreError> {
    let edited = Edit::new(key.clone()).run(cells, |bytes| match change(bytes).map(|account| account.encode()) {
        None => Decision::Leave(Outcome::Unreadable { key: key.clone() }),
        Some(same) if bytes == Some(same.as_slice()) => Decision::Leave(Outcome::Done),
        Some(changed) => Decision::Write(changed),
    })?;
    Ok(match edited {
        Edited::Left(outcome) => outcome,
        Edited::Hopeless => Outcome::Contended,
        _ => Outcome::Done,
    })
}

/// The account of `subject`; `None`: there is none, or what is stored is no account of this subject.
pub fn read_account(keys: &Keys, subject: &str, cells: &mut dyn Cells) -> Result<Option<Account>, StoreError> {
    let cell = cells.load(&keys.account(subject))?;
    Ok(cell.and_then(|cell| Account::decode(subject, &cell.value)))
}

impl Account {
    pub(super) fn merge(&mut self, line: &GrantLine) {
        if line.window == 0 {
            return;
        }
        let Some(entry) = self.entry_of(line.quota, Kind::Windowed) else { return };
        entry.advance(line.window, line.ends, Carry::NOTHING);
        if entry.current.start == line.window {
            let current = &mut entry.current;
            // An answer that grants less than is known is an older one: what it says is left is older too.
            if line.granted >= current.granted {
                entry.left = line.left;
            }
            // A window of which more is granted has paid all that it owed.
            current.owed = if line.granted > current.granted { line.owed } else { current.owed.max(line.owed) };
            current.granted = current.granted.max(line.granted);
            current.allowed = u64::MAX;
            current.ends = current.ends.max(line.ends);
            // A window of which nothing is to be had here, although the ledger has something left, stays closed.
            if !current.is_blank() || line.left == 0 {
                entry.closed = false;
            }
        } else if let Some(before) = entry.kept(line.window) {
            before.granted = before.granted.max(line.granted);
        }
    }
}

impl Entry {
    /// Gives back what is granted in the current window and neither used nor held, but for `keep`. Answers how much.
    fn give_back(&mut self, keep: u64) -> u64 {
        let back = self.current.unspent().saturating_sub(keep);
        self.current.returned = self.current.returned.saturating_add(back);
        // The ledger has that again.
        self.left = self.left.saturating_add(back);
        back
    }
}
