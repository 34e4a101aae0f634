//! A text that comes in pieces, rid of what was found in it.

use super::Action;
use super::fold::{Folded, trailing_invisible};
use super::scanner::{Finding, Hit, Observed, Place, Scanner, next_char};
use super::tail::Swallowing;

/// Adds to a text what leaves in the place of a finding; see [`Redactor::push`].
pub type Replace<'a> = &'a mut dyn FnMut(&Finding, &str, &mut String);

/// One text in pieces. Gives out what no further piece can make part of a finding, and holds back the rest.
///
/// However the text is cut, what comes out together is the same, and nothing that must be replaced has left in part.
#[derive(Clone, Debug)]
pub struct Redactor {
    scanner: Scanner,
    /// As written, not decided yet.
    held: String,
    /// The last character before `held`, folded.
    before: Option<char>,
    /// Invisible characters between the two.
    invisible: u8,
    /// A finding that is being swallowed.
    tail: Option<Swallowing>,
    /// In bytes of the folded text, from where `held` begins.
    observed: Observed,
}

impl Redactor {
    /// A text of which nothing has come.
    pub fn new(scanner: Scanner) -> Self {
        Self { scanner, held: String::new(), before: None, invisible: 0, tail: None, observed: Observed::default() }
    }

    /// Bytes that are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The next piece. `replace` gets what was found, its text as detectors read it, and all that leaves before it, to which
    /// it adds what leaves in its place; for a rule that only observes nothing is asked but its being there. Adds to `out`.
    ///
    /// Of a finding whose end is open (a long token, a private key) `replace` sees the beginning only.
    pub fn push(&mut self, text: &str, replace: Replace<'_>, out: &mut String) {
        self.held.push_str(text);
        self.run(false, replace, out);
    }

    /// No more comes: what is held back leaves, if nothing is found in it. The next piece begins a new text.
    pub fn finish(&mut self, replace: Replace<'_>, out: &mut String) {
        self.run(true, replace, out);
        *self = Self::new(self.scanner.clone());
    }

    fn run(&mut self, last: bool, replace: Replace<'_>, out: &mut String) {
        let held = std::mem::take(&mut self.held);
        let folded = Folded::part(&held, self.before, self.invisible, last);
        let hay = folded.text.as_ref();
        let scanner = self.scanner.clone();
        let mut memory = scanner.memory();
        // How far the text as written is dealt with, and the folded text.
        let (mut left, mut at) = (0, folded.begin());
        if let Some(tail) = &mut self.tail {
            let eaten = tail.eat(hay.get(at..).unwrap_or_default());
            at = at.saturating_add(eaten);
            if eaten > 0 {
                left = folded.raw_end(at);
            }
            if !tail.is_ended() && !last {
                return self.keep(held.as_str(), left, &folded, at);
            }
            self.tail = None;
        }
        let mut open = false;
        while at < hay.len() {
            match scanner.place(hay, at, last, &mut memory) {
                Place::Open => {
                    open = true;
                    break;
                }
                Place::Nothing => at = next_char(hay, at),
                Place::Hit(hit) => {
                    let range = folded.raw_start(hit.range.start)..folded.raw_end(hit.range.end);
                    let found = hay.get(hit.range.clone()).unwrap_or_default();
                    let Hit { rule, shape, range: in_hay, tail } = hit;
                    let finding = Finding { rule, shape, range: range.clone() };
                    if scanner.action(rule) == Action::Observe {
                        at = next_char(hay, at);
                        if self.observed.is_new(rule, &in_hay) {
                            replace(&finding, found, out);
                        }
                        continue;
                    }
                    out.push_str(held.get(left..range.start).unwrap_or_default());
                    replace(&finding, found, out);
                    (left, at) = (range.end, in_hay.end.max(next_char(hay, at)));
                    if let Some(mut tail) = tail {
                        let eaten = tail.eat(hay.get(at..).unwrap_or_default());
                        at = at.saturating_add(eaten);
                        left = folded.raw_end(at);
                        if !tail.is_ended() && !last {
                            self.tail = Some(tail);
                            return self.keep(held.as_str(), left, &folded, at);
                        }
                    }
                }
            }
        }
        let sure = match (last, open) {
            (true, _) => held.len(),
            (false, true) => folded.raw_start(at).min(folded.certain),
            // Behind the last character there may be invisible ones: they leave too.
            (false, false) => folded.certain,
        }
        .max(left);
        out.push_str(held.get(left..sure).unwrap_or_default());
        self.keep(held.as_str(), sure, &folded, at);
    }

    /// Everything before `left` as written, and `at` folded, is dealt with.
    fn keep(&mut self, held: &str, left: usize, folded: &Folded<'_>, at: usize) {
        let (gone, kept) = held.split_at_checked(left).unwrap_or((held, ""));
        kept.clone_into(&mut self.held);
        if let Some(before) = folded.text.get(..at).and_then(|gone| gone.chars().next_back()) {
            self.before = Some(before);
        }
        self.invisible = trailing_invisible(gone, self.invisible);
        let context = self.before.map_or(0, char::len_utf8);
        self.observed.pass(at.saturating_sub(context));
    }
}

#[cfg(test)]
#[path = "redactor_tests.rs"]
mod tests;
