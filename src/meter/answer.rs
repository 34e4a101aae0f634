//! What has been learned of a response so far, in whatever dialect.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::called::{self, Called};
use super::count::Encoding;
use super::cut::Cuts;
use super::dialect::notation::Told;
use super::json;
use super::loose::LooseEnds;
use super::tally::{Kind, Tally, Voice};
use super::usage::Usage;
use super::watch::Watch;

/// No exchange has that many tokens of one kind: a provider that says so is not believed.
const ABSURD: u64 = 100_000_000;

/// What has been learned of a response so far.
#[derive(Clone, Debug)]
pub struct Answer {
    pub tally: Tally,
    pub said: Said,
    /// What the provider said about the input before it knew the output.
    pub opening: Option<Usage>,
    pub served: Option<String>,
    /// Tools that it calls.
    pub tool_calls: u64,
    /// Those of them that their provider may count otherwise than they stand in the answer.
    pub respelt: Respelt,
    /// Which of them it may call.
    pub watch: Watch,
    /// What it has begun and not ended, on a stream.
    pub loose: LooseEnds,
    /// The dialect's own end was seen.
    pub finished: bool,
    /// A reason for the end was given, although the dialect's own end may be missing.
    pub ended: bool,
    pub error: bool,
    /// What was seen in the answer that is not counted in tokens: images, characters, seconds.
    pub made: Usage,
    /// There was sound in it, of which nobody can tell what it says.
    pub sounded: bool,
    /// What stands for pictures in it, where events may repeat them: no more than [`MOST_PICTURES`].
    pictures: Vec<u64>,
    /// Whether it only says that the work is queued or goes on; `None`: it says nothing of that.
    pub queued: Option<bool>,
    /// An event with data was read.
    pub heard: bool,
    /// The provider said what it wrote, but not what it read: Ollama, when it had the prompt in its cache.
    pub input_silent: bool,
    /// Of the input what tools read, where that is told apart: Gemini leaves it out of a chunk like any figure.
    pub by_tools: u64,
    /// Items of the answer that were heard, 64 a number; none from [`MOST_ITEMS`] on.
    items: Vec<u64>,
    /// Each event has what is new alone, whatever its provider may do otherwise.
    pub in_pieces: bool,
    /// The texts so far, where a provider may repeat them with each event: together no longer than [`LONGEST_REPEATED`].
    /// `None`: one that was, and is not kept any more.
    so_far: Vec<(Voice, Option<String>)>,
    /// One of its events has repeated what came before.
    repeats: bool,
}

/// The most texts of which it is told whether events repeat them: those of one answer, its thoughts and some calls.
pub const MOST_REPEATED: u64 = 16;

/// The longest texts, together, for which it is told whether events repeat them, in bytes: an event that is tried first
/// copies them.
const LONGEST_REPEATED: usize = 256 * 1024;

/// So many pictures of an answer are told apart; each of the rest is taken for one more.
const MOST_PICTURES: usize = 64;

/// So many items of an answer are told apart: an event that is tried first copies a bit for each.
const MOST_ITEMS: u64 = 4_096;

/// The longest call that is counted in more than one way, in bytes.
const LONGEST_RESPELT: usize = 64 * 1024;

/// Tokens of calls of tools, however they may be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Respelt {
    /// As they stand in the answer: these are in the tally.
    pub json: u64,
    /// Their words alone.
    pub words: u64,
    /// In Gemini's notation.
    pub notation: u64,
}

impl Respelt {
    fn add(&mut self, more: Self) {
        self.json = self.json.saturating_add(more.json);
        self.words = self.words.saturating_add(more.words);
        self.notation = self.notation.saturating_add(more.notation);
    }
}

/// What the provider said about usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing.
    Nothing,
    /// This, last.
    Usage(Usage),
    /// Something that cannot be.
    Absurd,
}

/// A number that cannot be: negative, broken or above any sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absurd;

impl Answer {
    pub fn new(encoding: Encoding) -> Self {
        Self {
            tally: Tally::new(encoding),
            said: Said::Nothing,
            opening: None,
            served: None,
            tool_calls: 0,
            respelt: Respelt::default(),
            watch: Watch::default(),
            loose: LooseEnds::default(),
            finished: false,
            ended: false,
            error: false,
            made: Usage::default(),
            sounded: false,
            pictures: Vec::new(),
            queued: None,
            heard: false,
            input_silent: false,
            by_tools: 0,
            items: Vec::new(),
            in_pieces: false,
            so_far: Vec::new(),
            repeats: false,
        }
    }

    /// More text of a voice: a raw JSON string. Anything else is nothing that was said.
    pub fn speak(&mut self, kind: Kind, answer: u64, part: u64, raw: Option<&str>) {
        if let Some(text) = raw.and_then(json::text) {
            self.tally.push(Voice { kind, answer, part }, &text);
        }
    }

    /// A picture, by its address or its bytes as they stand there. Events may repeat what came before.
    pub fn show(&mut self, raw: &str) {
        let mut hasher = SipHasher13::new();
        hasher.write(raw.as_bytes());
        let picture = hasher.finish();
        if self.pictures.contains(&picture) {
            return;
        }
        if self.pictures.len() < MOST_PICTURES {
            self.pictures.push(picture);
        }
        self.made.images = self.made.images.saturating_add(1);
    }

    /// More text, no JSON.
    pub fn speak_plain(&mut self, text: &str) {
        self.tally.push(Voice { kind: Kind::Text, answer: 0, part: 0 }, text);
    }

    /// An item, a block or a part that may be a call of a tool which its provider runs, or a server. Whether it is one that
    /// is watched: then it is no function.
    pub fn tells_own(&mut self, raw: &str) -> bool {
        self.watch.is_on() && called::of(raw, &mut |called| self.watch.hear_own(called))
    }

    /// A tool of the provider's that it has used, where `raw` says something.
    pub fn used(&mut self, kind: &str, raw: Option<&str>) {
        if raw.is_some_and(json::says) {
            self.watch.hear_own(Called::BuiltIn(kind));
        }
    }

    /// Notes at a text, of which one to an address tells of a search.
    pub fn annotated(&mut self, notes: Option<&str>) {
        if !self.watch.is_on() {
            return;
        }
        json::elements(notes.unwrap_or("[]"), |note| {
            let cites = json::fields(note, ["type"]).is_some_and(|[kind]| kind == Some("\"url_citation\""));
            self.used("web_search", Some(note).filter(|_| cites));
        });
    }

    /// A tool that is called: its name, and its input as a JSON string or value.
    pub fn call(&mut self, answer: u64, part: u64, name: Option<&str>, input: Option<&str>) {
        if let Some(name) = name.and_then(json::text) {
            self.watch.hear(Some(Voice { kind: Kind::Tool, answer, part }), &name);
        }
        self.call_elsewhere(answer, part, name, input);
    }

    /// The same of a tool that is no function of the caller's.
    pub fn call_elsewhere(&mut self, answer: u64, part: u64, name: Option<&str>, input: Option<&str>) {
        let voice = Voice { kind: Kind::Tool, answer, part };
        let name = name.and_then(json::text).filter(|name| !name.is_empty());
        if !self.tally.knows(voice)
            && let Some(name) = name
        {
            self.tally.whole(&name);
            self.tool_calls = self.tool_calls.saturating_add(1);
            self.tally.open(voice);
        }
        match input {
            Some(raw) if raw.starts_with('"') => self.speak(Kind::Tool, answer, part, input),
            Some(raw) if raw.trim_ascii() != "{}" => self.tally.push(voice, raw),
            _ => {}
        }
    }

    /// A tool that is called, whole at once.
    pub fn call_whole(&mut self, name: Option<&str>, input: Option<&str>) {
        if let Some(name) = name.and_then(json::text) {
            self.watch.hear(None, &name);
            self.tally.whole(&name);
            self.tool_calls = self.tool_calls.saturating_add(1);
        }
        if let Some(input) = input.filter(|raw| raw.trim_ascii() != "{}") {
            self.tally.whole_arguments(input);
        }
    }

    /// A tool that Gemini calls, whole at once: its name and arguments, as raw JSON.
    pub fn call_told(&mut self, name: Option<&str>, args: Option<&str>) {
        let Some(tool) = name.and_then(json::text) else { return self.call_whole(name, args) };
        self.watch.hear(None, &tool);
        self.tool_calls = self.tool_calls.saturating_add(1);
        let said = args.filter(|raw| raw.trim_ascii() != "{}").map_or(0, |raw| self.tally.whole_apart(raw));
        let json = self.tally.whole_apart(&tool).saturating_add(said);
        let told = Told { what: "call", name: name.unwrap_or_default(), said: args.unwrap_or("{}") };
        let short = told.name.len().saturating_add(told.said.len()) <= LONGEST_RESPELT;
        let (mut words, mut text) = (0_u64, String::new());
        if short {
            told.words(&mut |word| words = words.saturating_add(self.tally.count_cut(word, Cuts::Fine)));
            told.write(&mut text);
        }
        let notation = if short { self.tally.count_cut(&text, Cuts::Fine) } else { json };
        self.respelt.add(Respelt { json, words: if short { words } else { json }, notation });
    }

    /// The text of an event which may be new, or all that there is of it so far: some providers do the one, some the other,
    /// as the request says. Where it says nothing, that all before begins it tells.
    pub fn speak_or_repeat(&mut self, kind: Kind, answer: u64, part: u64, raw: Option<&str>) {
        let Some(text) = raw.and_then(json::text) else { return };
        let voice = Voice { kind, answer, part };
        let known = self.so_far.iter().position(|(of, _)| *of == voice);
        if known.is_none() && (self.so_far.len() as u64) < MOST_REPEATED {
            self.so_far.push((voice, Some(String::new())));
        }
        let length =
            |(of, text): &(Voice, Option<String>)| if *of == voice { 0 } else { text.as_ref().map_or(0, String::len) };
        let others: usize = self.so_far.iter().map(length).sum();
        let known = self.so_far.iter_mut().find(|(of, _)| *of == voice).map(|(_, so_far)| so_far);
        let Some(kept) = known.filter(|_| !self.in_pieces) else { return self.tally.push(voice, &text) };
        let Some(so_far) = kept else { return self.tally.push(voice, &text) };
        match text.strip_prefix(so_far.as_str()).filter(|_| !so_far.is_empty()) {
            Some(new) => {
                self.repeats |= !new.is_empty();
                self.tally.push(voice, new);
                so_far.clear();
            }
            None => self.tally.push(voice, &text),
        }
        match others.saturating_add(so_far.len()).saturating_add(text.len()) <= LONGEST_REPEATED {
            true => so_far.push_str(&text),
            false => *kept = None,
        }
    }

    /// The text of this part of one of several answers so far, which events of this answer repeat: empty where they do not, or
    /// it is longer than is kept. `None`: the part has not spoken.
    pub fn repeated(&self, answer: u64, part: u64) -> Option<&str> {
        let voice = Voice { kind: Kind::Text, answer, part };
        let so_far = self.so_far.iter().find(|(of, _)| *of == voice).map(|(_, so_far)| so_far.as_deref());
        so_far.map(|so_far| so_far.filter(|_| self.repeats).unwrap_or_default())
    }

    /// Marks an item as heard; whether it was already. Items from [`MOST_ITEMS`] on are only heard piece by piece.
    pub fn hear_item(&mut self, number: u64) -> bool {
        let Some(word) = usize::try_from(number / 64).ok().filter(|_| number < MOST_ITEMS) else { return true };
        if self.items.len() <= word {
            self.items.resize(word.saturating_add(1), 0);
        }
        let Some(word) = self.items.get_mut(word) else { return true };
        let bit = 1 << (number % 64);
        let heard = *word & bit != 0;
        *word |= bit;
        heard
    }

    /// The provider's own name for the model: the first that it gives. Kept to 256 bytes.
    pub fn served_by(&mut self, raw: Option<&str>) {
        if self.served.is_some() {
            return;
        }
        let name = raw.filter(|raw| raw.len() <= 258).and_then(json::text);
        self.served = name.filter(|name| !name.is_empty()).map(|name| name.into_owned());
    }

    /// The last word on usage wins; saying nothing does not unsay.
    pub fn hear(&mut self, usage: Option<Result<Usage, Absurd>>) {
        match usage {
            None => {}
            Some(Ok(usage)) => self.said = Said::Usage(usage),
            Some(Err(Absurd)) => self.said = Said::Absurd,
        }
    }
}

/// A count as a provider wrote it; absent and null are `None`.
pub fn count(raw: Option<&str>) -> Result<Option<u64>, Absurd> {
    match raw.filter(|raw| !json::is_null(raw)) {
        None => Ok(None),
        Some(raw) => json::whole(raw).filter(|count| *count <= ABSURD).map(Some).ok_or(Absurd),
    }
}

/// Seconds as a provider wrote them, begun ones whole: `5`, `5.48`; anything else is `None`.
pub fn seconds(raw: Option<&str>) -> Option<u64> {
    let (whole, fraction) = raw?.trim_ascii().split_once('.').map_or((raw?.trim_ascii(), ""), |parts| parts);
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let begun = u64::from(fraction.bytes().any(|byte| byte != b'0'));
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    whole.parse::<u64>().ok().filter(|seconds| *seconds <= ABSURD).map(|seconds| seconds.saturating_add(begun))
}

#[cfg(test)]
mod tests {
    use super::{Answer, LONGEST_REPEATED};
    use crate::meter::count::Encoding;
    use crate::meter::tally::Kind;

    #[test]
    fn each_item_is_heard_once_whatever_its_number() {
        let mut answer = Answer::new(Encoding::O200kBase);
        let mut hear = |number| (answer.hear_item(number), answer.hear_item(number));
        for number in [0, 1, 63, 64, 65, 127, 128, 4_095] {
            assert_eq!(hear(number), (false, true), "{number}");
        }
        // Of others nothing is kept.
        assert_eq!([hear(4_096), hear(u64::MAX)], [(true, true); 2]);
    }

    #[test]
    fn what_is_kept_of_repeated_texts_is_bounded_together() {
        let mut answer = Answer::new(Encoding::O200kBase);
        let raw = format!("\"{}\"", "a".repeat(LONGEST_REPEATED / 3));
        for part in 0..40 {
            for _ in 0..3 {
                answer.speak_or_repeat(Kind::Tool, 0, part % 20, Some(&raw));
            }
            let kept: usize = answer.so_far.iter().filter_map(|(_, text)| text.as_ref()).map(String::len).sum();
            assert!(kept > 0 && kept <= LONGEST_REPEATED, "{kept}");
        }
    }
}
