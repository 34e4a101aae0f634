//! What a caller wants, read from a request body.

use serde_json::{Map, Value};

use super::vocabulary::count;

/// Most output tokens of one choice, whatever the caller allows.
pub const LONGEST_OUTPUT: u64 = 200_000;

/// Tokens that an image, audio or document part is said to cost. Real providers compute it from the pixels.
const PART_THAT_IS_NO_TEXT: u64 = 85;

/// The two dialects that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `POST /v1/chat/completions`
    OpenAiChat,
    /// `POST /v1/messages`
    AnthropicMessages,
}

impl Api {
    /// What is spoken at a path, whatever base its provider puts in front.
    pub fn at(path: &str) -> Option<Self> {
        match path {
            path if path.ends_with("/chat/completions") => Some(Self::OpenAiChat),
            path if path.ends_with("/v1/messages") => Some(Self::AnthropicMessages),
            _ => None,
        }
    }

    /// The word for it in `/stats`.
    pub fn name(self) -> &'static str {
        match self {
            Api::OpenAiChat => "openai chat",
            Api::AnthropicMessages => "anthropic messages",
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Its dialect.
    pub api: Api,
    /// As the caller wrote it.
    pub model: String,
    /// SSE instead of one JSON document.
    pub stream: bool,
    /// `stream_options.include_usage` (OpenAI).
    pub include_usage: bool,
    /// Output tokens allowed per choice.
    pub limit: Option<u64>,
    /// `n` (OpenAI), 1 to 128.
    pub choices: u64,
    /// By the published chat formula: 4 a message, its text, and 3 for the answer's opening; tool definitions
    /// as the tokens of their JSON.
    pub prompt_tokens: u64,
    /// The text of the last message if the user wrote it: where markers and "use the tool" are looked for.
    pub last_words: String,
    /// The tool to call instead of answering in words.
    pub tool: Option<Tool>,
    /// The first tool that is offered.
    pub offered: Option<Tool>,
    /// The limit that stands beside a newer one, by its older name (OpenAI).
    pub max_tokens: Option<u64>,
}

/// A tool that the caller offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON schema of its arguments.
    pub schema: Value,
}

/// Reads a request body.
///
/// # Errors
/// A text for the caller.
pub fn read(api: Api, body: &[u8]) -> Result<Ask, String> {
    let body: Value = serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    let body = body.as_object().ok_or("the body must be a JSON object")?;
    let model = body.get("model").and_then(Value::as_str).ok_or("`model` is missing")?.to_owned();
    let messages = body.get("messages").and_then(Value::as_array).ok_or("`messages` must be a list")?;
    if messages.is_empty() {
        return Err("`messages` is empty".to_owned());
    }
    let last_words = last_words(messages);
    Ok(Ask {
        api,
        model,
        stream: flag(body, "stream")?,
        include_usage: matches!(body.get("stream_options"), Some(Value::Object(options)) if flag(options, "include_usage")?),
        limit: limit(api, body)?,
        choices: choices(api, body)?,
        prompt_tokens: prompt_tokens(body, messages),
        tool: tool(api, body, &last_words),
        offered: tools(api, body).into_iter().next(),
        max_tokens: body.get("max_tokens").and_then(Value::as_u64),
        last_words,
    })
}

fn flag(object: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(format!("`{key}` must be true or false")),
    }
}

fn limit(api: Api, body: &Map<String, Value>) -> Result<Option<u64>, String> {
    // OpenAI: `max_completion_tokens` replaces the deprecated `max_tokens` and wins where both are given.
    let keys: &[&str] = match api {
        Api::OpenAiChat => &["max_completion_tokens", "max_tokens"],
        Api::AnthropicMessages => &["max_tokens"],
    };
    for key in keys {
        match body.get(*key) {
            None | Some(Value::Null) => {}
            Some(value) => match value.as_u64() {
                Some(tokens) if tokens > 0 => return Ok(Some(tokens)),
                _ => return Err(format!("`{key}` must be a whole number of at least 1, not {value}")),
            },
        }
    }
    match api {
        Api::OpenAiChat => Ok(None),
        Api::AnthropicMessages => Err("`max_tokens` is missing".to_owned()),
    }
}

fn choices(api: Api, body: &Map<String, Value>) -> Result<u64, String> {
    match (api, body.get("n")) {
        (Api::AnthropicMessages, _) | (_, None | Some(Value::Null)) => Ok(1),
        (_, Some(value)) => match value.as_u64() {
            Some(choices @ 1..=128) => Ok(choices),
            _ => Err(format!("`n` must be from 1 to 128, not {value}")),
        },
    }
}

fn prompt_tokens(body: &Map<String, Value>, messages: &[Value]) -> u64 {
    let system = body.get("system").map_or(0, |system| content_tokens(system).saturating_add(4));
    let tools = body.get("tools").map_or(0, |tools| count(&tools.to_string()));
    messages.iter().map(message_tokens).fold(3, u64::saturating_add).saturating_add(system).saturating_add(tools)
}

fn message_tokens(message: &Value) -> u64 {
    let content = message.get("content").map_or(0, content_tokens);
    let name = message.get("name").and_then(Value::as_str).map_or(0, count);
    let calls = message.get("tool_calls").map_or(0, |calls| count(&calls.to_string()));
    4u64.saturating_add(content).saturating_add(name).saturating_add(calls)
}

/// A string, or a list of parts: text, tool calls and results (whose content is again one of the two), others.
fn content_tokens(content: &Value) -> u64 {
    match content {
        Value::String(text) => count(text),
        Value::Array(parts) => parts.iter().map(part_tokens).fold(0, u64::saturating_add),
        _ => 0,
    }
}

fn part_tokens(part: &Value) -> u64 {
    match part.get("type").and_then(Value::as_str) {
        Some("text" | "input_text" | "output_text") => part.get("text").and_then(Value::as_str).map_or(0, count),
        Some("tool_result") => part.get("content").map_or(0, content_tokens),
        Some("tool_use") => count(&part.to_string()),
        _ => PART_THAT_IS_NO_TEXT,
    }
}

fn last_words(messages: &[Value]) -> String {
    let Some(last) = messages.last() else { return String::new() };
    if last.get("role").and_then(Value::as_str) != Some("user") {
        return String::new();
    }
    match last.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// A tool is called when the caller forces it or the user's last words say "use the tool".
fn tool(api: Api, body: &Map<String, Value>, last_words: &str) -> Option<Tool> {
    let tools = tools(api, body);
    let choice = body.get("tool_choice");
    let named = choice.and_then(|choice| choice.pointer("/function/name").or_else(|| choice.get("name")));
    if let Some(name) = named.and_then(Value::as_str) {
        return tools.into_iter().find(|tool| tool.name == name);
    }
    let word = choice.and_then(|choice| choice.get("type").unwrap_or(choice).as_str());
    match word {
        Some("none") => None,
        Some("required" | "any") => tools.into_iter().next(),
        _ if last_words.to_lowercase().contains("use the tool") => tools.into_iter().next(),
        _ => None,
    }
}

fn tools(api: Api, body: &Map<String, Value>) -> Vec<Tool> {
    let all = body.get("tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    all.iter().filter_map(|tool| offered(api, tool)).collect()
}

fn offered(api: Api, tool: &Value) -> Option<Tool> {
    let (definition, schema) = match api {
        Api::OpenAiChat => (tool.get("function")?, "parameters"),
        Api::AnthropicMessages => (tool, "input_schema"),
    };
    let name = definition.get("name")?.as_str()?.to_owned();
    Some(Tool { name, schema: definition.get(schema).cloned().unwrap_or(Value::Null) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn openai(body: &Value) -> Result<Ask, String> {
        read(Api::OpenAiChat, body.to_string().as_bytes())
    }

    fn anthropic(body: &Value) -> Result<Ask, String> {
        read(Api::AnthropicMessages, body.to_string().as_bytes())
    }

    #[test]
    fn the_prompt_is_counted_by_the_chat_formula() {
        let ask = openai(&json!({"model": "m", "messages": [
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": [{"type": "text", "text": "Hello there."}, {"type": "image_url"}]},
        ]}));
        assert_eq!(ask.unwrap().prompt_tokens, 3 + 4 + 4 + 4 + 3 + 85);
        let ask = anthropic(&json!({"model": "m", "max_tokens": 5, "system": "You are terse.",
            "messages": [{"role": "user", "content": "Hello there."}]}));
        assert_eq!(ask.unwrap().prompt_tokens, 3 + 4 + 4 + 4 + 3);
    }

    #[test]
    fn the_newer_limit_wins() {
        let ask = |limits: Value| {
            let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
            body.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
            openai(&body).map(|ask| ask.limit)
        };
        assert_eq!(ask(json!({})), Ok(None));
        assert_eq!(ask(json!({"max_tokens": 7})), Ok(Some(7)));
        assert_eq!(ask(json!({"max_tokens": 7, "max_completion_tokens": 9})), Ok(Some(9)));
        assert!(ask(json!({"max_tokens": -1})).unwrap_err().contains("`max_tokens`"));
        assert!(anthropic(&json!({"model": "m", "messages": [{}]})).unwrap_err().contains("`max_tokens` is missing"));
    }

    #[test]
    fn a_tool_is_called_when_asked_for() {
        let ask = |choice: Value, words: &str| {
            openai(&json!({"model": "m", "messages": [{"role": "user", "content": words}], "tool_choice": choice,
                "tools": [{"type": "function", "function": {"name": "a", "parameters": {}}},
                          {"type": "function", "function": {"name": "b"}}]}))
            .unwrap()
            .tool
            .map(|tool| tool.name)
        };
        assert_eq!(ask(json!("auto"), "Please USE the tool"), Some("a".to_owned()));
        assert_eq!(ask(json!(null), "hello"), None);
        assert_eq!(ask(json!("required"), "hello"), Some("a".to_owned()));
        assert_eq!(ask(json!({"type": "function", "function": {"name": "b"}}), "hello"), Some("b".to_owned()));
        assert_eq!(ask(json!("none"), "use the tool"), None);
    }

    #[test]
    fn the_answer_to_a_tool_result_is_words() {
        let ask = anthropic(
            &json!({"model": "m", "max_tokens": 9, "tools": [{"name": "a", "input_schema": {}}], "messages": [
            {"role": "user", "content": "use the tool"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "a", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "12 degrees"}]}]}),
        );
        assert_eq!(ask.unwrap().tool, None);
    }

    #[test]
    fn nonsense_is_told_apart() {
        for (body, says) in [
            (&b"{"[..], "no JSON"),
            (b"[]", "JSON object"),
            (b"{\"messages\":[]}", "`model`"),
            (b"{\"model\":\"m\",\"messages\":[]}", "empty"),
            (b"{\"model\":\"m\",\"messages\":[{}],\"stream\":1}", "`stream`"),
            (b"{\"model\":\"m\",\"messages\":[{}],\"n\":0}", "`n`"),
        ] {
            let error = read(Api::OpenAiChat, body).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
