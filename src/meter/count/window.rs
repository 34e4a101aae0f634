//! Sixteen bytes of text, looked at all at once.

/// Sixteen bytes of text.
#[derive(Clone, Copy, Debug)]
pub struct Window([u8; 16]);

/// Which of the sixteen are ASCII letters: bit *n* stands for byte *n*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letters {
    pub upper: u32,
    pub lower: u32,
}

impl Window {
    /// The sixteen bytes from `at` on, if there are so many.
    #[inline(always)]
    pub fn full(text: &[u8], at: usize) -> Option<Self> {
        text.get(at..)?.first_chunk().copied().map(Self)
    }

    /// A short text, and zeros.
    #[inline]
    pub fn padded(text: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    #[inline(always)]
    pub fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    #[inline]
    pub fn first(&self, length: usize) -> &[u8] {
        self.0.get(..length).unwrap_or(&self.0)
    }

    /// The first `length` bytes, at most 15, as two numbers; the top byte of the second is free.
    #[inline(always)]
    pub fn key(&self, length: usize) -> (u64, u64) {
        let both = u128::from_le_bytes(self.0);
        let (low, high) = (both as u64, (both >> 64) as u64);
        let ones = |bytes: usize| (1u64 << (8 * (bytes & 7))) - 1;
        if length < 8 { (low & ones(length), 0) } else { (low, high & ones(length)) }
    }

    /// Which bytes are ASCII letters.
    #[inline(always)]
    pub fn letters(&self) -> Letters {
        scalar(self.0)
    }
}

/// Eight bytes at a time. Adding 0x80 less than a limit sets the top bit of those at or above it; bytes with the top
/// bit set are none of ours, and never carry into their neighbours because they are cleared first.
#[inline(always)]
fn scalar(bytes: [u8; 16]) -> Letters {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let both = u128::from_le_bytes(bytes);
    let mask = |from: u8, to: u8| {
        let half = |word: u64| {
            let plain = word & (0x7f * EACH);
            let from = plain + u64::from(0x80 - from) * EACH;
            let above = plain + u64::from(0x7f - to) * EACH;
            let inside = from & !above & !word & (0x80 * EACH);
            // Gathers the eight top bits into the top byte.
            ((inside >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
        };
        half(both as u64) | half((both >> 64) as u64) << 8
    };
    Letters { upper: mask(b'A', b'Z'), lower: mask(b'a', b'z') }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::Window;

    proptest! {
        #[test]
        fn letters_are_told_byte_by_byte(bytes in any::<[u8; 16]>()) {
            let letters = Window(bytes).letters();
            for (at, byte) in bytes.iter().enumerate() {
                prop_assert_eq!(letters.upper >> at & 1 == 1, byte.is_ascii_uppercase());
                prop_assert_eq!(letters.lower >> at & 1 == 1, byte.is_ascii_lowercase());
            }
        }

        #[test]
        fn keys_are_different_for_different_beginnings(bytes in any::<[u8; 16]>(), length in 0usize..16) {
            let (low, high) = Window(bytes).key(length);
            prop_assert_eq!((low, high), Window::padded(&bytes[..length]).key(15));
            prop_assert_eq!(high >> 56, 0);
        }
    }
}
