//! What a request body is made of, as far as a model reads it.

use super::json;
use super::media::Media;
use super::usage::Usage;
use super::written;

/// Fields whose words their provider has laid down: modes, formats, sizes, names of tools that are defined elsewhere. In
/// small letters, without `_`.
const SETTINGS: &[&str] = &[
    "anthropicbeta",
    "anthropicversion",
    "aspectratio",
    "audio",
    "audiosetting",
    "background",
    "cachecontrol",
    "chunkingstrategy",
    "citationoptions",
    "citationquality",
    "embeddingtypes",
    "encodingformat",
    "include",
    "inputtype",
    "keepalive",
    "language",
    "languageboost",
    "mediaresolution",
    "modalities",
    "model",
    "moderation",
    "outputdtype",
    "outputformat",
    "performanceconfig",
    "promptcacheoptions",
    "promptcacheretention",
    "prompttruncation",
    "quality",
    "reasoning",
    "reasoningeffort",
    "resolution",
    "responseformat",
    "responsemimetype",
    "responsemodalities",
    "safetymode",
    "safetysettings",
    "schemaversion",
    "servicetier",
    "size",
    "speechconfig",
    "store",
    "streamformat",
    "streamoptions",
    "style",
    "tasktype",
    "think",
    "thinking",
    "thinkingconfig",
    "timestampgranularities",
    "toolchoice",
    "toolconfig",
    "truncate",
    "truncation",
    "verbosity",
    "voice",
    "voicesetting",
];

fn is_setting(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect();
    SETTINGS.contains(&plain.as_str())
}

/// One part of a request body: a raw JSON value and how it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub kind: Kind,
    /// Whether a signature in the body covers it, so that it must stay as it is.
    pub signed: bool,
    /// Where the raw value begins in the body.
    start: u32,
    /// Where it ends.
    end: u32,
}

/// How a part is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A JSON string that the model reads as text.
    Text,
    /// What an earlier turn thought, as text: most templates leave it out.
    Thought,
    /// Text that is read once with each document.
    Query,
    /// The id of a tool call: the chat templates of some open models write it out.
    Label,
    /// JSON that the model reads about as it stands: a tool call's input.
    Json,
    /// Something that we do not know: providers may expand it.
    Schema,
    /// Definitions of tools: providers expand them, each in a manner of its own.
    Tools,
    /// The schema of an answer: written out before the conversation, or only enforced.
    Format,
    /// An image in the body.
    Image,
    /// Sound in the body.
    Audio,
    /// A document in the body, which the provider unfolds.
    File,
    /// Encrypted thinking that the provider unfolds.
    Sealed,
}

/// A value that is told to the provider's server and that no model reads: who asks, labels, where to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beside {
    /// Whether it may have nothing but small letters, digits, `-` and `_`.
    pub plain: bool,
    /// Whether it is a setting, whose words are the provider's.
    pub setting: bool,
    /// Where the raw value begins in the body.
    start: u32,
    /// Where it ends.
    end: u32,
}

/// Collects the parts of one body, and why it cannot be bounded if so.
///
/// Twelve bytes a part, and a part has at least three bytes of body.
#[derive(Debug)]
pub struct Parts<'a> {
    body: &'a str,
    pub list: Vec<Part>,
    /// What stands beside them: not counted, but screened.
    pub beside: Vec<Beside>,
    /// Messages, tool calls and tools: each costs some framing tokens.
    pub frames: u64,
    /// Of the frames those of tools that are offered.
    pub offered: u64,
    /// Of the frames those of tool calls in the conversation.
    pub calls: u64,
    /// Of the frames those of instructions, which some templates put no marks around.
    pub systems: u64,
    /// Tokens for what is named in the body but written by the provider.
    pub fixed: u64,
    pub open: Option<&'static str>,
    /// The work goes on behind an answer that only promises it.
    pub deferred: bool,
    /// It names other models that may answer too.
    pub choice: bool,
    /// There is text in it as numbers of tokens, which nobody here can read.
    pub numbered: bool,
    /// There are tools, or a schema for the output.
    pub schemas: bool,
    /// A group of pictures is asked for.
    pub grouped: bool,
    /// The last message so far answers a tool call: it goes on with a turn and begins none.
    pub goes_on: bool,
    /// Prompts in one request, each of which is answered.
    pub answers: u64,
    /// What is asked for and not counted in tokens.
    pub asked: Usage,
    /// Each event of the answer is to have what is new, where it might have all so far.
    pub in_pieces: bool,
    /// What there is besides text, each kind once.
    pub media: Vec<Media>,
    /// Images that are not in the body.
    pub elsewhere: u64,
}

impl<'a> Parts<'a> {
    pub fn of(body: &'a str) -> Self {
        Self {
            body,
            list: Vec::new(),
            beside: Vec::new(),
            frames: 0,
            offered: 0,
            calls: 0,
            systems: 0,
            fixed: 0,
            open: None,
            deferred: false,
            choice: false,
            numbered: false,
            schemas: false,
            goes_on: false,
            answers: 1,
            grouped: false,
            asked: Usage::default(),
            in_pieces: false,
            media: Vec::new(),
            elsewhere: 0,
        }
    }

    /// Adds a raw value, which must be a slice of the body. Numbers, booleans and null are nothing to read; long numbers
    /// are screened.
    pub fn add(&mut self, kind: Kind, raw: &'a str) {
        if written::is_long(raw) {
            return self.beside(raw);
        }
        let Some((start, end)) = self.place(raw) else { return };
        match kind {
            Kind::Image => self.holds(Media::Image),
            Kind::Audio => self.holds(Media::Audio),
            _ => {}
        }
        self.list.push(Part { kind, signed: false, start, end });
    }

    /// Adds a raw value that only the provider's server reads.
    pub fn beside(&mut self, raw: &'a str) {
        let setting = json::member(self.body, raw).is_some_and(is_setting);
        self.told(raw, false, setting);
    }

    /// Adds labels, whose letters a provider restricts: what is put into them must be of the plainest.
    pub fn labels(&mut self, raw: &'a str) {
        self.told(raw, true, false);
    }

    fn told(&mut self, raw: &'a str, plain: bool, setting: bool) {
        let place = self.place(raw);
        self.beside.extend(place.map(|(start, end)| Beside { plain, setting, start, end }));
    }

    /// Where a raw value with strings in it, or a long number, or none, stands in the body.
    fn place(&mut self, raw: &'a str) -> Option<(u32, u32)> {
        if !raw.starts_with(['"', '{', '[']) && !written::is_long(raw) {
            return None;
        }
        let start = json::offset(self.body, raw);
        let place = u32::try_from(start).ok().zip(u32::try_from(start.saturating_add(raw.len())).ok());
        if place.is_none() {
            self.open("a body above 4 GiB");
        }
        place
    }

    /// There is something besides text.
    pub fn holds(&mut self, media: Media) {
        if !self.media.contains(&media) {
            self.media.push(media);
        }
    }

    /// It points at something besides text, or has it in a form that must be unfolded: its size cannot be told.
    pub fn open_media(&mut self, media: &[Media], why: &'static str) {
        media.iter().for_each(|media| self.holds(*media));
        self.elsewhere = self.elsewhere.saturating_add(u64::from(media.contains(&Media::Image)));
        self.open(why);
    }

    /// Thoughts that their provider has signed: text, but nobody may change it.
    pub fn signed(&mut self, raw: &'a str) {
        let before = self.list.len();
        self.text(raw);
        self.list.iter_mut().skip(before).for_each(|part| part.signed = true);
    }

    /// A string is text; whatever else stands in its place is counted by its bytes.
    pub fn text(&mut self, raw: &'a str) {
        self.add(if raw.starts_with('"') { Kind::Text } else { Kind::Schema }, raw);
    }

    /// What an earlier turn thought.
    pub fn thought(&mut self, raw: &'a str) {
        self.add(if raw.starts_with('"') { Kind::Thought } else { Kind::Schema }, raw);
    }

    /// Who speaks. The roles that everybody knows are in the framing; templates write out any other as it stands.
    pub fn role(&mut self, raw: &'a str) {
        let known = ["system", "developer", "user", "assistant", "tool", "function"];
        match json::text(raw) {
            Some(role) if matches!(&*role, "system" | "developer") => self.systems = self.systems.saturating_add(1),
            Some(role) if known.contains(&&*role) => {}
            _ => self.text(raw),
        }
    }

    /// The request cannot be bounded. The first reason stays.
    pub fn open(&mut self, why: &'static str) {
        self.open.get_or_insert(why);
    }

    /// Other models that may answer too, as the provider likes.
    pub fn choice(&mut self, raw: &str) {
        if raw != "[]" {
            self.choice = true;
            self.open("a choice of models");
        }
    }

    pub fn frame(&mut self) {
        self.frames = self.frames.saturating_add(1);
    }

    /// Instructions that stand beside the messages.
    pub fn system(&mut self) {
        self.frame();
        self.systems = self.systems.saturating_add(1);
    }

    /// A tool that is offered.
    pub fn tool(&mut self) {
        self.frame();
        self.offered = self.offered.saturating_add(1);
    }

    /// A tool call that is told.
    pub fn call(&mut self) {
        self.frame();
        self.calls = self.calls.saturating_add(1);
    }
}

impl Beside {
    /// The raw value in the body.
    pub fn raw<'a>(&self, body: &'a str) -> &'a str {
        body.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

impl Part {
    /// The raw value in the body that the part was read from.
    pub fn raw<'a>(&self, body: &'a str) -> &'a str {
        body.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Whether it holds strings that a model reads.
    pub fn is_readable(&self) -> bool {
        !matches!(self.kind, Kind::Image | Kind::Audio | Kind::File | Kind::Sealed)
    }
}
