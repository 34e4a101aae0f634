//! The last words of a text that trailers may end.

use super::Answer;

/// Bytes of an answer that are held at most while something of its text is held back, because trailers may end it that
/// nobody has announced: some words of a stream. Without a bound a text of words would be held to its end.
const MOST_HELD: usize = 256;
/// The same where its headers announce trailers (RFC 9110, 6.6.2).
const MOST_HELD_ANNOUNCED: usize = 64 << 10;

/// What has passed the screen of an answer that is a text, and has not left: should trailers end it, only an answer that
/// is held can still be written to, and the screen may hold something back that belongs behind this.
#[derive(Debug, Default)]
pub(in crate::engine) struct Tail {
    held: Option<Vec<u8>>,
    announced: bool,
}

impl Tail {
    /// Of an answer whose headers announce trailers, or do not.
    pub fn of(announced: bool) -> Self {
        Self { held: None, announced }
    }

    /// What leaves now of what is held and `out`, which has passed the screen; `end`: nothing more comes. While something of
    /// the text is held back, a short piece is held whole.
    pub fn through(&mut self, out: Vec<u8>, end: bool, screen: &Answer) -> Vec<u8> {
        let mut all = self.held.take().unwrap_or_default();
        all.extend(out);
        let most = if self.announced { MOST_HELD_ANNOUNCED } else { MOST_HELD };
        if !end && all.len() <= most && screen.holds_text() {
            self.held = Some(std::mem::take(&mut all));
        }
        all
    }

    /// Whether the answer is held for its sake.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }
}
