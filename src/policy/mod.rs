//! The policy file: YAML or JSON in, a compiled [`Bundle`] out. Every configuration error is raised here.
//!
//! ```text
//!    text ──tree──▶ nodes with places ──document──▶ as written ──compile──▶ Bundle
//! ```
//!
//! Each step notes its faults and goes on, so that one run reports them all, each with its place, a code and
//! a help line ([`Diagnostic`]). The language is strict: it accepts only what is enforced, and a rule that
//! could not take effect is an error. `tests/diagnostics/` shows every refusal.
//!
//! # The whole language
//!
//! A test compiles this block. What is marked *optional* may be left out.
//!
//! ```yaml
//! farebox: 1                           # the version of this format
//! bundle: {name: acme-ai, version: 2026-11-25}   # counters are kept under the name; records state the version
//! zone: Asia/Shanghai                  # optional, UTC: where calendar months begin
//! envoy: {headers: held}               # optional, held: how the host hands over headers; `first`: no tier can be set
//! identity:                            # headers that may carry a key; in authorization it follows `Bearer `
//!   - {key: [authorization, x-api-key]}
//! network: {trusted_proxies: 0}        # optional, 0 to 16: proxies in front that append to x-forwarded-for
//! models:                              # exact name, else the longest glob, else refused; case counts
//!   demo-small:                        # credits per 1,000 tokens, up to nine places
//!     count: o200k_base                # or cl100k_base
//!     credits: {input: 1, cache_read: 0.1, cache_write: 1.25, output: 4}   # cached: optional, as input
//!   demo-*: {count: cl100k_base, credits: 0}   # free; `credits` is optional where no quota is in credits
//! plans:
//!   team@2026-11:                      # `@version` is optional: plans of one name share their counters
//!     tokens:                          # all parts of a plan are optional
//!       funds:                         # who pays: one, of window `calendar month` or `first-use`
//!         month: {amount: 1.5m credits, per: org, window: calendar month}   # `m` million, `b` billion
//!       empty: [deny]                  # optional: what happens when the fund cannot pay
//!       caps:                          # how fast: all must hold
//!         in-5h: {limit: 20000 input tokens, per: seat, window: first-use 5h}   # opens with the first call
//!         pace:  {limit: 200000 tokens, per: seat, window: bucket 1m}           # refills steadily
//!         live:  {limit: 4 requests, per: seat, window: concurrent}             # what runs at this moment
//!       hold:                          # optional, as are its keys; these are the defaults
//!         unstated_output: 1024        # output tokens assumed where the call states no limit
//!         shrink_to: 16                # a limit is never clamped below this
//!         lost: charge                 # what a call costs whose VM died: all held, or what was `delivered`
//!     connectivity:
//!       sources: [10.0.0.0/8, "fd00::/8"]   # optional, any: networks and addresses the caller may have
//!       tier: gold                     # optional: x-farebox-tier on the request that goes upstream
//!     security:
//!       models: ["demo-*"]             # optional, all: names and globs that may be asked for
//!       input: {longest: 128000 tokens, secrets: deny}   # each optional
//! seats:
//!   alice:                             # keys as SHA-256: printf %s KEY | sha256sum
//!     org: acme
//!     keys: ["sha256:8be25d9c6da5f3b7d9b5a8e3f6b1dbf3c34d8b4a8d7b5e5c8a0e4f3d2c1b0a99"]
//! assign:                              # the first line that matches; what none matches is refused
//!   - {when: {seat: alice}, plan: team@2026-11}   # or {org: …}, or both; `plan: deny` refuses
//!   - {otherwise: deny}
//! unknown: {path: deny, body: deny}    # optional: calls that are no LLM call; bodies that cannot be read; or `pass`
//! collector:                           # optional: without it limits are the grants, and counters die with the process
//!   cluster: farebox-collector         # the Envoy cluster
//!   sync: 1s                           # optional, as are the next: how often records go out and grants come in
//!   buffer: 64 MiB                     # records kept while it is away
//!   patience: 2s                       # how long a call waits for a grant
//! tests:                               # optional: what must happen, for `farebox test`
//!   - name: an admitted call is charged to the token
//!     as: {seat: alice}                # or {key: …}, in clear
//!     at: 2026-11-25T10:00:00+08:00    # optional
//!     used: {pace: 100 tokens}         # optional: already used in the current windows of the caller's plan
//!     call: {api: openai chat, model: demo-small, input: 500, max_output: 100, stream: true, from: 10.1.2.3, headers: {x-a: b}}
//!     answer: {output: 50, input: 500, cached: 0, status: 200, silent: false}   # optional, as are its keys
//!     expect: {decision: allow, status: 200, tier: gold, max_output: 100, charged: {month: 0.7 credits}, held: {}, records: 1}
//!   - name: a prompt beyond the cap is refused
//!     as: {seat: alice}
//!     used: {in-5h: 20000 input tokens}
//!     call: {api: anthropic messages, model: demo-small, prompt: "any text", max_output: 100}
//!     expect: {decision: deny, by: in-5h, status: 429, code: rate_limit_error, retry_after: at most 5h, charged: {}}
//! ```

pub mod bundle;
pub mod case;
pub mod diagnostic;

mod assign;
mod compile;
mod document;
mod fields;
mod keys;
mod models;
mod plan;
mod scalar;
mod tree;

pub use bundle::Bundle;
pub use case::Case;
pub use diagnostic::Diagnostic;
pub use tree::{DEEPEST, LARGEST};

use diagnostic::Faults;

/// Compiles a policy, or says all that is wrong with it. `file` is the name that diagnostics give.
///
/// Total: any text, of any size, ends in one or the other. The `tests` section is checked as strictly as the rest.
pub fn compile(text: &str, file: &str) -> Result<Bundle, Vec<Diagnostic>> {
    read(text, file).map(|(bundle, _)| bundle)
}

/// The cases of a policy's `tests` section, in the order written; none where it has no such section.
///
/// Their names of seats and quotas, and their units, are those of the policy; so a policy at fault has no cases.
pub fn cases(text: &str, file: &str) -> Result<Vec<Case>, Vec<Diagnostic>> {
    read(text, file).map(|(_, cases)| cases)
}

/// The cases in a file of their own, which has a `tests` section and nothing else, for the policy `text`.
///
/// The policy's own faults come under the name `file`, those of the cases under `beside_file`.
pub fn cases_beside(text: &str, file: &str, beside: &str, beside_file: &str) -> Result<Vec<Case>, Vec<Diagnostic>> {
    read(text, file)?;
    // The policy has no faults, so nothing is noted here.
    let mut none = Faults::default();
    let document = tree::parse(text, &mut none).and_then(|root| document::read(&root, &mut none));
    let mut faults = Faults::default();
    let cases = tree::parse(beside, &mut faults).and_then(|root| {
        let fields = fields::Fields::of(&root, "a file of cases", &["tests"], &mut faults)?;
        let node = fields.required("tests", "list the cases under `tests`", &mut faults)?;
        Some(case::read(node, &mut faults))
    });
    let Some((mut document, cases)) = document.zip(cases) else { return Err(faults.into_diagnostics(beside_file)) };
    document.cases = cases;
    let assigned = assign::resolve(&document, &mut none);
    case::check(&document, &assigned, &mut faults);
    if faults.is_empty() {
        Ok(document.cases.into_iter().map(case::Draft::into_case).collect())
    } else {
        Err(faults.into_diagnostics(beside_file))
    }
}

fn read(text: &str, file: &str) -> Result<(Bundle, Vec<Case>), Vec<Diagnostic>> {
    let mut faults = Faults::default();
    let document = tree::parse(text, &mut faults).and_then(|root| document::read(&root, &mut faults));
    let compiled = document.and_then(|document| {
        let bundle = compile::bundle(&document, text, &mut faults)?;
        Some((bundle, document.cases.into_iter().map(case::Draft::into_case).collect()))
    });
    compiled.ok_or_else(|| faults.into_diagnostics(file))
}

#[cfg(test)]
mod tests;
