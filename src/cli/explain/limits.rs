//! What a plan's guards let an answer take, in words.

use super::span;
use crate::policy::bundle::{Guard, HostMode, Plan, Timeouts};

/// A line for each limit on the time of an answer.
pub(super) fn lines(plan: &Plan, headers: HostMode) -> Vec<String> {
    let Timeouts { first_token_ms, idle_ms, duration_ms } = plan.connectivity.timeouts;
    let late = match headers {
        HostMode::Held => "else it is an error 504",
        HostMode::First => "else it is an error 504, or broken off once its headers have left",
    };
    let all = [
        (Guard::FirstToken, first_token_ms, "an answer begins within", late),
        (Guard::Idle, idle_ms, "an answer under way is never silent for", "else it is broken off"),
        (Guard::Duration, duration_ms, "an answer takes no longer than", "else it ends as at a length limit"),
    ];
    let line = |(guard, ms, what, then): (Guard, Option<u64>, &str, &str)| {
        let then = if plan.observes(guard) { "else that is noted" } else { then };
        Some(format!("{what} {} ({}), {then}", span(ms?), guard.name()))
    };
    all.into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy;

    #[test]
    fn each_limit_has_its_line_and_says_whether_it_binds() {
        let text = "farebox: 1
bundle: {name: timed, version: '1'}
identity: [{key: [authorization]}]
models: {m: {count: o200k_base}}
plans: {p: {connectivity: {response: {first_token: 60s, idle: 1500ms, duration: 15m}, observe: [idle]}}}
seats: {ann: {org: o, keys: ['sha256:a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1']}}
assign: [{otherwise: p}]
";
        let bundle = policy::compile(text, "p").unwrap();
        let said = lines(bundle.plans.first().unwrap(), HostMode::First);
        assert_eq!(
            said,
            [
                "an answer begins within 1m (first_token), else it is an error 504, or broken off once its headers have left",
                "an answer under way is never silent for 1500ms (idle), else that is noted",
                "an answer takes no longer than 15m (duration), else it ends as at a length limit",
            ]
        );
    }
}
