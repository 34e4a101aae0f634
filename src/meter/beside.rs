//! Tokens that are thought beside the output limit of a call, which then bounds the rest of the answer alone.
//!
//! | who | limit | what is thought |
//! |---|---|---|
//! | most | has it in | inside |
//! | Model Studio ("DashScope API reference", "OpenAI compatible": "`max_tokens` does not limit the length of the chain of thought") | `max_tokens` | `thinking_budget`, else what the model has at most |
//! | Ark ("Chat API": `max_tokens` has no chain of thought in it, `max_completion_tokens` has) | `max_tokens` | not limited |
//! | SiliconFlow ("Reasoning models": the same of `max_tokens`) | `max_tokens` | `thinking_budget`, else 4,096 |
//!
//! Ark and Model Studio are known by their paths. SiliconFlow's is everybody's: there it is the budget that tells, and
//! without one nothing is added.
//!
//! Whether a model is to think is said in the host's own word: `thinking: {type: disabled}` at Ark, `enable_thinking: false`
//! elsewhere. The other's word nobody there reads, and some models think whatever they are told: see [`ALWAYS`].

use super::call::Call;
use super::dialect::{Dialect, Host};

/// What a call says of thinking beside its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// `thinking_budget`, in tokens.
    pub budget: Option<u64>,
    /// `enable_thinking`.
    pub thinks: Option<bool>,
    /// Whether `thinking` says anything but that nothing is to be thought. `None`: it is not there.
    pub thinking: Option<bool>,
}

/// What is in the names of models that think whatever they are told (Alibaba Cloud Model Studio, "Deep thinking": "thinking
/// only"; Volcengine Ark, "Deep thinking": `thinking`; SiliconFlow, "Reasoning models").
const ALWAYS: [&str; 5] = ["thinking", "qwq", "qvq", "-r1", "reasoner"];

/// What is in the names of those that think as long as they like whatever `thinking_budget` says (Model Studio: it is for
/// models of Qwen3 and later).
const UNBUDGETED: [&str; 4] = ["qwq", "qvq", "-r1", "deepseek"];

/// Models of Model Studio that do not think unless they are asked to, or never (Alibaba Cloud Model Studio, "Deep thinking"),
/// by what their names begin with.
const UNASKED: [&str; 14] = [
    "qwen-coder",
    "qwen-flash",
    "qwen-long",
    "qwen-math",
    "qwen-max",
    "qwen-mt",
    "qwen-plus",
    "qwen-turbo",
    "qwen-vl",
    "qwen1",
    "qwen2",
    "qwen3-coder",
    "qwen3-max",
    "qwen3-vl-plus",
];

impl Beside {
    /// How many there may be of them. `unstated`: as many as are assumed where nothing limits them.
    pub fn tokens(self, call: &Call, unstated: u64) -> u64 {
        if !call.dialect.writes_text() {
            return 0;
        }
        let model = call.model.to_ascii_lowercase();
        let named = |words: &[&str]| words.iter().any(|word| model.contains(word));
        let told_not_to = |flag: Option<bool>| flag == Some(false) && !named(&ALWAYS);
        match call.host {
            Host::Ark if call.states("max_completion_tokens") || told_not_to(self.thinking) => 0,
            // It has no word for a budget.
            Host::Ark => unstated,
            _ if told_not_to(self.thinks) => 0,
            _ if call.dialect == Dialect::DashScope || call.host == Host::ModelStudio => match self.budget {
                Some(budget) if named(&UNBUDGETED) => budget.max(unstated),
                Some(budget) => budget,
                None if self.thinks.is_none() && never_unasked(&model) => 0,
                None => unstated,
            },
            _ => self.budget.unwrap_or(0),
        }
    }
}

fn never_unasked(model: &str) -> bool {
    let named = UNASKED.iter().any(|name| model.starts_with(name)) || model.contains("-instruct");
    named && !model.contains("thinking")
}

#[cfg(test)]
mod tests {
    use crate::meter::call::read_call;
    use crate::meter::dialect::Route;

    /// Tokens beside the limit of a call with these members.
    fn beside(path: &str, members: &str) -> u64 {
        let route = Route::of(b"POST", path.as_bytes()).unwrap();
        let mut call = read_call(route.dialect, format!("{{{members}}}").as_bytes()).unwrap();
        call.take_route(&route);
        call.thought_beside(1_024)
    }

    #[test]
    fn what_is_thought_beside_the_limit_is_told_by_its_budget() {
        const STUDIO: &str = "/compatible-mode/v1/chat/completions";
        const ARK: &str = "/api/v3/chat/completions";
        const ANY: &str = "/v1/chat/completions";
        for (path, members, tokens) in [
            (STUDIO, r#""model":"qwen3-8b","max_tokens":9,"thinking_budget":4000"#, 4_000),
            (STUDIO, r#""model":"qwen3-8b","max_tokens":9"#, 1_024),
            (STUDIO, r#""model":"qwen3-8b","max_tokens":9,"enable_thinking":false,"thinking_budget":4000"#, 0),
            (STUDIO, r#""model":"qwen-plus","max_tokens":9"#, 0),
            (STUDIO, r#""model":"qwen-plus","max_tokens":9,"enable_thinking":true"#, 1_024),
            (STUDIO, r#""model":"qwen3-30b-a3b-instruct-2507","max_tokens":9"#, 0),
            // Ark's word, a model that thinks always, and one that has no budget.
            (STUDIO, r#""model":"qwen3-8b","max_tokens":9,"thinking":{"type":"disabled"}"#, 1_024),
            (STUDIO, r#""model":"Qwen3-8B-Thinking-2507","max_tokens":9,"enable_thinking":false"#, 1_024),
            (STUDIO, r#""model":"qwq-plus","max_tokens":9,"enable_thinking":false,"thinking_budget":1"#, 1_024),
            (STUDIO, r#""model":"deepseek-r1","max_tokens":9,"thinking_budget":4000"#, 4_000),
            (ARK, r#""model":"doubao-seed-1-6","max_tokens":9"#, 1_024),
            (ARK, r#""model":"doubao-seed-1-6","max_completion_tokens":9"#, 0),
            (ARK, r#""model":"doubao-seed-1-6","max_tokens":9,"thinking":{"type":"disabled"}"#, 0),
            (ARK, r#""model":"doubao-seed-1-6","max_tokens":9,"enable_thinking":false,"thinking_budget":1"#, 1_024),
            (ARK, r#""model":"doubao-1-5-thinking-pro","max_tokens":9,"thinking":{"type":"disabled"}"#, 1_024),
            // Of two words it is the provider who knows which one counts.
            (ARK, r#""model":"a","max_tokens":9,"thinking":{"type":"enabled","type":"disabled"}"#, 1_024),
            (ANY, r#""model":"Qwen/Qwen3-8B","max_tokens":9,"thinking_budget":4000"#, 4_000),
            (ANY, r#""model":"Qwen/Qwen3-8B","max_tokens":9"#, 0),
            (ANY, r#""model":"Qwen/Qwen3-8B","enable_thinking":false,"thinking_budget":4000"#, 0),
            (ANY, r#""model":"deepseek-ai/DeepSeek-R1","enable_thinking":false,"thinking_budget":4000"#, 4_000),
            // What is no budget and no flag says nothing: some send -1, and words.
            (ANY, r#""model":"Qwen/Qwen3-8B","enable_thinking":"auto","thinking_budget":-1"#, 0),
            (STUDIO, r#""model":"qwen3-8b","enable_thinking":"false","thinking_budget":-1"#, 1_024),
            (
                "/api/v1/services/aigc/text-generation/generation",
                r#""model":"qwen3-8b","parameters":{"thinking_budget":50}"#,
                50,
            ),
            ("/compatible-mode/v1/embeddings", r#""model":"text-embedding-v4","input":"a""#, 0),
        ] {
            assert_eq!(beside(path, members), tokens, "{path} {members}");
        }
    }
}
