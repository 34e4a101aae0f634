//! Steps that need not be tried in every order.
//!
//! **Steps that nobody else can see** are taken at once, and what others do in between is not searched. They are of two
//! kinds. Each VM has keys of its own: its VM slot and its exchange slots; when only one actor is left that ever calls
//! for them, its calls for them meet nobody. And a swap of a value that has changed since it was read can only fail.
//! Both change nothing that another can see: before or after a step of somebody else they come to the same.
//!
//! Nothing is lost by that. A state that is left out is one in which such a step is still to come while others went on.
//! Its accounts are those of the state after the step, which is searched, and so is whatever the others do next. What
//! is checked beside accounts is checked where all VMs rest; the VM of such an actor does not rest before its step, and
//! nobody else can bring it to rest. (An ample set of one invisible action: Clarke, Grumberg and Peled, *Model
//! Checking*, chapter 10; that it has an end is seen by [`ENDLESS`].)
//!
//! **A value that is read to be swapped** is read and swapped in one step, where losing that swap would bring the actor
//! back to where it was before it read. Between the two, others either leave the value alone: then the actor might as
//! well have read it after their steps, right before its swap. Or they change it: then the swap is lost, and it is as if
//! the actor had not read at all. (Lipton, *Reduction*, CACM 18(12), 1975: the read moves right.) Whether losing leads
//! back is tried each time, not known beforehand; where the store is broken so that swaps are not lost, nothing of this is done.

use super::actor::{Actor, Doing, Rescue};
use super::{Broken, Searcher, State};

/// More steps on end than any actor has.
const ENDLESS: usize = 1_000;

impl Searcher {
    /// The state after all steps that nobody else can see.
    pub(super) fn onward(&mut self, mut state: State) -> Result<State, String> {
        for _ in 0..ENDLESS {
            match self.unseen(&state)? {
                Some(next) => state = next,
                None => return Ok(state),
            }
        }
        Err("an actor goes on and on by itself".to_owned())
    }

    /// The state after one of them.
    fn unseen(&mut self, state: &State) -> Result<Option<State>, String> {
        for index in 0..state.actors.len() {
            if !self.reduced || state.actors[index].value.goes_on_in().is_none() {
                continue;
            }
            let Some(taken) = self.step(state, index)? else { continue };
            let own = taken.touched.is_none_or(|key| key < 2 * self.case.jobs.len());
            if taken.missed || own && self.is_alone(state, index) {
                return self.take(state, index, &taken).map(Some);
            }
        }
        Ok(None)
    }

    /// Where actor `index` has just read a value that it swaps next, and would be where it was if that were lost: the
    /// state after that swap. Else the state after its step, `next`.
    pub(super) fn written(&mut self, state: &State, next: State, index: usize) -> Result<State, String> {
        let lossless = !matches!(self.case.broken, Some(Broken::BlindWrite | Broken::InsertRace));
        let has_read = next.shelf.written.is_none() && next.shelf.touched.is_some();
        // The ledger's answers are one step each as it is.
        let is_ledger = matches!(*next.actors[index].value, Actor::Ledger { .. });
        if !self.reduced || !lossless || !has_read || is_ledger || !self.comes_back(state, &next, index)? {
            return Ok(next);
        }
        Ok(self.checked(&next, index)?.unwrap_or(next))
    }

    /// Whether nobody else will call for the keys of this actor's VM, which does not rest.
    fn is_alone(&self, state: &State, index: usize) -> bool {
        let Some(vm) = state.actors[index].value.goes_on_in() else { return false };
        let others = state.actors.iter().enumerate().filter(|(other, _)| *other != index);
        let mut busy = others.filter_map(|(_, actor)| actor.value.goes_on_in());
        !busy.any(|of| of == vm) && !state.actors.iter().any(|actor| self.rests(state, &actor.value, vm))
    }
}

impl Actor {
    /// The VM whose keys this actor may still call for.
    fn goes_on_in(&self) -> Option<u16> {
        match self {
            Self::Owner { by, doing, .. } => (!matches!(**doing, Doing::Done | Doing::Fenced { .. })).then_some(by.vm),
            Self::Claimer { vm, doing, .. } => (!matches!(doing, Rescue::Done | Rescue::Fenced)).then_some(*vm),
            Self::Ack { by, left, doing } => (*left > 0 || doing.is_some()).then_some(by.vm),
            Self::Ledger { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Case;
    use super::super::cases::few;
    use super::super::store::Prints;
    use super::Searcher;

    fn seen(case: &Case, reduced: bool) -> (usize, Prints<[u128; 3]>, BTreeSet<&'static str>) {
        let mut searcher = Searcher { reduced, passed: Some(Prints::default()), ..Searcher::new(case) };
        let mut known = Prints::default();
        assert_eq!(searcher.visit(&mut known), Ok(()));
        (known.len(), searcher.passed.unwrap_or_default(), searcher.reached.into_inner())
    }

    #[test]
    fn nothing_is_lost_by_not_trying_every_order() {
        for (name, case) in few() {
            let (all, few) = (seen(&case, false), seen(&case, true));
            println!(
                "{name}: {} states, {} of them when reduced; {} accounts, pairs, changes and states at rest",
                all.0,
                few.0,
                all.1.len()
            );
            assert!(few.0 < all.0, "{name}");
            assert_eq!((few.1.len(), &few.2), (all.1.len(), &all.2), "{name}");
            assert!(few.1 == all.1, "{name}");
        }
    }
}
