//! Lists of names: exact ones and globs, allowed and denied.

use globset::{GlobBuilder, GlobMatcher};

use super::diagnostic::{Code, Complaint, Faults, shown};
use super::fields::{Fields, form, list};
use super::plan::{MOST_LINES, few};
use super::tree::Node;

/// The longest name or glob, in bytes.
const LONGEST: usize = 256;

/// What may be named: all that is allowed, and nothing that is denied.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Empty: anything.
    pub allow: Vec<GlobMatcher>,
    /// It beats what is allowed.
    pub deny: Vec<GlobMatcher>,
}

impl Names {
    /// Whether a name may be used.
    pub fn take(&self, name: &str) -> bool {
        !matches(&self.deny, name) && (self.allow.is_empty() || matches(&self.allow, name))
    }
}

/// Whether one of them is this name, or stands for it.
pub fn matches(list: &[GlobMatcher], name: &str) -> bool {
    list.iter().any(|glob| glob.is_match(name))
}

/// How two lists compare names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// A letter is one thing in upper case and another in lower case.
    Counts,
    /// It does not matter.
    Ignored,
}

/// A matcher for a name or a glob, in which `*` is any text and `?` one character.
pub(super) fn pattern(written: &str, case: Case) -> Result<GlobMatcher, Complaint> {
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '\\' | '"' | '`') || c == ' ';
    if written.trim().is_empty() || written.len() > LONGEST || !written.chars().all(fits) {
        let help = format!("write up to {LONGEST} visible ASCII characters without `\\` and quotes");
        return Err(Complaint::new(Code::BadValue, format!("{} is no name or glob", shown(written)), help));
    }
    let built = GlobBuilder::new(written)
        .literal_separator(false)
        .backslash_escape(false)
        .case_insensitive(case == Case::Ignored)
        .build();
    built.map(|glob| glob.compile_matcher()).map_err(|error| {
        let message = format!("{} is no glob: {}", shown(written), error.kind());
        let help = "use `*` for any text and `?` for one character; close every `[` and `{`";
        Complaint::new(Code::BadValue, message, help)
    })
}

/// A list of names and globs.
pub(super) fn patterns(node: &Node, what: &str, case: Case, faults: &mut Faults) -> Vec<GlobMatcher> {
    let items = list(node, what, faults).unwrap_or_default();
    few(items.get(MOST_LINES).map(|item| item.at), what, faults);
    let one = |item: &Node, faults: &mut Faults| form(item, what, faults, |written| pattern(written, case));
    items.iter().take(MOST_LINES).filter_map(|item| one(item, faults)).map(|glob| glob.value).collect()
}

/// The lists under `allow` and `deny`, of which there must be one. What is allowed compares as `case` says; what is denied
/// never minds it.
pub(super) fn allow_and_deny(fields: &Fields<'_>, case: Case, faults: &mut Faults) -> Names {
    let read = |key: &str, case: Case, faults: &mut Faults| {
        let node = fields.optional(key)?;
        Some(patterns(node, &fields.path(key), case, faults))
    };
    let (allow, deny) = (read("allow", case, faults), read("deny", Case::Ignored, faults));
    Names { allow: allow.unwrap_or_default(), deny: deny.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::{Case, Names, pattern};

    fn names(allow: &[&str], deny: &[&str]) -> Names {
        let globs = |list: &[&str], case| list.iter().map(|written| pattern(written, case).unwrap()).collect();
        Names { allow: globs(allow, Case::Counts), deny: globs(deny, Case::Ignored) }
    }

    #[test]
    fn what_is_denied_beats_what_is_allowed_in_any_case() {
        let names = names(&["mcp__*", "read"], &["mcp__*__delete"]);
        assert!(names.take("mcp__files__list") && names.take("read"));
        for name in ["Read", "mcp__files__delete", "mcp__files__DELETE", "write", ""] {
            assert!(!names.take(name), "{name}");
        }
        assert!(super::Names::default().take("anything"));
    }

    #[test]
    fn what_cannot_be_seen_is_no_pattern() {
        for bad in ["", " ", "a\u{200b}b", "naïve", "a\\b", "[a", &"x".repeat(257)] {
            assert!(pattern(bad, Case::Counts).is_err(), "{bad:?}");
        }
    }
}
