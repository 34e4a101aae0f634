//! Who owns a VM slot: claiming, beating, watching, releasing; and the process epoch.

use super::edit::{Decision, Edit, Edited};
use super::keys::Keys;
use super::operation::fenced;
use super::recovery::Recovery;
use super::vmslot::VmRecord;
use super::{Cells, Expect, Incarnation, MAX_VMS, Outcome, StoreError};
use crate::now::Now;

/// What a watcher sees of a VM slot.
///
/// Two sights that are equal over 30 of the watcher's *own* ticks, and not released, mean that the owner is silent:
/// [`Claim`] it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sight {
    /// The owner's generation.
    pub generation: u32,
    /// How often it has ticked.
    pub beat: u64,
    /// Nobody owns it, and nothing is left to do in it.
    pub released: bool,
}

impl Sight {
    fn of(record: &VmRecord) -> Self {
        Self { generation: record.generation, beat: record.beat, released: record.released }
    }
}

/// The epoch of this process for this bundle name: `random` when this is the first VM that asks.
///
/// Fails when the store does, or when what is stored under the key is no epoch.
pub fn open_epoch(keys: &Keys, cells: &mut dyn Cells, random: u64) -> Result<u64, StoreError> {
    let key = keys.epoch();
    if cells.load(&key)?.is_none() && cells.swap(&key, Expect::Absent, &random.to_le_bytes())? {
        return Ok(random);
    }
    let cell = cells.load(&key)?.ok_or(StoreError)?;
    <[u8; 8]>::try_from(cell.value.as_slice()).map(u64::from_le_bytes).map_err(|_| StoreError)
}

/// Looks at VM slot `vm`; `None`: nobody ever owned it, or it cannot be read.
pub fn peek(keys: &Keys, vm: u16, cells: &mut dyn Cells) -> Result<Option<Sight>, StoreError> {
    let cell = cells.load(&keys.vm(vm))?;
    Ok(cell.and_then(|cell| VmRecord::decode(vm, &cell.value)).map(|record| Sight::of(&record)))
}

/// Raises the beat of a VM slot that `by` owns. Anything but [`Outcome::Done`] means that it does so no longer.
pub fn beat(keys: &Keys, by: Incarnation, cells: &mut dyn Cells) -> Result<Outcome, StoreError> {
    change(keys, by, cells, |record| record.beat = record.beat.wrapping_add(1))
}

/// Gives up a VM slot that `by` owns and in which it has nothing left to do: no exchange held, no record unsent.
pub fn release(keys: &Keys, by: Incarnation, cells: &mut dyn Cells) -> Result<Outcome, StoreError> {
    change(keys, by, cells, |record| record.released = true)
}

fn change(
    keys: &Keys,
    by: Incarnation,
    cells: &mut dyn Cells,
    what: impl Fn(&mut VmRecord),
) -> Result<Outcome, StoreError> {
    let edited =
        Edit::new(keys.vm(by.vm)).run(cells, |bytes| match bytes.and_then(|bytes| VmRecord::decode(by.vm, bytes)) {
            None => Decision::Leave(Outcome::Unreadable { key: keys.vm(by.vm) }),
            Some(record) if fenced(record.generation, by.generation) || record.released => {
                Decision::Leave(Outcome::Fenced)
            }
            Some(mut record) => {
                what(&mut record);
                Decision::Write(record.encode(by.vm))
            }
        })?;
    Ok(match edited {
        Edited::Left(outcome) => outcome,
        Edited::Hopeless => Outcome::Contended,
        _ => Outcome::Done,
    })
}

/// For a fresh VM: the lowest VM slot that nobody ever owned or that was released, claimed. `None`: all
/// [`MAX_VMS`] are taken.
///
/// The recovery that it answers has nothing to do in a slot that is new, and little in a released one; run it to its
/// end before the first admission.
pub fn first_claimable(
    keys: &Keys,
    epoch: u64,
    keep: bool,
    now: Now,
    cells: &mut dyn Cells,
) -> Result<Option<Recovery>, StoreError> {
    for vm in 0..MAX_VMS {
        let mut claim = Claim { keys: keys.clone(), epoch, vm, wanted: Wanted::Unowned, keep, now, found: None };
        if let Claimed::Taken(recovery) = claim.run(cells)? {
            return Ok(Some(*recovery));
        }
    }
    Ok(None)
}

/// The claim of a VM slot: raises its generation, so that its owner can begin nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    keys: Keys,
    epoch: u64,
    vm: u16,
    wanted: Wanted,
    keep: bool,
    now: Now,
    found: Option<(Expect, VmRecord)>,
}

/// Which state of the VM slot is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    /// Only if it still looks like this.
    Silent(Sight),
    /// Only if nobody owns it.
    Unowned,
    /// As it comes: the search claims at any moment.
    #[cfg(test)]
    Anyhow,
}

/// Where a claim is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Call `step` again.
    Again,
    /// The VM slot is the claimer's; this is what to do in it first.
    Taken(Box<Recovery>),
    /// It looks different from what was seen: its owner lives, or somebody was faster.
    Missed,
}

impl Claim {
    /// Claims VM slot `vm`, which has looked like `seen` for too long. `keep`: records stay in their slots until they
    /// are acknowledged (there is a collector).
    pub fn new(keys: &Keys, epoch: u64, vm: u16, seen: Sight, keep: bool, now: Now) -> Self {
        Self { keys: keys.clone(), epoch, vm, wanted: Wanted::Silent(seen), keep, now, found: None }
    }

    /// A claim that does not look whether anybody owns the slot.
    #[cfg(test)]
    pub(super) fn anyhow(keys: &Keys, epoch: u64, vm: u16, now: Now) -> Self {
        Self { keys: keys.clone(), epoch, vm, wanted: Wanted::Anyhow, keep: true, now, found: None }
    }

    /// One store call.
    pub fn step(&mut self, cells: &mut dyn Cells) -> Result<Claimed, StoreError> {
        let key = self.keys.vm(self.vm);
        let Some((expect, record)) = &self.found else {
            let (expect, record) = match cells.load(&key)? {
                None => (Expect::Absent, Some(VmRecord::new(self.epoch))),
                Some(cell) => (Expect::Version(cell.version), VmRecord::decode(self.vm, &cell.value)),
            };
            let Some(record) = record else { return Ok(Claimed::Missed) };
            let fits = match self.wanted {
                Wanted::Silent(seen) => Sight::of(&record) == seen,
                Wanted::Unowned => record.released,
                #[cfg(test)]
                Wanted::Anyhow => true,
            };
            if !fits {
                return Ok(Claimed::Missed);
            }
            self.found = Some((expect, record));
            return Ok(Claimed::Again);
        };
        let generation = record.generation.saturating_add(1);
        let claimed = VmRecord { generation, beat: 0, released: false, ..record.clone() };
        if !cells.swap(&key, *expect, &claimed.encode(self.vm))? {
            // Only a beat, an operation or another claim can have been faster: the next look tells.
            self.found = None;
            return Ok(Claimed::Again);
        }
        let by = Incarnation { epoch: self.epoch, vm: self.vm, generation };
        Ok(Claimed::Taken(Box::new(Recovery::new(&self.keys, by, claimed, self.keep, self.now))))
    }

    /// Steps to the end. A swap is lost only to a change after which the slot looks different, so this ends.
    pub fn run(&mut self, cells: &mut dyn Cells) -> Result<Claimed, StoreError> {
        for _ in 0..super::edit::PATIENCE {
            match self.step(cells)? {
                Claimed::Again => {}
                ended => return Ok(ended),
            }
        }
        Ok(Claimed::Missed)
    }

    /// See [`Edit::normalise`].
    #[cfg(test)]
    pub(super) fn normalise(&mut self, relabel: super::edit::Relabel<'_>) {
        if let Some((expect, record)) = &mut self.found {
            super::vmslot::normalise(expect, record, relabel(&self.keys.vm(self.vm), *expect));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, Claimed, beat, first_claimable, open_epoch, peek, release};
    use crate::now::Now;
    use crate::quota::laws::Shared;
    use crate::quota::{
        Cell, Cells, Ending, ExchangeId, Expect, Held, Incarnation, Keys, Level, Line, Operation, Outcome, Quota,
        QuotaId, Recovery, Slot, StoreError, Unsent, Window, read_slot,
    };

    fn fresh(keys: &Keys, shared: &mut Shared) -> Incarnation {
        first_claimable(keys, 9, true, Now::default(), shared).unwrap().unwrap().by()
    }

    fn claim(keys: &Keys, vm: u16, shared: &mut Shared) -> Recovery {
        let seen = peek(keys, vm, shared).unwrap().unwrap();
        match Claim::new(keys, 9, vm, seen, true, Now::default()).run(shared).unwrap() {
            Claimed::Taken(recovery) => *recovery,
            claimed => panic!("{claimed:?}"),
        }
    }

    fn levels() -> Vec<Level> {
        let quota = Quota { id: QuotaId(1), limit: 100, window: Window::Concurrent, granted: false, rollover: 0 };
        vec![Level { subject: "s".to_owned(), lines: vec![Line { quota, amount: 1, over: 0 }] }]
    }

    fn never(_: &Held) -> Ending {
        panic!("nothing is held")
    }

    #[test]
    fn the_first_vm_opens_the_epoch() {
        let (keys, mut shared) = (Keys::new("b"), Shared::default());
        assert_eq!(open_epoch(&keys, &mut shared, 5), Ok(5));
        assert_eq!(open_epoch(&keys, &mut shared, 6), Ok(5));
        shared.cells.insert(keys.epoch(), Cell { value: vec![1], version: 1 });
        assert_eq!(open_epoch(&keys, &mut shared, 6), Err(StoreError));
    }

    #[test]
    fn a_fresh_vm_takes_the_lowest_slot_that_nobody_owns() {
        let (keys, mut shared) = (Keys::new("b"), Shared::default());
        let (first, second) = (fresh(&keys, &mut shared), fresh(&keys, &mut shared));
        assert_eq!((first.vm, first.generation, second.vm), (0, 1, 1));
        assert_eq!(release(&keys, first, &mut shared), Ok(Outcome::Done));
        assert_eq!(beat(&keys, first, &mut shared), Ok(Outcome::Fenced));
        let again = fresh(&keys, &mut shared);
        assert_eq!((again.vm, again.generation), (0, 2));
        assert_eq!(release(&keys, first, &mut shared), Ok(Outcome::Fenced));
        for _ in 2..super::MAX_VMS {
            fresh(&keys, &mut shared);
        }
        assert_eq!(first_claimable(&keys, 9, true, Now::default(), &mut shared), Ok(None));
    }

    #[test]
    fn a_slot_that_beats_is_not_claimed() {
        let (keys, mut shared) = (Keys::new("b"), Shared::default());
        let by = fresh(&keys, &mut shared);
        let seen = peek(&keys, 0, &mut shared).unwrap().unwrap();
        assert_eq!(beat(&keys, by, &mut shared), Ok(Outcome::Done));
        assert_eq!(Claim::new(&keys, 9, 0, seen, true, Now::default()).run(&mut shared), Ok(Claimed::Missed));
        // It beats between the look and the swap.
        let seen = peek(&keys, 0, &mut shared).unwrap().unwrap();
        let mut late = Claim::new(&keys, 9, 0, seen, true, Now::default());
        assert_eq!(late.step(&mut shared), Ok(Claimed::Again));
        assert_eq!(beat(&keys, by, &mut shared), Ok(Outcome::Done));
        assert_eq!(late.run(&mut shared), Ok(Claimed::Missed));
        let taken = claim(&keys, 0, &mut shared).by();
        assert_eq!(taken.generation, 2);
        assert_eq!(beat(&keys, by, &mut shared), Ok(Outcome::Fenced));
        assert_eq!(peek(&keys, 1, &mut shared), Ok(None));
    }

    #[test]
    fn an_heir_sends_what_was_settled_and_frees_only_that() {
        let (keys, mut shared) = (Keys::new("b"), Shared::default());
        let by = fresh(&keys, &mut shared);
        let id = |sequence| ExchangeId { by, sequence };
        let now = Now::default();
        for slot in [0, 4] {
            let id = id(u64::from(slot) + 1);
            let mut hold = Operation::hold(&keys, by, slot, id, levels(), vec![7], now);
            assert_eq!(hold.run(&mut shared), Ok(Outcome::Done));
        }
        let mut settle = Operation::settle(&keys, by, 4, id(5), levels(), vec![8], true, now);
        assert_eq!(settle.run(&mut shared), Ok(Outcome::Done));
        let mut recovery = claim(&keys, 0, &mut shared);
        let mut charge = |held: &Held| {
            assert_eq!((held.id, held.draft.as_slice()), (id(1), &[7][..]));
            Ending { used: held.levels.clone(), record: vec![9] }
        };
        assert_eq!(recovery.run(&mut shared, &mut charge), Ok(Outcome::Done));
        let unsent = |slot, id, record: u8| Unsent { slot, id, record: vec![record] };
        assert_eq!(recovery.unsent(), [unsent(0, id(1), 9), unsent(4, id(5), 8)]);
        assert_eq!(recovery.ended(), 1);
        let heir = recovery.by();
        for Unsent { slot, id, .. } in recovery.unsent() {
            let mut wrong = Operation::free(&keys, heir, *slot, ExchangeId { sequence: 77, ..*id });
            assert_eq!(wrong.run(&mut shared), Ok(Outcome::WrongSlot));
            assert_eq!(Operation::free(&keys, heir, *slot, *id).run(&mut shared), Ok(Outcome::Done));
            assert_eq!(read_slot(&keys, 0, *slot, &mut shared), Ok(Some(Slot::Free)));
        }
        assert_eq!(release(&keys, heir, &mut shared), Ok(Outcome::Done));
        let mut next = first_claimable(&keys, 9, true, now, &mut shared).unwrap().unwrap();
        assert_eq!(next.run(&mut shared, &mut never), Ok(Outcome::Done));
        assert_eq!((next.by().vm, next.by().generation, next.unsent()), (0, 3, &[][..]));
    }

    /// A store on which every swap of an account is lost to somebody else.
    struct Contended(Shared);

    impl Cells for Contended {
        fn load(&mut self, key: &[u8]) -> Result<Option<Cell>, StoreError> {
            self.0.load(key)
        }

        fn swap(&mut self, key: &[u8], expect: Expect, value: &[u8]) -> Result<bool, StoreError> {
            if key.ends_with(b"/a/s") { Ok(false) } else { self.0.swap(key, expect, value) }
        }
    }

    #[test]
    fn an_operation_that_never_wins_gives_up() {
        let (keys, mut shared) = (Keys::new("b"), Shared::default());
        let by = fresh(&keys, &mut shared);
        let mut hold = Operation::hold(&keys, by, 0, ExchangeId { by, sequence: 1 }, levels(), vec![], Now::default());
        assert_eq!(hold.run(&mut Contended(shared)), Ok(Outcome::Contended));
    }
}
