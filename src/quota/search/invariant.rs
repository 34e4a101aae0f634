//! What must hold in every state, and after every step.

use super::actor::{Actor, Doing, Rescue};
use super::{SUBJECTS, Searcher, State, fault};
use crate::quota::account::{Account, Entry, Kind, Period};
use crate::quota::standing::allowance;
use crate::quota::{ExchangeId, Quota, Slot, mean_length, read_slot};

impl Searcher {
    /// A step may hold no more than may be spent and passed. Told from what was written alone.
    pub(super) fn lawful(&self, before: &State, after: &State) -> Result<(), String> {
        for (index, subject) in SUBJECTS.iter().enumerate() {
            let key = self.keys.account(subject);
            let read = |state: &State| {
                let bytes = state.shelf.value(&key)?;
                Account::decode(subject, bytes)
            };
            let same = before.shelf.value(&key) == after.shelf.value(&key);
            let Some(new) = read(after).filter(|_| !same) else { continue };
            let old = read(before).unwrap_or_else(|| Account::new(subject));
            for (quota, _) in (self.case.quotas)(index, self.case.limits[index]) {
                let kind = Kind::of(&quota.window);
                let Some(now) = new.entry(quota.id, kind).filter(|_| kind == Kind::Windowed) else { continue };
                let was = old.entry(quota.id, kind).map(periods).unwrap_or_default();
                for period in periods(now) {
                    let held = was.iter().find(|was| was.start == period.start).map_or(0, |was| was.held);
                    let most = allowance(&quota, &period) + self.case.over;
                    if period.held > held && period.used + period.owed + period.held > most {
                        return Err(format!("{subject} holds {period:?}, and may {most}"));
                    }
                    let (sum, all) = together(&quota, &period, &periods(now));
                    if period.held > held && period.start == now.current.start && sum > all + self.case.over {
                        return Err(format!("{subject} has spent {sum} of {all} in {now:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// By how much an account may be passed: the overage, and what exchanges use beyond what they hold.
    pub(super) fn bound(&self) -> u64 {
        let jobs = self.case.jobs.iter().flatten().chain(&self.case.after);
        self.case.over + jobs.map(|job| job.uses.saturating_sub(job.hold + job.more)).sum::<u64>()
    }

    /// What must hold in every state. Answers whether all VMs rest in it.
    pub(super) fn check(&mut self, state: &State) -> Result<bool, String> {
        if fault::underflowed() {
            return Err("more was released than was held".to_owned());
        }
        let vms = 0..u16::try_from(self.case.jobs.len()).unwrap();
        let calm = vms.clone().all(|vm| state.actors.iter().any(|actor| self.rests(state, &actor.value, vm)));
        if calm && vms.clone().any(|vm| !matches!(self.slot(state, vm), Slot::Free)) {
            return Err("at rest a slot is not free".to_owned());
        }
        let unknown = |id: &ExchangeId| calm && !state.ledger.value.contains_key(id);
        if let Some(id) = state.actors.iter().filter_map(|actor| actor.value.left()).find(unknown) {
            return Err(format!("at rest nobody was told of {id}"));
        }
        for index in 0..SUBJECTS.len() {
            let print = state.shelf.values[state.shelf.values.len() - SUBJECTS.len() + index].print;
            if self.sound.insert((index, print)) || calm {
                self.check_account(state, index, calm)?;
            }
        }
        Ok(calm)
    }

    /// What must hold of an account in every state; and when all rest, that it has what the ledger has.
    fn check_account(&self, state: &State, index: usize, calm: bool) -> Result<(), String> {
        let subject = SUBJECTS[index];
        let sent: u64 = state.ledger.value.values().map(|record| u64::from(record[0])).sum();
        let bytes = state.shelf.value(&self.keys.account(subject));
        let Some(account) = bytes.map(|bytes| Account::decode(subject, bytes).unwrap()) else {
            return if calm && sent > 0 { Err(format!("at rest {subject} is missing")) } else { Ok(()) };
        };
        for (quota, factor) in (self.case.quotas)(index, self.case.limits[index]) {
            let Some(entry) = account.entry(quota.id, Kind::of(&quota.window)) else {
                if calm && sent * factor > 0 {
                    return Err(format!("at rest {subject} knows nothing of {quota:?}"));
                }
                continue;
            };
            let bound = self.bound() * factor.max(1);
            for period in periods(entry) {
                let most = if quota.granted { quota.limit } else { allowance(&quota, &period) } + bound;
                if period.used + period.held > most {
                    return Err(format!("{subject}: used {} and held {} of {most}", period.used, period.held));
                }
            }
            let held: u64 = periods(entry).iter().map(|period| period.held).sum();
            let used: u64 = periods(entry).iter().map(|period| period.used).sum();
            let sum = used + held;
            if sum > 2 * quota.limit + bound {
                return Err(format!("{subject}: {sum} in two windows of {}", quota.limit));
            }
            let used = used + entry.slices.sum();
            // All that is searched of a sliding window happens within its length.
            let windows = if entry.kind == Kind::Sliding { 1 } else { 2 };
            if used > windows * quota.limit + bound {
                return Err(format!("{subject}: {used} of {}", quota.limit));
            }
            let wanted = if entry.kind == Kind::Concurrent { 0 } else { sent * factor };
            if calm && (used, held) != (wanted, 0) {
                return Err(format!("at rest {subject} has {entry:?}, the ledger says {wanted}"));
            }
        }
        Ok(())
    }

    pub(super) fn slot(&self, state: &State, vm: u16) -> Slot {
        read_slot(&self.keys, vm, 0, &mut state.shelf.clone()).unwrap().unwrap()
    }

    /// Whether this actor owns VM slot `vm` and has nothing more to do.
    pub(super) fn rests(&self, state: &State, actor: &Actor, vm: u16) -> bool {
        let by = match actor {
            Actor::Owner { by, doing, .. } if **doing == Doing::Done => by,
            Actor::Claimer { by: Some(by), doing: Rescue::Done, .. } => by,
            _ => return false,
        };
        let seen = crate::quota::peek(&self.keys, vm, &mut state.shelf.clone()).unwrap();
        by.vm == vm && seen.is_some_and(|seen| seen.generation == by.generation)
    }
}

/// What was spent until now in all windows that are kept, and what they have together, with what went over into the first:
/// more than that and one overage nobody may hold. What the ledger grants, it sees to.
fn together(quota: &Quota, current: &Period, kept: &[Period]) -> (u64, u64) {
    if quota.granted {
        return (0, 0);
    }
    let first = kept.iter().min_by_key(|period| period.start).unwrap_or(current);
    let windows = mean_length(&quota.window).map(|mean| (current.start - first.start + mean / 2) / mean + 1);
    let sum = kept.iter().map(|period| period.used).sum::<u64>() + current.held;
    (sum, quota.limit * windows.unwrap_or(kept.len() as u64) + first.carried)
}

/// The windows of a quota that are kept.
fn periods(entry: &Entry) -> Vec<Period> {
    [entry.current].into_iter().chain(entry.before.iter().copied()).collect()
}
