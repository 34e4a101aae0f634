//! What records keep of calls beside their figures.

use super::diagnostic::Faults;
use super::fields::{Fields, choice};
use super::screen::ScreenText;
use super::tree::Mark;
use crate::scan::{Action, Scanner, Selection, Topic};

/// What records keep of calls beside their figures.
#[derive(Clone, Debug, Default)]
pub enum Audit {
    /// Nothing.
    #[default]
    None,
    /// How they came, without what this finds, and what was found in them.
    Metadata(Scanner),
    /// Also what was asked and answered, without what this finds.
    Bodies(Scanner),
}

/// The same as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AuditText {
    pub at: Mark,
    pub level: Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    None,
    Metadata,
    Bodies,
}

/// `audit: metadata`.
pub(super) fn read(fields: &Fields<'_>, faults: &mut Faults) -> Option<AuditText> {
    let node = fields.optional("audit")?;
    let words = [("none", Level::None), ("metadata", Level::Metadata), ("bodies", Level::Bodies)];
    choice(node, &fields.path("audit"), &words, faults).map(|level| AuditText { at: node.at, level })
}

/// What no record keeps: everything that has a name of its own, whether or not the plan looks for it, and what the plan
/// looks for beside.
pub(super) fn hidden(screens: &[&Option<ScreenText>]) -> Selection {
    let topics = Topic::ALL.into_iter().map(|topic| (topic, Action::Redact)).collect();
    let mut all = Selection { topics, ..Selection::default() };
    for selection in screens.iter().filter_map(|screen| screen.as_ref()).map(ScreenText::selection) {
        for (name, pattern, _) in &selection.patterns {
            if !all.patterns.iter().any(|(_, known, _)| known == pattern) {
                all.patterns.push((name.clone(), pattern.clone(), Action::Redact));
            }
        }
        let words = selection.keywords.iter().flat_map(|(words, _)| words.clone());
        all.keywords.get_or_insert_with(|| (Vec::new(), Action::Redact)).0.extend(words);
    }
    all.keywords = all.keywords.filter(|(words, _)| !words.is_empty());
    all
}
