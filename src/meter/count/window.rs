//! Sixteen bytes of text, looked at all at once.

use super::layout::{LINE, LOWER, NUMBER, SPACE, UPPER};

/// An ASCII character that is no letter, number or white space.
pub const SIGN: u8 = 4;
/// The slash, which is a sign too.
pub const SLASH: u8 = 8;
/// Part of a character that is not ASCII. The other classes of ASCII are those of [`class`](super::class).
pub const FOREIGN: u8 = 128;

/// Sixteen bytes of text.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a>(&'a [u8; 16]);

impl<'a> Window<'a> {
    /// The sixteen bytes from `at` on, if there are so many.
    #[inline(always)]
    pub fn full(text: &'a [u8], at: usize) -> Option<Self> {
        text.get(at..)?.first_chunk().map(Self)
    }

    /// A short text, and zeros: `room` is where they are put.
    #[inline]
    pub fn padded(text: &[u8], room: &'a mut [u8; 16]) -> Self {
        room.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
        Self(room)
    }

    #[inline(always)]
    pub fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    #[inline]
    pub fn first(&self, length: usize) -> &[u8] {
        self.0.get(..length).unwrap_or(self.0)
    }

    /// The first `length` bytes, at most 15, as two numbers; the top byte of the second is free.
    #[inline(always)]
    pub fn key(&self, length: usize) -> [u64; 2] {
        let both = u128::from_le_bytes(*self.0);
        let [low, high] = MASKS.get(length).copied().unwrap_or_default();
        [both as u64 & low, (both >> 64) as u64 & high]
    }

    /// The class of each byte.
    #[inline(always)]
    pub fn classes(&self) -> Classes {
        Classes::of(*self.0)
    }
}

/// Ones for so many bytes.
static MASKS: [[u64; 2]; 16] = {
    let mut masks = [[0; 2]; 16];
    let mut length = 1;
    while length < 16 {
        let ones = (1u128 << (8 * length)) - 1;
        #[expect(clippy::indexing_slicing, reason = "done by the compiler")]
        {
            masks[length] = [ones as u64, (ones >> 64) as u64];
        }
        length += 1;
    }
    masks
};

/// The class of a byte.
#[inline(always)]
pub const fn class_of_byte(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' => UPPER,
        b'a'..=b'z' => LOWER,
        b'0'..=b'9' => NUMBER,
        b'\r' | b'\n' => LINE,
        b' ' | b'\t' | 0x0b | 0x0c => SPACE,
        b'/' => SIGN | SLASH,
        0x80.. => FOREIGN,
        _ => SIGN,
    }
}

#[cfg(not(target_feature = "simd128"))]
pub use scalar::Classes;
#[cfg(target_feature = "simd128")]
pub use vector::Classes;

/// The classes of sixteen bytes by a table.
#[cfg_attr(target_feature = "simd128", allow(dead_code, reason = "tests compare it with the vectors"))]
mod scalar {
    static CLASSES: [u8; 256] = {
        let mut classes = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            #[expect(clippy::indexing_slicing, reason = "done by the compiler")]
            {
                classes[byte] = super::class_of_byte(byte as u8);
            }
            byte += 1;
        }
        classes
    };

    /// See [`Window::classes`](super::Window::classes).
    #[derive(Clone, Copy, Debug)]
    pub struct Classes([u64; 2]);

    impl Classes {
        #[inline(always)]
        pub fn of(bytes: [u8; 16]) -> Self {
            let classes = u128::from_le_bytes(bytes.map(|byte| CLASSES.get(usize::from(byte)).copied().unwrap_or(0)));
            Self([classes as u64, (classes >> 64) as u64])
        }

        /// Which bytes are of one of these classes: bit *n* stands for byte *n*.
        #[inline(always)]
        pub fn are(self, classes: u8) -> u32 {
            const EACH: u64 = 0x0101_0101_0101_0101;
            let [low, high] = self.0.map(|half| {
                let some = half & (u64::from(classes) * EACH);
                // The top bit of each byte that is not 0, and then these eight gathered into the top byte.
                let tops = ((((some & (0x7f * EACH)) + 0x7f * EACH) | some) >> 7) & EACH;
                (tops.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
            });
            low | high << 8
        }
    }
}

/// The classes of sixteen bytes at once, by comparing all of them with the limits of a class when it is asked for.
#[cfg(target_feature = "simd128")]
mod vector {
    use core::arch::wasm32::{
        i8x16_bitmask, u8x16_eq, u8x16_le, u8x16_splat, u8x16_sub, u64x2, v128, v128_not, v128_or,
    };

    use super::{FOREIGN, LINE, LOWER, NUMBER, SIGN, SLASH, SPACE, UPPER};

    /// See [`Window::classes`](super::Window::classes).
    #[derive(Clone, Copy, Debug)]
    pub struct Classes(v128);

    impl Classes {
        #[inline(always)]
        pub fn of(bytes: [u8; 16]) -> Self {
            let both = u128::from_le_bytes(bytes);
            Self(u64x2(both as u64, (both >> 64) as u64))
        }

        /// Which bytes are of one of these classes: bit *n* stands for byte *n*. Written for classes that are known when
        /// this is compiled: what remains of it is what they need.
        #[inline(always)]
        pub fn are(self, classes: u8) -> u32 {
            let Self(bytes) = self;
            let mut found = u8x16_splat(0);
            let mut add = |which: v128| found = v128_or(found, which);
            let is = |byte: u8| u8x16_eq(bytes, u8x16_splat(byte));
            let from_to =
                |bytes: v128, from: u8, to: u8| u8x16_le(u8x16_sub(bytes, u8x16_splat(from)), u8x16_splat(to - from));
            let letters = || from_to(v128_or(bytes, u8x16_splat(0x20)), b'a', b'z');
            let number = || from_to(bytes, b'0', b'9');
            let blank = || v128_or(is(b' '), from_to(bytes, b'\t', b'\r'));
            let line = || v128_or(is(b'\n'), is(b'\r'));
            match classes & (UPPER | LOWER) {
                0 => {}
                UPPER => add(from_to(bytes, b'A', b'Z')),
                LOWER => add(from_to(bytes, b'a', b'z')),
                _ => add(letters()),
            }
            if classes & NUMBER != 0 {
                add(number());
            }
            match classes & (SPACE | LINE) {
                0 => {}
                LINE => add(line()),
                SPACE => add(v128_or(is(b' '), v128_or(is(b'\t'), from_to(bytes, 0x0b, 0x0c)))),
                _ => add(blank()),
            }
            if classes & SIGN != 0 {
                add(v128_not(v128_or(
                    v128_or(letters(), number()),
                    v128_or(blank(), u8x16_le(u8x16_splat(0x80), bytes)),
                )));
            } else if classes & SLASH != 0 {
                add(is(b'/'));
            }
            let found = u32::from(i8x16_bitmask(found));
            if classes & FOREIGN != 0 { found | u32::from(i8x16_bitmask(bytes)) } else { found }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Classes, FOREIGN, SIGN, Window, class_of_byte};
    use crate::meter::count::class;
    use crate::meter::count::layout::{LINE, LOWER, NUMBER, SPACE, UPPER};

    #[test]
    fn ascii_is_classified_as_everywhere() {
        for byte in 0..=255 {
            let expected = if byte < 0x80 { class::ascii(byte) } else { FOREIGN };
            let class = class_of_byte(byte) & (UPPER | LOWER | NUMBER | SPACE | LINE | FOREIGN);
            assert_eq!(class, expected, "{byte}");
            assert_eq!(class_of_byte(byte) & SIGN != 0, expected == 0, "{byte}");
        }
    }

    proptest! {
        #[test]
        fn sixteen_are_classified_as_one_by_one(bytes in any::<[u8; 16]>(), classes in any::<u8>()) {
            let are = Classes::of(bytes).are(classes);
            prop_assert_eq!(are, super::scalar::Classes::of(bytes).are(classes));
            for (at, byte) in bytes.iter().enumerate() {
                prop_assert_eq!(are >> at & 1 == 1, class_of_byte(*byte) & classes != 0, "{} {}", at, byte);
            }
        }

        #[test]
        fn keys_are_different_for_different_beginnings(bytes in any::<[u8; 16]>(), length in 0usize..16) {
            let [low, high] = Window(&bytes).key(length);
            let mut room = [0; 16];
            prop_assert_eq!([low, high], Window::padded(&bytes[..length], &mut room).key(15));
            prop_assert_eq!(high >> 56, 0);
        }
    }
}
