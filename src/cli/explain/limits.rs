//! What a plan's guards let an answer take, and what they make of agents that are stuck, in words.

use super::span;
use crate::engine::audit::LONGEST;
use crate::policy::bundle::{
    Audit, FailedTry, Fallback, Guard, HostMode, Images, Loops, Plan, Repeats, Retry, Timeouts,
};

/// A line for each of them.
pub(super) fn lines(plan: &Plan, headers: HostMode) -> Vec<String> {
    let Timeouts { first_token_ms, idle_ms, duration_ms } = plan.connectivity.timeouts;
    // A JSON document is held until it is whole, where a host can hold its headers.
    let [late, silent, long] = match headers {
        HostMode::Held => [
            "else it is an error 504",
            "else it is broken off, and a JSON document is an error 504",
            "else it ends as at a length limit, and a JSON document is an error 504",
        ],
        HostMode::First => [
            "else it is an error 504, or broken off once its headers have left",
            "else it is broken off",
            "else it ends as at a length limit, and what is no stream is broken off",
        ],
    };
    let all = [
        (Guard::FirstToken, first_token_ms, "an answer begins within", late),
        (Guard::Idle, idle_ms, "an answer under way is never silent for", silent),
        (Guard::Duration, duration_ms, "an answer takes no longer than", long),
    ];
    let line = |(guard, ms, what, then): (Guard, Option<u64>, &str, &str)| {
        let then = if plan.observes(guard) { "else that is noted" } else { then };
        Some(format!("{what} {} ({}), {then}", span(ms?), guard.name()))
    };
    let mut said: Vec<String> = all.into_iter().filter_map(line).collect();
    let noted = |guard: Guard| if plan.observes(guard) { "else that is noted" } else { "else they are refused" };
    if !plan.connectivity.keys.is_empty() {
        let (keys, then) = (plan.connectivity.keys.join(" or "), noted(Guard::Keys));
        said.push(format!("calls carry a key that begins with {keys} (keys), {then}"));
    }
    if !plan.security.clients.allow.is_empty() || !plan.security.clients.deny.is_empty() {
        let then = noted(Guard::Clients);
        said.push(format!("clients are those that the plan takes (clients), as they say themselves, {then}"));
    }
    if let Some(longest) = plan.security.longest_output {
        let then = noted(Guard::LongestOutput);
        said.push(format!("calls ask for {longest} output tokens at most (longest_output), {then}"));
    }
    said.extend(plan.security.images.map(|images| pictures(images, noted(Guard::Images))));
    match plan.security.audit {
        Audit::None => {}
        Audit::Metadata(_) => {
            said.push("records keep from where and by what a call came, and what was found (audit)".to_owned())
        }
        Audit::Bodies(_) => said.push(format!(
            "records keep from where and by what a call came, what was found, and the last {LONGEST} bytes of what was \
             asked and answered, without secrets and personal data (audit)"
        )),
    }
    let regions = &plan.connectivity.regions;
    if !regions.is_empty() {
        said.push(format!("calls stay in {} (regions), {}", regions.join(", "), noted(Guard::Regions)));
    }
    said.extend(plan.connectivity.retry.as_ref().map(|retry| retried(retry, plan.hold.failed_try)));
    for Fallback { written, to, rest_ms, longest_ms, .. } in &plan.connectivity.fallback {
        said.push(format!(
            "once an upstream of {} was down or throttled, calls go to {to} for {}, or as long as it says, up to {}",
            written.join(", "),
            span(*rest_ms),
            span(*longest_ms)
        ));
    }
    if let Some(Repeats { most, within_ms, slow_ms }) = plan.security.repeats {
        let then = stuck(plan, Guard::Repeats, slow_ms);
        said.push(format!(
            "the same call passes {most} times in {} (repeats), in each worker, {then}",
            span(within_ms)
        ));
    }
    if let Some(Loops { most, slow_ms }) = plan.security.loops {
        let then = stuck(plan, Guard::Loops, slow_ms);
        said.push(format!(
            "a conversation may tell {most} times of the same tool with the same arguments (loops), {then}"
        ));
    }
    said
}

/// What the images of a call may be.
fn pictures(images: Images, then: &str) -> String {
    let parts = [
        images.most.map(|most| format!("{most} images")),
        images.largest.map(|bytes| format!("{bytes} bytes an image")),
        images.pixels.map(|pixels| format!("{pixels} pixels an image")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("calls have {} at most (images), {then}", parts.join(", "))
}

/// How calls are tried again, how long that takes at most, and what it costs.
fn retried(retry: &Retry, failed: FailedTry) -> String {
    let (on, tries) = (retry.written().join(", "), retry.tries);
    let long = retry.each_ms.map_or("each as long as it takes".to_owned(), |each_ms| {
        let all = each_ms.saturating_mul(u64::from(tries));
        format!("each within {}, all within {} and Envoy's pauses between them", span(each_ms), span(all))
    });
    let cost = match failed {
        FailedTry::Nothing => "one that fails costs nothing",
        FailedTry::Input => "one that fails costs its input, which is held for all",
    };
    format!("a call is tried up to {tries} times (retry), after {on}: {long}; {cost}")
}

/// What becomes of a call that does too often what an agent that is stuck does.
fn stuck(plan: &Plan, guard: Guard, slow_ms: Option<u64>) -> String {
    match slow_ms {
        _ if plan.observes(guard) => "else that is noted".to_owned(),
        Some(ms) => format!("else it waits {}", span(ms)),
        None => "else it is refused".to_owned(),
    }
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
envoy: {headers: held}
models: {m: {count: o200k_base}, n-*: {count: o200k_base}, o: {count: o200k_base, regions: [eu, us]}}
plans:
  p:
    connectivity: {response: {first_token: 60s, idle: 1500ms, duration: 15m}, regions: [eu, us], retry: {on: [connect-failure, reset, 429], tries: 3, each: 10s}, fallback: [{models: [m, n-*], to: o}], keys: [tp-, cp-], observe: [idle, keys]}
    security: {audit: bodies, clients: {allow: [codex*]}, images: {most: 20, largest: 5 MiB}, output: {longest: 8000 tokens}, repeats: {most: 20, within: 1m, slow: 2s}, loops: {most: 9}}
seats: {ann: {org: o, keys: ['sha256:a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1']}}
assign: [{otherwise: p}]
collector: {cluster: c}
";
        let bundle = policy::compile(text, "p").unwrap();
        let of = |host| lines(bundle.plans.first().unwrap(), host);
        let held = of(HostMode::Held);
        assert_eq!(held[0], "an answer begins within 1m (first_token), else it is an error 504");
        let long = "else it ends as at a length limit, and a JSON document is an error 504";
        assert_eq!(held[2], format!("an answer takes no longer than 15m (duration), {long}"));
        assert_eq!(
            of(HostMode::First),
            [
                "an answer begins within 1m (first_token), else it is an error 504, or broken off once its headers have left",
                "an answer under way is never silent for 1500ms (idle), else that is noted",
                "an answer takes no longer than 15m (duration), else it ends as at a length limit, and what is no stream is broken off",
                "calls carry a key that begins with tp- or cp- (keys), else that is noted",
                "clients are those that the plan takes (clients), as they say themselves, else they are refused",
                "calls ask for 8000 output tokens at most (longest_output), else they are refused",
                "calls have 20 images, 5242880 bytes an image at most (images), else they are refused",
                "records keep from where and by what a call came, what was found, and the last 16384 bytes of what was asked and answered, without secrets and personal data (audit)",
                "calls stay in eu, us (regions), else they are refused",
                "a call is tried up to 3 times (retry), after connect-failure, reset, 429: each within 10s, all within 30s and Envoy's pauses between them; one that fails costs nothing",
                "once an upstream of m, n-* was down or throttled, calls go to o for 30s, or as long as it says, up to 5m",
                "the same call passes 20 times in 1m (repeats), in each worker, else it waits 2s",
                "a conversation may tell 9 times of the same tool with the same arguments (loops), else it is refused",
            ]
        );
    }
}
