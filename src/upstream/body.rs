//! The bytes of an answer, at their pace.
//!
//! Nothing is generated ahead of the reader: a token counts as written when the connection takes it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderValue};
use http_body::Frame;
use tokio::time::{Sleep, sleep};

use super::answer::Answer;
use super::dialect;
use super::script::Script;
use super::tally::{Outcome, Run};

/// Name of the trailer that a body ends by when a marker asks for trailers.
pub const TRAILER: &str = "x-upstream-tokens";

/// A cut connection drops what is still buffered; so that the tokens before it arrive, it waits a moment.
const FLUSH: Duration = Duration::from_millis(10);

/// Longer than any caller waits.
const STALL: Duration = Duration::from_secs(86_400);

/// How the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Regular,
    Trailers,
    Cut,
    /// A cut before anything has left.
    Gone,
    Error,
}

/// One step: wait, then write.
#[derive(Debug)]
struct Beat {
    wait: Duration,
    bytes: String,
    tokens: u64,
}

/// What remains to be said.
#[derive(Debug)]
enum Part {
    Beat(Beat),
    /// The k-th piece of every choice.
    Pieces(usize),
    End(End),
}

/// A response body.
pub struct Saying {
    answer: Answer,
    pace: Duration,
    line_end: &'static str,
    comments: bool,
    cut_after: Option<u64>,
    stall_after: Option<u64>,
    /// Tokens of one choice said so far.
    said: u64,
    ahead: VecDeque<Part>,
    waiting: Option<Pin<Box<Sleep>>>,
    run: Run,
}

impl Saying {
    /// The answer as SSE.
    pub fn stream(answer: Answer, script: &Script, pace: Duration, run: Run) -> Saying {
        let mut body = Saying::new(answer, script, pace, run);
        let events = dialect::opening(&body.answer);
        let opening = events.iter().map(|event| event.frame(body.line_end)).collect();
        body.ahead.push_back(Part::Beat(Beat { wait: Duration::ZERO, bytes: opening, tokens: 0 }));
        let longest = body.answer.choices.iter().map(Vec::len).max().unwrap_or(0);
        if script.inside_error {
            body.ahead.extend((0..longest.div_ceil(2)).map(Part::Pieces));
            let bytes = dialect::failing(&body.answer).frame(body.line_end);
            body.ahead.push_back(Part::Beat(Beat { wait: pace, bytes, tokens: 0 }));
            body.ahead.push_back(Part::End(End::Error));
            return body;
        }
        body.ahead.extend((0..longest).map(Part::Pieces));
        let bytes = dialect::closing(&body.answer).iter().map(|event| event.frame(body.line_end)).collect();
        body.ahead.push_back(Part::Beat(Beat { wait: Duration::ZERO, bytes, tokens: 0 }));
        body.ahead.push_back(Part::End(if script.trailers { End::Trailers } else { End::Regular }));
        body
    }

    /// The answer as one document; the time to generate it passes before, not in here.
    pub fn document(answer: Answer, script: &Script, run: Run) -> Saying {
        let mut body = Saying::new(answer, script, Duration::ZERO, run);
        let whole = dialect::document(&body.answer).to_string();
        let (bytes, tokens, end) = match script.cut_after {
            Some(tokens) => {
                let part = body.answer.cut(tokens);
                let bytes = common_start(&whole, &dialect::document(&part).to_string());
                (bytes, part.choices.iter().flatten().map(|piece| piece.tokens).sum(), End::Cut)
            }
            None => (whole, body.answer.usage.completion, if script.trailers { End::Trailers } else { End::Regular }),
        };
        body.ahead.push_back(Part::Beat(Beat { wait: Duration::ZERO, bytes, tokens }));
        body.ahead.push_back(Part::End(end));
        body
    }

    /// Nothing: the connection is cut before the headers have left.
    pub fn nothing(answer: Answer, script: &Script, run: Run) -> Saying {
        let mut body = Saying::new(answer, script, Duration::ZERO, run);
        body.ahead.push_back(Part::End(End::Gone));
        body
    }

    fn new(answer: Answer, script: &Script, pace: Duration, run: Run) -> Saying {
        Saying {
            answer,
            pace,
            line_end: if script.crlf { "\r\n" } else { "\n" },
            comments: script.comments,
            cut_after: script.cut_after,
            stall_after: script.stall_after,
            said: 0,
            ahead: VecDeque::new(),
            waiting: None,
            run,
        }
    }

    /// The next thing to write, with the pieces spelled out; `None` when all is said.
    fn spell(&mut self) -> Option<Part> {
        if self.cut_after.is_some_and(|most| self.said >= most) {
            self.ahead.clear();
            self.cut_after = None;
            return Some(Part::End(End::Cut));
        }
        if self.stall_after.is_some_and(|most| self.said >= most) {
            self.stall_after = None;
            return Some(Part::Beat(Beat { wait: STALL, bytes: String::new(), tokens: 0 }));
        }
        let part = self.ahead.pop_front()?;
        let Part::Pieces(number) = part else { return Some(part) };
        let mut beat = Beat { wait: Duration::ZERO, bytes: String::new(), tokens: 0 };
        let mut most = 0u64;
        for (choice, pieces) in self.answer.choices.iter().enumerate() {
            let Some(piece) = pieces.get(number) else { continue };
            if self.comments {
                beat.bytes.push_str(&format!(": still here{0}{0}", self.line_end));
            }
            beat.bytes.push_str(&dialect::piece(&self.answer, choice, piece).frame(self.line_end));
            beat.tokens = beat.tokens.saturating_add(piece.tokens);
            most = most.max(piece.tokens);
        }
        beat.wait = self.pace.saturating_mul(u32::try_from(most).unwrap_or(u32::MAX));
        self.said = self.said.saturating_add(most);
        Some(Part::Beat(beat))
    }

    fn end(&mut self, end: End) -> Option<Result<Frame<Bytes>, io::Error>> {
        self.ahead.clear();
        match end {
            End::Regular => {
                self.run.over(Outcome::Completed);
                None
            }
            End::Trailers => {
                self.run.over(Outcome::Completed);
                let trailers = HeaderMap::from_iter([(
                    axum::http::HeaderName::from_static(TRAILER),
                    HeaderValue::from(self.answer.usage.completion),
                )]);
                Some(Ok(Frame::trailers(trailers)))
            }
            End::Error => {
                self.run.over(Outcome::Failed);
                None
            }
            End::Cut | End::Gone => {
                self.run.over(Outcome::Cut);
                Some(Err(io::Error::other("cut as a marker asked")))
            }
        }
    }
}

impl HttpBody for Saying {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(waiting) = this.waiting.as_mut() {
                ready!(waiting.as_mut().poll(cx));
                this.waiting = None;
            } else {
                let Some(part) = this.spell() else { return Poll::Ready(None) };
                let wait = match &part {
                    Part::Beat(beat) => beat.wait,
                    Part::End(End::Cut) => FLUSH,
                    Part::End(_) | Part::Pieces(_) => Duration::ZERO,
                };
                this.ahead.push_front(part);
                if !wait.is_zero() {
                    this.waiting = Some(Box::pin(sleep(wait)));
                    continue;
                }
            }
            return Poll::Ready(match this.ahead.pop_front() {
                Some(Part::Beat(beat)) => {
                    this.run.wrote(beat.tokens);
                    // What ends regularly is complete with its last bytes: a reader may hang up once it has them.
                    if matches!(this.ahead.front(), Some(Part::End(End::Regular))) && this.cut_after.is_none() {
                        this.run.over(Outcome::Completed);
                    }
                    Some(Ok(Frame::data(Bytes::from(beat.bytes))))
                }
                Some(Part::End(end)) => this.end(end),
                Some(Part::Pieces(_)) | None => None,
            });
        }
    }
}

/// What two texts have in common at their start.
fn common_start(one: &str, other: &str) -> String {
    one.chars().zip(other.chars()).take_while(|(one, other)| one == other).map(|(one, _)| one).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::future::poll_fn;

    use serde_json::{Value, json};

    use super::*;
    use crate::upstream::ask::{Api, read};
    use crate::upstream::tally::{Exchange, Tally};
    use crate::upstream::vocabulary::count;

    /// What a reader got of an answer to `markers`, and what the tally says of it. `hang_up` stops reading after
    /// so many frames.
    struct Heard {
        text: String,
        trailers: Option<String>,
        cut: bool,
        exchange: Exchange,
    }

    fn hear(api: Api, markers: &str, more: &Value, hang_up: usize) -> Heard {
        let mut request = json!({"model": "m", "max_tokens": 500, "messages": [{"role": "user", "content": "x"}]});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let ask = read(api, request.to_string().as_bytes()).unwrap();
        let mut script = Script::default();
        script.follow_list(markers).unwrap();
        let answer = Answer::choose(&ask, &script, 3, 1, 0);
        let tally = Tally::default();
        let run = tally.start(&ask, &answer, BTreeMap::new());
        let mut body = match ask.stream {
            true => Saying::stream(answer, &script, Duration::ZERO, run),
            false => Saying::document(answer, &script, run),
        };
        let (mut text, mut trailers, mut cut) = (String::new(), None, false);
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            for _ in 0..hang_up {
                match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    None => break,
                    Some(Err(_)) => cut = true,
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => text.push_str(std::str::from_utf8(&data).unwrap()),
                        Err(frame) => {
                            let values = frame.into_trailers().unwrap();
                            trailers = Some(values.get(TRAILER).unwrap().to_str().unwrap().to_owned());
                        }
                    },
                }
            }
        });
        drop(body);
        let exchange = tally.exchanges(1, None).remove(0);
        Heard { text, trailers, cut, exchange }
    }

    /// The text that an OpenAI stream carried.
    fn content(stream: &str) -> String {
        let events = stream.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        events.filter_map(|event| Some(event.pointer("/choices/0/delta/content")?.as_str()?.to_owned())).collect()
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        for frames in [1, 2, 7, 26, 27, usize::MAX] {
            let heard = hear(Api::OpenAiChat, "output=25", &json!({"stream": true}), frames);
            assert_eq!(count(&content(&heard.text)), heard.exchange.written_tokens, "after {frames} frames");
            let outcome = if frames > 26 { Outcome::Completed } else { Outcome::Aborted };
            assert_eq!(heard.exchange.outcome, outcome, "after {frames} frames");
        }
    }

    #[test]
    fn all_choices_are_written() {
        for stream in [false, true] {
            let heard = hear(Api::OpenAiChat, "output=5", &json!({"stream": stream, "n": 3}), usize::MAX);
            assert_eq!((heard.exchange.written_tokens, heard.exchange.completion_tokens), (15, 15));
        }
    }

    #[test]
    fn a_cut_comes_after_so_many_tokens() {
        for stream in [false, true] {
            let heard = hear(Api::OpenAiChat, "output=25 break=4", &json!({"stream": stream}), usize::MAX);
            assert!(heard.cut && !heard.text.contains("[DONE]"), "{}", heard.text);
            assert!(serde_json::from_str::<Value>(&heard.text).is_err(), "{}", heard.text);
            assert_eq!((heard.exchange.written_tokens, heard.exchange.outcome), (4, Outcome::Cut));
        }
        let heard = hear(Api::OpenAiChat, "output=25 break=0", &json!({"stream": true}), usize::MAX);
        assert!(heard.cut && heard.text.is_empty());
    }

    #[test]
    fn trailers_end_a_body() {
        for stream in [false, true] {
            let heard = hear(Api::AnthropicMessages, "output=5 trailers", &json!({"stream": stream}), usize::MAX);
            assert_eq!((heard.trailers.as_deref(), heard.exchange.outcome), (Some("5"), Outcome::Completed));
        }
    }

    #[test]
    fn a_cut_document_ends_within_its_text() {
        assert_eq!(common_start(r#"{"a":"äb","c":1}"#, r#"{"a":"ä","c":1}"#), r#"{"a":"ä"#);
    }

    #[test]
    fn the_dialects_frame_as_their_references_show() {
        let start = |api, more: Value| {
            let heard = hear(api, "output=2", &more, usize::MAX);
            heard.text.replace(&heard.exchange.id, "ID")
        };
        let openai = json!({"stream": true, "n": 2, "stream_options": {"include_usage": true}});
        let tool = json!({"stream": true, "tool_choice": {"type": "any"},
            "tools": [{"name": "weather", "input_schema": {"properties": {"days": {"type": "integer"}}}}]});
        insta::with_settings!({snapshot_path => "../../tests/golden/upstream", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("openai", start(Api::OpenAiChat, openai));
            insta::assert_snapshot!("anthropic", start(Api::AnthropicMessages, json!({"stream": true})));
            insta::assert_snapshot!("anthropic-tool", start(Api::AnthropicMessages, tool));
        });
    }
}
