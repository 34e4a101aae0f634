//! The charter in force, in shared data: what a new policy is held against before a worker has seen it.

use super::vm::Vm;
use crate::engine::effect::Effect;
use crate::policy::succession::Charter;
use crate::quota::{Cells, Expect, Keys, StoreError};

/// What the policy that now serves under the bundle's name promises its successor to keep.
#[derive(Debug, PartialEq, Eq)]
pub enum InForce {
    /// Nothing serves under that name yet, or the store does not answer.
    Nothing,
    /// This.
    Charter(Charter),
    /// Another build of the filter has written what this one cannot read: nothing is held against it.
    Unreadable,
}

/// See [`InForce`].
pub fn in_force(bundle: &str, cells: &mut dyn Cells) -> InForce {
    match cells.load(&Keys::new(bundle).charter()) {
        Ok(Some(cell)) => Charter::from_bytes(&cell.value).map_or(InForce::Unreadable, InForce::Charter),
        Ok(None) | Err(_) => InForce::Nothing,
    }
}

impl Vm {
    /// Says which charter is in force, once for each bundle it serves. Only a VM that ticks does so: a host tries a
    /// configuration first in a VM that it throws away, and may still refuse it for reasons of its own.
    pub(super) fn proclaim(&mut self, cells: &mut dyn Cells, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        if self.proclaimed {
            return Ok(());
        }
        let key = self.keys.charter();
        let cell = cells.load(&key)?;
        let before = cell.as_ref().and_then(|cell| Charter::from_bytes(&cell.value));
        let unreadable = cell.is_some() && before.is_none();
        let ours = self.bundle.charter.in_place_of(&before.unwrap_or_default()).to_bytes();
        let expect = match cell {
            Some(cell) if cell.value == ours => {
                self.proclaimed = true;
                return Ok(());
            }
            Some(cell) => Expect::Version(cell.version),
            None => Expect::Absent,
        };
        // Where somebody else was first, the next beat looks again.
        self.proclaimed = cells.swap(&key, expect, &ours)?;
        if self.proclaimed && unreadable {
            effects.push(Effect::Count { metric: "charter_unreadable_total", labels: vec![], by: 1 });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::now::Now;
    use crate::policy;
    use crate::sim::store::SharedData;

    fn charter(bundle: &str, cells: &mut dyn Cells) -> Charter {
        match in_force(bundle, cells) {
            InForce::Charter(charter) => charter,
            other => panic!("{other:?}"),
        }
    }

    const QUICKSTART: &str = include_str!("../../examples/quickstart/policy.yaml");

    #[test]
    fn a_vm_that_ticks_says_what_is_in_force_and_the_newest_policy_wins() {
        let old = Rc::new(policy::compile(QUICKSTART, "p").expect("the quickstart"));
        let more = QUICKSTART.replacen(
            "      caps:\n",
            "      caps:\n        more: {limit: 9 requests, per: seat, window: lifetime}\n",
            1,
        );
        let new = Rc::new(policy::compile(&more, "p").expect("one cap more"));
        assert_ne!(old.charter, new.charter);
        let (mut cells, mut effects) = (SharedData::default().cells(0), Vec::new());
        assert_eq!(in_force(&old.name, &mut cells), InForce::Nothing);
        let mut vm = Vm::new(Rc::clone(&old), 7, [0; 2]);
        vm.tick(Now { mono_ms: 1, wall_ms: 1 }, &mut cells, &mut effects);
        assert_eq!(charter(&old.name, &mut cells).to_bytes(), old.charter.to_bytes());
        vm.adopt(Rc::clone(&new));
        vm.tick(Now { mono_ms: 1_001, wall_ms: 1_001 }, &mut cells, &mut effects);
        let in_force = charter(&old.name, &mut cells);
        assert_eq!(in_force.to_bytes(), new.charter.to_bytes());
        assert_eq!(old.charter.follow(&in_force, "p").len(), 1, "the cap would vanish");
    }

    #[test]
    fn a_charter_that_cannot_be_read_is_said_and_replaced() {
        let bundle = Rc::new(policy::compile(QUICKSTART, "p").expect("the quickstart"));
        let mut cells = SharedData::default().cells(0);
        cells.swap(&Keys::new(&bundle.name).charter(), Expect::Absent, b"\x91\xc0").expect("the store");
        assert_eq!(in_force(&bundle.name, &mut cells), InForce::Unreadable);
        let (mut vm, mut effects) = (Vm::new(Rc::clone(&bundle), 7, [0; 2]), Vec::new());
        for ms in [1, 1_001] {
            vm.tick(Now { mono_ms: ms, wall_ms: ms }, &mut cells, &mut effects);
        }
        let said = |effect: &&Effect| matches!(effect, Effect::Count { metric: "charter_unreadable_total", .. });
        assert_eq!(effects.iter().filter(said).count(), 1, "{effects:?}");
        assert_eq!(charter(&bundle.name, &mut cells).to_bytes(), bundle.charter.to_bytes());
    }
}
