//! The calls of tools that a conversation tells, in whatever wire format.

use super::json;

/// A call of a tool that was made earlier in the conversation, as the body tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told<'a> {
    /// The name of the tool, as it stands in the body, quotes and escapes included.
    pub name: &'a str,
    /// What it was called with, as it stands in the body.
    pub arguments: &'a str,
}

impl Told<'_> {
    /// The name of the tool, unescaped; empty where it is no text.
    pub fn tool(&self) -> String {
        json::text(self.name).unwrap_or_default().into_owned()
    }
}

/// Every call that a body tells, in its order. What cannot be read tells none.
pub fn calls(body: &str, each: &mut dyn FnMut(Told<'_>)) {
    json::entries(body, |key, raw| {
        if matches!(key, b"messages" | b"input" | b"contents" | b"chat_history")
            && json::elements(raw, |message| of_message(message, each)).is_none()
            && let Some([Some(messages)]) = json::fields(raw, ["messages"])
        {
            // Alibaba's own, within the input.
            json::elements(messages, |message| of_message(message, each));
        }
    });
}

/// OpenAI's chat, Cohere's, Ollama's: calls beside the text. Anthropic's, Google's and Amazon's: calls among its parts.
/// OpenAI's responses: the item is the call.
fn of_message(message: &str, each: &mut dyn FnMut(Told<'_>)) {
    named(message, None, each);
    json::entries(message, |key, raw| match key {
        b"tool_calls" => {
            json::elements(raw, |call| of_part(call, each));
        }
        b"function_call" => named(raw, NONE, each),
        b"content" | b"parts" => {
            json::elements(raw, |part| of_part(part, each));
        }
        _ => {}
    });
}

fn of_part(part: &str, each: &mut dyn FnMut(Told<'_>)) {
    named(part, None, each);
    json::entries(part, |key, raw| {
        if matches!(key, b"function" | b"custom" | b"functionCall" | b"function_call" | b"toolUse") {
            named(raw, NONE, each);
        }
    });
}

/// What a tool is called with that takes nothing: Google leaves it out.
const NONE: Option<&str> = Some("{}");

/// An object that has a name and what it was called with, or else what is told of one that says nothing of it.
fn named(raw: &str, silent: Option<&str>, each: &mut dyn FnMut(Told<'_>)) {
    let names = ["name", "arguments", "input", "args", "parameters"];
    let Some([Some(name), arguments, input, args, parameters]) = json::fields(raw, names) else { return };
    if let Some(arguments) = arguments.or(input).or(args).or(parameters).or(silent) {
        each(Told { name, arguments });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: &str) -> Vec<(String, String)> {
        let mut told = Vec::new();
        calls(body, &mut |call| told.push((call.name.to_owned(), call.arguments.to_owned())));
        told
    }

    #[test]
    fn every_wire_format_tells_its_calls() {
        let look = |arguments: &str| vec![("\"look\"".to_owned(), arguments.to_owned())];
        let plain = r#"{"q": 1}"#;
        let quoted = r#""{\"q\": 1}""#;
        for (body, arguments) in [
            (
                r#"{"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "look", "arguments": "{\"q\": 1}"}}]}]}"#,
                quoted,
            ),
            (
                r#"{"messages": [{"role": "assistant", "function_call": {"name": "look", "arguments": "{\"q\": 1}"}}]}"#,
                quoted,
            ),
            (
                r#"{"messages": [{"role": "assistant", "tool_calls": [{"type": "custom", "custom": {"name": "look", "input": "{\"q\": 1}"}}]}]}"#,
                quoted,
            ),
            (
                r#"{"input": [{"type": "function_call", "call_id": "1", "name": "look", "arguments": "{\"q\": 1}"}]}"#,
                quoted,
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": [{"type": "text", "text": "so"}, {"type": "tool_use", "id": "1", "name": "look", "input": {"q": 1}}]}]}"#,
                plain,
            ),
            (
                r#"{"contents": [{"role": "model", "parts": [{"functionCall": {"name": "look", "args": {"q": 1}}}]}]}"#,
                plain,
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": [{"toolUse": {"toolUseId": "1", "name": "look", "input": {"q": 1}}}]}]}"#,
                plain,
            ),
            (
                r#"{"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": {"q": 1}}}]}]}"#,
                plain,
            ),
            (
                r#"{"chat_history": [{"role": "CHATBOT", "tool_calls": [{"name": "look", "parameters": {"q": 1}}]}]}"#,
                plain,
            ),
            (
                r#"{"input": {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": "{\"q\": 1}"}}]}]}}"#,
                quoted,
            ),
            (
                r#"{"input": [{"role": "model", "content": [{"type": "function_call", "id": "1", "name": "look", "arguments": {"q": 1}}]}]}"#,
                plain,
            ),
            (r#"{"contents": [{"role": "model", "parts": [{"functionCall": {"name": "look"}}]}]}"#, "{}"),
        ] {
            assert_eq!(told(body), look(arguments), "{body}");
        }
    }

    #[test]
    fn what_is_no_call_tells_none() {
        for body in [
            "",
            "{}",
            "[]",
            r#"{"messages": "look"}"#,
            r#"{"messages": [{"role": "user", "name": "ann", "content": "look"}]}"#,
            r#"{"messages": [{"role": "tool", "tool_call_id": "1", "content": "{\"name\": \"look\", \"input\": 1}"}]}"#,
            r#"{"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "found"}]}]}"#,
            r#"{"tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}], "messages": []}"#,
            r#"{"contents": [{"parts": [{"functionResponse": {"name": "look", "response": {"name": "x", "args": 1}}}]}]}"#,
        ] {
            assert_eq!(told(body), [], "{body}");
        }
    }
}
