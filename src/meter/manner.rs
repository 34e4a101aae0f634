//! How families of models lay out what they read, and what they write beside what is seen.
//!
//! A chat template puts marks around messages, writes out tools in a notation of its own, and ends an answer by a mark
//! that nobody sees. None of that is in a body, and all of it is counted by the provider. OpenAI's formats are published
//! (the cookbook's "How to count tokens", "How to format harmony responses"), and so are what Anthropic adds for tools
//! ("Tool use", pricing) and the templates of open models; where a provider publishes nothing, the figures are those by
//! which recorded exchanges of its family come out best, rounded. They are estimates: what is held is their sum only where the
//! [bound](super::call::Input::bound) is lower, and a prompt that is too long by them is refused. A
//! [calibration](super::calibration) makes up for what a single model differs by, where its provider is silent.

use super::cut::Cuts;
use super::dialect::is_openai_own;

/// Tokens beside those of the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Texts, in percent of their count in our vocabulary.
    pub text: u64,
    /// Where its vocabulary cuts text that ours does not.
    pub cuts: Cuts,
    /// Around a message.
    pub message: u64,
    /// Around instructions.
    pub system: u64,
    /// Once.
    pub once: u64,
    /// Instructions that its template puts in where the caller gives none, and no tools either.
    pub unasked: u64,
    /// Around a tool call of the conversation.
    pub call: u64,
    /// Once, where tools are offered.
    pub tools: u64,
    /// For each tool, beside its definition.
    pub tool: u64,
    /// How definitions of tools are written out.
    pub definitions: Definitions,
    /// The schema of an answer, in percent of its JSON.
    pub format: u64,
    /// Where thinking is asked for.
    pub thinking: u64,
    /// Whether what is sealed (signatures, encrypted thoughts) is read.
    pub sealed: bool,
    /// Written at the end of an answer of text.
    pub end: u64,
    /// Written more where thoughts come first.
    pub thoughts: u64,
    /// Written for the first call of a tool, the end included.
    pub first_call: u64,
    /// Written for each further call.
    pub next_call: u64,
}

/// How definitions of tools are written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definitions {
    /// As a namespace of types: see [`namespace`](super::dialect::namespace).
    Namespace,
    /// As JSON, or something that long: in percent of it.
    Percent(u64),
    /// By their words only, a line each: names, descriptions, values.
    Words,
}

use Definitions::{Namespace, Percent, Words};

/// What nothing is known of: ChatML's marks, and no word about what is written.
const OTHER: Manner = Manner {
    text: 100,
    cuts: Cuts::None,
    message: 4,
    system: 4,
    once: 3,
    unasked: 0,
    call: 4,
    tools: 0,
    tool: 4,
    definitions: Percent(60),
    format: 60,
    thinking: 0,
    sealed: true,
    end: 0,
    thoughts: 0,
    first_call: 0,
    next_call: 0,
};

/// OpenAI before reasoning.
const GPT: Manner = Manner { tools: 2, tool: 0, call: 6, definitions: Namespace, first_call: 7, next_call: 9, ..OTHER };
/// OpenAI's reasoning models: channels around thoughts, text and calls (harmony).
const HARMONY: Manner = Manner { once: 2, tools: 6, end: 9, thoughts: 0, first_call: 17, next_call: 17, ..GPT };
/// The same where nothing is thought unless it is asked for.
const UNTHINKING: Manner = Manner { end: 3, thoughts: 6, first_call: 12, next_call: 12, ..HARMONY };
/// The same in the open: with a system message of its own.
const GPT_OSS: Manner = Manner {
    once: 63,
    call: 12,
    tools: 12,
    definitions: Percent(70),
    format: 100,
    end: 4,
    thoughts: 6,
    first_call: 12,
    next_call: 12,
    ..OTHER
};

const CLAUDE: Manner = Manner {
    text: 112,
    system: 0,
    call: 46,
    tools: 346,
    tool: 8,
    definitions: Percent(110),
    format: 200,
    thinking: 28,
    sealed: false,
    end: 3,
    thoughts: 6,
    first_call: 45,
    next_call: 45,
    ..OTHER
};
const GEMINI: Manner = Manner {
    cuts: Cuts::DigitsAndLines,
    message: 0,
    system: 0,
    once: 0,
    call: 14,
    tool: 0,
    definitions: Words,
    format: 0,
    sealed: false,
    ..OTHER
};
const DEEPSEEK: Manner = Manner {
    message: 1,
    system: 0,
    call: 20,
    tools: 225,
    tool: 0,
    definitions: Percent(100),
    format: 0,
    // The mark at the end is not counted; that at the end of the thoughts is.
    thoughts: 1,
    first_call: 19,
    next_call: 14,
    ..OTHER
};
const QWEN: Manner = Manner {
    cuts: Cuts::Digits,
    message: 5,
    system: 5,
    call: 12,
    tools: 85,
    tool: 12,
    definitions: Percent(100),
    format: 0,
    end: 1,
    thoughts: 3,
    first_call: 15,
    next_call: 13,
    ..OTHER
};
/// Qwen since its third and a half, and those for code: calls are written as XML.
const QWEN_XML: Manner = Manner { tools: 215, call: 20, first_call: 22, next_call: 22, ..QWEN };
const MISTRAL: Manner = Manner {
    cuts: Cuts::Digits,
    message: 3,
    system: 2,
    once: 1,
    call: 15,
    tools: 10,
    tool: 0,
    definitions: Percent(130),
    format: 0,
    end: 1,
    first_call: 4,
    next_call: 3,
    ..OTHER
};
const GLM: Manner = Manner {
    message: 2,
    system: 2,
    once: 5,
    call: 12,
    tools: 95,
    tool: 12,
    definitions: Percent(100),
    format: 0,
    end: 1,
    thoughts: 3,
    first_call: 11,
    next_call: 10,
    ..OTHER
};
const LLAMA: Manner =
    Manner { once: 30, tools: 100, definitions: Percent(100), end: 1, first_call: 12, next_call: 12, ..OTHER };
const KIMI: Manner =
    Manner { end: 1, thoughts: 2, tools: 32, definitions: Percent(100), first_call: 10, next_call: 9, ..OTHER };
const GROK: Manner =
    Manner { once: 2, format: 115, tools: 200, definitions: Percent(100), first_call: 20, next_call: 20, ..OTHER };
const GROK_4: Manner = Manner { once: 125, unasked: 63, tools: 40, ..GROK };
const COMMAND: Manner = Manner {
    message: 0,
    system: 0,
    once: 480,
    tools: 950,
    definitions: Percent(100),
    end: 1,
    first_call: 30,
    next_call: 20,
    ..OTHER
};

/// Names of families, the special before the general.
const FAMILIES: [(&str, Manner); 34] = [
    ("gpt-oss", GPT_OSS),
    ("codex-mini", Manner { end: 6, ..HARMONY }),
    // Anthropic, "Tool use", pricing: by model; the newest were measured.
    ("claude-3-haiku", Manner { tools: 264, ..CLAUDE }),
    ("claude-3-opus", Manner { tools: 530, ..CLAUDE }),
    ("claude-3-sonnet", Manner { tools: 159, ..CLAUDE }),
    ("claude-haiku-4", Manner { tools: 496, ..CLAUDE }),
    ("claude-4.5-haiku", Manner { tools: 496, ..CLAUDE }),
    ("claude-sonnet-4-5", Manner { tools: 496, ..CLAUDE }),
    ("claude-sonnet-4.5", Manner { tools: 496, ..CLAUDE }),
    ("claude-sonnet-4-6", Manner { tools: 496, ..CLAUDE }),
    ("claude-opus-4-5", Manner { tools: 496, ..CLAUDE }),
    ("claude-opus-4.5", Manner { tools: 496, ..CLAUDE }),
    ("claude-opus-4-6", Manner { tools: 496, ..CLAUDE }),
    ("claude-opus-4-7", Manner { tools: 675, ..CLAUDE }),
    ("claude", CLAUDE),
    // Google, "Thought signatures": since the third, what was thought before a call is read again from them.
    ("gemini-3", Manner { sealed: true, ..GEMINI }),
    ("gemini", GEMINI),
    ("deepseek", DEEPSEEK),
    ("qwen3.5", QWEN_XML),
    ("qwen3-5", QWEN_XML),
    ("qwen3-coder", QWEN_XML),
    ("qwen-3-coder", QWEN_XML),
    ("qwen", QWEN),
    ("stral", MISTRAL),
    ("glm", GLM),
    ("llama", LLAMA),
    ("kimi", KIMI),
    // xAI puts a prompt of its own in front of those that think: shorter where there are instructions.
    ("grok-4-fast", Manner { once: 148, unasked: 16, tools: 118, ..GROK }),
    ("grok-code", Manner { once: 190, tools: 118, ..GROK }),
    ("grok-4", GROK_4),
    ("grok-3-mini", GROK_4),
    ("grok", GROK),
    ("command", COMMAND),
    ("nova", Manner { tools: 400, definitions: Percent(120), ..OTHER }),
];

impl Manner {
    /// The manner of the model of this name, its vendor before a slash or not.
    pub fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
        if is_openai_own(&name) {
            return if !is_reasoning(&name) {
                GPT
            } else if name.starts_with("gpt-5.") {
                UNTHINKING
            } else {
                HARMONY
            };
        }
        let model = model.to_ascii_lowercase();
        FAMILIES.iter().find(|(family, _)| model.contains(family)).map_or(OTHER, |(_, manner)| *manner)
    }

    /// The same where OpenAI's responses are spoken: OpenAI counts the mark at the end of text there, and calls otherwise;
    /// DeepSeek puts a prompt in front.
    pub fn in_responses(self) -> Self {
        match self {
            GPT => Self { end: 1, first_call: 8, ..self },
            HARMONY => Self { first_call: 13, next_call: 13, ..self },
            UNTHINKING => Self { end: 4, first_call: 11, next_call: 11, ..self },
            DEEPSEEK => Self { once: 82, ..self },
            // xAI counts little more of a call there than its name and arguments.
            _ if self.is_grok() => Self { first_call: 4, next_call: 4, ..self },
            _ => self,
        }
    }

    fn is_grok(self) -> bool {
        (self.first_call, self.next_call) == (GROK.first_call, GROK.next_call)
    }

    /// So many tokens of text in our vocabulary as the model's own has.
    pub fn texts(&self, counted: u64) -> u64 {
        counted.saturating_mul(self.text) / 100
    }

    /// Tokens that were written and not seen, of an answer with so many calls of tools.
    pub fn unseen(&self, calls: u64, thought: bool) -> u64 {
        let more = self.next_call.saturating_mul(calls.saturating_sub(1));
        let end = if calls > 0 { self.first_call.saturating_add(more) } else { self.end };
        end.saturating_add(if thought { self.thoughts } else { 0 })
    }
}

fn is_reasoning(model: &str) -> bool {
    ["gpt-5", "o1", "o3", "o4"].iter().any(|prefix| model.starts_with(prefix)) && !model.contains("chat")
}

#[cfg(test)]
mod tests {
    use super::{CLAUDE, FAMILIES, GPT, HARMONY, Manner, OTHER, QWEN, QWEN_XML, UNTHINKING};

    #[test]
    fn the_special_goes_before_the_general() {
        for (position, (name, manner)) in FAMILIES.iter().enumerate() {
            assert_eq!(Manner::of(name), *manner, "{name}, line {position}, is hidden by one before it");
        }
    }

    #[test]
    fn models_are_known_by_whatever_name() {
        for (model, manner) in [
            ("gpt-4o", GPT),
            ("openai/gpt-4.1-mini", GPT),
            ("gpt-5-chat-latest", GPT),
            ("o3-mini", HARMONY),
            ("openai/gpt-5.2", UNTHINKING),
            ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", CLAUDE),
            ("Qwen/Qwen3-8B", QWEN),
            ("Qwen/Qwen3.5-9B", QWEN_XML),
            ("my-model", OTHER),
        ] {
            assert_eq!(Manner::of(model), manner, "{model}");
        }
    }

    #[test]
    fn thoughts_are_ended_by_a_mark_that_counts() {
        let deepseek = Manner::of("deepseek-v4-flash");
        assert_eq!([false, true].map(|thought| deepseek.unseen(0, thought)), [0, 1]);
    }

    #[test]
    fn what_is_not_seen_grows_with_the_calls() {
        assert_eq!([0, 1, 3].map(|calls| GPT.unseen(calls, false)), [0, 7, 25]);
        assert_eq!(UNTHINKING.unseen(0, true), 9);
        assert_eq!(OTHER.unseen(5, true), 0, "of what nobody knows nothing is made up");
    }
}
