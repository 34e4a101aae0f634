//! The store of the search, and fingerprints of what was seen.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

use super::Broken;
use crate::quota::{Cell, Cells, Expect, StoreError};

/// A value with its fingerprint, so that only what changed is hashed again.
pub(super) struct Part<T> {
    pub(super) value: Rc<T>,
    pub(super) print: u128,
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), print: self.print }
    }
}

impl<T: Hash> Part<T> {
    pub(super) fn new(value: T) -> Self {
        let mut hasher = Wide(0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f);
        value.hash(&mut hasher);
        Self { value: Rc::new(value), print: hasher.wide() }
    }
}

/// What is known by its fingerprint, which takes no more than a quick hash.
pub(super) type Known<K, V> = HashMap<K, V, BuildHasherDefault<Wide>>;

/// Fingerprints that were seen.
pub(super) type Prints<K> = HashSet<K, BuildHasherDefault<Wide>>;

/// A 128-bit hash: with 10^8 states a collision has a chance of some 10^-23.
#[derive(Default)]
pub(super) struct Wide(pub(super) u64, pub(super) u64);

impl Wide {
    pub(super) fn wide(&self) -> u128 {
        u128::from(self.0) << 64 | u128::from(self.1)
    }
}

impl Hasher for Wide {
    fn finish(&self) -> u64 {
        self.0 ^ self.1
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word) ^ (chunk.len() as u64) << 59);
        }
    }

    fn write_u64(&mut self, word: u64) {
        // Two folded multiplications with odd constants, each fed by the other's last value.
        let fold = |value: u64, by: u64| {
            let product = u128::from(value) * u128::from(by);
            (product >> 64) as u64 ^ product as u64
        };
        let (left, right) = (self.0 ^ word, self.1 ^ word.rotate_left(32));
        self.0 = fold(left, 0x9fb2_1c65_1e98_df25).wrapping_add(right.rotate_left(23));
        self.1 = fold(right, 0xc4ce_b9fe_1a85_ec53).wrapping_add(left.rotate_left(41));
    }
}

/// What a key has.
pub(super) type Value = Part<Option<Vec<u8>>>;

/// The store: two keys a VM and the two accounts, each either missing or present. Versions need no numbers: see [`Relabel`].
#[derive(Clone)]
pub(super) struct Shelf {
    pub(super) keys: Rc<Vec<Vec<u8>>>,
    pub(super) values: Vec<Value>,
    pub(super) broken: Option<Broken>,
    pub(super) written: Option<usize>,
    /// Which key was called for last.
    pub(super) touched: Option<usize>,
    /// The last call was a swap that changed nothing.
    pub(super) missed: bool,
    /// No swap changes anything, as if somebody were always faster.
    pub(super) deaf: bool,
    pub(super) calls: u32,
}

impl Shelf {
    fn position(&self, key: &[u8]) -> usize {
        self.keys.iter().position(|known| known == key).expect("only known keys are used")
    }

    pub(super) fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.values[self.position(key)].value.as_deref()
    }
}

/// The name of the present value of a key, between two steps.
pub(super) const PRESENT: u32 = 1;

impl Cells for Shelf {
    fn load(&mut self, key: &[u8]) -> Result<Option<Cell>, StoreError> {
        self.calls += 1;
        self.touched = Some(self.position(key));
        Ok(self.value(key).map(|value| Cell { value: value.to_vec(), version: PRESENT }))
    }

    fn swap(&mut self, key: &[u8], expect: Expect, value: &[u8]) -> Result<bool, StoreError> {
        self.calls += 1;
        let position = self.position(key);
        self.touched = Some(position);
        let present = self.values[position].value.is_some();
        let account = position >= self.keys.len() - 2;
        let fits = match expect {
            Expect::Absent => !present || self.broken == Some(Broken::InsertRace),
            Expect::Version(version) => {
                version == PRESENT && present || account && self.broken == Some(Broken::BlindWrite)
            }
        };
        let fits = fits && !self.deaf;
        self.missed = !fits;
        if fits {
            self.values[position] = Part::new(Some(value.to_vec()));
            self.written = Some(position);
        }
        Ok(fits)
    }
}
