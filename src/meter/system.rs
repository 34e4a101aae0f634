//! The instructions of a request: what stands above the conversation, in whatever dialect.
//!
//! Read by shape, as tools are ([`offer`](super::offer)). A role that is not known counts as one that instructs: a
//! provider might think so too.

use super::json;
use super::offer::plain;

/// How deep parts lie within parts.
const DEEPEST: u8 = 4;

/// The instructions of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// Each text by itself, in the order of the body; none is empty.
    pub texts: Vec<String>,
    /// Why a part of them cannot be told, if so.
    pub unread: Option<&'static str>,
}

/// Those of a body, which is known to be one JSON object.
pub(super) fn system(body: &str) -> System {
    let mut found = System::default();
    json::entries(body, |key, raw| match plain(key).as_slice() {
        b"system" | b"systeminstruction" | b"instructions" | b"preamble" => found.instructs(raw),
        b"messages" | b"contents" | b"chathistory" | b"input" => found.messages(raw),
        _ => {}
    });
    found
}

impl System {
    /// Messages; also the object in which DashScope has them, and a text alone, which nobody instructs with.
    fn messages(&mut self, raw: &str) {
        if json::elements(raw, |message| self.message(message)).is_some() {
            return;
        }
        json::entries(raw, |key, value| match plain(key).as_slice() {
            b"messages" | b"history" => self.messages(value),
            b"system" => self.instructs(value),
            _ => {}
        });
    }

    fn message(&mut self, raw: &str) {
        let (mut instructs, mut said) = (false, Vec::new());
        json::entries(raw, |key, value| match plain(key).as_slice() {
            b"role" => {
                let role = json::text(value).map(|role| role.to_ascii_lowercase());
                let spoken = ["user", "assistant", "tool", "function", "model", "chatbot", ""];
                instructs |= role.is_none_or(|role| !spoken.contains(&role.as_str()));
            }
            b"content" | b"parts" | b"message" => said.push(value),
            _ => {}
        });
        if instructs {
            said.into_iter().for_each(|raw| self.instructs(raw));
        }
    }

    fn instructs(&mut self, raw: &str) {
        let mut text = String::new();
        self.read(raw, &mut text, DEEPEST);
        if !text.is_empty() {
            self.texts.push(text);
        }
    }

    fn read(&mut self, raw: &str, text: &mut String, depth: u8) {
        let Some(below) = depth.checked_sub(1) else { return self.cannot("parts within parts") };
        if json::is_null(raw) {
            return;
        }
        if let Some(said) = json::text(raw) {
            return text.push_str(&said);
        }
        if json::elements(raw, |part| self.read(part, text, below)).is_some() {
            return;
        }
        let object = json::entries(raw, |key, value| match plain(key).as_slice() {
            b"text" | b"parts" | b"content" => self.read(value, text, below),
            b"type" | b"role" | b"cachecontrol" | b"cachepoint" | b"citations" | b"promptcachebreakpoint" => {}
            _ => self.cannot("instructions that are no text"),
        });
        if object.is_none() {
            self.cannot("instructions that are no text");
        }
    }

    fn cannot(&mut self, why: &'static str) {
        self.unread.get_or_insert(why);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::system;

    fn texts(body: &str) -> Vec<String> {
        let found = system(body);
        assert_eq!(found.unread, None, "{body}");
        found.texts
    }

    #[test]
    fn instructions_of_every_dialect() {
        for body in [
            r#"{"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hi"}]}"#,
            r#"{"messages":[{"role":"developer","content":[{"type":"text","text":"be "},{"type":"text","text":"kind"}]}]}"#,
            r#"{"system":"be kind","messages":[{"role":"user","content":"hi"}]}"#,
            r#"{"system":[{"type":"text","text":"be kind","cache_control":{"type":"ephemeral"}}]}"#,
            r#"{"instructions":"be kind","input":"hi"}"#,
            r#"{"input":[{"role":"system","content":[{"type":"input_text","text":"be kind"}]},{"role":"user","content":"hi"}]}"#,
            r#"{"systemInstruction":{"parts":[{"text":"be kind"}]},"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
            r#"{"system_instruction":{"parts":{"text":"be kind"}}}"#,
            r#"{"system":[{"text":"be kind"},{"cachePoint":{"type":"default"}}]}"#,
            r#"{"preamble":"be kind","message":"hi"}"#,
            r#"{"input":{"messages":[{"role":"system","content":"be kind"}]}}"#,
        ] {
            assert_eq!(texts(body), ["be kind"], "{body}");
        }
        assert_eq!(texts(r#"{"messages":[{"role":"user","content":"system: be kind"}],"system":null}"#), [""; 0]);
        assert_eq!(texts(r#"{"system":"","input":"hi"}"#), [""; 0]);
    }

    #[test]
    fn no_spelling_hides_instructions() {
        assert_eq!(
            texts(r#"{"messages":[{"role":"System","content":"a"},{"ROLE":"SYSTEM","Content":"b"}]}"#),
            ["a", "b"]
        );
        assert_eq!(texts(r#"{"messages":[{"role":"user","role":"system","content":"a","content":"b"}]}"#), ["a", "b"]);
        assert_eq!(texts(r#"{"messages":[{"role":"root","content":"a"}],"sys\u0074em":"b"}"#), ["a", "b"]);
    }

    #[test]
    fn what_is_no_text_is_said() {
        for body in [r#"{"system":[{"type":"image","source":{}}]}"#, r#"{"system":7}"#, r#"{"system":[[[[["a"]]]]]}"#] {
            assert!(system(body).unread.is_some(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_body(body in "\\{\"(system|messages)\":(\\[|\\{|\"|role|text|:|,|\\}|\\]|system|[a-z]){0,40}\\}") {
            system(&body);
        }
    }
}
