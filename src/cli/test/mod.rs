//! `farebox test`: the cases of a policy, in the simulator or through a real Envoy.
//!
//! A case is carried out by a [`Host`], which answers what was seen; [`compare`] sets that against what the
//! case expects, the same for all hosts. What a host cannot do or see is skipped by name, never passed over.

mod answered;
mod envoy;
mod order;
mod preload;
mod request;
mod simulator;
mod verdict;
mod wire;

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Exit;
use super::check::{self, Format};
use crate::policy::{self, Bundle, Case, Diagnostic};

pub use envoy::Envoy;
pub use simulator::Simulator;
pub use verdict::{Mismatch, Observed, compare};

/// Runs the cases of a policy: those in its `tests`, and those in `NAME.test.yaml` beside `NAME.yaml`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy, YAML or JSON
    pub policy: PathBuf,
    /// Through a real Envoy with the filter, on ports of its own, instead of the simulator
    #[arg(long)]
    pub envoy: bool,
    /// One JSON object a case and one for the sums, for programs
    #[arg(long)]
    pub json: bool,
    /// Only cases with this in their names
    #[arg(long)]
    pub filter: Option<String>,
    /// With --envoy: what to start, and where to keep its state
    #[command(flatten)]
    pub real: envoy::Settings,
}

/// Carries out cases.
pub trait Host {
    /// What it is called in messages.
    fn name(&self) -> &'static str;

    /// Why this case cannot be carried out here, if so.
    fn cannot(&mut self, case: &Case) -> Option<String>;

    /// In which order to carry out these cases, by their places: any will do.
    fn order(&self, cases: &[&(String, Case)]) -> Vec<usize> {
        (0..cases.len()).collect()
    }

    /// Carries out a case, on accounts that nobody has used.
    ///
    /// # Errors
    /// Why it could not be carried out: then no case can.
    fn run(&mut self, case: &Case) -> Result<Observed, String>;
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As expected.
    Passed,
    /// Not as expected.
    Failed(Vec<Mismatch>),
    /// It was not carried out, and why.
    Skipped(String),
}

/// How many cases ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// As expected.
    pub passed: u64,
    /// Not as expected.
    pub failed: u64,
    /// Not carried out.
    pub skipped: u64,
}

/// A policy and its cases, each with the file that it stands in.
#[derive(Debug)]
pub struct Suite {
    /// The policy's text.
    pub text: String,
    /// The policy.
    pub bundle: Bundle,
    /// Its cases, in the order of the files.
    pub cases: Vec<(String, Case)>,
}

/// Why there is no [`Suite`].
#[derive(Debug)]
pub enum Unusable {
    /// A file cannot be read.
    Unread(String),
    /// A file has faults.
    Invalid(Vec<Diagnostic>),
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let suite = match Suite::read(&args.policy) {
        Ok(suite) => suite,
        Err(Unusable::Unread(reason)) => return could_not(err, &reason),
        Err(Unusable::Invalid(faults)) => {
            let format = if args.json { Format::Json } else { Format::Text };
            // A reader that has gone away does not change the verdict.
            let _ = check::write_faults(&faults, format, err);
            return Exit::PolicyInvalid;
        }
    };
    let chosen = suite.chosen(args.filter.as_deref());
    if chosen.is_empty() {
        return could_not(err, &nothing(args, suite.cases.len()));
    }
    let result = if args.envoy {
        match Envoy::new(&args.real, &suite) {
            Ok(mut host) => run_all(&mut host, &suite, &chosen, args.json, out),
            Err(reason) => Err(reason),
        }
    } else {
        run_all(&mut Simulator::new(&suite.bundle), &suite, &chosen, args.json, out)
    };
    match result {
        Ok(Sums { failed: 1.., .. }) => Exit::TestFailed,
        Ok(Sums { passed: 0, .. }) => could_not(err, "every case was skipped, so nothing was tested"),
        Ok(_) => Exit::Fine,
        Err(reason) => could_not(err, &reason),
    }
}

fn could_not(err: &mut dyn Write, reason: &str) -> Exit {
    let _ = writeln!(err, "farebox test: {reason}");
    Exit::CouldNotRun
}

fn nothing(args: &Args, all: usize) -> String {
    let file = args.policy.display();
    match &args.filter {
        Some(filter) if all > 0 => format!("none of the {all} cases of `{file}` has `{filter}` in its name"),
        _ => format!("`{file}` has no cases: write some under `tests`, or in `{}`", beside(&args.policy).display()),
    }
}

impl Suite {
    /// Reads a policy and its cases.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub fn read(path: &Path) -> Result<Self, Unusable> {
        let text = check::read(path).map_err(Unusable::Unread)?;
        let file = path.display().to_string();
        let bundle = policy::compile(&text, &file).map_err(Unusable::Invalid)?;
        let mut cases = named(&file, policy::cases(&text, &file).map_err(Unusable::Invalid)?);
        let beside = beside(path);
        if beside.is_file() {
            let more = check::read(&beside).map_err(Unusable::Unread)?;
            let name = beside.display().to_string();
            cases.extend(named(&name, policy::cases_beside(&text, &file, &more, &name).map_err(Unusable::Invalid)?));
        }
        Ok(Self { text, bundle, cases })
    }

    fn chosen(&self, filter: Option<&str>) -> Vec<&(String, Case)> {
        self.cases.iter().filter(|(_, case)| filter.is_none_or(|filter| case.name.contains(filter))).collect()
    }
}

fn named(file: &str, cases: Vec<Case>) -> Vec<(String, Case)> {
    cases.into_iter().map(|case| (file.to_owned(), case)).collect()
}

/// `policy.test.yaml` for `policy.yaml`.
fn beside(policy: &Path) -> PathBuf {
    let extension = policy.extension().and_then(|extension| extension.to_str()).unwrap_or("yaml");
    policy.with_extension(format!("test.{extension}"))
}

/// Carries out cases and says so, a line a case.
///
/// # Errors
/// Why the host could not go on.
pub fn run_all(
    host: &mut dyn Host,
    suite: &Suite,
    cases: &[&(String, Case)],
    as_json: bool,
    out: &mut dyn Write,
) -> Result<Sums, String> {
    let mut sums = Sums::default();
    for (file, case) in host.order(cases).into_iter().filter_map(|place| cases.get(place)) {
        let ended = match host.cannot(case) {
            Some(reason) => Ended::Skipped(reason),
            None => {
                let observed = host.run(case).map_err(|reason| format!("{file}:{}: {reason}", case.line))?;
                let mismatches = compare(case, &observed, &suite.bundle);
                if mismatches.is_empty() { Ended::Passed } else { Ended::Failed(mismatches) }
            }
        };
        let sum = match &ended {
            Ended::Passed => &mut sums.passed,
            Ended::Failed(_) => &mut sums.failed,
            Ended::Skipped(_) => &mut sums.skipped,
        };
        *sum = sum.saturating_add(1);
        let said = if as_json { as_json_line(file, case, &ended) } else { as_text(file, case, &ended) };
        // A reader that has gone away does not change the verdict.
        let _ = writeln!(out, "{said}");
    }
    let Sums { passed, failed, skipped } = sums;
    let _ = match as_json {
        true => {
            writeln!(out, "{}", json!({"host": host.name(), "passed": passed, "failed": failed, "skipped": skipped}))
        }
        false => writeln!(out, "{passed} passed, {failed} failed, {skipped} skipped"),
    };
    Ok(sums)
}

fn as_text(file: &str, case: &Case, ended: &Ended) -> String {
    match ended {
        Ended::Passed => format!("ok      {}", case.name),
        Ended::Skipped(reason) => format!("skipped {}: {reason}", case.name),
        Ended::Failed(mismatches) => {
            let line = |one: &Mismatch| format!("\n        {}: expected {}, saw {}", one.what, one.expected, one.seen);
            let lines: String = mismatches.iter().map(line).collect();
            format!("FAILED  {} ({file}:{}){lines}", case.name, case.line)
        }
    }
}

fn as_json_line(file: &str, case: &Case, ended: &Ended) -> String {
    let mut line = json!({"name": case.name, "file": file, "line": case.line});
    let (result, more) = match ended {
        Ended::Passed => ("passed", None),
        Ended::Skipped(reason) => ("skipped", Some(("reason", json!(reason)))),
        Ended::Failed(mismatches) => {
            let each = |one: &Mismatch| json!({"what": one.what, "expected": one.expected, "seen": one.seen});
            ("failed", Some(("mismatches", mismatches.iter().map(each).collect())))
        }
    };
    if let Some(line) = line.as_object_mut() {
        line.insert("result".to_owned(), json!(result));
        line.extend(more.map(|(key, value)| (key.to_owned(), value)));
    }
    line.to_string()
}

#[cfg(test)]
mod tests;
