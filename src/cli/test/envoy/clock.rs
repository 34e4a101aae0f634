//! The clocks of the filter and of the collector, which a case may say stand at a moment.

use std::collections::BTreeSet;
use std::fs;

use super::Envoy;

/// Where a filter with test hooks has its clock set: `/farebox-test/clock/1795608000000`, or `…/real`.
const CLOCK: &str = "/farebox-test/clock/";

impl Envoy<'_> {
    /// Whether the filter's clock can be set: only that of a build with test hooks.
    pub(super) fn has_clock(&mut self) -> bool {
        if self.has_clock.is_none() && self.start(&BTreeSet::new()).is_ok() {
            self.has_clock = Some(self.set_filter("real").is_ok());
        }
        // What does not start says why when the case is carried out.
        self.has_clock.unwrap_or(true)
    }

    fn set_filter(&self, moment: &str) -> Result<(), String> {
        let path = format!("{CLOCK}{moment}");
        let said = self.text(self.settings.ports.http, &path)?;
        if said == moment { Ok(()) } else { Err("the filter has no clock that can be set".to_owned()) }
    }

    pub(super) fn tell_collector(&self, moment: &str) -> Result<(), String> {
        let Some(clock) = &self.settings.clock else { return Ok(()) };
        let folder = clock.parent().map_or(Ok(()), fs::create_dir_all);
        let written = folder.and_then(|()| fs::write(clock, moment));
        written.map_err(|error| format!("cannot write `{}`: {error}", clock.display()))
    }

    /// Sets both clocks: the collector's stands there, and the filter's goes on from there with its next call. A moment
    /// that both are at or beyond already is left alone: time does not go back within a case. Before its `first` call the
    /// clocks are those of another case.
    pub(super) fn set_clocks(&mut self, at_ms: Option<u64>, first: bool) -> Result<(), String> {
        let known = self.running.as_ref().and_then(|running| running.clock_ms);
        if !self.has_clock() || at_ms == known && !first {
            return Ok(());
        }
        let moment = at_ms.map(|at_ms| at_ms.to_string());
        self.tell_collector(moment.as_deref().unwrap_or_default())?;
        self.set_filter(moment.as_deref().unwrap_or("real"))?;
        if let Some(running) = &mut self.running {
            running.clock_ms = at_ms;
        }
        Ok(())
    }
}
