//! Changing one value by compare-and-swap, one store call a step.

use super::{Cells, Expect, StoreError};

/// Swaps lost in a row by one operation after which it gives up.
pub(super) const PATIENCE: u32 = 10_000;

/// A change of one key that is under way: read, decide, write; and again when somebody was faster.
///
/// What was decided is kept as the bytes to write, never as a view of what was read: a decision from a value that
/// has changed meanwhile cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Edit {
    key: Vec<u8>,
    pending: Option<(Expect, Vec<u8>)>,
    lost: u32,
}

/// What to do about a value that was read.
pub(super) enum Decision<T> {
    /// Write this in its place.
    Write(Vec<u8>),
    /// Write nothing: the edit ends.
    Leave(T),
}

/// Where an edit is after one store call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Edited<T> {
    /// The write is decided; the next step makes it.
    Ready,
    /// Somebody was faster; the next step reads again.
    Lost,
    /// Lost [`PATIENCE`] swaps in a row.
    Hopeless,
    /// The write was made.
    Written,
    /// The decision was to write nothing.
    Left(T),
}

impl Edit {
    pub(super) fn new(key: Vec<u8>) -> Self {
        Self { key, pending: None, lost: 0 }
    }

    /// An edit whose value was read before and whose write is decided.
    pub(super) fn primed(key: Vec<u8>, expect: Expect, value: Vec<u8>) -> Self {
        Self { key, pending: Some((expect, value)), lost: 0 }
    }

    /// One store call: a load, with a decision about what it found, or the swap that was decided.
    pub(super) fn step<T>(
        &mut self,
        cells: &mut dyn Cells,
        decide: impl FnOnce(Option<&[u8]>) -> Decision<T>,
    ) -> Result<Edited<T>, StoreError> {
        let Some((expect, value)) = &self.pending else {
            let cell = cells.load(&self.key)?;
            let expect = cell.as_ref().map_or(Expect::Absent, |cell| Expect::Version(cell.version));
            return Ok(match decide(cell.as_ref().map(|cell| cell.value.as_slice())) {
                Decision::Write(value) => {
                    self.pending = Some((expect, value));
                    Edited::Ready
                }
                Decision::Leave(reason) => Edited::Left(reason),
            });
        };
        if cells.swap(&self.key, *expect, value)? {
            self.pending = None;
            self.lost = 0;
            return Ok(Edited::Written);
        }
        self.pending = None;
        self.lost = self.lost.saturating_add(1);
        Ok(if self.lost >= PATIENCE { Edited::Hopeless } else { Edited::Lost })
    }

    /// The whole edit at once.
    pub(super) fn run<T>(
        mut self,
        cells: &mut dyn Cells,
        mut decide: impl FnMut(Option<&[u8]>) -> Decision<T>,
    ) -> Result<Edited<T>, StoreError> {
        loop {
            match self.step(cells, &mut decide)? {
                Edited::Ready | Edited::Lost => {}
                ended => return Ok(ended),
            }
        }
    }

    /// Makes states equal that behave alike: see [`Relabel`].
    #[cfg(test)]
    pub(super) fn normalise(&mut self, relabel: Relabel<'_>) {
        self.lost = 0;
        if let Some((expect, value)) = &mut self.pending {
            match relabel(&self.key, *expect) {
                Some(same) => *expect = same,
                None => {
                    *expect = NEVER;
                    value.clear();
                }
            }
        }
    }
}

/// What an expectation about a key is worth to the search: the same under another name, or `None` when its swap can
/// only fail, so that what would be written does not matter. Counters of lost swaps do not matter either.
#[cfg(test)]
pub(super) type Relabel<'a> = &'a dyn Fn(&[u8], Expect) -> Option<Expect>;

/// An expectation that never comes true in the search, which counts versions from 1.
#[cfg(test)]
pub(super) const NEVER: Expect = Expect::Version(0);
