//! The guards that a plan can name: what refusals, records and metrics call them, and which of them only observe.

use super::diagnostic::{Code, Faults, shown};
use super::fields::{Fields, choice, list};
use super::tree::Mark;

/// One check of a plan that is no quota and no screen of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guard {
    /// The caller is in one of these networks.
    Sources,
    /// The model may be asked for.
    Models,
    /// The input is no longer than this.
    Longest,
}

impl Guard {
    /// What policies, refusals, records and metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sources => "sources",
            Self::Models => "models",
            Self::Longest => "longest",
        }
    }
}

/// Reads the `observe` of one half of a plan: guards of that half, each with a rule that is there. `there` says where that
/// rule stands, if it does.
pub(super) fn observed(
    fields: &Fields<'_>,
    known: &[Guard],
    there: impl Fn(Guard) -> Option<Mark>,
    faults: &mut Faults,
) -> Vec<Guard> {
    let Some(node) = fields.optional("observe") else { return Vec::new() };
    let what = fields.path("observe");
    let words: Vec<(&str, Guard)> = known.iter().map(|guard| (guard.name(), *guard)).collect();
    let mut found = Vec::new();
    for item in list(node, &what, faults).unwrap_or_default() {
        let Some(guard) = choice(item, &what, &words, faults) else { continue };
        if there(guard).is_none() {
            let message = format!("there is no rule {} here that could observe", shown(guard.name()));
            faults.add(item.at, Code::Conflict, message, "write the rule too, or leave its name out of `observe`");
        } else if found.contains(&guard) {
            let message = format!("the rule {} is listed twice", shown(guard.name()));
            faults.add(item.at, Code::Duplicate, message, "keep one of them");
        } else {
            found.push(guard);
        }
    }
    found
}
