//! A piece that has grown long and is not over yet: an endless word, a ruler of signs, a field of blanks.
//!
//! Holding it back and counting it anew whenever somebody asks would cost the square of its length. So its tokens are
//! counted byte by byte ([`Walks`]), and of its text nothing is kept. What is to be known of the pattern is little,
//! because only three kinds of piece can be longer than a few characters:
//!
//! - **a word** goes on with letters. Where case matters, capitals are undecided: `中AAA` is two pieces, but one if a
//!   lowercase letter follows. So the *last stop* is kept, behind the last caseless letter or mark, and two counts: of all,
//!   and of what follows the last stop.
//! - **blanks** are the same with line ends for stops; and what follows the last stop leaves its last character to the
//!   text behind it.
//! - **signs** go on with signs, then with line ends.
//!
//! In the oldest vocabularies numbers can be long too, and line ends are nothing but blanks.

use super::class::{BLANK, CASELESS, LETTER, LINE, LOWER, MARK, NUMBER, SPACE, Scan, UPPER, class_of};
use super::counter::Counter;
use super::merge::Merger;
use super::pattern::{Pattern, Style, contraction};
use super::walk::Walks;

/// See the module's docs.
#[derive(Clone, Debug)]
pub struct Long {
    kind: Kind,
    style: Style,
    /// All of it.
    whole: Walks,
    /// Tokens up to the last stop, and what follows it.
    stop: Option<(u64, Walks)>,
    last: char,
    /// What came behind the end of a word: a contraction may be under way, which would belong to it.
    behind: String,
}

/// What it is made of, and so what it goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A word by `o200k`, no lowercase letter yet.
    Capitals,
    /// A word by `o200k`, from its first lowercase letter on.
    Word,
    /// A word by all other patterns.
    Letters,
    /// A number by the oldest.
    Numbers,
    Blanks,
    Signs,
    /// Line ends behind signs.
    LineEnds,
}

/// What a character is to the piece before it.
enum Step {
    /// It belongs to it.
    On(Kind),
    /// It belongs to it, and a stop is behind it.
    Stop(Kind),
    /// It does not belong to it.
    Over,
}

impl Long {
    /// A piece that all of `text` may belong to. `Err`: it turned out to be over, as with [`push`](Self::push).
    pub fn begin<P: Pattern>(counter: &mut Counter<P>, text: &str) -> Result<Self, (u64, String)> {
        let mut chars = text.chars();
        let Some((first, (kind, leads))) = chars.next().zip(beginning::<P>(text)) else {
            return Err((0, text.to_owned()));
        };
        let mut long =
            Self { kind, style: P::STYLE, whole: Walks::new(), stop: None, last: first, behind: String::new() };
        let text = if leads {
            long.add(&mut counter.merger, first);
            chars.as_str()
        } else {
            text
        };
        long.push(counter, text).map_or(Ok(long), Err)
    }

    /// More text. Once the piece is over: its tokens, or those of the two that it has become, and the text from there on.
    pub fn push<P: Pattern>(&mut self, counter: &mut Counter<P>, text: &str) -> Option<(u64, String)> {
        if !self.behind.is_empty() {
            self.behind.push_str(text);
            return self.end_word(&mut counter.merger);
        }
        for (at, next) in text.char_indices() {
            match self.kind.step(next, self.style) {
                Step::On(kind) => {
                    if self.kind != kind && kind == Kind::Word {
                        self.stop = None;
                    }
                    self.kind = kind;
                    self.add(&mut counter.merger, next);
                }
                Step::Stop(kind) => {
                    self.kind = kind;
                    self.stop = None;
                    self.add(&mut counter.merger, next);
                    self.stop = Some((self.whole.tokens(), Walks::new()));
                }
                Step::Over => return self.end(&mut counter.merger, text.get(at..).unwrap_or_default()),
            }
        }
        None
    }

    /// Tokens so far, if the text ends here, but for what [`behind`](Self::behind) it is to be counted.
    pub fn tokens(&self) -> u64 {
        match &self.stop {
            // This one pattern has a rule of its own for white space that ends the text.
            Some(_) if self.kind == Kind::Blanks && self.style == Style::Caseless => self.whole.tokens(),
            Some((before, rest)) => before.saturating_add(rest.tokens()),
            None => self.whole.tokens(),
        }
    }

    /// Text that may or may not belong to the piece.
    pub fn behind(&self) -> &str {
        &self.behind
    }

    fn add(&mut self, merger: &mut Merger, next: char) {
        for byte in next.encode_utf8(&mut [0; 4]).bytes() {
            self.add_byte(merger, byte);
        }
        self.last = next;
    }

    fn add_byte(&mut self, merger: &mut Merger, byte: u8) {
        self.whole.push(merger, byte);
        if let Some((_, rest)) = &mut self.stop {
            rest.push(merger, byte);
        }
    }

    /// `text` does not belong to the run, but perhaps to the piece.
    fn end(&mut self, merger: &mut Merger, text: &str) -> Option<(u64, String)> {
        match self.kind {
            Kind::Capitals | Kind::Word => {
                text.clone_into(&mut self.behind);
                self.end_word(merger)
            }
            Kind::Blanks => Some(self.end_blanks(text)),
            Kind::Letters | Kind::Numbers | Kind::Signs | Kind::LineEnds => {
                Some((self.whole.tokens(), text.to_owned()))
            }
        }
    }

    /// The last piece of a word, behind its last stop if anything is, takes a contraction. `None`: not decided.
    fn end_word(&mut self, merger: &mut Merger) -> Option<(u64, String)> {
        let mut scan = Scan::new(self.behind.as_bytes());
        let end = contraction(&mut scan, 0);
        if scan.saw_end {
            return None;
        }
        let behind = std::mem::take(&mut self.behind);
        let (belongs, text) = behind.split_at_checked(end).unwrap_or(("", &behind));
        self.stop = self.stop.take().filter(|(_, rest)| !rest.is_empty());
        belongs.bytes().for_each(|byte| self.add_byte(merger, byte));
        Some((self.tokens(), text.to_owned()))
    }

    /// White space leaves its last character to the text behind it, unless that ends a line.
    fn end_blanks(&self, text: &str) -> (u64, String) {
        let (before, rest) = self.stop.as_ref().map_or((0, &self.whole), |(before, rest)| (*before, rest));
        if rest.is_empty() {
            return (before, text.to_owned());
        }
        let tokens = before.saturating_add(rest.tokens_before(self.last.len_utf8()));
        (tokens, format!("{}{text}", self.last))
    }
}

/// What the piece is that a text begins with, and whether its first character only leads it. `None`: it cannot be long.
fn beginning<P: Pattern>(text: &str) -> Option<(Kind, bool)> {
    let mut scan = Scan::new(text.as_bytes());
    let (class, behind) = scan.class(0)?;
    let (next, _) = scan.class(behind)?;
    if P::STYLE == Style::Plain {
        let leads = text.starts_with(' ') && next & BLANK == 0;
        let kind = match if leads { next } else { class } {
            class if class & LETTER != 0 => Kind::Letters,
            NUMBER => Kind::Numbers,
            class if class & BLANK != 0 => Kind::Blanks,
            _ => Kind::Signs,
        };
        return Some((kind, leads));
    }
    let cased = P::STYLE == Style::Cased;
    let (word, of_word) = if cased { (Kind::Capitals, LETTER | MARK) } else { (Kind::Letters, LETTER) };
    match class {
        NUMBER => None,
        LINE => Some((Kind::Blanks, false)),
        _ if class & of_word != 0 => Some((word, false)),
        _ if next & of_word != 0 => Some((word, true)),
        SPACE if text.starts_with(' ') && next & (NUMBER | BLANK) == 0 => Some((Kind::Signs, true)),
        SPACE => Some((Kind::Blanks, false)),
        _ => Some((Kind::Signs, false)),
    }
}

impl Kind {
    fn step(self, next: char, style: Style) -> Step {
        let class = class_of(next as usize);
        match (self, class) {
            (Self::Capitals, UPPER) => Step::On(self),
            (Self::Capitals, CASELESS | MARK) => Step::Stop(self),
            (Self::Capitals | Self::Word, LOWER) | (Self::Word, CASELESS | MARK) => Step::On(Self::Word),
            (Self::Letters, UPPER | LOWER | CASELESS) | (Self::Blanks, SPACE) => Step::On(self),
            (Self::Blanks, LINE) if style == Style::Plain => Step::On(self),
            (Self::Signs, LINE) if style == Style::Plain => Step::Over,
            (Self::Numbers, NUMBER) => Step::On(self),
            (Self::Blanks, LINE) => Step::Stop(self),
            (Self::Signs | Self::LineEnds, LINE) => Step::On(Self::LineEnds),
            (Self::Signs, class) if class & (LETTER | NUMBER | BLANK) == 0 => Step::On(self),
            (Self::LineEnds, _) if style == Style::Cased && next == '/' => Step::On(self),
            _ => Step::Over,
        }
    }
}
