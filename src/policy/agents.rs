//! Rules against agents that are stuck.

use super::diagnostic::{Complaint, Faults};
use super::fields::{Fields, form, whole};
use super::scalar::duration_within;

/// How often the same call may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeats {
    /// So often, at least once.
    pub most: u64,
    /// In so many milliseconds, from the first of them.
    pub within_ms: u64,
    /// By how many milliseconds a further one is slowed down; `None`: it is refused.
    pub slow_ms: Option<u64>,
}

/// How often one conversation may tell of the same tool, called with the same arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loops {
    /// So often, at least once.
    pub most: u64,
    /// By how many milliseconds a call with more is slowed down; `None`: it is refused.
    pub slow_ms: Option<u64>,
}

/// More of anything is no loop that anybody would wait for.
const MOST: u64 = 10_000;
/// The longest span over which calls are compared.
const LONGEST_WITHIN_MS: u64 = 86_400_000;
/// Callers give up a call that is held longer, and send it again.
const LONGEST_SLOW_MS: u64 = 60_000;

/// `repeats: {most: 10, within: 1m, slow: 2s}`.
pub(super) fn repeats(fields: &Fields<'_>, faults: &mut Faults) -> Option<Repeats> {
    let rule = Fields::of(fields.optional("repeats")?, fields.path("repeats"), &["most", "within", "slow"], faults)?;
    let most = most(&rule, faults);
    let node = rule.required("within", "say in how long, for example `within: 1m`", faults);
    let within = node.and_then(|node| form(node, &rule.path("within"), faults, within));
    let slow_ms = slowed(&rule, faults);
    Some(Repeats { most: most?, within_ms: within?.value, slow_ms })
}

/// `loops: {most: 10, slow: 2s}`.
pub(super) fn loops(fields: &Fields<'_>, faults: &mut Faults) -> Option<Loops> {
    let rule = Fields::of(fields.optional("loops")?, fields.path("loops"), &["most", "slow"], faults)?;
    let most = most(&rule, faults);
    let slow_ms = slowed(&rule, faults);
    Some(Loops { most: most?, slow_ms })
}

fn most(rule: &Fields<'_>, faults: &mut Faults) -> Option<u64> {
    let node = rule.required("most", "say how often it may come, for example `most: 10`", faults)?;
    whole(node, &rule.path("most"), 1, MOST, faults)
}

fn slowed(rule: &Fields<'_>, faults: &mut Faults) -> Option<u64> {
    form(rule.optional("slow")?, &rule.path("slow"), faults, slow).map(|slow| slow.value)
}

fn within(written: &str) -> Result<u64, Complaint> {
    duration_within(written, 1_000, LONGEST_WITHIN_MS, "write for example `1m`")
}

fn slow(written: &str) -> Result<u64, Complaint> {
    duration_within(written, 100, LONGEST_SLOW_MS, "write for example `2s`")
}
