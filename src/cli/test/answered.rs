//! What a caller can read in an answer, told without the meter: a second opinion on what was delivered.

use serde_json::Value;

use crate::upstream::vocabulary::count;

/// Why an answer says that it ended, and the tokens that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answered {
    /// `finish_reason` or `stop_reason`, the last one.
    pub finish: Option<String>,
    /// Tokens of all texts and of the arguments of tools.
    pub tokens: u64,
}

/// Reads a body, an event stream or one document, of either dialect.
pub(super) fn read(body: &[u8]) -> Answered {
    let text = String::from_utf8_lossy(body);
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let values: Vec<Value> = match serde_json::from_str(&text) {
        Ok(document) => vec![document],
        Err(_) => events.filter_map(|data| serde_json::from_str(data).ok()).collect(),
    };
    let mut answered = Answered::default();
    let mut said: Vec<(String, String)> = Vec::new();
    for value in &values {
        look(value, &mut String::new(), &mut said, &mut answered);
    }
    answered.tokens = said.iter().fold(0, |sum: u64, (_, text)| sum.saturating_add(count(text)));
    answered
}

/// Texts are strung together by where they are: by choice, block and call.
fn look(value: &Value, at: &mut String, said: &mut Vec<(String, String)>, answered: &mut Answered) {
    if let Value::Array(items) = value {
        return items.iter().for_each(|item| look(item, at, said, answered));
    }
    let Value::Object(object) = value else { return };
    let own = at.len();
    if let Some(index) = object.get("index") {
        at.push_str(&format!("/{index}"));
    }
    for (key, value) in object {
        match (key.as_str(), value) {
            ("finish_reason" | "stop_reason", Value::String(reason)) => answered.finish = Some(reason.clone()),
            ("content" | "text" | "arguments" | "partial_json", Value::String(text)) => {
                let kind = if key == "content" || key == "text" { "text" } else { "call" };
                match said.iter_mut().find(|(of, _)| *of == format!("{at}{kind}")) {
                    Some((_, known)) => known.push_str(text),
                    None => said.push((format!("{at}{kind}"), text.clone())),
                }
            }
            _ => look(value, at, said, answered),
        }
    }
    at.truncate(own);
}

#[cfg(test)]
mod tests {
    use super::{Answered, read};

    fn answered(finish: &str, tokens: u64) -> Answered {
        Answered { finish: Some(finish.to_owned()), tokens }
    }

    #[test]
    fn both_dialects_streamed_and_whole() {
        let chunks = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}]}\n\n\
                      data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"}}]}\n\n\
                      data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n";
        assert_eq!(read(chunks.as_bytes()), answered("length", 1));
        let events = "event: content_block_delta\ndata: {\"index\":0,\"delta\":{\"text\":\"Hello\"}}\n\n\
                      event: content_block_delta\ndata: {\"index\":1,\"delta\":{\"partial_json\":\"Hello\"}}\n\n\
                      event: message_delta\ndata: {\"delta\":{\"stop_reason\":\"max_tokens\"}}\n\n";
        assert_eq!(read(events.as_bytes()), answered("max_tokens", 2));
        let whole = r#"{"choices":[{"index":0,"message":{"content":"Hello"},"finish_reason":"stop"}]}"#;
        assert_eq!(read(whole.as_bytes()), answered("stop", 1));
        assert_eq!(read(br#"{"error":{"message":"no"}}"#), Answered::default());
    }
}
