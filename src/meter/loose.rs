//! What a stream has begun and not ended: what its last events must close, should we end it.

use super::json;

/// The most parts that are remembered as begun; no stream that means well has more.
const MOST: usize = 128;
/// The longest id that is remembered, in bytes.
const LONGEST_ID: usize = 256;

/// What a stream has begun and not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LooseEnds {
    /// The answer's id, as raw JSON: what each of its events repeats, or only the first has.
    pub id: Option<String>,
    /// When the answer was made, as raw JSON.
    pub created: Option<String>,
    /// The parts that have been begun, in order, and whether each has ended: choices or content blocks.
    pub parts: Vec<(u64, bool)>,
    /// Calls of tools whose arguments may go on: the part that calls, and which call of it.
    pub calls: Vec<(u64, u64)>,
    /// The number of the next event, where a dialect numbers them.
    pub next: u64,
    /// The answer as a whole has said why it ends.
    pub stopped: bool,
    /// Whose events they are, where a dialect passes on those of several.
    pub family: Option<Family>,
    /// What its messages say is a list of parts, where a dialect has the choice.
    pub lists: bool,
}

impl LooseEnds {
    /// What names the answer, where it was not named before. What is no name is left out.
    pub fn named(&mut self, id: Option<&str>, created: Option<&str>) {
        let fits = |raw: &&str| raw.len() <= LONGEST_ID && json::text(raw).is_some();
        if let Some(id) = id.filter(|_| self.id.is_none()).filter(fits) {
            self.id = Some(id.to_owned());
        }
        if let Some(created) = created.filter(|raw| self.created.is_none() && json::whole(raw).is_some()) {
            self.created = Some(created.trim_ascii().to_owned());
        }
    }

    /// A part has begun.
    pub fn begin(&mut self, part: u64) {
        if self.parts.len() < MOST && !self.parts.iter().any(|(known, _)| *known == part) {
            self.parts.push((part, false));
        }
    }

    /// A part has ended, and whatever it called.
    pub fn end(&mut self, part: u64) {
        self.begin(part);
        self.parts.iter_mut().filter(|(known, _)| *known == part).for_each(|(_, ended)| *ended = true);
        self.calls.retain(|(of, _)| *of != part);
    }

    /// A part calls a tool. It calls one after the other.
    pub fn calling(&mut self, part: u64, call: u64) {
        self.calls.retain(|(of, known)| *of != part || *known == call);
        if self.calls.is_empty() || self.calls.len() < MOST && !self.calls.contains(&(part, call)) {
            self.calls.push((part, call));
        }
    }

    /// A part speaks, so that it calls nothing any more.
    pub fn speaking(&mut self, part: u64) {
        self.calls.retain(|(of, _)| *of != part);
    }

    /// The parts that have not ended.
    pub fn open(&self) -> impl Iterator<Item = u64> + '_ {
        self.parts.iter().filter(|(_, ended)| !ended).map(|(part, _)| *part)
    }

    /// Whether a part has ended.
    pub fn has_ended(&self, part: u64) -> bool {
        self.parts.contains(&(part, true))
    }
}

/// A family of models whose events Amazon's InvokeModel passes on as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Anthropic's Claude.
    Claude,
    /// Anthropic's Claude, in its first format.
    ClaudeText,
    /// Amazon's Nova.
    Nova,
    /// Amazon's Titan.
    Titan,
    /// Meta's Llama.
    Llama,
    /// Mistral's, in their first format.
    Mistral,
    /// Cohere's Command.
    Cohere,
    /// Cohere's Command R, which chats.
    CohereChat,
    /// DeepSeek's R1, which goes on from a text.
    DeepSeek,
    /// All that answer as OpenAI's chats do.
    OpenAi,
    /// Any, as llama.cpp answers in its own format.
    LlamaCpp,
}

/// What ids of models have in them that InvokeModel passes a stream on from, and as what it most likely begins. Their own
/// events say what they are.
const FAMILIES: [(&str, Family); 20] = [
    ("claude", Family::Claude),
    ("anthropic.", Family::Claude),
    ("titan-text", Family::Titan),
    ("titan-tg1", Family::Titan),
    ("nova", Family::Nova),
    ("llama", Family::Llama),
    ("mistral", Family::Mistral),
    ("mixtral", Family::Mistral),
    ("cohere.command-r", Family::CohereChat),
    ("cohere.command", Family::Cohere),
    ("deepseek", Family::DeepSeek),
    ("gpt-oss", Family::OpenAi),
    ("qwen", Family::OpenAi),
    ("jamba", Family::OpenAi),
    ("palmyra", Family::OpenAi),
    ("minimax", Family::OpenAi),
    ("kimi", Family::OpenAi),
    ("glm", Family::OpenAi),
    ("gemma", Family::OpenAi),
    ("nemotron", Family::OpenAi),
];

impl Family {
    /// That of a model, by its id at Amazon. `None`: another, or an inference profile that does not tell.
    pub fn of(model: &str) -> Option<Self> {
        FAMILIES.iter().find(|(name, _)| model.contains(name)).map(|(_, family)| *family)
    }
}

/// What the last events of a stream are written into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Server-sent events.
    Events,
    /// JSON objects, one a line.
    Lines,
    /// A JSON array.
    Array {
        /// It has elements already.
        begun: bool,
    },
    /// Amazon's binary messages.
    Messages,
}

/// What the last events of a stream say that we end.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// What they are written into.
    pub within: Within,
    /// What they close.
    pub loose: &'a LooseEnds,
    /// The model that the answer names.
    pub model: Option<&'a str>,
    /// What the answer has come to: delivered output, not what the upstream may go on to make.
    pub usage: super::usage::Usage,
    /// Whether the client asked for usage on the stream, where the dialect has the choice.
    pub tells_usage: bool,
    /// How many answers the client asked for.
    pub choices: u64,
    /// What the answer has said by now, where each of its events repeats that; else empty.
    pub so_far: &'a [String],
    /// It says so without a message around it, where a dialect has the choice.
    pub bare: bool,
}

#[cfg(test)]
mod tests {
    use super::{LooseEnds, MOST};

    #[test]
    fn what_has_ended_is_not_open_and_calls_nothing() {
        let mut loose = LooseEnds::default();
        loose.begin(0);
        loose.begin(1);
        loose.calling(0, 0);
        loose.calling(1, 0);
        assert_eq!(loose.calls, [(0, 0), (1, 0)]);
        loose.calling(0, 1);
        assert_eq!(loose.calls, [(1, 0), (0, 1)], "the first call has ended with the second");
        loose.end(0);
        assert_eq!((loose.open().collect::<Vec<_>>(), loose.calls.as_slice()), (vec![1], &[(1, 0)][..]));
        loose.speaking(1);
        assert!(loose.calls.is_empty() && loose.has_ended(0) && !loose.has_ended(1));
    }

    #[test]
    fn names_are_the_first_ones_that_are_names() {
        let mut loose = LooseEnds::default();
        loose.named(Some("7"), Some("\"now\""));
        loose.named(Some("\"a\""), Some(" 5"));
        loose.named(Some("\"b\""), Some("6"));
        assert_eq!((loose.id.as_deref(), loose.created.as_deref()), (Some("\"a\""), Some("5")));
    }

    #[test]
    fn memory_is_bounded() {
        let mut loose = LooseEnds::default();
        for part in 0..10_000 {
            loose.begin(part);
            loose.calling(part, 0);
        }
        assert!(loose.parts.len() <= MOST && loose.calls.len() <= MOST);
    }
}
