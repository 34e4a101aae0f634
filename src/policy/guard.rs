//! The guards that a plan can name: what refusals, records and metrics call them, and which of them only observe.

use super::diagnostic::{Code, Faults, shown};
use super::fields::{Fields, choice, list};
use super::tree::Mark;

/// One check of a plan that is no quota and no screen of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guard {
    /// The method is one of these.
    Methods,
    /// The host that is asked for is one of these.
    Hosts,
    /// The path is one of these.
    Paths,
    /// The key begins with one of these.
    Keys,
    /// The caller is in none of these networks.
    DeniedSources,
    /// The caller is in one of these networks.
    Sources,
    /// It is one of these hours.
    Hours,
    /// The request is no larger than this.
    Request,
    /// The answer is no larger than this.
    Response,
    /// The answer begins in time.
    FirstToken,
    /// The answer does not fall silent for longer than this.
    Idle,
    /// The answer takes no longer than this in all.
    Duration,
    /// A stream is asked for, or none is.
    Streaming,
    /// The model is served in one of these regions.
    Regions,
    /// The client says that it is one of these.
    Clients,
    /// These headers are there.
    Headers,
    /// This kind of work may be asked for.
    Endpoints,
    /// The same call does not come too often.
    Repeats,
    /// The same tool was not called too often in the same way.
    Loops,
    /// The model may be asked for.
    Models,
    /// There is nothing but this besides text.
    Modalities,
    /// The images are no more and no larger than this.
    Images,
    /// No more output is asked for than this.
    LongestOutput,
    /// The tools that are offered, and those that are called.
    Tools,
    /// The instructions are there, or are these.
    SystemPrompt,
    /// The input is no longer than this.
    Longest,
}

impl Guard {
    /// What policies, refusals, records and metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Methods => "methods",
            Self::Hosts => "hosts",
            Self::Paths => "paths",
            Self::Keys => "keys",
            Self::DeniedSources => "denied_sources",
            Self::Sources => "sources",
            Self::Hours => "hours",
            Self::Request => "request",
            Self::Response => "response",
            Self::FirstToken => "first_token",
            Self::Idle => "idle",
            Self::Duration => "duration",
            Self::Streaming => "streaming",
            Self::Regions => "regions",
            Self::Clients => "clients",
            Self::Headers => "headers",
            Self::Endpoints => "endpoints",
            Self::Repeats => "repeats",
            Self::Loops => "loops",
            Self::Models => "models",
            Self::Modalities => "modalities",
            Self::Images => "images",
            Self::LongestOutput => "longest_output",
            Self::Tools => "tools",
            Self::SystemPrompt => "system_prompt",
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
