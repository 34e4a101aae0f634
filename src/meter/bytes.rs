//! An answer in a format that nobody knows: [`BYTES_A_TOKEN`] of its bytes are a token. Where it is kept to terms no more of
//! it leaves than is allowed. It has no legal end, so that what is cut is broken off.

use super::dialect::BYTES_A_TOKEN;
use super::reader::{Forward, Need};
use super::tally::Tally;

/// The most bytes that wait. More is not waited for: nothing but a cut is left.
const MOST_WAITING: usize = 8 * 1024 * 1024;

/// What has come of such an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Bytes {
    /// How many have left.
    passed: u64,
    /// How many may leave. `None`: all.
    allowed: Option<u64>,
    /// What came beyond that.
    waiting: Vec<u8>,
    /// The body has ended.
    ended: bool,
    cut: bool,
}

fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_A_TOKEN)
}

impl Bytes {
    /// Of which so many tokens may leave.
    pub fn new(allowance: Option<u64>) -> Self {
        Self { allowed: allowance.map(|tokens| tokens.saturating_mul(BYTES_A_TOKEN)), ..Self::default() }
    }

    /// The next chunk, and whether it is the last. Says what leaves in its place.
    pub fn push(&mut self, chunk: &[u8], end: bool, tally: &mut Tally) -> Forward {
        self.ended |= end;
        if self.cut {
            return Forward::Replace(Vec::new());
        }
        if self.waiting.is_empty() && chunk.len() as u64 <= self.room() {
            self.pass(chunk.len(), tally);
            return Forward::Same;
        }
        self.waiting.extend_from_slice(chunk);
        Forward::Replace(self.release(tally))
    }

    /// Tokens that must be allowed so that all that waits can leave. `None`: nothing waits.
    pub fn waits(&self) -> Option<Need> {
        match self.waiting.len() {
            0 => None,
            waiting if waiting > MOST_WAITING => Some(Need::Never),
            waiting => Some(Need::Tokens(tokens(self.passed.saturating_add(waiting as u64)))),
        }
    }

    /// Allows so many tokens in all.
    pub fn allow(&mut self, allowance: u64) {
        self.allowed = Some(allowance.saturating_mul(BYTES_A_TOKEN));
    }

    /// What leaves now of that which waited.
    pub fn release(&mut self, tally: &mut Tally) -> Vec<u8> {
        let many = usize::try_from(self.room()).unwrap_or(usize::MAX).min(self.waiting.len());
        let rest = self.waiting.split_off(many);
        self.pass(many, tally);
        std::mem::replace(&mut self.waiting, rest)
    }

    /// Lets nothing more leave.
    pub fn cut(&mut self) {
        self.cut = true;
        self.waiting = Vec::new();
    }

    /// Tokens that had left when it was cut.
    pub fn cut_at(&self) -> Option<u64> {
        self.cut.then(|| tokens(self.passed))
    }

    /// Whether it has come to its end, and nothing of it waits.
    pub fn is_over(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }

    fn room(&self) -> u64 {
        self.allowed.map_or(u64::MAX, |allowed| allowed.saturating_sub(self.passed))
    }

    fn pass(&mut self, many: usize, tally: &mut Tally) {
        let before = tokens(self.passed);
        self.passed = self.passed.saturating_add(many as u64);
        tally.add(tokens(self.passed).saturating_sub(before));
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Forward, MOST_WAITING, Need};
    use crate::meter::count::Encoding;
    use crate::meter::tally::Tally;

    #[test]
    fn no_more_leaves_than_is_allowed() {
        let (mut tally, mut bytes) = (Tally::new(Encoding::O200kBase), Bytes::new(Some(2)));
        assert_eq!(bytes.push(b"12345", false, &mut tally), Forward::Same);
        assert_eq!(bytes.push(b"67890", false, &mut tally), Forward::Replace(b"678".to_vec()));
        assert_eq!((bytes.waits(), tally.so_far()), (Some(Need::Tokens(3)), 2));
        assert_eq!(bytes.push(b"1234", true, &mut tally), Forward::Replace(Vec::new()));
        assert_eq!((bytes.waits(), bytes.is_over()), (Some(Need::Tokens(4)), false));
        bytes.allow(3);
        assert_eq!(bytes.release(&mut tally), b"9012");
        bytes.allow(100);
        assert_eq!(bytes.release(&mut tally), b"34");
        assert_eq!((bytes.waits(), bytes.is_over(), bytes.cut_at(), tally.so_far()), (None, true, None, 4));
    }

    #[test]
    fn what_is_cut_has_what_left_and_keeps_nothing() {
        let (mut tally, mut bytes) = (Tally::new(Encoding::O200kBase), Bytes::new(Some(1)));
        bytes.push(&[0; 64], false, &mut tally);
        bytes.cut();
        assert_eq!(bytes.push(&[0; 64], true, &mut tally), Forward::Replace(Vec::new()));
        assert_eq!((bytes.waits(), bytes.is_over(), bytes.cut_at(), tally.so_far()), (None, true, Some(1), 1));
        let mut bytes = Bytes::new(Some(1));
        bytes.push(&vec![0; MOST_WAITING + 5], false, &mut tally);
        assert_eq!(bytes.waits(), Some(Need::Never));
    }

    #[test]
    fn without_terms_all_of_it_leaves() {
        let (mut tally, mut bytes) = (Tally::new(Encoding::O200kBase), Bytes::new(None));
        for (chunk, tokens) in [(1, 1), (3, 1), (1, 2), (0, 2)] {
            assert_eq!(bytes.push(&vec![0; chunk], false, &mut tally), Forward::Same);
            assert_eq!(tally.so_far(), tokens);
        }
    }
}
