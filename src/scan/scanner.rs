//! What is looked for, compiled, and the search in a whole text.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::{Hir, HirKind, Look};

use super::fold::Folded;
use super::shapes::{Candidate, SHAPES, Tail};
use super::tail::Swallowing;
use super::{Action, Injection, TOPICS, Topic, injection, wrapped};
use crate::order;

/// The longest match of a pattern, in bytes: what a stream may have to hold back.
pub const LONGEST_MATCH: usize = 1024;

/// The most that a policy's own pattern may take when compiled, in bytes.
const LARGEST_PATTERN: usize = 256 * 1024;

/// The most that all patterns together may take when compiled, in bytes.
const LARGEST: usize = 8 * 1024 * 1024;

/// States that a search keeps, in bytes; it begins anew when they are full.
const KEPT: usize = 2 * 1024 * 1024;

/// What is to be looked for, and what is then done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// What has a name of its own.
    pub topics: Vec<(Topic, Action)>,
    /// Patterns of the policy: a name and a regular expression each.
    pub patterns: Vec<(String, String, Action)>,
    /// Words by which a text becomes an instruction.
    pub injection: Vec<(Injection, Action)>,
    /// Words of the policy, whatever their case.
    pub keywords: Option<(Vec<String>, Action)>,
}

impl Selection {
    /// The same, with nothing done about it.
    pub fn observed(&self) -> Self {
        let mut observed = self.clone();
        let topics = observed.topics.iter_mut().map(|(_, action)| action);
        let own = observed.patterns.iter_mut().map(|(.., action)| action);
        let words = observed.keywords.iter_mut().map(|(_, action)| action);
        let injected = observed.injection.iter_mut().map(|(_, action)| action);
        topics.chain(own).chain(words).chain(injected).for_each(|action| *action = Action::Observe);
        observed
    }
}

/// One thing that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name: a topic's, `patterns.<name>`, `injection.<name>` or `keywords`.
    pub name: String,
    /// What is done.
    pub action: Action,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Index into [`Scanner::rules`].
    pub rule: usize,
    /// Its shape, where the rule knows several: `github_token`. Else as the rule's name.
    pub shape: &'static str,
    /// Where it is, in bytes of the text as written.
    pub range: Range<usize>,
}

/// A pattern that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is no regular expression; the reason.
    Syntax(String),
    /// It matches nothing at all, that is the empty text.
    Empty,
    /// A match may be longer than [`LONGEST_MATCH`].
    Unbounded,
    /// It is too large when compiled.
    TooLarge,
}

/// Compiled detectors. Cheap to clone; may be used by several threads, though one at a time.
#[derive(Clone)]
pub struct Scanner(Arc<Compiled>);

struct Compiled {
    rules: Vec<Rule>,
    /// By pattern of the automata.
    lexemes: Vec<Lexeme>,
    /// The rule of each topic.
    topics: [Option<usize>; TOPICS],
    wanted: [bool; TOPICS],
    search: Regex,
    step: DFA,
    cache: Mutex<Cache>,
    /// Whether a match may begin with a byte, behind a word's character and behind anything else.
    begins: [[bool; 256]; 2],
    longest: usize,
}

enum Lexeme {
    /// The index in [`SHAPES`].
    Known(usize),
    /// A rule of the policy's own.
    Own(usize),
    /// A rule that looks for injected instructions.
    Injected(Injection, usize),
}

/// A match that has passed its check, in the folded text.
pub(super) struct Hit {
    pub rule: usize,
    pub shape: &'static str,
    pub range: Range<usize>,
    pub tail: Option<Swallowing>,
}

/// What is known of a place in a text that may go on.
pub(super) enum Place {
    /// A match may begin here: more text must tell.
    Open,
    /// Nothing begins here.
    Nothing,
    Hit(Hit),
}

/// Reads a policy's own pattern, as far as it can be told wrong by itself.
pub fn check_pattern(pattern: &str) -> Result<(), Refused> {
    own(pattern).map(|_| ())
}

fn own(pattern: &str) -> Result<Hir, Refused> {
    let hir = parse(pattern)?;
    let longest = hir.properties().maximum_len();
    match (hir.properties().minimum_len(), longest) {
        (None | Some(0), _) => return Err(Refused::Empty),
        (_, None) => return Err(Refused::Unbounded),
        (_, Some(longest)) if longest > LONGEST_MATCH => return Err(Refused::Unbounded),
        _ => {}
    }
    small(&hir)
}

/// A pattern of [`Injection`]. A match may have any length: no stream is searched for it, as prompts are there whole.
fn injected(pattern: &str) -> Result<Hir, Refused> {
    small(&parse(&injection::spaced(pattern))?)
}

fn parse(pattern: &str) -> Result<Hir, Refused> {
    let mut parser = regex_syntax::ParserBuilder::new().nest_limit(50).build();
    parser.parse(pattern).map_err(|error| Refused::Syntax(reason(&error)))
}

/// As the automata take it, unless it is too large.
fn small(hir: &Hir) -> Result<Hir, Refused> {
    let hir = ascii_words(hir);
    let limit = thompson::Config::new().nfa_size_limit(Some(LARGEST_PATTERN));
    thompson::Compiler::new().configure(limit).build_from_hir(&hir).map_err(|_| Refused::TooLarge)?;
    Ok(hir)
}

/// The last line of a syntax error says what it is; those before draw it.
fn reason(error: &regex_syntax::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// The same, with words' edges told by ASCII: the automaton knows no other, and a letter of another script in front of a
/// number is no part of it.
fn ascii_words(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Look(look) => Hir::look(match look {
            Look::WordUnicode => Look::WordAscii,
            Look::WordUnicodeNegate => Look::WordAsciiNegate,
            Look::WordStartUnicode => Look::WordStartAscii,
            Look::WordEndUnicode => Look::WordEndAscii,
            Look::WordStartHalfUnicode => Look::WordStartHalfAscii,
            Look::WordEndHalfUnicode => Look::WordEndHalfAscii,
            other => *other,
        }),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => hir.clone(),
        HirKind::Capture(capture) => ascii_words(&capture.sub),
        HirKind::Repetition(repetition) => Hir::repetition(repetition.with(ascii_words(&repetition.sub))),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(ascii_words).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(ascii_words).collect()),
    }
}

/// A keyword as a pattern: any case, and whole words where it begins or ends with a letter or digit of ASCII.
fn keyword(word: &str) -> String {
    let edge = |c: Option<char>| if c.is_some_and(|c| c.is_ascii_alphanumeric()) { r"\b" } else { "" };
    let (first, last) = (edge(word.chars().next()), edge(word.chars().next_back()));
    format!("{first}(?i:{}){last}", regex_syntax::escape(word))
}

impl Scanner {
    /// Compiles a selection; the rules are in its order, topics first. The index of a refused pattern comes with the
    /// reason; without one all together are too large.
    pub fn new(selection: &Selection) -> Result<Self, (Option<usize>, Refused)> {
        let (mut rules, mut lexemes, mut hirs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut topics, mut wanted) = ([None; TOPICS], [false; TOPICS]);
        for (topic, action) in &selection.topics {
            if let (Some(rule), Some(wanted)) = (topics.get_mut(*topic as usize), wanted.get_mut(*topic as usize)) {
                (*rule, *wanted) = (Some(rules.len()), true);
            }
            rules.push(Rule { name: topic.name().to_owned(), action: *action });
        }
        // A policy's own stand in front: they have no check that could fail, so they never hide what comes behind.
        for (index, (name, pattern, action)) in selection.patterns.iter().enumerate() {
            hirs.push(own(pattern).map_err(|refused| (Some(index), refused))?);
            lexemes.push(Lexeme::Own(rules.len()));
            rules.push(Rule { name: format!("patterns.{name}"), action: *action });
        }
        if let Some((words, action)) = &selection.keywords {
            for word in words {
                hirs.push(own(&keyword(word)).map_err(|refused| (None, refused))?);
                lexemes.push(Lexeme::Own(rules.len()));
            }
            rules.push(Rule { name: "keywords".to_owned(), action: *action });
        }
        for (index, shape) in SHAPES.iter().enumerate() {
            if shape.topics.iter().any(|topic| wanted.get(*topic as usize) == Some(&true)) {
                hirs.push(own(shape.pattern).map_err(|refused| (None, refused))?);
                lexemes.push(Lexeme::Known(index));
            }
        }
        for (injection, action) in &selection.injection {
            for pattern in injection.patterns() {
                hirs.push(injected(pattern).map_err(|refused| (None, refused))?);
                lexemes.push(Lexeme::Injected(*injection, rules.len()));
            }
            rules.push(Rule { name: format!("injection.{}", injection.name()), action: *action });
        }
        let too_large = || (None, Refused::TooLarge);
        let longest = hirs.iter().filter_map(|hir| hir.properties().maximum_len()).max().unwrap_or(0);
        let config = Regex::config().nfa_size_limit(Some(LARGEST)).hybrid_cache_capacity(KEPT).utf8_empty(false);
        let search = Regex::builder().configure(config).build_many_from_hir(&hirs).map_err(|_| too_large())?;
        let limit = thompson::Config::new().nfa_size_limit(Some(LARGEST)).utf8(false);
        let nfa = thompson::Compiler::new().configure(limit).build_many_from_hir(&hirs).map_err(|_| too_large())?;
        let config = DFA::config().match_kind(MatchKind::LeftmostFirst).cache_capacity(KEPT);
        let config = config.skip_cache_capacity_check(true);
        let step = DFA::builder().configure(config).build_from_nfa(nfa).map_err(|_| too_large())?;
        let mut cache = step.create_cache();
        let begins = begins(&step, &mut cache);
        let cache = Mutex::new(cache);
        Ok(Self(Arc::new(Compiled { rules, lexemes, topics, wanted, search, step, cache, begins, longest })))
    }

    /// What is looked for.
    pub fn rules(&self) -> &[Rule] {
        &self.0.rules
    }

    /// The most bytes of plain text that a stream holds back. Where characters are escaped or hidden between, up to six
    /// times as many, and eight invisible characters for each.
    pub fn longest(&self) -> usize {
        self.0.longest
    }

    /// All findings in a text, in its order. They do not overlap, but for those that are only observed.
    pub fn find(&self, text: &str) -> Vec<Finding> {
        let mut found = Vec::new();
        self.search(text, |finding| found.push(finding));
        let secrets = self.0.topics.get(Topic::Secrets as usize).copied().flatten();
        if let Some(rule) = secrets {
            self.unwrap(text, rule, &mut found);
        }
        found
    }

    pub(super) fn search(&self, text: &str, mut each: impl FnMut(Finding)) {
        let folded = Folded::whole(text);
        let hay = folded.text.as_ref();
        let (mut at, mut observed) = (0, Observed::default());
        while let Some(found) = self.0.search.search(&Input::new(hay).span(at..hay.len())) {
            let next = next_char(hay, found.start());
            at = next;
            let Some(mut hit) = self.judge(hay, found.pattern().as_usize(), found.range()) else { continue };
            if self.action(hit.rule) == Action::Observe {
                // What follows may be more than that, so nothing is passed over.
                if !observed.is_new(hit.rule, &hit.range) {
                    continue;
                }
            } else {
                let tail = hit.tail.as_mut().map(|tail| tail.eat(hay.get(hit.range.end..).unwrap_or_default()));
                hit.range.end = hit.range.end.saturating_add(tail.unwrap_or(0));
                at = hit.range.end.max(next);
            }
            let range = folded.raw_start(hit.range.start)..folded.raw_end(hit.range.end);
            each(Finding { rule: hit.rule, shape: hit.shape, range });
        }
    }

    /// Adds secrets wrapped in base 64; they stand where nothing else was found.
    fn unwrap(&self, text: &str, rule: usize, found: &mut Vec<Finding>) {
        order::by_key(found, |finding| finding.range.start);
        let before = found.len();
        // The furthest end of those that begin before a run ends: observed ones may overlap.
        let (mut next, mut furthest) = (0usize, 0);
        for (range, unwrapped) in wrapped::runs(text) {
            while let Some(other) = found.get(next).filter(|other| next < before && other.range.start < range.end) {
                furthest = other.range.end.max(furthest);
                next = next.saturating_add(1);
            }
            let known = range.start < furthest;
            let mut inside = None;
            if !known {
                self.search(&unwrapped, |finding| {
                    if finding.rule == rule {
                        inside.get_or_insert(finding.shape);
                    }
                });
            }
            found.extend(inside.map(|shape| Finding { rule, shape, range }));
        }
        if found.len() > before {
            order::by_key(found, |finding| finding.range.start);
        }
    }

    pub(super) fn action(&self, rule: usize) -> Action {
        self.0.rules.get(rule).map_or(Action::Observe, |rule| rule.action)
    }

    /// Whether a match stands its check.
    fn judge(&self, hay: &str, pattern: usize, at: Range<usize>) -> Option<Hit> {
        match self.0.lexemes.get(pattern)? {
            Lexeme::Own(rule) => Some(Hit { rule: *rule, shape: "", range: at, tail: None }),
            Lexeme::Injected(injection, _) if injection.is_forbidden(hay, at.start) => None,
            Lexeme::Injected(_, rule) => Some(Hit { rule: *rule, shape: "", range: at, tail: None }),
            Lexeme::Known(index) => {
                let shape = SHAPES.get(*index)?;
                let (topic, range) = (shape.check)(&Candidate { text: hay, at, wanted: &self.0.wanted })?;
                let rule = self.0.topics.get(topic as usize).copied().flatten()?;
                let name = if shape.tail == Tail::None && topic != Topic::Secrets { topic.name() } else { shape.name };
                Some(Hit { rule, shape: name, range, tail: Swallowing::of(shape.tail) })
            }
        }
    }

    /// The automaton's memory, for a run of [`Self::place`].
    pub(super) fn memory(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What begins at `at` of a text that goes on, unless this is the `last` of it.
    pub(super) fn place(&self, hay: &str, at: usize, last: bool, memory: &mut Cache) -> Place {
        let bytes = hay.as_bytes();
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        let word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let begins = bytes.get(at).is_some_and(|byte| {
            self.0.begins.get(usize::from(word)).and_then(|row| row.get(usize::from(*byte))).copied().unwrap_or(true)
        });
        if !begins {
            return Place::Nothing;
        }
        let Some(found) = self.run(hay, at, last, memory) else { return Place::Open };
        let hit = found.and_then(|(pattern, end)| self.judge(hay, pattern, at..end));
        hit.map_or(Place::Nothing, Place::Hit)
    }

    /// Runs the automaton from `at`. `None`: more text could change what it says. Else the pattern and its end, if any.
    #[expect(clippy::option_option, reason = "undecided, nothing, something")]
    fn run(&self, hay: &str, at: usize, last: bool, memory: &mut Cache) -> Option<Option<(usize, usize)>> {
        let step = &self.0.step;
        let input = Input::new(hay).span(at..hay.len()).anchored(Anchored::Yes);
        let mut found = None;
        // The automaton never gives up: it has no limit of refills, and no byte at which it must quit.
        let Ok(mut state) = step.start_state_forward(memory, &input) else { return Some(None) };
        for (place, byte) in hay.bytes().enumerate().skip(at) {
            let Ok(next) = step.next_state(memory, state, byte) else { return Some(found) };
            state = next;
            if state.is_match() {
                found = Some((step.match_pattern(memory, state, 0).as_usize(), place));
            } else if state.is_dead() || state.is_quit() {
                return Some(found);
            }
        }
        if !last {
            return None;
        }
        if let Ok(state) = step.next_eoi_state(memory, state)
            && state.is_match()
        {
            found = Some((step.match_pattern(memory, state, 0).as_usize(), hay.len()));
        }
        Some(found)
    }
}

/// The findings that are only observed, so that one that goes on is not told again from its middle.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// A rule and where it was last seen to end.
    ends: Vec<(usize, usize)>,
}

impl Observed {
    pub fn is_new(&mut self, rule: usize, range: &Range<usize>) -> bool {
        match self.ends.iter_mut().find(|(known, _)| *known == rule) {
            Some((_, end)) if range.start < *end => {
                *end = range.end.max(*end);
                false
            }
            Some((_, end)) => {
                *end = range.end;
                true
            }
            None => {
                self.ends.push((rule, range.end));
                true
            }
        }
    }

    /// The text now begins `bytes` later.
    pub fn pass(&mut self, bytes: usize) {
        self.ends.iter_mut().for_each(|(_, end)| *end = end.saturating_sub(bytes));
    }
}

/// Where the character behind the one at `at` begins.
pub(super) fn next_char(text: &str, at: usize) -> usize {
    let length = text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
    at.saturating_add(length)
}

/// For every byte whether the automaton lives on with it: behind anything but a word's character, and behind one.
fn begins(step: &DFA, cache: &mut Cache) -> [[bool; 256]; 2] {
    let mut table = [[false; 256]; 2];
    for (before, row) in [(&["", "\n", "\r", " ", "é"][..], 0), (&["a", "Z", "0", "_"][..], 1)] {
        for before in before {
            for byte in 0..=u8::MAX {
                let mut hay = before.as_bytes().to_vec();
                hay.push(byte);
                let input = Input::new(&hay).span(before.len()..hay.len()).anchored(Anchored::Yes);
                let state = step.start_state_forward(cache, &input);
                let state = state.ok().and_then(|state| step.next_state(cache, state, byte).ok());
                if let Some(begins) = table.get_mut(row).and_then(|row| row.get_mut(usize::from(byte))) {
                    *begins |= state.is_none_or(|state| !state.is_dead());
                }
            }
        }
    }
    table
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner").field("rules", &self.0.rules).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "scanner_tests.rs"]
mod tests;
