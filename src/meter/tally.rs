//! Output tokens counted as they pass.

use super::arguments::Arguments;
use super::count::Encoding;
use super::count::running::Running;
use super::cut::{Cuts, Seams};

/// The most texts that are counted side by side; beyond that the oldest is taken as ended.
const MOST: usize = 64;

/// One of the texts that an answer consists of. Tokens never span two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice {
    pub kind: Kind,
    /// Which of several answers (OpenAI's `n`), from 0.
    pub answer: u64,
    /// Which tool call or content block of it, from 0.
    pub part: u64,
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Thinking,
    Refusal,
    Tool,
    Block,
}

/// Output tokens of one response.
#[derive(Clone, Debug)]
pub struct Tally {
    encoding: Encoding,
    growing: Vec<(Voice, Running)>,
    ended: u64,
    /// Of what has ended thoughts.
    thoughts: u64,
    /// Where others' vocabularies cut all this.
    seams: Seams,
    /// What tools are called with.
    arguments: Arguments,
    /// Whose text came last.
    last: Option<Voice>,
}

impl Tally {
    pub fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            growing: Vec::new(),
            ended: 0,
            thoughts: 0,
            seams: Seams::default(),
            arguments: Arguments::default(),
            last: None,
        }
    }

    /// More text of a voice.
    pub fn push(&mut self, voice: Voice, text: &str) {
        if text.is_empty() {
            return;
        }
        self.open(voice);
        if voice.kind == Kind::Tool {
            self.arguments.push(Some(voice), text);
        }
        if let Some((_, running)) = self.growing.iter_mut().rev().find(|(known, _)| *known == voice) {
            running.push(text);
        }
        if self.last.replace(voice) != Some(voice) {
            self.seams.part();
        }
        self.seams.push(text);
    }

    /// This voice may have text.
    pub fn open(&mut self, voice: Voice) {
        if self.knows(voice) {
            return;
        }
        if self.growing.len() >= MOST {
            let (voice, oldest) = self.growing.remove(0);
            self.over(voice, oldest.total());
        }
        self.growing.push((voice, Running::new(self.encoding)));
    }

    /// A text that is whole by itself.
    pub fn whole(&mut self, text: &str) {
        self.add(self.encoding.count(text));
        self.seams.part();
        self.seams.push(text);
        self.last = None;
    }

    /// What a tool is called with, whole by itself: JSON.
    pub fn whole_arguments(&mut self, json: &str) {
        self.arguments.push(None, json);
        self.whole(json);
    }

    /// What tools are called with, but for what was told apart.
    pub fn arguments(&self) -> &Arguments {
        &self.arguments
    }

    /// The same of one whose cuts and arguments are told apart: how many tokens it has.
    pub fn whole_apart(&mut self, text: &str) -> u64 {
        let tokens = self.encoding.count(text);
        self.add(tokens);
        self.seams.part();
        self.last = None;
        tokens
    }

    /// Tokens of a text, as a vocabulary counts it that cuts so.
    pub fn count_cut(&self, text: &str, cuts: Cuts) -> u64 {
        cuts.tokens(text, self.encoding.count(text))
    }

    /// Tokens that somebody else counted.
    pub fn add(&mut self, tokens: u64) {
        self.ended = self.ended.saturating_add(tokens);
    }

    /// Whether nothing has been heard.
    pub fn is_empty(&self) -> bool {
        self.growing.is_empty() && self.ended == 0
    }

    /// Where others' vocabularies cut what was heard.
    pub fn seams(&self) -> &Seams {
        &self.seams
    }

    /// Tokens of thoughts so far.
    pub fn thoughts(&self) -> u64 {
        let growing = self.growing.iter().filter(|(voice, _)| voice.kind == Kind::Thinking);
        growing.fold(self.thoughts, |sum, (_, running)| sum.saturating_add(running.total()))
    }

    /// A text has ended at so many tokens.
    fn over(&mut self, voice: Voice, tokens: u64) {
        if voice.kind == Kind::Thinking {
            self.thoughts = self.thoughts.saturating_add(tokens);
        }
        self.add(tokens);
    }

    /// Whether this voice has been heard.
    pub fn knows(&self, voice: Voice) -> bool {
        self.growing.iter().any(|(known, _)| *known == voice)
    }

    /// No more text of this voice will come.
    pub fn end(&mut self, voice: Voice) {
        if let Some(position) = self.growing.iter().position(|(known, _)| *known == voice) {
            let (voice, running) = self.growing.remove(position);
            self.over(voice, running.total());
        }
    }

    /// No more text will come at all.
    pub fn end_all(&mut self) {
        let growing = std::mem::take(&mut self.growing);
        growing.iter().for_each(|(voice, running)| self.over(*voice, running.total()));
    }

    /// No fewer than there are so far, told without counting: see [`Running::ceiling`].
    pub fn ceiling(&self) -> u64 {
        self.growing.iter().fold(self.ended, |sum, (_, running)| sum.saturating_add(running.ceiling()))
    }

    /// Tokens so far: see [`Running::total`].
    pub fn so_far(&self) -> u64 {
        self.growing.iter().fold(self.ended, |sum, (_, running)| sum.saturating_add(running.total()))
    }
}
