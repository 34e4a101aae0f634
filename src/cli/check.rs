//! `farebox check`: all that is wrong with a policy, in one run.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::Exit;
use crate::policy::{self, Bundle, Diagnostic, LARGEST};

/// What to check, and how to say it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy, YAML or JSON; `-` reads standard input.
    pub policy: PathBuf,
    /// How faults are written to stderr.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The policy in force, which this one is to follow: plans that were sold stay as they are, and no quota loses its
    /// counters unsaid. A running filter makes the same check.
    #[arg(long, value_name = "POLICY")]
    pub against: Option<PathBuf>,
}

/// How faults are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: a line for the fault and one for the help.
    Text,
    /// For programs: one JSON object a line, with `code`, `file`, `line`, `column`, `message` and `help`.
    Json,
}

/// Checks a policy. Silent when it is in order.
pub fn run(args: &Args, _out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let checked = compiled(&args.policy).and_then(|new| {
        let Some(old) = &args.against else { return Ok(()) };
        let faults = new.charter.follow(&compiled(old)?.charter, &args.policy.display().to_string());
        if faults.is_empty() { Ok(()) } else { Err(Failed::Invalid(faults)) }
    });
    match checked {
        Ok(()) => Exit::Fine,
        Err(Failed::Unread(reason)) => {
            let _ = writeln!(err, "error: {reason}");
            Exit::CouldNotRun
        }
        Err(Failed::Invalid(faults)) => {
            // A reader that has gone away does not change the verdict.
            let _ = write_faults(&faults, args.format, err);
            Exit::PolicyInvalid
        }
    }
}

enum Failed {
    Unread(String),
    Invalid(Vec<Diagnostic>),
}

fn compiled(path: &Path) -> Result<Bundle, Failed> {
    let text = read(path).map_err(Failed::Unread)?;
    policy::compile(&text, &path.display().to_string()).map_err(Failed::Invalid)
}

/// The text of a policy file, or why there is none, in one line that names the file.
pub fn read(path: &Path) -> Result<String, String> {
    // One byte more than allowed, so that the fault is the compiler's to tell.
    let most = u64::try_from(LARGEST).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let taken = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    taken.map_err(|reason| format!("cannot read `{}`: {reason}", path.display()))?;
    String::from_utf8(bytes).map_err(|fault| {
        let valid = fault.utf8_error().valid_up_to();
        format!("cannot read `{}`: byte {valid} and what follows is no UTF-8; save the file as UTF-8", path.display())
    })
}

/// Writes faults in the order of the file.
pub fn write_faults(faults: &[Diagnostic], format: Format, err: &mut dyn Write) -> std::io::Result<()> {
    for fault in faults {
        match format {
            Format::Text => writeln!(err, "{fault}")?,
            Format::Json => writeln!(err, "{}", serde_json::to_string(fault)?)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(policy: &str, format: Format) -> (Exit, String) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run(&Args { policy: root.join(policy), format, against: None }, &mut out, &mut err);
        assert!(out.is_empty());
        (exit, String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_policy_in_order_is_met_with_silence() {
        assert_eq!(checked("examples/quickstart/policy.yaml", Format::Text), (Exit::Fine, String::new()));
    }

    #[test]
    fn faults_are_told_to_people_and_to_programs() {
        let (exit, said) = checked("tests/diagnostics/plan-unused.yaml", Format::Text);
        assert_eq!(exit, Exit::PolicyInvalid);
        assert!(said.contains("plan-unused.yaml:16:3: error[unused]: ") && said.contains("\n  help: "), "{said}");
        let (exit, said) = checked("tests/diagnostics/assign-names.yaml", Format::Json);
        assert_eq!((exit, said.lines().count()), (Exit::PolicyInvalid, 4));
        let first: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        assert_eq!((first["code"].as_str(), first["line"].as_u64()), (Some("unknown-name"), Some(20)));
    }

    #[test]
    fn a_policy_is_held_against_the_one_in_force() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let against = |policy: &str, old: &str| {
            let args = Args { policy: root.join(policy), format: Format::Text, against: Some(root.join(old)) };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            (run(&args, &mut out, &mut err), String::from_utf8(err).unwrap())
        };
        let quickstart = "examples/quickstart/policy.yaml";
        assert_eq!(against(quickstart, quickstart), (Exit::Fine, String::new()));
        let (exit, said) = against(quickstart, "examples/plans/minimax-token-plan/policy.yaml");
        assert!(exit == Exit::PolicyInvalid && said.contains("error[succession]: the bundle was called"), "{said}");
        assert_eq!(against(quickstart, "no/such/policy.yaml").0, Exit::CouldNotRun);
    }

    #[test]
    fn what_cannot_be_read_is_no_invalid_policy() {
        let (exit, said) = checked("no/such/policy.yaml", Format::Text);
        assert_eq!(exit, Exit::CouldNotRun);
        assert!(said.starts_with("error: cannot read `") && said.lines().count() == 1, "{said}");
    }
}
