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

use super::call::Call;
use super::dialect::{Dialect, Host};

/// What a call says of thinking beside its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// `thinking_budget`, in tokens.
    pub budget: Option<u64>,
    /// `enable_thinking`.
    pub thinks: Option<bool>,
}

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
        if self.thinks == Some(false) || !call.dialect.writes_text() {
            return 0;
        }
        let limited = match call.host {
            _ if call.dialect == Dialect::DashScope => false,
            Host::ModelStudio => false,
            Host::Ark => call.states("max_completion_tokens"),
            _ => return self.budget.unwrap_or(0),
        };
        if limited || self.budget.is_none() && self.thinks.is_none() && never_unasked(call) {
            return 0;
        }
        self.budget.unwrap_or(unstated)
    }
}

fn never_unasked(call: &Call) -> bool {
    let named = UNASKED.iter().any(|name| call.model.starts_with(name)) || call.model.contains("-instruct");
    call.host != Host::Ark && named && !call.model.contains("thinking")
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
            (ARK, r#""model":"doubao-seed-1-6","max_tokens":9"#, 1_024),
            (ARK, r#""model":"doubao-seed-1-6","max_completion_tokens":9"#, 0),
            (ARK, r#""model":"doubao-seed-1-6","max_tokens":9,"thinking":{"type":"disabled"}"#, 0),
            (ANY, r#""model":"Qwen/Qwen3-8B","max_tokens":9,"thinking_budget":4000"#, 4_000),
            (ANY, r#""model":"Qwen/Qwen3-8B","max_tokens":9"#, 0),
            (
                "/api/v1/services/aigc/text-generation/generation",
                r#""model":"qwq-plus","parameters":{"thinking_budget":50}"#,
                50,
            ),
            ("/compatible-mode/v1/embeddings", r#""model":"text-embedding-v4","input":"a""#, 0),
        ] {
            assert_eq!(beside(path, members), tokens, "{path} {members}");
        }
    }
}
