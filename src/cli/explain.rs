//! `farebox explain`: what a policy comes to for a seat, by how much each quota can be passed, and what models cost: also
//! those that nobody has thought of yet and that fall to a glob.

mod limits;

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use super::Exit;
use super::check::{Format, read, write_faults};
use super::columns::columns;
use crate::collector::amount::Amount;
use crate::engine::bill::Bill;
use crate::engine::overshoot::{self, Bound};
use crate::policy;
use crate::policy::bundle::{
    Bundle, By, HoldSize, Model, OnUnknown, Pack, Per, Plan, PlanQuota, Relief, Role, SESSIONS, Seat, StreamHold,
    Voucher,
};
use crate::policy::price::{FactorLine, Rates};
use crate::quota::{AnniversaryPeriod, CalendarPeriod, Window};

/// What to explain.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy, YAML or JSON; `-` reads standard input.
    pub policy: PathBuf,
    /// Only this seat; else every plan that a seat has, once.
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    pub seat: Option<String>,
    /// What this model falls to in the catalogue, and what it costs.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
}

/// All columns are words.
const ALL: usize = usize::MAX;

/// Prints what the policy comes to.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let text = match read(&args.policy) {
        Ok(text) => text,
        Err(reason) => {
            let _ = writeln!(err, "error: {reason}");
            return Exit::CouldNotRun;
        }
    };
    let bundle = match policy::compile(&text, &args.policy.display().to_string()) {
        Ok(bundle) => bundle,
        Err(faults) => {
            let _ = write_faults(&faults, Format::Text, err);
            return Exit::PolicyInvalid;
        }
    };
    let explained = match (&args.seat, &args.model) {
        (_, Some(name)) => Ok(model(&bundle, name)),
        (Some(name), None) => seat(&bundle, name),
        (None, None) => Ok(plans(&bundle)),
    };
    match explained {
        Ok(text) => match out.write_all(text.as_bytes()) {
            Ok(()) => Exit::Fine,
            Err(_) => Exit::CouldNotRun,
        },
        Err(reason) => {
            let _ = writeln!(err, "error: {reason}");
            Exit::CouldNotRun
        }
    }
}

/// Each plan once, by the first seat that has it.
fn plans(bundle: &Bundle) -> String {
    let of = |at: usize| bundle.seats.iter().filter(move |seat| seat.subscription.is_some_and(|has| has.plan == at));
    let mut said = String::new();
    for (at, plan) in bundle.plans.iter().enumerate() {
        let Some(first) = of(at).next() else { continue };
        let seats = match of(at).count() {
            1 => "1 seat".to_owned(),
            many => format!("{many} seats"),
        };
        let _ = writeln!(said, "plan {}, of {seats}", plan.label());
        said.push_str(&quotas(bundle, plan, first));
        said.push('\n');
    }
    said.push_str(&catalogue(bundle));
    said.push('\n');
    said.push_str(&everywhere(bundle));
    said
}

/// What every line of the catalogue prices, the first that fits in front.
fn catalogue(bundle: &Bundle) -> String {
    let mut said = String::from("models: the first that fits, else the call is refused\n");
    let mut lines = Vec::new();
    for row in &bundle.models.rows {
        let of = if row.glob.is_some() { "every other name like it" } else { "this name" };
        let (mut pattern, mut of) = (row.pattern.clone(), of.to_owned());
        for price in prices(row) {
            lines.push([vec![std::mem::take(&mut pattern), std::mem::take(&mut of)], price].concat());
        }
    }
    said.push_str(&columns(&lines, 2, ALL));
    said
}

fn seat(bundle: &Bundle, name: &str) -> Result<String, String> {
    let seat = bundle.seats.iter().find(|seat| seat.name == name);
    let seat = seat.ok_or_else(|| format!("the policy has no seat `{name}`; `seats` lists them"))?;
    let Some(plan) = bundle.plan_for(seat) else {
        return Ok(format!("seat {name} has no plan: every call is refused\n"));
    };
    let accounts: Vec<&str> = seat.subjects.iter().map(String::as_str).filter(|subject| !subject.is_empty()).collect();
    let said = format!("seat {name}: plan {}, accounts {}\n", plan.label(), accounts.join(", "));
    Ok(said + &quotas(bundle, plan, seat) + "\n" + &everywhere(bundle))
}

fn quotas(bundle: &Bundle, plan: &Plan, seat: &Seat) -> String {
    let bill = Bill::all(bundle, plan, seat, 0, 0);
    let drawn = |pack: &&Pack| {
        plan.packs.iter().any(|here| here.unit == pack.fund.unit && bill.subject(here.per) == pack.subject)
    };
    let packs = bundle.packs.iter().filter(drawn).map(|pack| &pack.fund);
    let mut lines = Vec::new();
    let (mut passed, mut owed) = (Vec::new(), false);
    for quota in plan.quotas.iter().chain(packs) {
        let fund = plan.quotas.iter().find(|fund| Some(fund.quota.id) == quota.of);
        let role = match (quota.role, fund) {
            (Role::Fund, _) => "fund".to_owned(),
            (Role::Cap, None) => "cap".to_owned(),
            (Role::Cap, Some(fund)) => format!("cap of {}", fund.name),
        };
        let scope = if overshoot::is_shared(quota) { "all Envoys together" } else { "each Envoy for itself" };
        let amount = format!("{} {}", Amount::from(quota.quota.limit), quota.unit.words());
        let subject = bill.subject(quota.per);
        let (whose, _) = subject.split_once('/').unwrap_or((&subject, ""));
        let cells = [role.as_str(), &quota.name, &amount, &format!("per {whose}"), &window(&quota.quota.window), scope];
        lines.push(cells.map(str::to_owned).to_vec());
        let ways = passing(bundle, plan, quota);
        owed |= !ways.is_empty() && quota.begins_anew();
        passed.extend(ways);
    }
    let mut said = columns(&lines, 2, ALL);
    let _ = writeln!(said, "  {}", holds(plan));
    for line in limits::lines(plan, bundle.headers) {
        let _ = writeln!(said, "  {line}");
    }
    for (who, steps) in std::iter::once(("no fund can pay", &plan.empty)).chain(fulls(plan)) {
        if !steps.is_empty() {
            let _ = writeln!(said, "  when {who}: {}", steps.iter().map(relief).collect::<Vec<_>>().join(", then "));
        }
    }
    if plan.quotas.iter().any(|quota| quota.per == Per::Session) {
        let _ = writeln!(
            said,
            "  the sessions of a seat share {SESSIONS} accounts, in which two may meet and so have one quota; calls without a \
             session have one more"
        );
    }
    if passed.is_empty() {
        said.push_str("  no quota can be passed\n");
    } else {
        said.push_str("  quotas can be passed:\n");
        said.push_str(&columns(&passed, 4, ALL));
    }
    if owed {
        said.push_str(
            "  what a calendar, anniversary or first-use window is charged too much is a debt, but for what is observed or \
             throttled: the windows after it pay it, so that over all of them a quota is passed as far as in one, and by \
             calls that run as one ends; what no fund has, the last such fund bears\n",
        );
    }
    said
}

fn fulls(plan: &Plan) -> impl Iterator<Item = (&str, &Vec<Relief>)> {
    plan.quotas.iter().map(|quota| (quota.name.as_str(), &quota.full))
}

fn passing(bundle: &Bundle, plan: &Plan, quota: &PlanQuota) -> Vec<Vec<String>> {
    let unit = quota.unit.words();
    let by = |bound: Bound| match bound {
        Bound::EachProcess(micro) => format!("by {} {unit} in each Envoy", Amount::from(micro)),
        Bound::EachCall(more) => format!("by each call: {}", more.words()),
        Bound::Pace(micro, unit, ms) => {
            format!("by the calls that {} {} in {} allow, in each Envoy", Amount::from(micro), unit.words(), span(ms))
        }
        Bound::Unbounded => "as far as calls go".to_owned(),
    };
    let ways = overshoot::of(bundle, plan, quota).into_iter();
    ways.map(|way| vec![quota.name.clone(), way.when.to_owned(), by(way.by)]).collect()
}

/// What is done for those who come later.
const SHARE: &str = "; while others run there, or where it asks for more than there is, to half of what is left, but not \
                     below what is assumed where none is stated, nor four times what calls of its model lately wrote";

fn holds(plan: &Plan) -> String {
    let hold = &plan.hold;
    let expects = plan.quotas.iter().any(|quota| quota.hold == HoldSize::Expected);
    let stream = match hold.stream {
        StreamHold::Full => "all of its limit".to_owned(),
        StreamHold::Slices { slice, .. } => format!("slices of {slice} tokens, and is cut where there is none"),
    };
    let open = match hold.assume_input {
        Some(ceiling) => format!("is taken to read {ceiling} tokens"),
        None => "is refused where its input counts".to_owned(),
    };
    format!(
        "a call holds its prompt and its output limit ({} tokens where it states none; lowered to what is left, to {} at \
         least{}){}; one that points at what cannot be read {open}; a stream holds {stream}",
        hold.unstated_output,
        hold.shrink_to,
        if hold.shares { SHARE } else { "" },
        if expects { ", and what is expected of it where a quota says so" } else { "" }
    )
}

fn relief(relief: &Relief) -> String {
    match relief {
        Relief::Deny => "deny".to_owned(),
        Relief::Wait(ms) => format!("wait {ms} ms at most"),
        Relief::Throttle(bucket) => {
            let Window::Bucket { period_ms, .. } = bucket.quota.window else { return "throttle".to_owned() };
            let (limit, unit) = (Amount::from(bucket.quota.limit), bucket.unit.words());
            format!("throttle to {limit} {unit} in {}", span(period_ms))
        }
        Relief::Downgrade(model) => format!("downgrade to {model}"),
        Relief::Overage(micro, unit) => format!("overage of {} {}", Amount::from(*micro), unit.words()),
        Relief::Observe => "observe".to_owned(),
        Relief::NextFund => "next fund".to_owned(),
    }
}

/// What holds for every plan.
fn everywhere(bundle: &Bundle) -> String {
    let mut said = String::new();
    for Voucher { by, unreadable, .. } in &bundle.vouchers {
        let By::Header { name, from } = by else { continue };
        let from: Vec<String> = from.iter().map(ToString::to_string).collect();
        let then = if *unreadable == OnUnknown::Deny { "refused" } else { "passed over, and counted" };
        let _ = writeln!(
            said,
            "the header `{name}` says who calls on connections from {}; from elsewhere it is {then}",
            from.join(", ")
        );
    }
    if bundle.collector.is_none() {
        said.push_str("there is no collector: every Envoy has all limits for itself, and its counters end with it\n");
    }
    said.push_str(
        "when an Envoy is killed, what it was granted and had not used counts as used until its window ends\n",
    );
    said
}

fn model(bundle: &Bundle, name: &str) -> String {
    let Some(row) = bundle.models.find(name) else {
        return format!("{name} falls to no line of the catalogue: calls of it are refused\n");
    };
    let how = if row.glob.is_some() { "the glob" } else { "the line" };
    format!("{name} falls to {how} `{}`\n{}", row.pattern, columns(&prices(row), 2, ALL))
}

fn prices(row: &Model) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for (what, rates) in [("credits", &row.credits), ("money", &row.money)] {
        lines.extend(rated(rates).into_iter().map(|(of, rate)| vec![what.to_owned(), of.to_owned(), rate]));
    }
    for line in &row.factor {
        let factor = Amount::from(line.factor).to_string();
        lines.push(vec!["factor".to_owned(), factor, when(line)]);
    }
    if lines.is_empty() {
        lines.push(vec!["no credits and no money".to_owned()]);
    }
    lines
}

/// When a line of a model's factor applies.
fn when(line: &FactorLine) -> String {
    let minutes = |at: u16| format!("{:02}:{:02}", at / 60, at % 60);
    let mut said = Vec::new();
    if let Some((from, until)) = line.band.times {
        said.push(format!("{}-{} in {}", minutes(from), minutes(until), line.band.zone));
    }
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let days: Vec<&str> = names.into_iter().zip(line.band.days).filter(|(_, on)| *on).map(|(name, _)| name).collect();
    if !days.is_empty() {
        said.push(format!("on {}", days.join(", ")));
    }
    let (from, until) = line.dates;
    if from > 0 {
        said.push(format!("from {}", moment(from)));
    }
    if until < u64::MAX {
        said.push(format!("until {}", moment(until)));
    }
    let apis: Vec<String> = line.apis.iter().map(|named| named.name().replace('-', " ")).collect();
    if !apis.is_empty() {
        said.push(format!("asked as {}", apis.join(" or ")));
    }
    if let Some(tokens) = line.above {
        said.push(format!("inputs above {tokens} tokens"));
    }
    if said.is_empty() { "else".to_owned() } else { said.join(", ") }
}

/// Rates above zero, for a million of each.
fn rated(rates: &Rates) -> Vec<(&'static str, String)> {
    let all = [
        ("input", rates.input),
        ("cache read", rates.cache_read),
        ("cache write", rates.cache_write),
        ("cache write 1h", if rates.cache_write_1h == rates.cache_write { 0 } else { rates.cache_write_1h }),
        ("output", rates.output),
        ("reasoning", rates.reasoning),
        ("request", rates.request),
        ("prompt", rates.prompt),
        ("tool call", rates.tool_call),
        ("image", rates.image),
        ("character", rates.character),
        ("second", rates.second),
    ];
    let priced = all.into_iter().filter(|(_, rate)| *rate > 0);
    priced.map(|(of, rate)| (of, format!("{} a million", Amount::from(rate)))).collect()
}

/// A window in the words of a policy.
fn window(window: &Window) -> String {
    match window {
        Window::Calendar { period, zone } => {
            let period = match period {
                CalendarPeriod::Minute => "minute",
                CalendarPeriod::Hour => "hour",
                CalendarPeriod::Day => "day",
                CalendarPeriod::Week { .. } => "week",
                CalendarPeriod::Month => "month",
                CalendarPeriod::Year => "year",
            };
            format!("calendar {period} in {zone}")
        }
        Window::Anniversary { every, anchor, zone } => {
            let period = match every {
                AnniversaryPeriod::Month => "month",
                AnniversaryPeriod::Year => "year",
            };
            format!("{period} from {anchor} in {zone}")
        }
        Window::FirstUse { length_ms } => format!("{} from first use", span(*length_ms)),
        Window::Sliding { length_ms } => format!("any {}", span(*length_ms)),
        Window::Bucket { period_ms, burst } => {
            format!("every {}, at once {}", span(*period_ms), Amount::from(*burst))
        }
        Window::Term { from_ms, until_ms } => format!("from {} until {}", moment(*from_ms), moment(*until_ms)),
        Window::Lifetime => "for ever".to_owned(),
        Window::Concurrent => "at a time".to_owned(),
    }
}

/// RFC 3339 in UTC.
fn moment(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "ever".to_owned(), |at| at.to_string())
}

/// A duration in the largest unit that it is a whole number of.
fn span(ms: u64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let unit = units.iter().find(|(_, length)| ms.is_multiple_of(*length));
    unit.map_or_else(|| format!("{ms}ms"), |(name, length)| format!("{}{name}", ms / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(seat: Option<&str>, model: Option<&str>) -> (Exit, String, String) {
        let policy = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart/policy.yaml");
        let args = Args { policy, seat: seat.map(str::to_owned), model: model.map(str::to_owned) };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run(&args, &mut out, &mut err);
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_seat_is_explained() {
        let (exit, said, _) = explained(Some("bob"), None);
        assert_eq!(exit, Exit::Fine);
        insta::with_settings!({snapshot_path => "../../tests/golden/cli", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("explain-seat", said);
        });
        let (exit, _, said) = explained(Some("nobody"), None);
        assert_eq!(
            (exit, said.as_str()),
            (Exit::CouldNotRun, "error: the policy has no seat `nobody`; `seats` lists them\n")
        );
    }

    #[test]
    fn what_sessions_share_is_said_where_a_quota_is_theirs() {
        let policy = include_str!("../../examples/quickstart/policy.yaml");
        let of_session =
            policy.replacen("caps:\n", "caps:\n        run: {limit: 9 requests, per: session, window: lifetime}\n", 1);
        let told = |policy: &str| plans(&policy::compile(policy, "p").unwrap()).matches("share 64 accounts").count();
        assert_eq!((told(policy), told(&(of_session + "session: [x-session]\n"))), (0, 1));
    }

    #[test]
    fn every_plan_is_explained_once() {
        let (_, said, _) = explained(None, None);
        assert_eq!(said.matches("plan team, of ").count() + said.matches("plan trial, of ").count(), 2, "{said}");
    }

    #[test]
    fn every_glob_says_what_it_would_price() {
        let (_, said, _) = explained(None, None);
        let catalogue = said.split("models: the first that fits").nth(1).unwrap();
        let bundle = policy::compile(include_str!("../../examples/quickstart/policy.yaml"), "p").unwrap();
        for row in &bundle.models.rows {
            let of = if row.glob.is_some() { "every other name like it" } else { "this name" };
            let line = catalogue.lines().find(|line| line.split_whitespace().next() == Some(row.pattern.as_str()));
            assert!(line.is_some_and(|line| line.contains(of)), "{}: {catalogue}", row.pattern);
        }
        assert!(bundle.models.rows.iter().any(|row| row.glob.is_some()), "the example has a glob");
    }

    #[test]
    fn a_model_says_where_it_falls() {
        let (_, said, _) = explained(None, Some("demo-something-new"));
        assert!(said.starts_with("demo-something-new falls to the glob `demo-*`\n"), "{said}");
        let (_, said, _) = explained(None, Some("nothing"));
        assert!(said.contains("calls of it are refused"), "{said}");
    }

    #[test]
    fn durations_are_told_in_whole_units() {
        assert_eq!([span(86_400_000), span(18_000_000), span(90_000), span(1)], ["1d", "5h", "90s", "1ms"]);
    }
}
