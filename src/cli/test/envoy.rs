//! A real Envoy as a host of cases.

use std::path::PathBuf;

use super::{Host, Observed, Suite};
use crate::policy::Case;

/// What to start, and where to keep its state.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// The Envoy binary; if not given, the one in target/venv
    #[arg(long, env = "ENVOY", default_value = "target/venv/bin/envoy")]
    pub envoy_binary: PathBuf,
}

/// todo
#[derive(Debug)]
pub struct Envoy;

impl Envoy {
    /// todo
    pub fn new(_settings: &Settings, _suite: &Suite) -> Result<Self, String> {
        Err("not yet".to_owned())
    }
}

impl Host for Envoy {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn cannot(&self, _case: &Case) -> Option<String> {
        None
    }

    fn run(&mut self, _case: &Case) -> Result<Observed, String> {
        Err("not yet".to_owned())
    }
}
