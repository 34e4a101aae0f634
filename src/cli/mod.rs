//! The verbs of the `farebox` binary.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod run;
pub mod stack;
pub mod upstream;

/// What a process says by its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, nothing to complain about.
    Fine,
    /// 1: it could not run.
    CouldNotRun,
    /// 2: the policy is invalid.
    PolicyInvalid,
    /// 3: a test failed.
    TestFailed,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Fine => 0,
            Exit::CouldNotRun => 1,
            Exit::PolicyInvalid => 2,
            Exit::TestFailed => 3,
        })
    }
}

#[derive(Debug, Parser)]
#[command(name = "farebox", version, about)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Args),
    Upstream(upstream::Args),
}

/// Runs the verb that the command line names.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let exit = run(&arguments.verb, &mut out, &mut err);
    exit.into()
}

fn run(verb: &Verb, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    match verb {
        Verb::Run(args) => run::run(args, out, err),
        Verb::Upstream(args) => upstream::run(args, out, err),
    }
}
