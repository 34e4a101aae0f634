//! `farebox usage`: what was used, as the collector's ledger has it.

use std::io::Write;
use std::time::Duration;

use super::Exit;
use super::columns::columns;
use crate::collector::store::usage::{Answer, By, Used};

/// Show what was used, by seat, organisation, model or day.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the collector is.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub collector: String,
    /// What to tell apart.
    #[arg(long, value_name = "WHAT", default_value = "seat", value_parser = ["seat", "org", "model", "day"])]
    pub by: String,
    /// First moment of admission: a date, an RFC 3339 time or Unix milliseconds.
    #[arg(long, value_name = "WHEN")]
    pub from: Option<String>,
    /// The first moment after it.
    #[arg(long, value_name = "WHEN")]
    pub to: Option<String>,
    /// Zone of dates and days; UTC when not given.
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// Only this organisation.
    #[arg(long)]
    pub org: Option<String>,
    /// Only this seat.
    #[arg(long)]
    pub seat: Option<String>,
    /// Only this model.
    #[arg(long)]
    pub model: Option<String>,
    /// Only this bundle.
    #[arg(long)]
    pub bundle: Option<String>,
    /// Print the collector's answer as it is.
    #[arg(long)]
    pub json: bool,
}

/// Asks the collector and prints a table, or its JSON.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let printed = ask(args).and_then(|body| {
        let text = if args.json { body + "\n" } else { table(&read(&body)?) };
        out.write_all(text.as_bytes()).map_err(|error| format!("cannot print: {error}"))
    });
    match printed {
        Ok(()) => Exit::Fine,
        Err(why) => {
            let _ = writeln!(err, "farebox usage: {why}");
            Exit::CouldNotRun
        }
    }
}

fn ask(args: &Args) -> Result<String, String> {
    let url = format!("{}/v1/usage", args.collector.trim_end_matches('/'));
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .new_agent();
    let mut request = agent.get(&url).query("by", &args.by);
    for (name, value) in [
        ("from", &args.from),
        ("to", &args.to),
        ("zone", &args.zone),
        ("org", &args.org),
        ("seat", &args.seat),
        ("model", &args.model),
        ("bundle", &args.bundle),
    ] {
        if let Some(value) = value {
            request = request.query(name, value);
        }
    }
    let mut answer = request.call().map_err(|error| format!("no answer from the collector at `{url}`: {error}"))?;
    let body =
        answer.body_mut().read_to_string().map_err(|error| format!("the answer of `{url}` broke off: {error}"))?;
    if answer.status().is_success() {
        return Ok(body);
    }
    let why = serde_json::from_str(&body)
        .ok()
        .and_then(|problem: serde_json::Value| Some(problem.get("error")?.as_str()?.to_owned()));
    Err(why.unwrap_or_else(|| format!("`{url}` answered with status {}: is it a collector?", answer.status().as_u16())))
}

fn read(body: &str) -> Result<Answer, String> {
    serde_json::from_str(body).map_err(|error| format!("the collector's answer is not understood: {error}"))
}

/// Names to the left, numbers to the right, a line of totals, and what is missing.
fn table(answer: &Answer) -> String {
    let names: &[&str] = match answer.by {
        By::Seat => &["seat", "org"],
        By::Org => &["org"],
        By::Model => &["model"],
        By::Day => &["day"],
    };
    let numbers = ["requests", "estimated", "input", "cache read", "cache write", "output", "reasoning", "credits"];
    let mut lines = vec![names.iter().chain(&numbers).map(|&name| name.to_owned()).collect::<Vec<_>>()];
    lines.extend(answer.rows.iter().map(|row| cells(row, answer.by)));
    let mut total = vec![String::new(); names.len()];
    total.iter_mut().take(1).for_each(|first| "total".clone_into(first));
    total.extend(figures(&answer.total));
    lines.push(total);

    let mut text = columns(&lines, 0, names.len());
    for (what, count, meaning) in [
        ("lost", answer.losses.proven, "proven: the records of these exchanges will not come"),
        ("rejected", answer.losses.rejected, "these are no records of the wire format"),
        ("in conflict", answer.losses.conflicts, "they came under the id of another record, which was kept"),
    ] {
        if count > 0 {
            text.push_str(&format!("{what}: {count} ({meaning})\n"));
        }
    }
    text
}

fn cells(row: &Used, by: By) -> Vec<String> {
    let names = match by {
        By::Seat => vec![&row.seat, &row.org],
        By::Org => vec![&row.org],
        By::Model => vec![&row.model],
        By::Day => vec![&row.day],
    };
    let printable = |name: &Option<String>| match name.as_deref() {
        None | Some("") => "-".to_owned(),
        // Names come from requests in part (models do): nothing in them may steer a terminal.
        Some(name) => name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
    };
    names.into_iter().map(printable).chain(figures(row)).collect()
}

fn figures(used: &Used) -> [String; 8] {
    [used.requests, used.estimated, used.input, used.cache_read, used.cache_write, used.output, used.reasoning]
        .map(|figure| figure.to_string())
        .into_iter()
        .chain([used.credits.to_string()])
        .collect::<Vec<_>>()
        .try_into()
        .unwrap_or_default()
}
