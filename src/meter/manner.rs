//! How families of models lay out what they read, and what they write beside what is seen.
//!
//! A chat template puts marks around messages, writes out tools in a notation of its own, and ends an answer by a mark
//! that nobody sees. None of that is in a body, and all of it is counted by the provider. OpenAI's formats are published
//! (the cookbook's "How to count tokens", "How to format harmony responses"), and so are what Anthropic adds for tools
//! ("Tool use", pricing) and the templates of open models; where a provider publishes nothing, the figures are those by
//! which recorded exchanges of its family come out best, rounded. They are estimates: what is held is their sum only where the
//! [bound](super::call::Input::bound) is lower, and a prompt that is too long by them is refused. A
//! [calibration](super::calibration) makes up for what a single model differs by, where its provider is silent.

use super::arguments::Arguments;
use super::cut::Cuts;
use super::dialect::{Dialect, Host};
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
    /// Around a tool call of the conversation, and around its result where that is no message.
    pub call: u64,
    /// How calls of tools are written out, and their results where they are JSON.
    pub calls: Calls,
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
    /// What is read of what is sealed: signatures, encrypted thoughts.
    pub sealed: Seals,
    /// Written at the end of an answer of text.
    pub end: u64,
    /// Written more where thoughts come first.
    pub thoughts: u64,
    /// Written for the first call of a tool, the end included.
    pub first_call: u64,
    /// Written for each further call.
    pub next_call: u64,
    /// Written more for a call that has arguments.
    pub arguments: u64,
    /// Written more for each argument, beside its JSON.
    pub argument: u64,
}

/// How definitions of tools are written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definitions {
    /// As a namespace of types: see [`namespace`](super::dialect::namespace).
    Namespace,
    /// As JSON, or something that long: in percent of it.
    Percent(u64),
    /// Of their words only those count: see [`declared_words`](super::dialect::notation::declared_words).
    Words,
    /// As Google writes them out: see [`declared`](super::dialect::notation::declared).
    Notation,
}

/// How calls of tools and their results are written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// As JSON.
    Json,
    /// Of their words only those count: see [`told_words`](super::dialect::notation::told_words).
    Words,
    /// As Google writes them out: see [`told`](super::dialect::notation::told).
    Notation,
}

/// What is read of what is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seals {
    /// All of it.
    Read,
    /// What was thought before the only call of a turn that goes on.
    OfOneCall,
    /// Nothing.
    Unread,
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
    calls: Calls::Json,
    tools: 0,
    tool: 4,
    definitions: Percent(60),
    format: 60,
    thinking: 0,
    sealed: Seals::Read,
    end: 0,
    thoughts: 0,
    first_call: 0,
    next_call: 0,
    arguments: 0,
    argument: 0,
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
    sealed: Seals::Unread,
    end: 3,
    thoughts: 6,
    first_call: 45,
    next_call: 45,
    ..OTHER
};
/// As Vertex AI counts: nothing but words.
const GEMINI: Manner = Manner {
    cuts: Cuts::Fine,
    message: 0,
    system: 0,
    once: 0,
    call: 0,
    calls: Calls::Words,
    tool: 0,
    definitions: Words,
    format: 0,
    // Fitted on the seven recorded rows that have signatures of 2.5.
    sealed: Seals::OfOneCall,
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
    // Tags around all of them and around each: fitted on the 14 recorded rows with calls.
    arguments: 8,
    argument: 10,
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
/// Those for code, from codex-mini to GPT-5.3: fitted on the 20 recorded rows that they have.
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
    ("gemini-3", same(Manner { sealed: Seals::Read, ..GEMINI })),
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
            () if name.has("codex") => OPENAI_CODEX,
            () if !reasons => OPENAI,
            () if name.begins("gpt-5.") => OPENAI_UNTHINKING,
            () => OPENAI_REASONING,
        }
    }
}

impl Manner {
    /// That of the model of this name, however it is written, in this dialect and at this host.
    pub fn of(model: &str, dialect: Dialect, host: Host) -> Self {
        let name = Name::of(model);
        let family = Family::of(&name);
        match host {
            _ if dialect == Dialect::OpenAiResponses => family.responses,
            Host::Azure if name.is_openai() => family.chat.at_azure(&name),
            _ if name.has("gemini") => family.chat.of_gemini(&name, host),
            _ => family.chat,
        }
    }

    /// Azure counts the mark at the end of an answer of text, but for the oldest: so nearly all recorded rows.
    fn at_azure(self, name: &Name) -> Self {
        let more = u64::from(!name.begins("gpt-3"));
        Self { end: self.end.saturating_add(more), ..self }
    }

    /// What Gemini counts more: since the third, something of a call; in its own API, since Gemini 2.5, the mark at the
    /// beginning of all, and all that is written out of tools.
    fn of_gemini(self, name: &Name, host: Host) -> Self {
        let old = name.has("gemini-1") || name.has("gemini-2.0");
        match host {
            Host::GeminiApi if !old => {
                let (definitions, calls) = (Definitions::Notation, Calls::Notation);
                Self { once: 1, tool: 2, call: 5, first_call: 7, next_call: 7, definitions, calls, ..self }
            }
            _ if name.has("gemini-3") => Self { first_call: 4, next_call: 4, ..self },
            _ => self,
        }
    }

    /// So many tokens of text in our vocabulary as the model's own has.
    pub fn texts(&self, counted: u64) -> u64 {
        counted.saturating_mul(self.text) / 100
    }

    /// Tokens that were written and not seen, of an answer with so many calls of tools and these arguments.
    pub fn unseen(&self, calls: u64, arguments: &Arguments, thought: bool) -> u64 {
        let further = self.next_call.saturating_mul(calls.saturating_sub(1));
        let with = self.arguments.saturating_mul(arguments.calls);
        let each = self.argument.saturating_mul(arguments.given);
        let more = further.saturating_add(with).saturating_add(each);
        let end = if calls > 0 { self.first_call.saturating_add(more) } else { self.end };
        end.saturating_add(if thought { self.thoughts } else { 0 })
    }
}

#[cfg(test)]
#[path = "manner_tests.rs"]
mod tests;
