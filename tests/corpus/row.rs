//! One recorded exchange, and what the filter makes of it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use base64::Engine as _;
use farebox::meter::call::{Call, Input, read_call};
use farebox::meter::count::Encoding;
use farebox::meter::count::known::Known;
use farebox::meter::dialect::Route;
use farebox::meter::form::read_form;
use farebox::meter::reader::{Forward, Reader};
use farebox::meter::usage::Usage;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::expect::{self, Figures};

/// The lines of a corpus, unpacked if its name says that it is packed.
pub fn lines(path: &Path) -> impl Iterator<Item = String> {
    let file = std::fs::File::open(path).unwrap();
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let bytes: Box<dyn Read> = if packed { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
    BufReader::new(bytes).lines().map(Result::unwrap).filter(|line| !line.trim().is_empty())
}

/// One recorded exchange.
pub struct Row {
    row: Value,
    pub route: Option<Route>,
    body: Vec<u8>,
    status: u16,
    headers: Vec<(String, String)>,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Nobody knows the path.
    pub unrouted: bool,
    /// What the provider said, by the rules of `expect`.
    pub said: Option<Figures>,
    /// What was read.
    pub read: Option<Figures>,
    /// Cut in another way, another thing was read: which.
    pub cut: Option<&'static str>,
    /// The bytes that left are not those that came.
    pub changed: bool,
    /// Fine, failed by status, or failed inside: as it is, and as it was read.
    pub class: (Class, Class),
    /// Why it, or a part of it, could not be read.
    pub unreadable: Option<&'static str>,
    /// A whole answer that was not seen to end.
    pub unfinished: bool,
    /// Output counted here, as its provider would count it; of it thoughts that were seen.
    pub written: u64,
    pub thoughts: u64,
    /// Tools that the answer calls.
    pub calls: u64,
    /// Of the request: its input as counted, and at most; `None`: not read, why.
    pub request: Option<Result<Request, String>>,
}

/// What a request was held to be.
#[derive(Debug)]
pub struct Request {
    pub counted: u64,
    /// Whether tools are offered.
    pub tools: bool,
    /// `None`: it cannot be bounded.
    pub bound: Option<u64>,
    /// What it was told to come to at most before anything of it was counted.
    pub uncounted: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    #[default]
    Fine,
    Status,
    Inside,
}

impl Row {
    pub fn of(line: &str) -> Self {
        let row: Value = serde_json::from_str(line).unwrap();
        let path = row["path"].as_str().unwrap_or_default().trim_end_matches(" (assumed)").to_owned();
        let packed =
            row["response_body_b64"].as_str().map(|text| base64::engine::general_purpose::STANDARD.decode(text));
        let body = match packed {
            Some(bytes) => bytes.unwrap(),
            None => row["response_body"].as_str().unwrap_or_default().as_bytes().to_vec(),
        };
        let headers = row["response_headers"].as_object().into_iter().flatten();
        let headers = headers.filter_map(|(name, value)| {
            let value = value.as_str().or_else(|| value[0].as_str())?;
            Some((name.to_ascii_lowercase(), value.to_owned()))
        });
        let headers = headers.collect();
        let status = row["status"].as_u64().unwrap_or(200) as u16;
        Self { route: Route::of(b"POST", path.as_bytes()), body, status, headers, row }
    }

    pub fn text(&self, field: &str) -> &str {
        self.row[field].as_str().unwrap_or("?")
    }

    pub fn streams(&self) -> bool {
        self.row["stream"] == true
    }

    pub fn has(&self, feature: &str) -> bool {
        self.row["features"].as_array().into_iter().flatten().any(|known| known == feature)
    }

    /// Why the recorded request is not all that the model read, by the rules that are known; `None`: it is. Nobody can bound
    /// that by reading the body; in the filter it shows as a metric.
    pub fn is_not_whole(&self, said: &Figures) -> Option<&'static str> {
        let body =
            self.row["request_body"].as_str().map_or_else(|| self.row["request_body"].to_string(), str::to_owned);
        if body.contains("<MASSIVE_TEXT>") {
            return Some("the recorder cut the request");
        }
        if said.cache_read > body.len() as u64 {
            // What is read from a cache is a part of the prompt, and no prompt has more tokens than bytes.
            return Some("the recorder kept another request than the one whose prompt was in the cache");
        }
        // Venice, "Chat completions": a prompt of its own goes in front unless the caller says no.
        let own = self.text("provider") == "venice" && !body.contains("\"include_venice_system_prompt\":false");
        own.then_some("the provider put a prompt of its own in front")
    }

    /// Why nobody here knows what is spoken at its path, by the rules that are known; `None`: somebody should.
    pub fn has_no_dialect(&self) -> Option<&'static str> {
        match self.text("api") {
            // Replicate, "Create a prediction": work of any kind, billed by the second of a machine.
            "predictions" => Some("a format in which nothing is told in tokens"),
            // Hugging Face, "Inference API" of old, at the path of the model: superseded by OpenAI's format at its router.
            "hf_inference" => Some("a format that its provider has given up"),
            _ => None,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A reader as the filter makes one, fed with these pieces; what left in their place.
    fn read<'a>(&self, route: &Route, pieces: impl Iterator<Item = &'a [u8]>) -> (Reader, Vec<u8>) {
        let kind = self.header("content-type").map(str::as_bytes);
        // The recorders unpacked what was compressed.
        let mut reader = Reader::new(route.dialect, self.encoding(), self.status, kind, None, false);
        self.headers.iter().for_each(|(name, value)| reader.header(name.as_bytes(), value.as_bytes()));
        let mut out = Vec::new();
        for piece in pieces {
            match reader.push(piece, false) {
                Forward::Same => out.extend_from_slice(piece),
                Forward::Replace(bytes) => out.extend(bytes),
            }
        }
        reader.push(b"", true);
        (reader, out)
    }

    /// As the default policy would count: by the model's name.
    fn encoding(&self) -> Encoding {
        let model = self.text("model");
        let old = ["gpt-3.5", "gpt-35", "gpt-4-", "text-embedding", "text-davinci", "davinci", "babbage"];
        let older = model == "gpt-4" || old.iter().any(|name| model.starts_with(name));
        if older { Encoding::Cl100kBase } else { Encoding::O200kBase }
    }

    pub fn judge(&self) -> Verdict {
        let Some(route) = &self.route else { return Verdict { unrouted: true, ..Verdict::default() } };
        let (reader, out) = self.read(route, [&self.body[..]].into_iter());
        let whole = told(&reader);
        let mut verdict = Verdict { changed: out != self.body, ..Verdict::default() };
        for (name, pieces) in self.cuts() {
            let (reader, out) = self.read(route, pieces.into_iter());
            if told(&reader) != whole {
                verdict.cut = Some(name);
            }
            verdict.changed |= out != self.body;
        }
        verdict.read = reader.reported().map(figures).filter(|figures| *figures != Figures::default());
        verdict.said = self.said(verdict.read);
        verdict.class = (self.class(), class(self.status, &reader));
        verdict.unreadable = reader.unreadable();
        verdict.written = reader.written(self.text("model"), route.host);
        verdict.thoughts = reader.thoughts();
        verdict.calls = reader.tool_calls();
        verdict.unfinished = self.status < 400 && verdict.class.0 == Class::Fine && !reader.finished();
        verdict.request = self.call(route).map(|call| {
            call.map(|call| {
                let Input { counted, bound } = call.input(self.encoding());
                let uncounted =
                    call.input_at_most(self.encoding(), &mut Known::new([0; 2]), u64::MAX).map_or(0, |(most, _)| most);
                Request { counted, tools: call.tools, bound: call.open.is_none().then_some(bound), uncounted }
            })
        });
        verdict
    }

    /// What the filter should do with it, told for who replays it through a real Envoy (`make replay`): the digest of the
    /// bytes that leave, and what a record says. `None`: its path or its request is not known.
    pub fn replayed(&self) -> Option<Value> {
        let route = self.route.as_ref()?;
        let call = self.call(route)?.ok()?;
        let kind = self.header("content-type").map(str::as_bytes);
        let hides = route.dialect.must_ask_for_usage() && call.stream && !call.asks_usage;
        let mut reader = Reader::new(route.dialect, Encoding::O200kBase, self.status, kind, None, hides);
        self.headers.iter().for_each(|(name, value)| reader.header(name.as_bytes(), value.as_bytes()));
        if call.in_pieces {
            reader.comes_in_pieces();
        }
        let mut out = Vec::new();
        for (chunk, end) in [(&self.body[..], false), (&[], true)] {
            match reader.push(chunk, end) {
                Forward::Same => out.extend_from_slice(chunk),
                Forward::Replace(bytes) => out.extend(bytes),
            }
        }
        let sha256: String = Sha256::digest(&out).iter().map(|byte| format!("{byte:02x}")).collect();
        Some(json!({
            "id": self.row["id"], "sha256": sha256, "changed": out != self.body, "dialect": route.dialect.name(),
            "reported": reader.reported(), "delivered": reader.delivered(), "served": reader.served(),
            "tool_calls": reader.tool_calls(), "stream": call.stream, "open": call.open,
        }))
    }

    /// What the provider said. Whoever answers with an error status is not charged for, whatever is said.
    fn said(&self, read: Option<Figures>) -> Option<Figures> {
        if self.status >= 400 {
            return None;
        }
        let (api, usage) = (self.text("api"), &self.row["usage"]);
        if api == "predict" {
            return expect::predictions(&serde_json::from_slice(&self.body).ok()?);
        }
        let said = expect::figures(api, usage)?;
        // Of Titan's streams the corpus keeps `results`, which only whole answers have: their output is not known here.
        let unknown = usage["results"].as_array().is_some_and(Vec::is_empty);
        Some(Figures { output: read.filter(|_| unknown).map_or(said.output, |read| read.output), ..said })
    }

    /// The ways of cutting besides none.
    fn cuts(&self) -> Vec<(&'static str, Vec<&[u8]>)> {
        let body = &self.body[..];
        let mut state = body.len() as u64 ^ 0x9e37_79b9_7f4a_7c15;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            1 + (state >> 33) as usize % 97
        };
        let by = |mut size: Box<dyn FnMut() -> usize>| {
            let (mut pieces, mut rest) = (Vec::new(), body);
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at(size().clamp(1, rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            pieces
        };
        let mut cuts = vec![("single bytes", by(Box::new(|| 1)))];
        let sizes: Vec<usize> = (0..4096).map(|_| random()).collect();
        cuts.push(("random pieces", by(Box::new(cycle(sizes)))));
        let recorded = self.row["chunk_lens"].as_array().into_iter().flatten();
        let recorded: Vec<usize> = recorded.filter_map(|size| size.as_u64().map(|size| size as usize)).collect();
        if !recorded.is_empty() {
            cuts.push(("recorded pieces", by(Box::new(cycle(recorded)))));
        }
        cuts
    }

    /// By the bodies' own marks, read as text: an error object at the top, an error event, an event that says so.
    fn class(&self) -> Class {
        if self.status >= 400 {
            return Class::Status;
        }
        let text = String::from_utf8_lossy(&self.body);
        let mut events = text.lines().filter_map(|line| serde_json::from_str(line.trim_start_matches("data:")).ok());
        let whole = serde_json::from_str::<Value>(&text).is_ok_and(|value| is_error(&value));
        let frame = text.contains(":exception-type");
        if whole || frame || events.any(|event: Value| is_error(&event)) { Class::Inside } else { Class::Fine }
    }

    /// The request as the filter reads it; `None`: it was not recorded, or not as it was sent.
    fn call(&self, route: &Route) -> Option<Result<Call, String>> {
        let body = match &self.row["request_body"] {
            Value::String(body) if body.starts_with("base64:") => {
                base64::engine::general_purpose::STANDARD.decode(&body["base64:".len()..]).ok()?
            }
            Value::String(body) => body.clone().into_bytes(),
            Value::Null => return None,
            other => other.to_string().into_bytes(),
        };
        let headers = self.row["request_headers"].as_object().into_iter().flatten();
        let kind = headers.filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let kind =
            kind.filter_map(|(_, value)| value.as_str().or_else(|| value[0].as_str())).next().unwrap_or_default();
        let call = if body.starts_with(b"--") {
            // Some recorders kept forms as text, files as notes, and left line ends and boundaries to guess.
            let ends = body.windows(2).position(|pair| pair == b"\r\n").unwrap_or(0);
            let boundary = String::from_utf8_lossy(&body[2..ends.max(2)]).into_owned();
            let kind = if kind.contains("boundary") {
                kind.to_owned()
            } else {
                format!("multipart/form-data; boundary={boundary}")
            };
            read_form(route.dialect, kind.as_bytes(), &body)
        } else {
            read_call(route.dialect, &body)
        };
        Some(call.map_err(|fault| fault.to_string()).map(|mut call| {
            call.take_route(route);
            call
        }))
    }
}

/// Whether a body or an event says that the call has failed.
fn is_error(value: &Value) -> bool {
    if let Some(elements) = value.as_array() {
        return elements.iter().any(is_error);
    }
    let set = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
        other => other.as_i64() != Some(0),
    };
    let choices = value["choices"].as_array().into_iter().flatten();
    let broken = |choice: &Value| set(&choice["error"]) || choice["finish_reason"] == "error";
    let failed = |value: &Value| value["finish_reason"].as_str().is_some_and(|reason| reason.starts_with("ERROR"));
    let said = value["type"] == "error" || value["type"] == "response.failed" || value["status"] == "failed";
    let refused = value["base_resp"]["status_code"].as_i64().is_some_and(|code| code != 0);
    set(&value["error"])
        || set(&value["delta"]["error"])
        || said
        || refused
        || value["object"] == "error"
        || failed(value)
        || failed(&value["delta"])
        || choices.into_iter().any(broken)
}

fn cycle(sizes: Vec<usize>) -> impl FnMut() -> usize {
    let mut sizes = sizes.into_iter().cycle();
    move || sizes.next().unwrap()
}

fn class(status: u16, reader: &Reader) -> Class {
    match (status >= 400, reader.error_inside()) {
        (true, _) => Class::Status,
        (false, true) => Class::Inside,
        (false, false) => Class::Fine,
    }
}

fn figures(usage: Usage) -> Figures {
    Figures {
        input: usage.input_total(),
        cache_read: usage.cache_read,
        cache_write: usage.cache_write,
        output: usage.output,
        reasoning: usage.reasoning,
        seconds: usage.seconds,
    }
}

/// All that a reader tells, as one text.
fn told(reader: &Reader) -> String {
    format!(
        "{:?} {:?} {:?} {} {} {} {:?} {:?}",
        reader.reported(),
        reader.reported_input(),
        reader.made(),
        reader.delivered(),
        reader.finished(),
        reader.error_inside(),
        reader.served(),
        reader.unreadable(),
    )
}
