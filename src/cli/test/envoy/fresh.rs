//! A running stack in which nobody has used the accounts of a case.
//!
//! To start Envoy costs seconds of a processor, because it compiles the filter. So one that runs is given the same policy
//! under another bundle name: accounts, grants and all that is learned of callers and providers are kept under it, in
//! Envoy as in the ledger, and nothing else outlives a call.

use std::collections::BTreeSet;
use std::fs;

use super::super::order::{subjects, tells_a_hash};
use super::Envoy;
use super::Observed;
use crate::cli::stack::{Claim, Stack};
use crate::policy;
use crate::policy::case::Case;

/// A stack, and whose accounts were used in it.
pub(super) struct Running {
    stack: Stack,
    /// Let go after the stack has ended.
    _claim: Claim,
    /// The bundle's name by now.
    pub(super) name: String,
    /// Names it has had.
    names: u32,
    /// Whose accounts were used under this name.
    pub(super) used: BTreeSet<String>,
    /// What the clocks were last set to.
    pub(super) clock_ms: Option<u64>,
}

impl Envoy<'_> {
    /// A stack in which nobody has used the accounts of this case.
    pub(super) fn ready(&mut self, case: &Case) -> Result<(), String> {
        let needed = subjects(case, &self.suite.bundle);
        // What hashes are made with comes from the text of the policy, and a name is a part of that.
        if tells_a_hash(case)
            && self.running.as_ref().is_some_and(|running| running.names > 1 || running.knows(&needed))
        {
            self.running = None;
        }
        self.start(&needed)
    }

    /// A stack in which nobody has used these accounts.
    pub(super) fn start(&mut self, needed: &BTreeSet<String>) -> Result<(), String> {
        match &self.running {
            Some(running) if !running.knows(needed) => Ok(()),
            Some(_) => self.rename(),
            None => self.begin(),
        }
    }

    fn begin(&mut self) -> Result<(), String> {
        self.running = None;
        let claim = Claim::new()?;
        self.settings.ports = claim.ports();
        self.settings.policy.clone_from(&self.suite.text);
        self.started = self.started.saturating_add(1);
        self.settings.state = self.root.join(self.started.to_string());
        match fs::remove_dir_all(&self.settings.state) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("cannot empty `{}`: {error}", self.settings.state.display()));
            }
            _ => {}
        }
        self.tell_collector("")?;
        let stack =
            Stack::start(&self.settings, &self.stop.asked, &mut std::io::sink()).map_err(|error| error.to_string())?;
        let name = self.suite.bundle.name.clone();
        self.running = Some(Running { stack, _claim: claim, name, names: 1, used: BTreeSet::new(), clock_ms: None });
        Ok(())
    }

    /// Goes on under another name, or begins anew where there is no room for one.
    fn rename(&mut self) -> Result<(), String> {
        // Until its first call the next case finds the machine's clock, as in a stack that has just started.
        self.set_clocks(None, true)?;
        let Some(running) = &mut self.running else { return self.begin() };
        let names = running.names.saturating_add(1);
        let name = format!("{}+{names}", self.suite.bundle.name);
        let Some(policy) = policy::renamed(&self.suite.text, &name) else { return self.begin() };
        self.settings.policy = policy;
        running.stack.renew(&self.settings, &self.stop.asked).map_err(|error| error.to_string())?;
        running.used.clear();
        (running.name, running.names) = (name, names);
        Ok(())
    }

    /// Remembers whose accounts this case has used.
    pub(super) fn used(&mut self, case: &Case, observed: &Observed) {
        let bundle = &self.suite.bundle;
        let by_quota = observed.by.as_ref().is_some_and(|by| super::quota(&case.who, &case.call, by, bundle).is_some());
        if (observed.admitted || by_quota || !case.used.is_empty() || !case.before.is_empty())
            && let Some(running) = &mut self.running
        {
            running.used.append(&mut subjects(case, bundle));
        }
    }
}

impl Running {
    /// Whether one of these accounts was used.
    fn knows(&self, accounts: &BTreeSet<String>) -> bool {
        !self.used.is_disjoint(accounts)
    }
}
