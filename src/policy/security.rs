//! The security third of a plan: what may be asked.

use super::bundle::Screen;
use super::diagnostic::Faults;
use super::fields::{Fields, form};
use super::guard::{self, Guard};
use super::plan::{PlanText, tokens_only};
use super::screen::{self, Side};
use super::tokens;
use super::tree::Node;

/// The security third of a plan.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Model names and globs that may be asked for; empty: every model of the catalogue.
    pub models: Vec<globset::GlobMatcher>,
    /// Longest input in tokens.
    pub longest_input: Option<u64>,
    /// What the texts of prompts are screened for. `None`: nothing.
    pub input: Option<Screen>,
    /// What the texts of answers are screened for. `None`: nothing.
    pub output: Option<Screen>,
    /// Guards that only observe. Screens say so by their actions.
    pub observe: Vec<Guard>,
}

const GUARDS: [Guard; 2] = [Guard::Models, Guard::Longest];

/// Reads it.
pub(super) fn read(node: &Node, what: &str, plan: &mut PlanText, faults: &mut Faults) {
    let Some(fields) = Fields::of(node, what, &["models", "input", "output", "observe"], faults) else { return };
    if let Some(node) = fields.optional("models") {
        plan.models = tokens::model_patterns(node, &fields.path("models"), faults);
    }
    if let Some(node) = fields.optional("output") {
        plan.output = screen::read(node, &fields.path("output"), Side::Output, faults).and_then(|(_, screen)| screen);
    }
    let mut longest_at = None;
    let input = fields.optional("input").and_then(|node| screen::read(node, &fields.path("input"), Side::Input, faults));
    if let Some((input, screen)) = input {
        plan.input = screen;
        if let Some(node) = input.optional("longest") {
            longest_at = Some(node.at);
            let longest = form(node, &input.path("longest"), faults, tokens_only);
            plan.security.longest_input = longest.map(|longest| longest.value);
        }
    }
    let there = |guard: Guard| match guard {
        Guard::Longest => longest_at,
        guard => fields.optional(guard.name()).map(|node| node.at),
    };
    plan.security.observe = guard::observed(&fields, &GUARDS, there, faults);
}
