//! What actors do, found out once.
//!
//! A step depends on its actor, on the one value that it calls for, and on the ledger; which value that is depends on
//! its actor alone. The same step comes in very many states, so what came of it is kept by their fingerprints.

use std::rc::Rc;

use super::actor::{Actor, Doing, Rescue};
use super::store::{Known, PRESENT, Part, Shelf, Value};
use super::{Broken, Ledger, Searcher, State};
use crate::quota::Expect;
use crate::quota::edit::NEVER;

/// What came of a step.
pub(super) struct Move {
    actor: Part<Actor>,
    ledger: Part<Ledger>,
    /// Which value it called for.
    pub(super) touched: Option<usize>,
    /// It was a swap that changed nothing.
    pub(super) missed: bool,
    written: Option<Value>,
}

/// Steps that were taken, by fingerprints.
#[derive(Default)]
pub(super) struct Moves {
    /// Which value an actor calls for, if any.
    touches: Known<u128, Option<usize>>,
    /// By actor, value and ledger; `None` where the actor has nothing to do.
    taken: Known<[u128; 3], Option<Rc<Move>>>,
    /// An actor after somebody else has written this value.
    outdated: Known<(u128, usize), Part<Actor>>,
    /// By an actor before and after it has read.
    comes_back: Known<[u128; 2], bool>,
}

impl Searcher {
    /// What comes of one step of actor `index`, or `None` when it has nothing to do.
    pub(super) fn step(&mut self, state: &State, index: usize) -> Result<Option<Rc<Move>>, String> {
        let actor = state.actors[index].print;
        let by = |touched: Option<usize>| {
            [actor, touched.map_or(0, |key| state.shelf.values[key].print), state.ledger.print]
        };
        if let Some(touched) = self.moves.touches.get(&actor)
            && let Some(taken) = self.moves.taken.get(&by(*touched))
        {
            return Ok(taken.clone());
        }
        let (taken, touched) = self.try_out(state, index)?;
        let known = self.moves.touches.insert(actor, touched);
        assert!(known.is_none_or(|known| known == touched), "what an actor calls for depends on it alone");
        let taken = taken.map(Rc::new);
        self.moves.taken.insert(by(touched), taken.clone());
        Ok(taken)
    }

    /// Whether actor `index` is where it was before its last step if it loses the swap that comes now: which depends on
    /// nobody else.
    pub(super) fn comes_back(&mut self, before: &State, state: &State, index: usize) -> Result<bool, String> {
        let (before, touched) = (&before.actors[index], state.shelf.touched);
        let both = [before.print, state.actors[index].print];
        if let Some(known) = self.moves.comes_back.get(&both) {
            return Ok(*known);
        }
        let mut state = state.clone();
        state.shelf.deaf = true;
        let (lost, touches) = self.try_out(&state, index)?;
        let back = touched == touches && lost.is_some_and(|lost| lost.missed && lost.actor.value == before.value);
        self.moves.comes_back.insert(both, back);
        Ok(back)
    }

    /// A step, and what it calls for.
    fn try_out(&self, state: &State, index: usize) -> Result<(Option<Move>, Option<usize>), String> {
        let mut next = state.clone();
        (next.shelf.written, next.shelf.touched, next.shelf.missed, next.shelf.calls) = (None, None, false, 0);
        let mut actor = Actor::clone(&state.actors[index].value);
        if !self.act(&mut actor, &mut next)? {
            return Ok((None, next.shelf.touched));
        }
        assert!(next.shelf.calls <= 1, "one store call a step");
        self.lawful(state, &next)?;
        if let Actor::Claimer { by: Some(by), doing: Rescue::Done, .. } = actor
            && !self.case.after.is_empty()
        {
            actor = Actor::Owner { by, job: 0, doing: Box::new(Doing::Begin) };
        }
        let Shelf { touched, missed, written, ref values, .. } = next.shelf;
        let actor = normal(&Part::new(actor), &next.shelf);
        let written = written.map(|key| values[key].clone());
        Ok((Some(Move { actor, ledger: next.ledger, touched, missed, written }), touched))
    }

    /// The state after that.
    pub(super) fn after(&mut self, state: &State, index: usize, taken: &Move) -> State {
        let Move { actor, ledger, touched, missed, written } = taken;
        let mut next = State { ledger: ledger.clone(), ..state.clone() };
        (next.shelf.touched, next.shelf.missed) = (*touched, *missed);
        next.shelf.written = written.as_ref().and(*touched);
        if let (Some(key), Some(value)) = (*touched, written) {
            next.shelf.values[key] = value.clone();
            for other in &mut next.actors {
                let outdated = self.moves.outdated.entry((other.print, key));
                *other = outdated.or_insert_with(|| normal(other, &next.shelf)).clone();
            }
        }
        next.actors[index] = actor.clone();
        next
    }
}

/// What an actor expects of keys, under names that do not count how often they were written.
fn normal(actor: &Part<Actor>, shelf: &Shelf) -> Part<Actor> {
    let Shelf { keys, values, broken, written, .. } = shelf;
    // A step that wrote has loaded nothing, so that whatever its own actor expects of that key is old as well.
    let relabel = |key: &[u8], expect: Expect| {
        let position = keys.iter().position(|known| known == key).unwrap();
        let overwritten = *written == Some(position);
        let fresh = match expect {
            Expect::Absent => values[position].value.is_none(),
            Expect::Version(version) => version == PRESENT && !overwritten,
        };
        let blind = *broken == Some(Broken::BlindWrite) && position >= keys.len() - 2
            || *broken == Some(Broken::InsertRace) && expect == Expect::Absent;
        match (fresh, blind) {
            (true, _) => Some(expect),
            (false, true) => Some(if expect == Expect::Absent { expect } else { NEVER }),
            (false, false) => None,
        }
    };
    let mut normal = Actor::clone(&actor.value);
    normal.normalise(&relabel);
    if normal == *actor.value { actor.clone() } else { Part::new(normal) }
}
