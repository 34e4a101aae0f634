//! Who acts on the store, one call at a time: owners, claimers, the ledger, and acknowledgements that come late.

use super::Broken;
use super::store::Part;
use super::{Job, Ledger, Searcher, State};
use crate::quota::edit::Relabel;
use crate::quota::{
    Claim, Claimed, Ending, ExchangeId, Held, Incarnation, Level, Operation, Outcome, Recovery, Slot, Step, Unsent,
    Window, read_slot,
};

/// Somebody who acts on the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Actor {
    /// An owner and the exchange it runs.
    Owner { by: Incarnation, job: usize, doing: Box<Doing> },
    /// Somebody who takes a VM slot over.
    Claimer { vm: u16, by: Option<Incarnation>, doing: Rescue },
    /// The ledger, which has said so much.
    Ledger { said: usize },
    /// An acknowledgement on its way to the first exchange of a VM, for the second and third time.
    Ack { by: Incarnation, left: u8, doing: Option<Operation> },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Doing {
    Begin,
    Admit(Operation),
    Extend(Operation),
    /// The operation, and the record that it writes.
    Settle(Operation),
    Send,
    Free(Operation),
    Done,
    /// It must stop; whether its exchange had been admitted.
    Fenced {
        admitted: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rescue {
    Claim(Claim),
    Recover(Box<Recovery>),
    Send(Vec<Unsent>),
    Free(Box<Operation>, Vec<Unsent>),
    Done,
    Fenced,
}

impl Searcher {
    pub(super) fn own(
        &self,
        by: Incarnation,
        job: &mut usize,
        doing: &mut Doing,
        state: &mut State,
    ) -> Result<bool, String> {
        let (keys, cells) = (&self.keys, &mut state.shelf);
        let now = self.clock(usize::from(by.vm), *job);
        let jobs = if by.generation == 1 { &self.case.jobs[usize::from(by.vm)] } else { &self.case.after };
        let Some(Job { slot, hold, more, uses }) = jobs.get(*job).copied() else {
            let ending = *doing == Doing::Begin;
            if ending {
                *doing = Doing::Done;
            }
            return Ok(ending);
        };
        let id = ExchangeId { by, sequence: *job as u64 + 1 };
        let settle = |uses: u64| {
            let keep = self.case.broken != Some(Broken::FreedBeforeSent);
            let record = vec![u8::try_from(uses).unwrap()];
            Doing::Settle(Operation::settle(keys, by, slot, id, self.levels(uses), record, keep, now))
        };
        if *doing == Doing::Begin {
            let levels = self.levels(hold);
            *doing = Doing::Admit(Operation::hold(keys, by, slot, id, levels, vec![hold as u8], now));
        }
        let (Doing::Admit(operation) | Doing::Extend(operation) | Doing::Settle(operation) | Doing::Free(operation)) =
            doing
        else {
            if *doing != Doing::Send {
                return Ok(false);
            }
            let found = read_slot(keys, by.vm, slot, cells).unwrap().unwrap();
            if let Slot::Settled { id: settled, record } = found
                && settled == id
            {
                send(&mut state.ledger, id, record)?;
                *doing = Doing::Free(Operation::free(keys, by, slot, id));
            } else {
                next_job(job, doing);
            }
            return Ok(true);
        };
        let Step::Ended(outcome) = operation.step(cells).unwrap() else {
            self.reached.borrow_mut().extend(operation.takes_back());
            return Ok(true);
        };
        self.reached.borrow_mut().insert(match (&*doing, &outcome) {
            (Doing::Admit(_), Outcome::Refused(_)) => "an admission is refused",
            (Doing::Extend(_), Outcome::Done) => "an extension is held",
            (Doing::Extend(_), Outcome::Refused(_)) => "an extension is refused",
            (Doing::Admit(_) | Doing::Extend(_), Outcome::Fenced) => "a hold is fenced",
            (Doing::Settle(_), Outcome::Fenced) => "a settle is fenced",
            _ => "",
        });
        match (&*doing, outcome) {
            (of, Outcome::Fenced) => *doing = Doing::Fenced { admitted: !matches!(of, Doing::Admit(_)) },
            (Doing::Admit(_), Outcome::Done) if more > 0 => {
                let more = self.more(more);
                *doing = Doing::Extend(Operation::extend(keys, by, slot, id, more, 1, now));
            }
            (Doing::Admit(_) | Doing::Extend(_), Outcome::Done) => *doing = settle(uses),
            (Doing::Extend(_), Outcome::Refused(_)) => *doing = settle(uses.min(hold)),
            (Doing::Admit(_), Outcome::Refused(_)) | (Doing::Free(_), Outcome::Done | Outcome::WrongSlot) => {
                next_job(job, doing);
            }
            (Doing::Settle(_), Outcome::Done) => *doing = Doing::Send,
            (doing, outcome) => return Err(format!("{doing:?} ended in {outcome:?}")),
        }
        Ok(true)
    }

    /// What an extension holds: not another place among those that run.
    pub(super) fn more(&self, amount: u64) -> Vec<Level> {
        let mut levels = self.levels(amount);
        for level in &mut levels {
            level.lines.retain(|line| line.quota.window != Window::Concurrent);
        }
        levels
    }

    pub(super) fn rescue(
        &self,
        vm: u16,
        by: &mut Option<Incarnation>,
        doing: &mut Rescue,
        state: &mut State,
    ) -> Result<bool, String> {
        let cells = &mut state.shelf;
        match doing {
            Rescue::Done | Rescue::Fenced => return Ok(false),
            Rescue::Claim(claim) => match claim.step(cells).unwrap() {
                Claimed::Again => {}
                Claimed::Missed => *doing = Rescue::Fenced,
                Claimed::Taken(recovery) => {
                    *by = Some(recovery.by());
                    *doing = Rescue::Recover(recovery);
                }
            },
            Rescue::Recover(recovery) => match recovery.step(cells, &mut charge_all).unwrap() {
                Step::Again => {
                    self.reached.borrow_mut().insert(recovery.does());
                }
                Step::Ended(Outcome::Done) => *doing = Rescue::Send(recovery.unsent().to_vec()),
                Step::Ended(Outcome::Fenced) => *doing = Rescue::Fenced,
                Step::Ended(outcome) => return Err(format!("a recovery ended in {outcome:?}")),
            },
            Rescue::Send(unsent) => match unsent.pop() {
                None => *doing = Rescue::Done,
                Some(Unsent { slot, id, record }) => {
                    send(&mut state.ledger, id, record)?;
                    let by = by.ok_or(format!("VM slot {vm} has no claimer"))?;
                    let free = Operation::free(&self.keys, by, slot, id);
                    *doing = Rescue::Free(Box::new(free), std::mem::take(unsent));
                }
            },
            Rescue::Free(operation, unsent) => match operation.step(cells).unwrap() {
                Step::Again => {}
                Step::Ended(Outcome::Fenced) => *doing = Rescue::Fenced,
                Step::Ended(_) => *doing = Rescue::Send(std::mem::take(unsent)),
            },
        }
        Ok(true)
    }

    /// An acknowledgement that comes late, or once more: the slot may be used again by then, or its owner be fenced.
    pub(super) fn acknowledge(
        &self,
        by: Incarnation,
        left: &mut u8,
        doing: &mut Option<Operation>,
        state: &mut State,
    ) -> Result<bool, String> {
        let id = ExchangeId { by, sequence: 1 };
        match doing {
            None if *left > 0 && state.ledger.value.contains_key(&id) => {
                *left -= 1;
                *doing = Some(Operation::free(&self.keys, by, 0, id));
                Ok(true)
            }
            None => Ok(false),
            Some(operation) => {
                if let Step::Ended(outcome) = operation.step(&mut state.shelf).unwrap() {
                    self.reached.borrow_mut().insert(match outcome {
                        Outcome::WrongSlot => "an acknowledgement comes too late",
                        Outcome::Done => "an acknowledgement is faster than its exchange",
                        _ => "",
                    });
                    *doing = None;
                }
                Ok(true)
            }
        }
    }
}

impl Actor {
    /// The exchange of an owner that was admitted and not ended by it: somebody else must have ended it.
    pub(super) fn left(&self) -> Option<ExchangeId> {
        let Self::Owner { by, job, doing } = self else { return None };
        let id = ExchangeId { by: *by, sequence: *job as u64 + 1 };
        let admitted = match &**doing {
            Doing::Extend(_) | Doing::Settle(_) | Doing::Send | Doing::Free(_) => true,
            Doing::Fenced { admitted } => *admitted,
            Doing::Begin | Doing::Admit(_) | Doing::Done => false,
        };
        admitted.then_some(id)
    }

    pub(super) fn normalise(&mut self, relabel: Relabel<'_>) {
        match self {
            Self::Owner { doing, .. } => match &mut **doing {
                Doing::Admit(operation)
                | Doing::Extend(operation)
                | Doing::Settle(operation)
                | Doing::Free(operation) => operation.normalise(relabel),
                Doing::Begin | Doing::Send | Doing::Done | Doing::Fenced { .. } => {}
            },
            Self::Claimer { doing, .. } => match doing {
                Rescue::Claim(claim) => claim.normalise(relabel),
                Rescue::Recover(recovery) => recovery.normalise(relabel),
                Rescue::Free(operation, _) => operation.normalise(relabel),
                Rescue::Send(_) | Rescue::Done | Rescue::Fenced => {}
            },
            Self::Ack { doing, .. } => {
                if let Some(operation) = doing {
                    operation.normalise(relabel);
                }
            }
            Self::Ledger { .. } => {}
        }
    }
}

fn next_job(job: &mut usize, doing: &mut Doing) {
    *job += 1;
    *doing = Doing::Begin;
}

/// A lost exchange costs what it held on the first quota of the first level; its record says so.
pub(super) fn charge_all(held: &Held) -> Ending {
    let amount = held.levels[0].lines[0].amount;
    Ending { used: held.levels.clone(), record: vec![u8::try_from(amount).unwrap()] }
}

fn send(ledger: &mut Part<Ledger>, id: ExchangeId, record: Vec<u8>) -> Result<(), String> {
    match ledger.value.get(&id) {
        Some(known) if *known != record => Err(format!("{id} arrived as {known:?} and as {record:?}")),
        Some(_) => Ok(()),
        None => {
            let mut more = Ledger::clone(&ledger.value);
            more.insert(id, record);
            *ledger = Part::new(more);
            Ok(())
        }
    }
}
