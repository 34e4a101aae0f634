//! Reading and writing little-endian layouts, without a way to fail but `None`.
//!
//! A *number* takes as many bytes as it needs: seven bits each, the lowest first, the eighth bit set in all but the last
//! (LEB128). Written is its successor, so that 0 takes one byte and `u64::MAX`, which stands for *no end*, one as well.
//! Most figures of an account are small: it takes less than half of what it would in eight bytes each, and what is
//! smaller is found sooner among a million.

/// The bits of a byte that belong to a number.
const LOW: u8 = 0x7f;
/// The bit of a byte that says that its number goes on.
const MORE: u8 = 0x80;

/// What is left of a record that is being read.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.chunk::<1>().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }

    /// A number in as many bytes as it needs, and no more.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for (byte, shift) in self.rest.iter().zip((0..u64::BITS).step_by(7)) {
            let low = u64::from(byte & LOW);
            value |= low << shift;
            if byte & MORE == 0 {
                self.rest = self.rest.get(shift as usize / 7 + 1..)?;
                let canonical = value >> shift == low && (low > 0 || shift == 0);
                return canonical.then(|| value.wrapping_sub(1));
            }
        }
        None
    }

    /// `true` or `false`; any other byte is no record of ours.
    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// Bytes behind their length.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (head, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(head)
    }

    /// UTF-8 text behind its length.
    pub(super) fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.bytes()?).ok().map(str::to_owned)
    }

    /// As many items as the count in front of them says. Memory grows with what is really there, not with the count.
    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u16()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }

    /// `value`, if nothing is left over: a record is exactly as long as it says.
    pub(super) fn end<T>(self, value: T) -> Option<T> {
        self.rest.is_empty().then_some(value)
    }
}

/// A record that is being written.
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn number(&mut self, value: u64) {
        let mut rest = value.wrapping_add(1);
        while rest > u64::from(LOW) {
            self.u8(rest.to_le_bytes()[0] | MORE);
            rest >>= 7;
        }
        self.u8(rest.to_le_bytes()[0]);
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        // Longer than 4 GiB cannot be in a wasm32 memory; were it, the record would be cut and then unreadable.
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.u32(length);
        self.bytes.extend_from_slice(value);
    }

    /// A count and that many items. Lists end at 65,535, which no bundle reaches: quotas a subject, levels an exchange.
    pub(super) fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        let count = u16::try_from(items.len()).unwrap_or(u16::MAX);
        self.u16(count);
        for item in items.iter().take(usize::from(count)) {
            write(self, item);
        }
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{Reader, Writer};

    fn written(value: u64) -> Vec<u8> {
        let mut to = Writer::new(10);
        to.number(value);
        to.done()
    }

    fn read(bytes: &[u8]) -> Option<u64> {
        let mut from = Reader::new(bytes);
        let value = from.number()?;
        from.end(value)
    }

    #[test]
    fn a_number_takes_as_many_bytes_as_it_needs() {
        for (value, size) in [(u64::MAX, 1), (0, 1), (126, 1), (127, 2), (16_382, 2), (16_383, 3), (u64::MAX - 1, 10)] {
            assert_eq!(written(value).len(), size, "{value}");
        }
        let edges = (0..64).flat_map(|bit| [1_u64 << bit, (1 << bit) - 1, u64::MAX - (1 << bit)]);
        for value in edges {
            assert_eq!(read(&written(value)), Some(value));
        }
    }

    #[test]
    fn what_nobody_writes_is_no_number() {
        let nine = [0xff; 9];
        for (wrong, why) in [
            (vec![], "nothing"),
            (vec![0x80], "it goes on, and ends"),
            (vec![0x81, 0x00], "a byte that was not needed"),
            (nine.into_iter().chain([0x02]).collect(), "a bit too many"),
            (nine.into_iter().chain([0x81, 0x00]).collect(), "a byte too many"),
        ] {
            assert_eq!(read(&wrong), None, "{why}");
        }
    }
}
