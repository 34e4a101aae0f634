//! How an answer looks in each dialect: what both have in common.

use serde_json::Value;

use super::answer::Answer;
use super::ask::Api;
use super::vocabulary::Piece;
use super::{anthropic, openai};

/// One server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The `event:` line, where the dialect has one.
    pub name: Option<&'static str>,
    /// The `data:` line.
    pub data: String,
}

impl Event {
    /// A named event with JSON data (Anthropic).
    pub fn named(name: &'static str, data: &Value) -> Event {
        Event { name: Some(name), data: data.to_string() }
    }

    /// An event with JSON data only (OpenAI).
    pub fn plain(data: &Value) -> Event {
        Event { name: None, data: data.to_string() }
    }

    /// Its bytes on the wire.
    pub fn frame(&self, line_end: &str) -> String {
        let name = self.name.map(|name| format!("event: {name}{line_end}")).unwrap_or_default();
        format!("{name}data: {}{line_end}{line_end}", self.data)
    }
}

/// The whole answer as one document.
pub fn document(answer: &Answer) -> Value {
    match answer.api {
        Api::OpenAiChat => openai::document(answer),
        Api::AnthropicMessages => anthropic::document(answer),
    }
}

/// The events before the first piece.
pub fn opening(answer: &Answer) -> Vec<Event> {
    match answer.api {
        Api::OpenAiChat => openai::opening(answer),
        Api::AnthropicMessages => anthropic::opening(answer),
    }
}

/// The event that carries a piece of choice number `choice`.
pub fn piece(answer: &Answer, choice: usize, piece: &Piece) -> Event {
    match answer.api {
        Api::OpenAiChat => openai::piece(answer, choice, piece),
        Api::AnthropicMessages => anthropic::piece(answer, piece),
    }
}

/// The events after the last piece.
pub fn closing(answer: &Answer) -> Vec<Event> {
    match answer.api {
        Api::OpenAiChat => openai::closing(answer),
        Api::AnthropicMessages => anthropic::closing(answer),
    }
}

/// The event by which a stream ends in an error.
pub fn failing(answer: &Answer) -> Event {
    let error = error(answer.api, 503, "the stand-in was asked to fail here");
    match answer.api {
        Api::OpenAiChat => Event::plain(&error),
        Api::AnthropicMessages => Event::named("error", &error),
    }
}

/// The error body for a status.
pub fn error(api: Api, status: u16, message: &str) -> Value {
    match api {
        Api::OpenAiChat => openai::error(status, message),
        Api::AnthropicMessages => anthropic::error(status, message),
    }
}
