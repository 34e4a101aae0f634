//! The policy file: YAML or JSON in, a compiled [`Bundle`] out. Every configuration error is raised here.
//!
//! ```text
//!    text ──tree──▶ nodes with places ──document──▶ as written ──compile──▶ Bundle
//! ```
//!
//! Each step notes its faults and goes on, so that one run reports them all, each with its place, a code and
//! a help line ([`Diagnostic`]). The language is strict: it accepts only what is enforced, and a rule that
//! could not take effect is an error. `tests/diagnostics/` shows every refusal.

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
