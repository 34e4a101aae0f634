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
use super::dialect::Dialect;
use super::name::Name;

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

/// How the models of a family count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Family {
    chat: Manner,
    /// Where OpenAI's responses are spoken.
    responses: Manner,
}

/// In responses OpenAI counts the mark at the end of text, and calls otherwise.
const OPENAI: Family = Family { chat: GPT, responses: Manner { end: 1, first_call: 8, ..GPT } };
const OPENAI_REASONING: Family =
    Family { chat: HARMONY, responses: Manner { first_call: 13, next_call: 13, ..HARMONY } };
const OPENAI_UNTHINKING: Family =
    Family { chat: UNTHINKING, responses: Manner { end: 4, first_call: 11, next_call: 11, ..UNTHINKING } };
/// A smaller o4 for code.
const OPENAI_CODEX: Family =
    Family { chat: Manner { end: 6, ..HARMONY }, responses: Manner { end: 6, ..OPENAI_REASONING.responses } };

/// Names of families, the special before the general.
const FAMILIES: [(&str, Family); 33] = [
    ("gpt-oss", same(GPT_OSS)),
    // Anthropic, "Tool use", pricing: by model; the newest were measured.
    ("claude-3-haiku", claude(264)),
    ("claude-3-opus", claude(530)),
    ("claude-3-sonnet", claude(159)),
    ("claude-haiku-4", claude(496)),
    ("claude-4.5-haiku", claude(496)),
    ("claude-sonnet-4-5", claude(496)),
    ("claude-sonnet-4.5", claude(496)),
    ("claude-sonnet-4-6", claude(496)),
    ("claude-opus-4-5", claude(496)),
    ("claude-opus-4.5", claude(496)),
    ("claude-opus-4-6", claude(496)),
    ("claude-opus-4-7", claude(675)),
    ("claude", same(CLAUDE)),
    // Google, "Thought signatures": since the third, what was thought before a call is read again from them.
    ("gemini-3", same(Manner { sealed: true, ..GEMINI })),
    ("gemini", same(GEMINI)),
    // It puts a prompt in front of responses.
    ("deepseek", Family { chat: DEEPSEEK, responses: Manner { once: 82, ..DEEPSEEK } }),
    ("qwen3.5", same(QWEN_XML)),
    ("qwen3-5", same(QWEN_XML)),
    ("qwen3-coder", same(QWEN_XML)),
    ("qwen-3-coder", same(QWEN_XML)),
    ("qwen", same(QWEN)),
    ("stral", same(MISTRAL)),
    ("glm", same(GLM)),
    ("llama", same(LLAMA)),
    ("kimi", same(KIMI)),
    // xAI puts a prompt of its own in front of those that think: shorter where there are instructions.
    ("grok-4-fast", grok(Manner { once: 148, unasked: 16, tools: 118, ..GROK })),
    ("grok-code", grok(Manner { once: 190, tools: 118, ..GROK })),
    ("grok-4", grok(GROK_4)),
    ("grok-3-mini", grok(GROK_4)),
    ("grok", grok(GROK)),
    ("command", same(COMMAND)),
    ("nova", same(Manner { tools: 400, definitions: Percent(120), ..OTHER })),
];

const fn same(chat: Manner) -> Family {
    Family { chat, responses: chat }
}

const fn claude(tools: u64) -> Family {
    same(Manner { tools, ..CLAUDE })
}

/// In responses xAI counts little more of a call than its name and arguments.
const fn grok(chat: Manner) -> Family {
    Family { chat, responses: Manner { first_call: 4, next_call: 4, ..chat } }
}

impl Family {
    fn of(name: &Name) -> Self {
        if name.is_openai() {
            return Self::of_openai(name);
        }
        FAMILIES.iter().find(|(family, _)| name.has(family)).map_or(same(OTHER), |(_, family)| *family)
    }

    fn of_openai(name: &Name) -> Self {
        let reasons = ["gpt-5", "o1", "o3", "o4"].iter().any(|prefix| name.begins(prefix)) && !name.has("chat");
        match () {
            () if name.begins("codex-mini") => OPENAI_CODEX,
            () if !reasons => OPENAI,
            () if name.begins("gpt-5.") => OPENAI_UNTHINKING,
            () => OPENAI_REASONING,
        }
    }
}

impl Manner {
    /// That of the model of this name, however it is written, in this dialect.
    pub fn of(model: &str, dialect: Dialect) -> Self {
        let family = Family::of(&Name::of(model));
        if dialect == Dialect::OpenAiResponses { family.responses } else { family.chat }
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

#[cfg(test)]
mod tests {
    use super::{CLAUDE, Dialect, FAMILIES, Family, GPT, HARMONY, Manner, Name, OTHER, QWEN, QWEN_XML, UNTHINKING};

    fn in_chat(model: &str) -> Manner {
        Manner::of(model, Dialect::OpenAiChat)
    }

    #[test]
    fn the_special_goes_before_the_general() {
        for (position, (name, family)) in FAMILIES.iter().enumerate() {
            assert_eq!(Family::of(&Name::of(name)), *family, "{name}, line {position}, is hidden by one before it");
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
            ("codex-mini-latest", Manner { end: 6, ..HARMONY }),
            ("OpenAI/Codex-mini", Manner { end: 6, ..HARMONY }),
        ] {
            assert_eq!(in_chat(model), manner, "{model}");
        }
    }

    /// What a family writes for calls is another number in responses, for each of its models.
    #[test]
    fn responses_are_counted_by_the_family_too() {
        for (model, end, first_call) in [
            ("gpt-4o", 1, 8),
            ("o4-mini", 9, 13),
            ("gpt-5.1-codex-mini", 4, 11),
            ("codex-mini-latest", 6, 13),
            ("xai/grok-4-fast", 0, 4),
            ("qwen-max", 1, 15),
        ] {
            let manner = Manner::of(model, Dialect::OpenAiResponses);
            assert_eq!((manner.end, manner.first_call), (end, first_call), "{model}");
        }
        assert_eq!(Manner::of("deepseek-chat", Dialect::OpenAiResponses).once, 82);
    }

    #[test]
    fn thoughts_are_ended_by_a_mark_that_counts() {
        let deepseek = in_chat("deepseek-v4-flash");
        assert_eq!([false, true].map(|thought| deepseek.unseen(0, thought)), [0, 1]);
    }

    #[test]
    fn what_is_not_seen_grows_with_the_calls() {
        assert_eq!([0, 1, 3].map(|calls| GPT.unseen(calls, false)), [0, 7, 25]);
        assert_eq!(UNTHINKING.unseen(0, true), 9);
        assert_eq!(OTHER.unseen(5, true), 0, "of what nobody knows nothing is made up");
    }
}
