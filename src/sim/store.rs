//! Envoy's shared data and clocks.
//!
//! One [`SharedData`] is one process: its VMs all see the same cells, and it dies with the process. Each VM gets a
//! [`SimCells`] of its own, so that a VM can be killed or cut off from the store at any operation while the others
//! go on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use crate::now::Now;
use crate::quota::{Cell, Cells, Expect, StoreError};

/// Envoy's shared data of one process.
///
/// Like Envoy's it has no delete, one version counter for all keys, and versions above zero. Clones share the cells.
#[derive(Clone, Debug, Default)]
pub struct SharedData {
    memory: Rc<RefCell<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    cells: BTreeMap<Vec<u8>, Cell>,
    last_version: u32,
    operations: u64,
}

impl SharedData {
    /// The store of a fresh process: empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// The store as the VM numbered `vm` sees it. The number is the caller's own; hooks are told it.
    pub fn cells(&self, vm: u16) -> SimCells {
        SimCells { shared: self.clone(), vm, state: Linked::Up, before_op: None }
    }

    /// What stands under `key`, without counting as an operation.
    pub fn peek(&self, key: &[u8]) -> Option<Cell> {
        self.memory.borrow().cells.get(key).cloned()
    }

    /// All keys that were ever written, in order: for tests, which may do what Envoy cannot.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        self.memory.borrow().cells.keys().cloned().collect()
    }

    /// How many operations reached the store.
    pub fn operations(&self) -> u64 {
        self.memory.borrow().operations
    }

    /// A copy that shares nothing with this one: the state to come back to in a search.
    pub fn fork(&self) -> Self {
        let memory = self.memory.borrow();
        let copy = Memory { cells: memory.cells.clone(), ..*memory };
        Self { memory: Rc::new(RefCell::new(copy)) }
    }
}

/// An operation that is about to reach the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op<'a> {
    /// Which VM does it.
    pub vm: u16,
    /// How many operations of all VMs reached the store before it.
    pub after: u64,
    /// What it does.
    pub kind: OpKind,
    /// To which key.
    pub key: &'a [u8],
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// [`Cells::load`].
    Load,
    /// [`Cells::swap`].
    Swap,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It happens.
    Pass,
    /// The store does not answer, this once; nothing is read or written.
    Fail,
    /// The VM is dead from here on: this operation does not happen, nor does any later one of this VM.
    Kill,
}

/// Asked before each operation of one VM what becomes of it.
pub type Hook = Box<dyn FnMut(Op<'_>) -> Fate>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Linked {
    Up,
    Dead,
}

/// One VM's way to the store.
pub struct SimCells {
    shared: SharedData,
    vm: u16,
    state: Linked,
    before_op: Option<Hook>,
}

impl SimCells {
    /// Asks `hook` before each operation from now on, in place of any hook before it. A hook may use the store
    /// itself through a [`SimCells`] of another VM: so another VM gets in between two operations of this one.
    pub fn before_op(&mut self, hook: impl FnMut(Op<'_>) -> Fate + 'static) {
        self.before_op = Some(Box::new(hook));
    }

    /// Kills this VM at its `n`-th operation from now (0: the very next), which then does not happen.
    pub fn kill_at(&mut self, n: u64) {
        self.fate_at(n, Fate::Kill);
    }

    /// Lets the `n`-th operation from now (0: the very next) go unanswered, and no other.
    pub fn fail_at(&mut self, n: u64) {
        self.fate_at(n, Fate::Fail);
    }

    fn fate_at(&mut self, n: u64, fate: Fate) {
        let mut left = Some(n);
        self.before_op(move |_| match left {
            Some(0) => {
                left = None;
                fate
            }
            _ => {
                left = left.map(|more| more.saturating_sub(1));
                Fate::Pass
            }
        });
    }

    /// Whether a hook has killed this VM. Its owner must then be dropped, as Envoy drops a VM that panicked.
    pub fn is_dead(&self) -> bool {
        self.state == Linked::Dead
    }

    /// Asks the hook, and counts what passes.
    fn reach(&mut self, kind: OpKind, key: &[u8]) -> Result<(), StoreError> {
        if self.is_dead() {
            return Err(StoreError);
        }
        let after = self.shared.operations();
        // No borrow of the store is alive here: a hook may use it.
        let fate = match &mut self.before_op {
            Some(hook) => hook(Op { vm: self.vm, after, kind, key }),
            None => Fate::Pass,
        };
        match fate {
            Fate::Pass => {
                let mut memory = self.shared.memory.borrow_mut();
                memory.operations = memory.operations.saturating_add(1);
                Ok(())
            }
            Fate::Fail => Err(StoreError),
            Fate::Kill => {
                self.state = Linked::Dead;
                Err(StoreError)
            }
        }
    }
}

impl fmt::Debug for SimCells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimCells").field("vm", &self.vm).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Cells for SimCells {
    fn load(&mut self, key: &[u8]) -> Result<Option<Cell>, StoreError> {
        self.reach(OpKind::Load, key)?;
        Ok(self.shared.peek(key))
    }

    fn swap(&mut self, key: &[u8], expect: Expect, value: &[u8]) -> Result<bool, StoreError> {
        self.reach(OpKind::Swap, key)?;
        let mut memory = self.shared.memory.borrow_mut();
        let as_expected = match (memory.cells.get(key), expect) {
            (None, Expect::Absent) => true,
            (Some(cell), Expect::Version(version)) => cell.version == version,
            // Envoy writes to a missing key whatever version is expected (a set with any cas on it succeeds), but
            // a version can only come from a key that is there, and keys are never deleted.
            (None, Expect::Version(_)) | (Some(_), Expect::Absent) => false,
        };
        if !as_expected {
            return Ok(false);
        }
        // Envoy's counter is a u32 as well, and 0 means "overwrite" there: no cell ever has it.
        memory.last_version = memory.last_version.checked_add(1).unwrap_or(1);
        let version = memory.last_version;
        memory.cells.insert(key.to_vec(), Cell { value: value.to_vec(), version });
        Ok(true)
    }
}

/// The two clocks of a host, moved by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualClock {
    now: Now,
}

impl VirtualClock {
    /// A clock whose wall stands at `wall_ms` (Unix milliseconds) and whose monotonic clock stands at zero.
    pub fn at(wall_ms: u64) -> Self {
        Self { now: Now { wall_ms, mono_ms: 0 } }
    }

    /// What it shows.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Time passes, on both clocks.
    pub fn advance(&mut self, ms: u64) {
        self.now.wall_ms = self.now.wall_ms.saturating_add(ms);
        self.now.mono_ms = self.now.mono_ms.saturating_add(ms);
    }

    /// Somebody sets the wall clock, forth or back; the monotonic clock does not notice.
    pub fn step_wall(&mut self, by_ms: i64) {
        self.now.wall_ms = self.now.wall_ms.saturating_add_signed(by_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::{Fate, OpKind, SharedData, VirtualClock};
    use crate::now::Now;
    use crate::quota::{Cells, Expect, StoreError};

    #[test]
    fn a_cell_is_inserted_once_and_swapped_by_version() {
        let shared = SharedData::new();
        let (mut a, mut b) = (shared.cells(0), shared.cells(1));
        assert_eq!(a.load(b"k"), Ok(None));
        assert_eq!(a.swap(b"k", Expect::Absent, b"1"), Ok(true));
        assert_eq!(b.swap(b"k", Expect::Absent, b"2"), Ok(false));
        let seen = b.load(b"k").expect("up").expect("there");
        assert_eq!(seen.value, b"1");
        assert_eq!(a.swap(b"k", Expect::Version(seen.version), b"3"), Ok(true));
        assert_eq!(b.swap(b"k", Expect::Version(seen.version), b"4"), Ok(false));
        assert_eq!(b.swap(b"new", Expect::Version(seen.version), b"4"), Ok(false));
        assert_eq!(shared.peek(b"k").map(|cell| cell.value), Some(b"3".to_vec()));
        assert_eq!(shared.keys(), [b"k".to_vec()]);
    }

    #[test]
    fn versions_are_counted_over_all_keys_so_none_comes_twice() {
        let shared = SharedData::new();
        let mut cells = shared.cells(0);
        for key in [b"a", b"b"] {
            assert_eq!(cells.swap(key, Expect::Absent, b""), Ok(true));
        }
        let versions = [b"a", b"b"].map(|key| shared.peek(key).expect("there").version);
        assert_eq!(versions, [1, 2]);
    }

    #[test]
    fn a_killed_vm_does_nothing_more_and_the_others_go_on() {
        let shared = SharedData::new();
        let (mut a, mut b) = (shared.cells(0), shared.cells(1));
        a.kill_at(1);
        assert_eq!(a.load(b"k"), Ok(None));
        assert_eq!(a.swap(b"k", Expect::Absent, b"1"), Err(StoreError));
        assert!(a.is_dead());
        assert_eq!(a.load(b"k"), Err(StoreError));
        assert_eq!(b.load(b"k"), Ok(None));
        assert_eq!(shared.operations(), 2);
    }

    #[test]
    fn a_failed_operation_is_not_done_and_the_next_is() {
        let shared = SharedData::new();
        let mut cells = shared.cells(0);
        cells.fail_at(0);
        assert_eq!(cells.swap(b"k", Expect::Absent, b"1"), Err(StoreError));
        assert_eq!(cells.load(b"k"), Ok(None));
        assert!(!cells.is_dead());
    }

    #[test]
    fn another_vm_can_get_in_between_two_operations() {
        let shared = SharedData::new();
        let (mut a, mut b) = (shared.cells(0), shared.cells(1));
        a.before_op(move |op| {
            if op.kind == OpKind::Swap {
                assert_eq!((op.vm, op.key), (0, &b"k"[..]));
                assert_eq!(b.swap(b"k", Expect::Absent, b"first"), Ok(true));
            }
            Fate::Pass
        });
        assert_eq!(a.load(b"k"), Ok(None));
        assert_eq!(a.swap(b"k", Expect::Absent, b"second"), Ok(false));
        assert_eq!(shared.peek(b"k").map(|cell| cell.value), Some(b"first".to_vec()));
    }

    #[test]
    fn a_fork_shares_nothing() {
        let shared = SharedData::new();
        assert_eq!(shared.cells(0).swap(b"k", Expect::Absent, b"1"), Ok(true));
        let fork = shared.fork();
        let version = fork.peek(b"k").expect("there").version;
        assert_eq!(fork.cells(0).swap(b"k", Expect::Version(version), b"2"), Ok(true));
        assert_eq!(shared.peek(b"k").map(|cell| cell.value), Some(b"1".to_vec()));
        assert_eq!((shared.operations(), fork.operations()), (1, 2));
    }

    #[test]
    fn the_wall_can_jump_and_the_monotonic_clock_cannot() {
        let mut clock = VirtualClock::at(10_000);
        clock.advance(500);
        clock.step_wall(-2_000);
        assert_eq!(clock.now(), Now { wall_ms: 8_500, mono_ms: 500 });
        clock.step_wall(i64::MIN);
        assert_eq!(clock.now(), Now { wall_ms: 0, mono_ms: 500 });
    }
}
