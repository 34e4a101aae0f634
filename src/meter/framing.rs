//! How a streamed body is divided into events, whatever the wire format: server-sent events, JSON objects that follow each
//! other, Amazon's binary messages.
//!
//! Each framing tells every byte of the body, in order, and where an event is complete. So whoever passes a stream on can
//! let a whole event leave, hold it back, or put another in its place, without knowing how it is written.

use std::ops::ControlFlow;

use super::answer::Answer;
use super::dialect::{Dialect, Shape};
use super::loose::Within;
use super::{eventstream, sse, values};

/// What a piece of a body turned out to be, in the order of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of the body. Strung together these, those of [`Piece::Huge`], and one LF for each [`Piece::LineFeed`], are
    /// the body.
    Raw {
        /// The bytes.
        bytes: &'a [u8],
        /// An event is under way, which these bytes belong to.
        pending: bool,
    },
    /// Bytes of an event that is too long to be read.
    Huge(&'a [u8]),
    /// The event whose bytes went before is complete. What its reader needs of it: the data lines of a server-sent
    /// event, joined by LF; else all of it.
    Event(&'a [u8]),
    /// An event that was too long is complete: it had this many bytes.
    Oversized(u64),
    /// The LF of a CR LF whose CR was the end of the last [`Piece::Raw`].
    LineFeed,
    /// The framing is lost here, for good: what follows is bytes without meaning.
    Broken,
}

/// The framing of one body.
#[derive(Clone, Debug)]
pub enum Framing {
    /// Server-sent events.
    Events(sse::Frames),
    /// JSON objects: one a line, or the elements of an array.
    Objects(values::Values),
    /// Amazon's binary messages.
    Messages(eventstream::Frames),
}

/// Which framing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Server-sent events.
    Events,
    /// JSON objects.
    Objects,
    /// Amazon's binary messages.
    Messages,
}

impl Framing {
    /// Which it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Events(_) => Kind::Events,
            Self::Objects(_) => Kind::Objects,
            Self::Messages(_) => Kind::Messages,
        }
    }

    /// Cuts `chunk` into pieces; with the `end` of the body comes the end of what may end with it.
    ///
    /// Behind a [`Piece::Event`] `each` may ask for a break: then the rest of the chunk is given back, to be pushed
    /// again later. What it says to other pieces does not matter.
    pub fn push<'a>(&mut self, chunk: &'a [u8], end: bool, each: impl FnMut(Piece<'_>) -> ControlFlow<()>) -> &'a [u8] {
        match self {
            Self::Events(frames) => frames.push(chunk, end, each),
            Self::Objects(values) => values.push(chunk, each),
            Self::Messages(frames) => frames.push(chunk, each),
        }
    }

    /// Bytes of the event under way that can be read only when it is complete, and never will be if the body ends here.
    pub fn unfinished(&self) -> &[u8] {
        match self {
            // The end of the body ends an event, too.
            Self::Events(_) => &[],
            Self::Objects(values) => values.pending(),
            Self::Messages(frames) => frames.pending(),
        }
    }

    /// Whether the body, if it ended now, would be whole.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Events(_) => true,
            Self::Objects(values) => values.is_whole(),
            Self::Messages(frames) => frames.is_whole(),
        }
    }

    /// What an event would be written into that comes next. `begun`: whether one has gone before.
    pub fn within(&self, begun: bool) -> Within {
        match self {
            Self::Events(_) => Within::Events,
            Self::Objects(values) if values.is_array() => Within::Array { begun },
            Self::Objects(_) => Within::Lines,
            Self::Messages(_) => Within::Messages,
        }
    }
}

impl Kind {
    /// Reads an event as a framing of this kind told it.
    pub fn read(self, dialect: Dialect, answer: &mut Answer, event: &[u8]) -> Shape {
        if self != Self::Messages {
            return dialect.read_event(answer, &String::from_utf8_lossy(event));
        }
        if let Some(frame) = eventstream::frame(event) {
            answer.error |= frame.failed;
            dialect.read_frame(answer, frame.kind, &String::from_utf8_lossy(frame.payload));
        }
        Shape::Other
    }

    /// What is said of a body in which an event was too long to be read.
    pub fn oversized(self) -> &'static str {
        match self {
            Self::Events => "an event above 1 MiB",
            Self::Objects => "an object above 8 MiB",
            Self::Messages => "a frame above 1 MiB",
        }
    }
}
