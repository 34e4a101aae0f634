//! What the stand-in will say, chosen before the first byte is sent.

use serde_json::{Map, Value, json};

use super::ask::{Api, Ask, LONGEST_OUTPUT, Tool};
use super::script::{Report, Script};
use super::vocabulary::{Draw, Piece, compose, pieces, words};

/// One answer: rendered by the dialects, sent by [`crate::upstream`]'s body, remembered by its tally.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its dialect.
    pub api: Api,
    /// `chatcmpl-…` or `msg_…`; unique for one seed and run.
    pub id: String,
    /// The model asked for.
    pub model: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The pieces of each choice; all choices have equally many output tokens.
    pub choices: Vec<Vec<Piece>>,
    /// The call that the pieces are the arguments of.
    pub call: Option<Call>,
    /// Calls behind the pieces, without arguments.
    pub more_calls: Vec<Call>,
    /// Tools that ran elsewhere, behind the pieces too.
    pub used: Vec<Used>,
    /// The caller's limit ended it.
    pub limited: bool,
    /// What the report says.
    pub usage: Usage,
    /// Whether and how it is reported.
    pub report: Report,
    /// A stream shall end with a usage chunk (OpenAI; Anthropic always reports).
    pub include_usage: bool,
}

/// A tool call's envelope. Only its arguments count as output: what providers add for the rest is not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `call_…` or `toolu_…`.
    pub id: String,
    /// The tool's name.
    pub name: String,
}

/// A tool that the provider ran, or a server of tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The label of the server; `None`: it is the provider's own.
    pub server: Option<String>,
    /// Its kind, or its name.
    pub name: String,
}

impl Used {
    /// As the marker says it.
    fn of(word: &str) -> Self {
        match word.strip_prefix("mcp__").and_then(|word| word.split_once("__")) {
            Some((label, name)) => Self { server: Some(label.to_owned()), name: name.to_owned() },
            None => Self { server: None, name: word.to_owned() },
        }
    }
}

/// Tokens of an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All prompt tokens, cached ones among them.
    pub prompt: u64,
    /// Of these, read from a cache.
    pub cached: u64,
    /// Of these, written to a cache.
    pub cache_write: u64,
    /// Of these, kept there for an hour.
    pub cache_write_1h: u64,
    /// Output tokens over all choices.
    pub completion: u64,
    /// Of these, reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// Prompt tokens that no cache was involved in: Anthropic's `input_tokens`.
    pub fn fresh(self) -> u64 {
        self.prompt.saturating_sub(self.cached).saturating_sub(self.cache_write)
    }
}

impl Answer {
    /// Chooses an answer. `serial` numbers the exchanges of a run.
    pub fn choose(ask: &Ask, script: &Script, seed: u64, serial: u64, created: u64) -> Answer {
        let mut draw = Draw::new(seed, serial);
        let wish = script.output.unwrap_or_else(|| draw.below(51).saturating_add(10));
        let limit = if script.ignore_limit { None } else { ask.limit };
        let most = limit.unwrap_or(LONGEST_OUTPUT).min(LONGEST_OUTPUT);
        let mut limited = wish > most;
        let mut choices = Vec::new();
        for _ in 0..ask.choices {
            let choice = match &ask.tool {
                _ if in_arguments(ask, script) => {
                    let all =
                        pieces(&json!({"words": text(&words(wish.saturating_sub(FRAME), &mut draw))}).to_string());
                    let kept = at_most(all.clone(), most);
                    limited = kept.len() < all.len();
                    kept
                }
                None if script.echo => {
                    let all = pieces(&ask.last_words);
                    let kept = at_most(all.clone(), most);
                    limited = kept.len() < all.len();
                    kept
                }
                None => compose(wish.min(most), &mut draw),
                Some(tool) => {
                    let all = pieces(&arguments(tool, &mut draw).to_string());
                    let kept = at_most(all.clone(), most);
                    limited = kept.len() < all.len();
                    kept
                }
            };
            choices.push(choice);
        }
        let stamp = format!("{:012x}{:08x}", draw.next() >> 16, serial & 0xffff_ffff);
        let (id, call) = match ask.api {
            Api::OpenAiChat => (format!("chatcmpl-{stamp}"), format!("call_{stamp}")),
            Api::AnthropicMessages => (format!("msg_{stamp}"), format!("toolu_{stamp}")),
        };
        let completion = choices.iter().flatten().fold(0u64, |sum, piece| sum.saturating_add(piece.tokens));
        let more = |number: u64| Call { id: format!("{call}_{number}"), name: tool_name(ask) };
        Answer {
            api: ask.api,
            id,
            model: script.served.clone().unwrap_or_else(|| ask.model.clone()),
            created,
            choices,
            more_calls: (1..=script.tool_calls).map(more).collect(),
            used: script.used.iter().map(|word| Used::of(word)).collect(),
            call: ask
                .tool
                .as_ref()
                .or(ask.offered.as_ref().filter(|_| in_arguments(ask, script)))
                .map(|tool| Call { id: call, name: tool.name.clone() }),
            limited,
            usage: Usage {
                prompt: script.input.unwrap_or(ask.prompt_tokens),
                cached: script.cached,
                cache_write: script.cache_write,
                cache_write_1h: script.cache_write_1h,
                completion,
                reasoning: script.reasoning.min(completion),
            },
            report: script.report,
            include_usage: ask.include_usage,
        }
    }

    /// Whether it calls a tool.
    pub fn calls_tools(&self) -> bool {
        self.call.is_some() || !self.more_calls.is_empty()
    }

    /// The same answer when only `tokens` of each choice had been written.
    pub fn cut(&self, tokens: u64) -> Answer {
        let choices = self.choices.iter().map(|pieces| at_most(pieces.clone(), tokens)).collect();
        Answer { choices, ..self.clone() }
    }

    /// Output tokens of the longest choice: what generating takes in time.
    pub fn length(&self) -> u64 {
        let tokens = |pieces: &Vec<Piece>| pieces.iter().fold(0u64, |sum, piece| sum.saturating_add(piece.tokens));
        self.choices.iter().map(tokens).max().unwrap_or(0)
    }
}

/// Tokens of `{"words":"` and `"}`.
const FRAME: u64 = 4;

/// Whether all that it says are the arguments of a tool.
fn in_arguments(ask: &Ask, script: &Script) -> bool {
    script.arguments && ask.offered.is_some()
}

/// What a tool is called whose name nobody minds.
fn tool_name(ask: &Ask) -> String {
    ask.tool.as_ref().map_or_else(|| "look".to_owned(), |tool| tool.name.clone())
}

/// The text of some pieces.
pub fn text(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.text.as_str()).collect()
}

fn at_most(mut pieces: Vec<Piece>, tokens: u64) -> Vec<Piece> {
    let mut sum = 0u64;
    pieces.retain(|piece| {
        sum = sum.saturating_add(piece.tokens);
        sum <= tokens
    });
    pieces
}

/// Arguments that fit the schema's required properties, or all of them where none is required.
fn arguments(tool: &Tool, draw: &mut Draw) -> Value {
    let empty = Map::new();
    let properties = tool.schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required = tool.schema.get("required").and_then(Value::as_array);
    let wanted = |name: &str| required.is_none_or(|names| names.iter().any(|one| one.as_str() == Some(name)));
    let mut arguments = Map::new();
    for (name, schema) in properties.iter().filter(|(name, _)| wanted(name)) {
        arguments.insert(name.clone(), fitting(schema, draw));
    }
    Value::Object(arguments)
}

fn fitting(schema: &Value, draw: &mut Draw) -> Value {
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|values| values.first()) {
        return first.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("integer" | "number") => json!(draw.below(100)),
        Some("boolean") => json!(draw.below(2) == 1),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => json!(text(&compose(3, draw)).trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::vocabulary::count;

    fn ask() -> Ask {
        Ask {
            api: Api::OpenAiChat,
            model: "m".to_owned(),
            stream: false,
            include_usage: false,
            limit: Some(40),
            choices: 1,
            prompt_tokens: 11,
            last_words: String::new(),
            tool: None,
            offered: None,
            max_tokens: None,
        }
    }

    fn choose(ask: &Ask, markers: &str, serial: u64) -> Answer {
        let mut script = Script::default();
        script.follow_list(markers).unwrap();
        Answer::choose(ask, &script, 5, serial, 0)
    }

    #[test]
    fn the_report_is_the_number_of_tokens_written() {
        for serial in 0..50 {
            let ask = Ask { choices: 1 + serial % 3, ..ask() };
            let answer = choose(&ask, "", serial);
            let written: u64 = answer.choices.iter().map(|pieces| count(&text(pieces))).sum();
            assert_eq!(answer.usage.completion, written);
            assert!((10..=40).contains(&answer.length()));
        }
    }

    #[test]
    fn the_limit_cuts_what_was_wished_for() {
        let answer = choose(&ask(), "output=60", 0);
        assert_eq!((answer.usage.completion, answer.limited), (40, true));
        let answer = choose(&ask(), "output=40", 0);
        assert_eq!((answer.usage.completion, answer.limited), (40, false));
        let answer = choose(&ask(), "output=60 ignore-limit", 0);
        assert_eq!((answer.usage.completion, answer.limited), (60, false));
    }

    #[test]
    fn arguments_fit_the_schema_and_the_limit() {
        let schema = json!({"type": "object", "required": ["city", "days", "unit"], "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["c", "f"]}, "extra": {}}});
        let tool = Some(Tool { name: "weather".to_owned(), schema });
        let answer = choose(&Ask { tool: tool.clone(), ..ask() }, "", 1);
        let arguments: Value = serde_json::from_str(&text(answer.choices.first().unwrap())).unwrap();
        assert!(arguments["city"].is_string() && arguments["days"].is_u64() && arguments["unit"] == "c");
        assert!(arguments.get("extra").is_none());
        let answer = choose(&Ask { tool, limit: Some(4), ..ask() }, "", 1);
        assert_eq!((answer.usage.completion, answer.limited), (4, true));
    }

    #[test]
    fn arguments_can_be_all_that_is_said() {
        let offered = Some(Tool { name: "look".to_owned(), schema: json!({"type": "object"}) });
        let ask = Ask { offered, ..ask() };
        for serial in 0..20 {
            let answer = choose(&ask, "output=30 arguments", serial);
            let said = text(answer.choices.first().unwrap());
            assert!(serde_json::from_str::<Value>(&said).unwrap()["words"].is_string(), "{said}");
            assert_eq!((answer.usage.completion, count(&said), answer.limited), (30, 30, false));
            assert_eq!(answer.call.map(|call| call.name).as_deref(), Some("look"));
        }
        let answer = choose(&ask, "output=60 arguments", 0);
        assert_eq!((answer.usage.completion, answer.limited), (40, true));
        assert!(choose(&Ask { offered: None, ..ask }, "output=9 arguments", 0).call.is_none(), "none is offered");
    }

    #[test]
    fn an_echo_says_the_last_words_as_far_as_the_limit_goes() {
        let ask = Ask { last_words: "call me on 138-1234-5678, please".to_owned(), ..ask() };
        let answer = choose(&ask, "echo", 0);
        assert_eq!(text(answer.choices.first().unwrap()), ask.last_words);
        assert_eq!((answer.usage.completion, answer.limited), (count(&ask.last_words), false));
        let answer = choose(&Ask { limit: Some(2), ..ask }, "echo", 0);
        assert_eq!((text(answer.choices.first().unwrap()).as_str(), answer.limited), ("call me", true));
    }

    #[test]
    fn steered_figures_are_reported() {
        let answer = choose(&ask(), "input=500 cached=100 cache-write=50", 0);
        assert_eq!((answer.usage.prompt, answer.usage.fresh()), (500, 350));
        let answer = choose(&ask(), "output=20 reasoning=15 tool-calls=2", 0);
        assert_eq!((answer.usage.completion, answer.usage.reasoning, answer.more_calls.len()), (20, 15, 2));
    }
}
