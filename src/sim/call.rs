//! A client's request, and what is to become of it.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::engine::event::{Header, Vouched};
use crate::upstream::ask::Api;
use crate::upstream::script::Script;

/// Tokens that both dialects' framing of a single message is counted as: four, and three for the answer's opening.
const FRAMING: u64 = 7;

/// A request and its fate.
#[derive(Clone, Debug)]
pub struct Call {
    /// As the client sends them, `:method` and `:path` among them.
    pub headers: Vec<Header>,
    /// The peer of the connection.
    pub peer: Option<IpAddr>,
    /// What is vouched for, in the order of the policy's vouchers.
    pub vouched: Vec<Vouched>,
    /// The body.
    pub body: Vec<u8>,
    /// What becomes of it upstream and on the way back.
    pub plot: Plot,
}

/// What becomes of a request that leaves.
#[derive(Clone, Debug, Default)]
pub struct Plot {
    /// How the upstream behaves.
    pub script: Script,
    /// How long the upstream takes until its answer begins, in milliseconds.
    pub after_ms: u64,
    /// Cuts the answer into pieces at random places; `None`: one piece an event.
    pub chunks: Option<u64>,
    /// How it ends.
    pub ending: Ending,
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// The answer's last byte.
    #[default]
    Finished,
    /// Trailers behind the answer.
    Trailers,
    /// The client hangs up after so many pieces of the answer; 0: before its headers.
    ClientAbort(u32),
    /// The client hangs up when its request has left, before there is any answer.
    ClientLeaves,
    /// The upstream breaks off after so many pieces; 0: before its headers.
    UpstreamCut(u32),
    /// No connection to the upstream.
    ConnectFailure,
    /// Envoy has no route for it.
    Unrouted,
    /// Envoy answers by itself (no route, a filter behind), the upstream hears nothing.
    LocalReply,
}

impl Call {
    /// A `POST` of `body` by whoever has `key`, from the loopback address.
    pub fn new(api: Api, key: &str, body: &Value) -> Self {
        let mut headers = vec![header(":method", "POST"), header(":path", path(api))];
        headers.extend([header(":authority", "llm.test"), header("content-type", "application/json")]);
        headers.push(match api {
            Api::OpenAiChat => header("authorization", &format!("Bearer {key}")),
            Api::AnthropicMessages => header("x-api-key", key),
        });
        Self {
            headers,
            peer: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            vouched: Vec::new(),
            body: body.to_string().into_bytes(),
            plot: Plot::default(),
        }
    }
}

/// A content type and a body.
pub type Content = (&'static str, Vec<u8>);

impl Call {
    /// A `POST` of `content` to an OpenAI path by whoever has `key`, from the loopback address.
    pub fn to(path: &str, key: &str, (kind, body): Content) -> Self {
        let mut call = Self { body, ..Self::new(Api::OpenAiChat, key, &Value::Null) };
        call.headers.retain(|(name, _)| name != b":path" && name != b"content-type");
        call.headers.extend([header(":path", path), header("content-type", kind)]);
        call
    }
}

/// A request for images.
pub fn images(model: &str, prompt: &str, many: u64) -> Content {
    ("application/json", json!({"model": model, "prompt": prompt, "n": many}).to_string().into_bytes())
}

/// A request to speak.
pub fn speech(model: &str, words: &str) -> Content {
    ("application/json", json!({"model": model, "input": words, "voice": "alloy"}).to_string().into_bytes())
}

/// A request for the vector of a text.
pub fn embeddings(model: &str, words: &str) -> Content {
    ("application/json", json!({"model": model, "input": words}).to_string().into_bytes())
}

/// A form with sound of so many seconds at most: as many bytes as the slowest codec needs for them.
pub fn transcription(model: &str, seconds: u64) -> Content {
    let sound = ".".repeat(usize::try_from(seconds).unwrap_or(0).saturating_mul(500));
    let form = format!(
        "--sound\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n\
         --sound\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n{sound}\r\n--sound--\r\n"
    );
    ("multipart/form-data; boundary=sound", form.into_bytes())
}

/// A header as it is on the wire.
pub fn header(name: &str, value: &str) -> Header {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

/// Where a dialect is spoken.
pub fn path(api: Api) -> &'static str {
    match api {
        Api::OpenAiChat => "/v1/chat/completions",
        Api::AnthropicMessages => "/v1/messages",
    }
}

/// The body of a request with one message.
pub fn body(api: Api, model: &str, prompt: &str, max_output: Option<u64>, stream: bool) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": prompt}]});
    if let Some(object) = body.as_object_mut() {
        if let Some(limit) = max_output {
            let field = match api {
                Api::OpenAiChat => "max_completion_tokens",
                Api::AnthropicMessages => "max_tokens",
            };
            object.insert(field.to_owned(), json!(limit));
        }
        if stream {
            object.insert("stream".to_owned(), json!(true));
        }
    }
    body
}

/// Makes of a request with one message one that goes on with the result of a tool: what was the prompt is the result.
pub fn go_on(api: Api, body: &mut Value) {
    let said = body.pointer("/messages/0/content").cloned().unwrap_or_default();
    let messages = match api {
        Api::OpenAiChat => json!([
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": null, "tool_calls":
                [{"id": "call_1", "type": "function", "function": {"name": TOOL, "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": said},
        ]),
        Api::AnthropicMessages => json!([
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": TOOL, "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": said}]},
        ]),
    };
    if let Some(object) = body.as_object_mut() {
        object.insert("messages".to_owned(), messages);
    }
}

/// Lets a request with one message point at an image that is not in it.
pub fn point(api: Api, body: &mut Value) {
    const IMAGE: &str = "https://images.example/chart.png";
    let Some(content) = body.pointer_mut("/messages/0/content") else { return };
    let image = match api {
        Api::OpenAiChat => json!({"type": "image_url", "image_url": {"url": IMAGE}}),
        Api::AnthropicMessages => json!({"type": "image", "source": {"type": "url", "url": IMAGE}}),
    };
    let said = content.take();
    *content = json!([{"type": "text", "text": said}, image]);
}

/// Lets a request offer one tool without arguments.
pub fn offer_tool(api: Api, body: &mut Value) {
    let tools = match api {
        Api::OpenAiChat => json!([{"type": "function", "function": {"name": TOOL, "parameters": {"type": "object"}}}]),
        Api::AnthropicMessages => json!([{"name": TOOL, "input_schema": {"type": "object"}}]),
    };
    if let Some(object) = body.as_object_mut() {
        object.insert("tools".to_owned(), tools);
    }
}

/// The tool of these.
const TOOL: &str = "look";

/// A prompt that makes a request with one message come to `tokens` input tokens, or to the fewest there can be.
pub fn prompt(tokens: u64) -> String {
    let words = usize::try_from(tokens.saturating_sub(FRAMING).max(1)).unwrap_or(usize::MAX);
    // Each of these is one token, in every vocabulary that we have and next to any other of them.
    "hello".to_owned() + &" hello".repeat(words.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::{Api, body, go_on, offer_tool, prompt};
    use crate::meter::call::read_call;
    use crate::meter::count::Encoding;
    use crate::meter::dialect::Dialect;

    #[test]
    fn what_goes_on_begins_no_turn_and_tools_can_be_called() {
        for (api, dialect) in
            [(Api::OpenAiChat, Dialect::OpenAiChat), (Api::AnthropicMessages, Dialect::AnthropicMessages)]
        {
            let mut body = body(api, "demo", "hello", Some(5), false);
            let read = |body: &serde_json::Value| {
                crate::upstream::ask::read(api, body.to_string().as_bytes()).unwrap();
                let call = read_call(dialect, body.to_string().as_bytes()).unwrap();
                (call.begins_turn, call.tools, call.open)
            };
            assert_eq!(read(&body), (true, false, None));
            go_on(api, &mut body);
            assert_eq!(read(&body), (false, false, None));
            offer_tool(api, &mut body);
            assert_eq!(read(&body), (false, true, None));
        }
    }

    #[test]
    fn a_prompt_has_the_tokens_asked_for() {
        for tokens in [1, 8, 9, 500, 20_000] {
            for (api, dialect) in
                [(Api::OpenAiChat, Dialect::OpenAiChat), (Api::AnthropicMessages, Dialect::AnthropicMessages)]
            {
                let body = body(api, "demo", &prompt(tokens), Some(5), true).to_string();
                let call = read_call(dialect, body.as_bytes()).unwrap();
                for encoding in [Encoding::O200kBase, Encoding::Cl100kBase, Encoding::O200kHarmony] {
                    assert_eq!(call.count_input(encoding), tokens.max(8));
                }
                let heard = crate::upstream::ask::read(api, body.as_bytes()).unwrap();
                assert_eq!((heard.prompt_tokens, heard.limit, heard.stream), (tokens.max(8), Some(5), true));
            }
        }
    }
}
