//! A request, as far as money is concerned.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::beside::Beside;
use super::bound;
use super::built_in;
use super::called::{self, Called};
use super::count::Encoding;
use super::count::known::Known;
use super::dialect::{
    BYTES_A_TOKEN, Dialect, Host, Keys, LONGEST_CHOSEN, MOST_OF_GROUP, Made, Meaning, Route, Writes, film_flags,
    film_tokens_a_second, generate, invoke_limit, invoke_makes_images, invoke_writes_text, is_deployment,
    picture_tokens, wide_characters,
};
use super::json;
use super::media::Media;
use super::name::Name;
use super::offer::{self, Offer};
use super::part::{self, Kind, Part, Parts};
use super::system::{self, System};
use super::told::{self, Told};
use super::usage::Usage;
use crate::order;

/// The deepest nesting of a body that is read.
pub const DEEPEST: usize = 128;

/// Input tokens that asking for thinking costs: 28 to 32 were seen.
pub(super) const THINKING: u64 = 32;

/// Why a call is open whose work goes on behind its answer.
const LATER: &str = "work in the background";

/// A body that must not be forwarded as if we had understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong, in words for the caller.
    pub message: String,
}

impl Malformed {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// The input of a call, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// As well as it can be told from the body.
    pub counted: u64,
    /// At most.
    pub bound: u64,
}

/// An input that was not counted to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Longer {
    /// Tokens that it has at least.
    pub at_least: u64,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Malformed {}

/// A request, as far as money is concerned.
///
/// It keeps a copy of the body and up to four bytes more for each of its bytes: drop it when the request is
/// on its way, but for what may still have to be counted.
#[derive(Clone, Debug)]
pub struct Call {
    /// The wire format.
    pub dialect: Dialect,
    /// Who serves it, as far as the [path](Self::take_route) told.
    pub host: Host,
    /// The model asked for; empty when the body names none, as where the path does ([`Route`]).
    pub model: String,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// The largest output limit that the body states, in tokens; where no body can state one, what an answer comes to
    /// at most.
    pub output_limit: Option<u64>,
    /// How many answers are asked for, at least 1: each may be as long as the output limit.
    pub choices: u64,
    /// How many it says that there are to be.
    pieces: Option<u64>,
    /// Whether the client itself asks for usage on the stream. Only OpenAI's must be asked.
    pub asks_usage: bool,
    /// Why the input or the work cannot be bounded by reading the body; `None`: it can.
    pub open: Option<&'static str>,
    /// The input cannot be read from the body: it is open for more than that it is [deferred](Self::deferred).
    pub unread: bool,
    /// It is answered at once and worked on later: nobody here will hear what that came to.
    pub deferred: bool,
    /// It names other models than [`model`](Self::model) that may answer too, as the provider likes.
    pub choice: bool,
    /// The output limit may not be clamped below this many tokens: a thinking budget and one, or where there is no limit
    /// to clamp; else 0.
    pub floor: u64,
    /// Whether it begins a turn of the conversation: one that ends with the result of a tool only goes on with it.
    pub begins_turn: bool,
    /// Whether the answer may call tools.
    pub tools: bool,
    /// Whether each event of the answer is to have what is new alone, where a dialect has the choice.
    pub in_pieces: bool,
    /// What is asked for that is not counted in tokens: characters to speak, images to make, seconds to hear.
    pub asked: Usage,
    /// What it has in it besides text, each kind once.
    pub media: Vec<Media>,
    /// Images that it points at, or hands over in a form: how large they are cannot be told.
    pub elsewhere: u64,
    /// Some of its text is in numbers of tokens, so that nobody here can read it.
    pub numbered: bool,
    /// It came as a form, of which the body that was read is only a picture: nothing of it can be changed.
    pub(super) form: bool,
    pub(super) body: String,
    pub(super) parts: Vec<Part>,
    pub(super) beside: Vec<part::Beside>,
    pub(super) frames: u64,
    pub(super) offered: u64,
    pub(super) calls: u64,
    pub(super) systems: u64,
    pub(super) fixed: u64,
    /// Bytes of sound that a form has in it.
    pub(super) sound: u64,
    /// What it says of thinking, of which some is beside its output limit.
    pub(super) beside_limit: Beside,
    pub(super) schemas: bool,
    limits: Vec<Limit>,
    settings: Vec<Settings>,
    /// The path names the model.
    deployed: bool,
    /// Its provider takes no limit of the output.
    limitless: bool,
    /// The call goes to another model than the body says.
    renamed: bool,
    /// Where the model's name is.
    model_at: Option<Range<usize>>,
    usage_at: UsageAt,
    /// Just behind the `{` that opens the body, and whether nothing but `}` follows.
    inside: (usize, bool),
}

/// A field that limits the output.
#[derive(Clone, Debug)]
struct Limit {
    name: &'static str,
    /// The settings that it lies in, if not in the body itself.
    within: Option<&'static str>,
    /// Where its value is.
    at: Range<usize>,
    /// Tokens; `None`: null.
    most: Option<u64>,
}

/// An object of settings that is there, into which a limit can be written.
#[derive(Clone, Debug)]
struct Settings {
    name: &'static str,
    at: SettingsAt,
}

/// Where a limit can be written into settings.
#[derive(Clone, Debug)]
enum SettingsAt {
    /// Just behind their `{`; whether nothing but `}` follows.
    Inside(usize, bool),
    /// This null is to be replaced by an object.
    Null(Range<usize>),
}

impl Settings {
    /// Whether this is the object of that name: Google knows each by two.
    fn is(&self, name: &str) -> bool {
        let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
        plain(self.name) == plain(name)
    }
}

/// Where `stream_options.include_usage` can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum UsageAt {
    /// There are no stream options.
    Missing,
    /// This value is to be replaced by options.
    Options(Range<usize>),
    /// This value is to be replaced by `true`.
    Flag(Range<usize>),
    /// Into the options, at this offset; whether they are empty.
    Inside(usize, bool),
}

/// One change to a body: these bytes give way to those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The bytes that go; may be empty.
    pub at: Range<usize>,
    /// The bytes that come.
    pub with: Vec<u8>,
}

/// Reads what a request asks for.
///
/// Strict where it is paid for: what we price must be what the provider acts on. So a key that decides cost
/// may be there once, in its exact spelling (some providers match keys without regard to case), and with a
/// value of its type. All else is left alone.
pub fn read_call(dialect: Dialect, body: &[u8]) -> Result<Call, Malformed> {
    let body = std::str::from_utf8(body).map_err(|_| Malformed::new("the body is not UTF-8; send JSON in UTF-8"))?;
    if !json::depth_within(body.as_bytes(), DEEPEST) {
        return Err(Malformed::new(format!("the body is nested deeper than {DEEPEST} levels; flatten it")));
    }
    let mut head = Head::new(body);
    let mut parts = Parts::of(body);
    let mut fault = None;
    let mut seen = 0;
    json::entries(body, |key, raw| {
        if fault.is_none() {
            fault = head.entry(dialect, &mut parts, &mut seen, key, raw).err();
        }
    })
    .ok_or_else(|| Malformed::new("the body is not one JSON object; send one"))?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    Ok(head.call(dialect, parts))
}

impl Call {
    /// One of which nobody knows the format, and only how many bytes its body has.
    pub fn of_bytes(bytes: u64) -> Self {
        let call = Head::new("{}").call(Dialect::Bytes, Parts::of("{}"));
        Self { fixed: bytes.div_ceil(BYTES_A_TOKEN), body: String::new(), ..call }
    }

    /// The body that leaves in the place of one of which nobody knows the format. Text is UTF-8.
    pub fn retell(&mut self, body: Vec<u8>) {
        self.fixed = (body.len() as u64).div_ceil(BYTES_A_TOKEN);
        self.body = String::from_utf8(body).unwrap_or_default();
    }

    /// Every text that a model will read, unescaped: messages, system prompt, tool results, definitions,
    /// names, and the strings of whatever we do not know.
    pub fn texts(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let readable = self.parts.iter().filter(|part| part.is_readable());
        readable.flat_map(|part| json::Strings::of(part.raw(&self.body))).filter_map(json::text)
    }

    /// The same but for definitions of tools and of the answer: servers of tools have credentials among theirs.
    pub fn said(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let defines = |part: &Part| matches!(part.kind, Kind::Tools | Kind::Format);
        let said = self.parts.iter().filter(move |part| part.is_readable() && !defines(part));
        said.flat_map(|part| json::Strings::of(part.raw(&self.body))).filter_map(json::text)
    }

    /// Whether all that a model reads of it is text: no image, no sound, nothing that is sealed.
    pub fn is_text(&self) -> bool {
        self.parts.iter().all(Part::is_readable)
    }

    /// Every part that a model reads, as it stands in the body, and whether it is a definition of tools or of the answer:
    /// those stand before all messages, wherever the body has them.
    pub fn raw_parts(&self) -> impl Iterator<Item = (bool, &str)> {
        self.parts.iter().map(|part| (matches!(part.kind, Kind::Tools | Kind::Format), part.raw(&self.body)))
    }

    /// The body that was read, as text.
    pub(super) fn body_text(&self) -> &str {
        &self.body
    }

    /// The body that was read.
    pub fn body(&self) -> &[u8] {
        self.body.as_bytes()
    }

    /// Whether it came as a form. The places of its texts are those of the JSON that it was read as.
    pub fn is_form(&self) -> bool {
        self.form
    }

    /// Input tokens, as well as they can be told from the body: exact for plain text chats of models whose
    /// vocabulary `encoding` is, an estimate where tools, images or other vocabularies are in play.
    pub fn count_input(&self, encoding: Encoding) -> u64 {
        self.input(encoding).counted
    }

    /// Input tokens at most: what is held. Sound for closed calls by the rules in the module `bound`.
    pub fn input_bound(&self, encoding: Encoding) -> u64 {
        self.input(encoding).bound
    }

    /// Both at once: [`count_input`](Self::count_input) and [`input_bound`](Self::input_bound), for the price of one.
    pub fn input(&self, encoding: Encoding) -> Input {
        let all = self.input_up_to(encoding, &mut Known::new([0; 2]), u64::MAX);
        all.unwrap_or(Input { counted: u64::MAX, bound: u64::MAX })
    }

    /// The same, if the count is no more than `most`; else it stops as soon as that is seen. Texts that are `known` are not
    /// counted again.
    pub fn input_up_to(&self, encoding: Encoding, known: &mut Known, most: u64) -> Result<Input, Longer> {
        bound::up_to(self, encoding, known, most)
    }

    /// Input tokens at most, with little counted that is not `known`, and how many bytes would have to be counted for
    /// [`input_up_to`](Self::input_up_to), whose count and bound are no higher. `None`: so much as had to be counted for it
    /// is more than `most`.
    pub fn input_at_most(&self, encoding: Encoding, known: &mut Known, most: u64) -> Option<(u64, usize)> {
        bound::at_most(self, encoding, known, most)
    }

    /// Whether it may ask for something to be kept in a cache for an hour (Anthropic, "Prompt caching": `"ttl": "1h"`), told
    /// from a glance.
    pub fn may_keep_for_hours(&self) -> bool {
        let has = |mark: &[u8]| memchr::memmem::find(self.body.as_bytes(), mark).is_some();
        [&b"1h\""[..], b"\\u0031", b"\\u0068"].into_iter().any(has)
    }

    /// Bytes of memory that it takes, about.
    pub fn weight(&self) -> usize {
        let names = self.model.capacity().saturating_add(size_of::<Self>());
        let parts = self.parts.capacity().saturating_mul(size_of::<Part>());
        let beside = self.beside.capacity().saturating_mul(size_of::<part::Beside>());
        self.body.capacity().saturating_add(parts).saturating_add(beside).saturating_add(names)
    }

    /// The tools that it offers, whoever runs them.
    pub fn offers(&self) -> Vec<Offer> {
        offer::offers(&self.body)
    }

    /// Whether there may be servers of tools among its offers, told from a glance.
    pub fn may_offer_servers(&self) -> bool {
        let has = |mark: &[u8]| memchr::memmem::find(self.body.as_bytes(), mark).is_some();
        [&b"mcp"[..], b"erver", b"\\u"].into_iter().any(has)
    }

    /// The tools of its provider that come with a model, whether it asks for them or not, by their kinds.
    pub fn implied(&self, model: &str) -> Vec<String> {
        built_in::of_model(model, &self.body)
    }

    /// The calls of tools that its conversation tells and that its provider ran, or a server.
    pub fn told_own(&self, each: &mut dyn FnMut(Called<'_>)) {
        called::told(&self.body, each);
    }

    /// The calls of tools that its conversation tells, in their order.
    pub fn told_calls(&self, each: &mut dyn FnMut(Told<'_>)) {
        told::calls(&self.body, each);
    }

    /// The images that are in the body, raw, as [`Picture::of`](super::image::Picture::of) reads them.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let images = self.parts.iter().filter(|part| part.kind == Kind::Image && !self.form);
        images.map(|part| part.raw(&self.body))
    }

    /// Its instructions, above the conversation.
    pub fn system(&self) -> System {
        system::system(&self.body)
    }

    /// What the path says decides, whatever the body says.
    pub fn take_route(&mut self, route: &Route) {
        if let Some(name) = &route.model {
            name.clone_into(&mut self.model);
            self.deployed = true;
        }
        if self.dialect == Dialect::BedrockInvoke && !invoke_writes_text(&self.model, &self.body) {
            (self.output_limit, self.floor) = (Some(0), 0);
            // Cohere's latest embeddings have a `max_tokens` of what they read.
            self.limits.clear();
            self.asked.images = if invoke_makes_images(&self.model) { self.choices } else { 0 };
        }
        self.host = route.host;
        self.limitless = route.limitless;
        let made = Made::of(route, &self.model);
        self.make(made);
        if self.limits.is_empty() && self.takes_no_limit() {
            // Nobody can be told a lower one.
            self.floor = u64::MAX;
        }
        if route.deferred {
            self.deferred = true;
            // What is made by the piece is all in what is asked for.
            if made == Made::Usual {
                self.open.get_or_insert(LATER);
            }
        }
        self.stream = route.stream.unwrap_or(self.stream);
    }

    /// What the path or the model tells that is made.
    fn make(&mut self, made: Made) {
        if made == Made::Usual && self.dialect == Dialect::OpenAiImages && self.host == Host::Ark {
            let [size] = json::fields(&self.body, ["size"]).unwrap_or_default();
            let tokens = picture_tokens(size.map(|size| json::text(size).unwrap_or_default()).as_deref());
            (self.output_limit, self.floor) = (Some(tokens), tokens);
        }
        let (pieces, seconds) = (self.pieces.map(|pieces| pieces.max(1)), self.asked.seconds);
        if self.dialect != Dialect::OpenAiTranscription {
            self.asked.seconds = 0;
        }
        match made {
            Made::Usual => return,
            Made::Pictures(usual) => self.asked.images = pieces.unwrap_or(usual),
            Made::Film(usual) => {
                let (flagged, tokens) = self.film();
                let seconds = if seconds.max(flagged) > 0 { seconds.max(flagged) } else { usual };
                self.asked = Usage { images: 0, seconds: seconds.saturating_mul(pieces.unwrap_or(1)), ..self.asked };
                self.output_limit = Some(seconds.saturating_mul(tokens));
            }
            Made::Song => self.asked.images = 0,
            // What is spoken may be told in tokens, and no field limits them.
            Made::Speech => {
                self.asked.characters = self.asked.characters.max(self.spoken());
                self.limitless |= self.dialect == Dialect::DashScope;
                return;
            }
        }
        // Its answers are text too.
        if self.dialect == Dialect::GeminiGenerate {
            return;
        }
        // Nothing of what it reads is told in tokens, so what is elsewhere hides none.
        (self.open, self.unread) = (None, false);
        if self.dialect == Dialect::DashScope {
            self.output_limit = Some(0);
        }
        self.floor = 0;
        self.limits.clear();
        self.limitless = true;
    }

    /// How many seconds the prompt of a film of Ark's says that it lasts, and how many tokens a second of it comes to. Those of
    /// others are not told in tokens.
    fn film(&self) -> (u64, u64) {
        let [content, resolution] = json::fields(&self.body, ["content", "resolution"]).unwrap_or_default();
        let Some(content) = content.filter(|_| self.dialect == Dialect::OpenAiImages) else { return (0, 0) };
        let a_second = |resolution: &str| film_tokens_a_second(resolution, &self.model);
        let (mut seconds, mut tokens) = (0, resolution.and_then(json::text).map(|said| a_second(&said)));
        json::elements(content, |part| {
            let [text] = json::fields(part, ["text"]).unwrap_or_default();
            let Some(text) = text.and_then(json::text) else { return };
            let (lasts, resolution) = film_flags(&text);
            (seconds, tokens) = (lasts.max(seconds), tokens.max(resolution.map(a_second)));
        });
        (seconds, tokens.unwrap_or_else(|| a_second("")))
    }

    /// The characters that DashScope is to speak.
    fn spoken(&self) -> u64 {
        let [input] = json::fields(&self.body, ["input"]).unwrap_or_default();
        let mut spoken = 0u64;
        if let Some(input) = input.filter(|_| self.dialect == Dialect::DashScope) {
            json::entries(input, |key, value| {
                if key == b"text" {
                    spoken = spoken.saturating_add(wide_characters(value));
                }
            });
        }
        spoken
    }

    /// Whether it states a limit of its output under this name.
    pub(super) fn states(&self, name: &str) -> bool {
        self.limits.iter().any(|limit| limit.name == name && limit.most.is_some())
    }

    /// Whether it writes text, and no field may be written that limits it.
    fn takes_no_limit(&self) -> bool {
        let invoked = self.dialect == Dialect::BedrockInvoke && invoke_writes_text(&self.model, &self.body);
        self.limitless || invoked && invoke_limit(&self.model, &self.body).is_none()
    }

    /// Tokens, of one answer, that may be thought beside its output limit, which then is one of the rest. `unstated`: as many
    /// as are assumed where the call does not limit them.
    pub fn thought_beside(&self, unstated: u64) -> u64 {
        self.beside_limit.tokens(self, unstated)
    }

    /// Whether the answer will be a stream that can be cut at any event.
    pub fn can_be_cut(&self) -> bool {
        self.stream && self.dialect.ends_streams(&self.model)
    }

    /// Whether the body names the model, so that [`send_to`](Self::send_to) can change it.
    pub fn can_be_sent(&self) -> bool {
        self.model_at.is_some() && !self.deployed
    }

    /// Leaves the model of the body alone, where its bytes are not those that were read.
    pub(super) fn keep_model(&mut self) {
        self.model_at = None;
    }

    /// Sends the call to another model, as its [`edits`](Self::edits) then say. `false`: the path names the model, or
    /// nothing does, so that the body cannot change it.
    pub fn send_to(&mut self, model: &str) -> bool {
        let named = self.can_be_sent();
        if named {
            model.clone_into(&mut self.model);
            self.renamed = true;
        }
        named
    }

    /// The changes that clamp the output to `clamp_output` tokens, and that ask for usage on a stream.
    ///
    /// Every limit field that is there and above the clamp (or null) is changed. When none is there that the
    /// provider surely heeds, one is added, also without a clamp: what the body states is what is held. In the
    /// order of the body, not overlapping. Of a form there are none.
    pub fn edits(&self, clamp_output: Option<u64>, ask_usage: bool) -> Vec<Edit> {
        let mut edits = Vec::new();
        if self.form {
            return edits;
        }
        let mut add = Vec::new();
        if let Some(at) = self.model_at.as_ref().filter(|_| self.renamed) {
            let name = serde_json::Value::from(self.model.as_str()).to_string();
            edits.push(Edit { at: at.clone(), with: name.into_bytes() });
        }
        let azure = self.host == Host::Azure && is_deployment(&self.model);
        let hosted = azure || Name::of(&self.model).is_at_openai();
        // Where the path or the model decides, that one field and no other.
        let own = match self.dialect {
            Dialect::Generate => Some(Some(generate::limit_field(self.host, &self.body))),
            Dialect::BedrockInvoke => Some(invoke_limit(&self.model, &self.body)),
            // Nobody knows which families heed what they are handed beside it.
            Dialect::BedrockConverse => Some(self.dialect.limit_field(hosted)),
            _ if self.limitless => Some(None),
            _ => None,
        };
        let heeded = |limit: &&Limit| match own {
            Some(own) => own == Some((limit.within, limit.name)),
            None => self.dialect.heeds(limit.name, hosted),
        };
        let field = own.unwrap_or_else(|| self.dialect.limit_field(hosted));
        let bounded = self.limits.iter().filter(heeded).any(|limit| limit.most.is_some());
        if let Some(most) = clamp_output.or(self.output_limit).filter(|_| clamp_output.is_some() || !bounded) {
            let above = self.limits.iter().filter(|limit| limit.most.is_none_or(|stated| stated > most));
            edits.extend(above.map(|limit| Edit { at: limit.at.clone(), with: most.to_string().into_bytes() }));
            if let Some((within, name)) = field.filter(|_| !self.limits.iter().any(|limit| heeded(&limit))) {
                let member = format!("\"{name}\":{most}");
                let settings = within.and_then(|within| self.settings.iter().find(|settings| settings.is(within)));
                match (within, settings.map(|settings| &settings.at)) {
                    (_, Some(SettingsAt::Inside(at, empty))) => edits.push(insertion(*at, *empty, &member)),
                    (_, Some(SettingsAt::Null(at))) => {
                        edits.push(Edit { at: at.clone(), with: format!("{{{member}}}").into_bytes() });
                    }
                    (Some(within), None) => add.push(format!("\"{within}\":{{{member}}}")),
                    (None, None) => add.push(member),
                }
            }
        }
        if ask_usage && self.stream && !self.asks_usage && self.dialect.must_ask_for_usage() {
            match &self.usage_at {
                UsageAt::Missing => add.push("\"stream_options\":{\"include_usage\":true}".to_owned()),
                UsageAt::Options(at) => {
                    edits.push(Edit { at: at.clone(), with: b"{\"include_usage\":true}".to_vec() });
                }
                UsageAt::Flag(at) => edits.push(Edit { at: at.clone(), with: b"true".to_vec() }),
                UsageAt::Inside(at, empty) => edits.push(insertion(*at, *empty, "\"include_usage\":true")),
            }
        }
        if !add.is_empty() {
            edits.push(insertion(self.inside.0, self.inside.1, &add.join(",")));
        }
        order::by_key(&mut edits, |edit| edit.at.start);
        edits
    }
}

/// Puts members in front of those that an object has.
fn insertion(at: usize, into_empty: bool, members: &str) -> Edit {
    let comma = if into_empty { "" } else { "," };
    Edit { at: at..at, with: format!("{members}{comma}").into_bytes() }
}

/// The change that puts another text in the place of a string.
pub fn retold(at: Range<usize>, text: &str) -> Edit {
    Edit { at, with: serde_json::to_vec(text).unwrap_or_default() }
}

/// The body with `edits` made; they must be in order and must not overlap.
pub fn splice(body: &[u8], edits: &[Edit]) -> Vec<u8> {
    let grown: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut spliced = Vec::with_capacity(body.len().saturating_add(grown));
    let mut from = 0;
    for edit in edits {
        spliced.extend_from_slice(body.get(from..edit.at.start).unwrap_or_default());
        spliced.extend_from_slice(&edit.with);
        from = edit.at.end;
    }
    spliced.extend_from_slice(body.get(from..).unwrap_or_default());
    spliced
}

/// What has been read of a body.
struct Head<'a> {
    body: &'a str,
    model: String,
    model_at: Option<Range<usize>>,
    tools: bool,
    stream: Option<bool>,
    /// As many as are stated.
    choices: Option<u64>,
    /// As many pictures of a group as are stated.
    group: Option<u64>,
    asks_usage: bool,
    floor: u64,
    beside_limit: Beside,
    limits: Vec<Limit>,
    settings: Vec<Settings>,
    usage_at: UsageAt,
}

impl<'a> Head<'a> {
    fn new(body: &'a str) -> Self {
        Self {
            body,
            model: String::new(),
            model_at: None,
            tools: false,
            stream: None,
            choices: None,
            group: None,
            asks_usage: false,
            floor: 0,
            beside_limit: Beside::default(),
            limits: Vec::new(),
            settings: Vec::new(),
            usage_at: UsageAt::Missing,
        }
    }

    /// An entry of the top level.
    fn entry(
        &mut self,
        dialect: Dialect,
        parts: &mut Parts<'a>,
        seen: &mut u64,
        key: &[u8],
        raw: &'a str,
    ) -> Result<(), Malformed> {
        match governed(dialect.keys(), seen, key)? {
            None => dialect.read_entry(parts, std::str::from_utf8(key).unwrap_or("?"), raw),
            Some((name, Meaning::Part)) => {
                self.tools |= matches!(name, "tools" | "functions" | "toolConfig") && is_filled(raw);
                dialect.read_entry(parts, name, raw);
            }
            Some((name, Meaning::Within(keys))) => {
                self.within(dialect, parts, name, keys, raw)?;
                dialect.read_entry(parts, name, raw);
            }
            Some((name, meaning)) => self.meant(dialect, parts, name, meaning, raw)?,
        }
        Ok(())
    }

    /// An object of settings. What none of its keys means is left to the dialect, which reads the object too.
    fn within(
        &mut self,
        dialect: Dialect,
        parts: &mut Parts<'a>,
        settings: &'static str,
        keys: Keys,
        raw: &'a str,
    ) -> Result<(), Malformed> {
        if json::is_null(raw) {
            self.settings.push(Settings { name: settings, at: SettingsAt::Null(range(self.body, raw)) });
            return Ok(());
        }
        let (mut seen, mut fault, mut empty, before) = (0, None, true, self.limits.len());
        json::entries(raw, |key, value| {
            empty = false;
            let read = match governed(keys, &mut seen, key) {
                // Settings within settings: their limits are limits of these.
                Ok(Some((_, Meaning::Within(keys)))) => self.inner(dialect, parts, keys, value),
                Ok(Some((name, meaning))) => self.meant(dialect, parts, name, meaning, value),
                Ok(None) => Ok(()),
                Err(fault) => Err(fault),
            };
            self.tools |= fold(key) == b"tools" && settings == "additionalModelRequestFields" && is_filled(value);
            fault = fault.take().or(read.err());
        })
        .ok_or_else(|| Malformed::new(format!("`{settings}` must be an object")))?;
        self.limits.iter_mut().skip(before).for_each(|limit| limit.within = Some(settings));
        let inside = range(self.body, raw).start.saturating_add(1);
        self.settings.push(Settings { name: settings, at: SettingsAt::Inside(inside, empty) });
        fault.map_or(Ok(()), Err)
    }

    /// Settings in other settings. Nothing can be written into them.
    fn inner(&mut self, dialect: Dialect, parts: &mut Parts<'a>, keys: Keys, raw: &'a str) -> Result<(), Malformed> {
        let (mut seen, mut fault) = (0, None);
        json::entries(raw, |key, value| {
            let read = match governed(keys, &mut seen, key) {
                Ok(Some((name, meaning))) => self.meant(dialect, parts, name, meaning, value),
                Ok(None) => Ok(()),
                Err(fault) => Err(fault),
            };
            fault = fault.take().or(read.err());
        });
        fault.map_or(Ok(()), Err)
    }

    fn meant(
        &mut self,
        dialect: Dialect,
        parts: &mut Parts<'a>,
        name: &'static str,
        meaning: Meaning,
        raw: &'a str,
    ) -> Result<(), Malformed> {
        match meaning {
            // With Ollama and llama.cpp a negative number is no limit.
            Meaning::Limit if is_endless(dialect, raw) => {
                self.limits.push(Limit { name, within: None, at: range(self.body, raw), most: None });
            }
            Meaning::Limit => {
                let limit = optional_whole(name, raw)?;
                self.limits.push(Limit { name, within: None, at: range(self.body, raw), most: limit });
            }
            Meaning::Group => self.group = optional_whole(name, raw)?,
            Meaning::Choices => self.choices = self.choices.max(optional_whole(name, raw)?),
            Meaning::Seconds => parts.asked.seconds = parts.asked.seconds.max(lasting(name, raw)?),
            Meaning::Stream => self.stream = optional_flag(name, raw)?,
            Meaning::Model => {
                self.model = model(raw)?;
                self.model_at = Some(range(self.body, raw));
            }
            Meaning::StreamOptions => self.stream_options(raw)?,
            Meaning::Thinking => {
                self.floor = self.floor.max(thinking_floor(raw)?);
                if self.beside_limit.thinking.is_none() {
                    parts.fixed = parts.fixed.saturating_add(THINKING);
                }
                self.beside_limit.thinking = Some(!is_disabled(raw));
            }
            // What is none says nothing: providers that have no such word pass over it, whatever it is.
            Meaning::Budget => self.beside_limit.budget = optional_whole(name, raw).unwrap_or_default(),
            Meaning::Thinks => self.beside_limit.thinks = optional_flag(name, raw).unwrap_or_default(),
            Meaning::Part | Meaning::Within(_) => {}
        }
        Ok(())
    }

    fn stream_options(&mut self, raw: &str) -> Result<(), Malformed> {
        if json::is_null(raw) {
            self.usage_at = UsageAt::Options(range(self.body, raw));
            return Ok(());
        }
        let inside = range(self.body, raw).start.saturating_add(1);
        let (mut flags, mut wrong, mut empty) = (Vec::new(), false, true);
        json::entries(raw, |key, value| {
            empty = false;
            match fold(key).as_slice() {
                b"include_usage" if key == b"include_usage" && flags.is_empty() => flags.push(value),
                b"include_usage" => wrong = true,
                _ => {}
            }
        })
        .ok_or_else(|| Malformed::new("`stream_options` must be an object"))?;
        if wrong {
            return Err(Malformed::new("`stream_options.include_usage` must appear once, spelled like this"));
        }
        self.usage_at = match flags.first() {
            None => UsageAt::Inside(inside, empty),
            Some(flag) => {
                self.asks_usage = optional_flag("stream_options.include_usage", flag)?.unwrap_or(false);
                UsageAt::Flag(range(self.body, flag))
            }
        };
        Ok(())
    }

    fn call(self, dialect: Dialect, mut parts: Parts<'a>) -> Call {
        if self.model.ends_with(":online") {
            parts.open("a model with a web search of its own");
        }
        let before = self.body.len().saturating_sub(self.body.trim_ascii_start().len());
        let inside = before.saturating_add(1);
        let empty = self.body.get(inside..).is_some_and(|rest| rest.trim_ascii_start().starts_with('}'));
        let stated = self.limits.iter().filter_map(|limit| limit.most).max();
        let (output_limit, floor) = match dialect.writes() {
            Writes::Text => (stated, self.floor),
            Writes::Nothing => (Some(0), 0),
            Writes::AtMost(most) => (Some(most), most),
        };
        // A group of pictures has as many as it says, or as its model likes, whatever else is said of how many.
        let group = if parts.grouped { self.group.unwrap_or(MOST_OF_GROUP) } else { 0 };
        let choices = self.choices.unwrap_or(1).max(group).max(1).saturating_mul(parts.answers.max(1));
        if matches!(dialect, Dialect::OpenAiImages | Dialect::MiniMaxMedia) {
            parts.asked.images = choices;
        }
        if dialect == Dialect::MiniMaxMedia {
            // Nothing of it is told in tokens, so an image elsewhere hides none.
            parts.open = None;
        }
        if dialect == Dialect::OpenAiTranscription {
            parts.holds(Media::Audio);
        }
        Call {
            dialect,
            host: Host::Any,
            model: self.model,
            stream: self.stream.unwrap_or(dialect.streams_unasked()),
            output_limit,
            choices,
            pieces: self.choices,
            asks_usage: self.asks_usage,
            open: parts.open.or(parts.deferred.then_some(LATER)),
            unread: parts.open.is_some(),
            deferred: parts.deferred,
            choice: parts.choice,
            floor,
            asked: parts.asked,
            media: parts.media,
            elsewhere: parts.elsewhere,
            in_pieces: parts.in_pieces,
            numbered: parts.numbered,
            form: false,
            body: self.body.to_owned(),
            parts: parts.list,
            beside: parts.beside,
            frames: parts.frames,
            offered: parts.offered,
            calls: parts.calls,
            systems: parts.systems,
            fixed: parts.fixed,
            sound: 0,
            beside_limit: self.beside_limit,
            schemas: parts.schemas,
            limits: self.limits,
            begins_turn: !parts.goes_on,
            tools: self.tools,
            settings: self.settings,
            deployed: false,
            limitless: false,
            renamed: false,
            model_at: self.model_at,
            usage_at: self.usage_at,
            inside: (inside, empty),
        }
    }
}

/// What a key means, if it decides cost. A key that only differs in case is an error: providers that match keys
/// without regard to case would act on it. So is one that was `seen` before.
fn governed(keys: Keys, seen: &mut u64, key: &[u8]) -> Result<Option<(&'static str, Meaning)>, Malformed> {
    let folded = fold(key);
    let found = keys.iter().enumerate().find(|(_, (name, _))| name.as_bytes().eq_ignore_ascii_case(&folded));
    let Some((position, (name, meaning))) = found else { return Ok(None) };
    if name.as_bytes() != key {
        let written = String::from_utf8_lossy(key).into_owned();
        return Err(Malformed::new(format!("`{written}` is not `{name}`; spell it exactly")));
    }
    let bit = u32::try_from(position).ok().and_then(|position| 1u64.checked_shl(position)).unwrap_or(0);
    if *seen & bit != 0 {
        return Err(Malformed::new(format!("`{name}` appears twice; send it once")));
    }
    *seen |= bit;
    Ok(Some((name, *meaning)))
}

/// Whether a list of tools has some.
fn is_filled(raw: &str) -> bool {
    !json::is_null(raw) && raw != "[]"
}

/// Whether a limit is none: a negative number, where those are known to mean it.
fn is_endless(dialect: Dialect, raw: &str) -> bool {
    let endless = matches!(
        dialect,
        Dialect::OllamaChat | Dialect::OllamaGenerate | Dialect::Generate | Dialect::OpenAiCompletions
    );
    endless
        && raw.strip_prefix('-').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Folds case as Go's `encoding/json` does: ASCII, the long s and the Kelvin sign.
pub(super) fn fold(key: &[u8]) -> Vec<u8> {
    let mut folded = key.to_ascii_lowercase();
    if !key.is_ascii() {
        folded = String::from_utf8_lossy(&folded).replace('\u{17f}', "s").replace('\u{212a}', "k").into_bytes();
    }
    folded
}

pub(super) fn range(body: &str, raw: &str) -> Range<usize> {
    let start = json::offset(body, raw);
    start..start.saturating_add(raw.len())
}

/// A whole number of at most nine quintillion, written in digits only: a provider may read `1e3` or `"5"` in
/// ways of its own. `null`: none.
fn optional_whole(name: &str, raw: &str) -> Result<Option<u64>, Malformed> {
    if json::is_null(raw) {
        return Ok(None);
    }
    let number = raw.bytes().all(|b| b.is_ascii_digit()).then(|| raw.parse::<u64>().ok()).flatten();
    let number = number.filter(|number| i64::try_from(*number).is_ok());
    number.map(Some).ok_or_else(|| Malformed::new(format!("`{name}` must be a whole number, 0 or above")))
}

/// Seconds, which some write as text; Ark's -1: as many as its model likes.
fn lasting(name: &str, raw: &str) -> Result<u64, Malformed> {
    match raw.trim_matches('"') {
        "-1" => Ok(LONGEST_CHOSEN),
        bare => optional_whole(name, bare).map(Option::unwrap_or_default),
    }
}

fn optional_flag(name: &str, raw: &str) -> Result<Option<bool>, Malformed> {
    match raw {
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        "null" => Ok(None),
        _ => Err(Malformed::new(format!("`{name}` must be true or false"))),
    }
}

fn model(raw: &str) -> Result<String, Malformed> {
    match json::text(raw) {
        Some(model) => Ok(model.into_owned()),
        None => Err(Malformed::new("`model` must be a string")),
    }
}

/// Whether `thinking` says that nothing is to be thought, in one word: of two it is the provider who knows which one counts.
fn is_disabled(raw: &str) -> bool {
    let (mut types, mut disabled) = (0_u32, false);
    json::entries(raw, |key, value| {
        if fold(key) == b"type" {
            types = types.saturating_add(1);
            disabled = key == b"type" && value == "\"disabled\"";
        }
    });
    types == 1 && disabled
}

/// Anthropic's `thinking.budget_tokens` must stay below `max_tokens`. Some OpenAI-speaking providers have a
/// `thinking` of another shape: it has no budget then.
fn thinking_floor(raw: &str) -> Result<u64, Malformed> {
    let (mut budget, mut twice) = (None, false);
    let object = json::entries(raw, |key, value| {
        if fold(key) == b"budget_tokens" {
            twice |= budget.is_some() || key != b"budget_tokens";
            budget = Some(value);
        }
    });
    if twice {
        return Err(Malformed::new("`thinking.budget_tokens` must appear once, spelled like this"));
    }
    let budget = budget.filter(|_| object.is_some());
    let budget = budget.map(|raw| optional_whole("thinking.budget_tokens", raw)).transpose()?.flatten();
    Ok(budget.map_or(0, |budget| budget.saturating_add(1)))
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "clamp_tests.rs"]
mod clamps;
