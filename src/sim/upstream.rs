//! Who answers: the stand-in's own answers, without its server and without waiting.

use std::collections::VecDeque;

use super::call::{Plot, header};
use crate::engine::event::Header;
use crate::upstream::answer::{Answer, Usage};
use crate::upstream::ask::{self, Api};
use crate::upstream::dialect;
use crate::upstream::media::{self, Wish};
use crate::upstream::script::{HEADER, Script};
use crate::upstream::vocabulary::{Draw, Piece};

/// Pieces of an answer are at most this many bytes long when they are cut at random.
const LONGEST_PIECE: u64 = 200;

/// An answer on its way.
#[derive(Clone, Debug)]
pub struct Spoken {
    /// Its status; 0: it breaks off before there is one.
    pub status: u16,
    /// Its headers, `:status` among them.
    pub headers: Vec<Header>,
    /// Its body, piece by piece.
    pub pieces: VecDeque<Vec<u8>>,
    /// How long it takes between two pieces, in milliseconds.
    pub pace_ms: u64,
    /// After how many pieces it says nothing more, and does not end either.
    pub silent_after: Option<u32>,
    /// What only the upstream knows.
    pub truth: Truth,
}

impl Spoken {
    /// How long it rests when so many pieces have been shown. `None`: not at all.
    pub fn rest_ms(&self, shown: u32) -> Option<u64> {
        match self.silent_after {
            Some(after) if after <= shown => Some(u64::MAX),
            _ => Some(self.pace_ms).filter(|ms| *ms > 0 && !self.pieces.is_empty()),
        }
    }
}

/// What the upstream knows of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// The request's headers as they arrived.
    pub headers: Vec<Header>,
    /// The request's body as it arrived.
    pub body: Vec<u8>,
    /// The output limit that arrived.
    pub limit: Option<u64>,
    /// What the whole answer costs.
    pub usage: Usage,
    /// The status it answered with.
    pub status: u16,
}

/// Answers a request that was tried `before`. `serial` numbers the exchanges of a run, which `seed` decides.
pub fn answer(headers: &[Header], body: &[u8], plot: &Plot, (seed, serial): (u64, u64), before: u32) -> Spoken {
    let truth = Truth { headers: headers.to_vec(), body: body.to_vec(), ..Truth::default() };
    let path = field(headers, ":path");
    let path = path.split('?').next().unwrap_or_default();
    let Some(api) = Api::at(path) else {
        return make(media::read(path, body), headers, plot, truth, before);
    };
    let (ask, script) =
        match ask::read(api, body).and_then(|ask| Ok((script(&ask.last_words, headers, plot, before)?, ask))) {
            Ok((script, ask)) => (ask, script),
            Err(message) => return refuse(api, 400, &message, truth),
        };
    let truth = Truth { limit: ask.limit, ..truth };
    if script.no_response {
        return silence(truth);
    }
    if let Some(status) = script.error {
        return refuse(api, status, "the stand-in was asked to refuse", truth);
    }
    let answer = Answer::choose(&ask, &script, seed, serial, 0);
    let pieces = match (script.garbage, ask.stream) {
        (true, _) => vec!["\u{0}\u{1}<!doctype html>\n}{ not what it says".to_owned()],
        (_, true) => stream(&answer, &script),
        (_, false) if script.inside_error => {
            vec![dialect::error(api, 503, "the stand-in was asked to fail here").to_string()]
        }
        (_, false) => vec![dialect::document(&answer).to_string()],
    };
    let pieces = match plot.chunks {
        None => pieces.into_iter().map(String::into_bytes).collect(),
        Some(chunks) => cut(pieces.concat().as_bytes(), &mut Draw::new(chunks, serial)),
    };
    let kind = if ask.stream { "text/event-stream; charset=utf-8" } else { "application/json" };
    let headers = vec![header(":status", "200"), header("content-type", kind)];
    let pace_ms = script.pace.map_or(0, |pace| u64::try_from(pace.as_millis()).unwrap_or(u64::MAX));
    // The first piece of a stream has no token yet, and each of the others one.
    let pieces_of = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX).saturating_add(1);
    // A document in pieces can fall silent too, after so many of them.
    let silent_after = script.stall_after.filter(|_| ask.stream || plot.chunks.is_some()).map(pieces_of);
    let truth = Truth { usage: answer.usage, status: 200, ..truth };
    Spoken { status: 200, headers, pieces, pace_ms: if ask.stream { pace_ms } else { 0 }, silent_after, truth }
}

/// Answers what is not counted in tokens.
fn make(wish: Option<Result<Wish, String>>, headers: &[Header], plot: &Plot, truth: Truth, before: u32) -> Spoken {
    let Some(wish) = wish else { return refuse(Api::OpenAiChat, 404, "the stand-in has no such path", truth) };
    let (wish, script) = match wish.and_then(|wish| Ok((script(&wish.words, headers, plot, before)?, wish))) {
        Ok((script, wish)) => (wish, script),
        Err(message) => return refuse(Api::OpenAiChat, 400, &message, truth),
    };
    if let Some(status) = script.error {
        return refuse(Api::OpenAiChat, status, "the stand-in was asked to refuse", truth);
    }
    if script.no_response {
        return silence(truth);
    }
    let (kind, body) = media::answer(&wish, &script);
    let headers = vec![header(":status", "200"), header("content-type", kind)];
    let truth = Truth { status: 200, ..truth };
    Spoken { status: 200, headers, pieces: VecDeque::from([body]), pace_ms: 0, silent_after: None, truth }
}

fn field(headers: &[Header], name: &str) -> String {
    let value = headers.iter().find(|(at, _)| at == name.as_bytes()).map(|(_, value)| value.as_slice());
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

fn script(words: &str, headers: &[Header], plot: &Plot, before: u32) -> Result<Script, String> {
    let mut script = plot.script.clone();
    script.follow_prompt(words)?;
    for (_, value) in headers.iter().filter(|(name, _)| name == HEADER.as_bytes()) {
        script.follow_list(&String::from_utf8_lossy(value))?;
    }
    Ok(script.at_try(usize::try_from(before).unwrap_or(usize::MAX)))
}

/// No answer at all.
fn silence(truth: Truth) -> Spoken {
    Spoken { status: 0, headers: Vec::new(), pieces: VecDeque::new(), pace_ms: 0, silent_after: None, truth }
}

fn refuse(api: Api, status: u16, message: &str, truth: Truth) -> Spoken {
    let mut headers = vec![header(":status", &status.to_string()), header("content-type", "application/json")];
    if status == 429 {
        headers.push(header("retry-after", "1"));
    }
    let body = dialect::error(api, status, message).to_string().into_bytes();
    let truth = Truth { status, ..truth };
    Spoken { status, headers, pieces: VecDeque::from([body]), pace_ms: 0, silent_after: None, truth }
}

fn stream(answer: &Answer, script: &Script) -> Vec<String> {
    let end = if script.crlf { "\r\n" } else { "\n" };
    let frames = |events: &[dialect::Event]| events.iter().map(|event| event.frame(end)).collect::<String>();
    let mut pieces = vec![frames(&dialect::opening(answer))];
    let longest = answer.choices.iter().map(Vec::len).max().unwrap_or(0);
    let said = if script.inside_error { longest.div_ceil(2) } else { longest };
    for at in 0..said {
        let of_choice = |(choice, pieces): (usize, &Vec<Piece>)| {
            pieces.get(at).map(|piece| dialect::piece(answer, choice, piece).frame(end))
        };
        let comment = if script.comments { format!(": ping{end}{end}") } else { String::new() };
        pieces.push(comment + &answer.choices.iter().enumerate().filter_map(of_choice).collect::<String>());
    }
    let last = if script.inside_error { vec![dialect::failing(answer)] } else { dialect::closing(answer) };
    pieces.push(frames(&last));
    pieces
}

fn cut(mut bytes: &[u8], draw: &mut Draw) -> VecDeque<Vec<u8>> {
    let mut pieces = VecDeque::new();
    while !bytes.is_empty() {
        let length = usize::try_from(draw.below(LONGEST_PIECE)).unwrap_or(0).saturating_add(1).min(bytes.len());
        let (piece, rest) = bytes.split_at(length);
        pieces.push_back(piece.to_vec());
        bytes = rest;
    }
    pieces
}
