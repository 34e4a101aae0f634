//! The command line: one file a verb, each a library function that tests call without a process.

pub mod check;
pub mod collector;
mod columns;
pub mod count;
pub mod explain;
pub mod run;
pub mod stack;
pub mod test;
pub mod upstream;
pub mod usage;

use std::io::Write;
use std::process::{ExitCode, Termination};

use clap::Parser;

/// How a command ended. These are the only exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: all is well.
    Fine = 0,
    /// 1: the command could not run: wrong arguments, a file that cannot be read, a port that is taken.
    CouldNotRun = 1,
    /// 2: the policy has faults, which are on stderr.
    PolicyInvalid = 2,
    /// 3: a test of the policy failed.
    TestFailed = 3,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Fine => 0,
            Self::CouldNotRun => 1,
            Self::PolicyInvalid => 2,
            Self::TestFailed => 3,
        })
    }
}

/// A token meter with a turnstile for stock Envoy.
#[derive(Debug, Parser)]
#[command(name = "farebox", version, about, arg_required_else_help = true)]
#[command(after_help = "exit codes: 0 fine, 1 could not run, 2 policy invalid, 3 test failed")]
pub enum Farebox {
    /// Check a policy: silent when it is in order, else every fault with its place and what to do.
    Check(check::Args),
    /// Serve the reference collector: records in, grants out, usage to look at.
    Collector(collector::Args),
    /// Count the tokens of files or standard input.
    Count(count::Args),
    /// Explain a policy: what a seat has, by how much each quota can be passed, what a model costs.
    Explain(explain::Args),
    /// Run the whole product on this machine: stock Envoy with the filter, the collector, a model stand-in.
    Run(run::Args),
    /// Run a policy's cases: in the simulator, or through a real Envoy.
    Test(test::Args),
    /// Serve a model stand-in that speaks OpenAI and Anthropic.
    Upstream(upstream::Args),
    /// Show what was used, by seat, organisation, model or day.
    Usage(usage::Args),
}

impl Farebox {
    /// Runs the verb. Results go to `out`, everything else to `err`.
    pub fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
        match self {
            Self::Check(args) => check::run(args, out, err),
            Self::Collector(args) => collector::run(args, out, err),
            Self::Count(args) => count::run(args, out, err),
            Self::Explain(args) => explain::run(args, out, err),
            Self::Run(args) => run::run(args, out, err),
            Self::Test(args) => test::run(args, out, err),
            Self::Upstream(args) => upstream::run(args, out, err),
            Self::Usage(args) => usage::run(args, out, err),
        }
    }
}

/// The binary's `main`: reads the arguments, runs the verb, answers the exit code.
pub fn main() -> Exit {
    match Farebox::try_parse() {
        // Not locked: verbs that serve print from several threads.
        Ok(verb) => verb.run(&mut std::io::stdout(), &mut std::io::stderr()),
        // Help and version are no failure, and clap knows which stream they belong to. A closed pipe is nobody's fault.
        Err(told) => {
            let _ = told.print();
            if told.use_stderr() { Exit::CouldNotRun } else { Exit::Fine }
        }
    }
}
