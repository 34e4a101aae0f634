//! The tokens third of a plan as written: funds, caps, and what happens when they are empty or full.

use super::bundle::{HoldSize, Per, PriceOf, Role, Warn};
use super::diagnostic::{Code, Complaint, Faults, shown};
use super::fields::{Fields, choice, form, list, map, name, switch, text, whole};
use super::models;
use super::plan::{MOST_LINES, PlanText, few};
use super::scalar::{amount, duration, unit};
use super::tree::{Entry, Mark, Node, Spanned};
use super::unit::Unit;
use super::window::{WindowText, window};
use crate::quota::MICRO;

/// A quota as written.
#[derive(Debug)]
pub(super) struct QuotaText {
    pub name: Spanned<String>,
    pub role: Role,
    /// The name it had before: its counters go on under this one.
    pub was: Option<Spanned<String>>,
    /// `None`: at fault, and noted.
    pub terms: Option<Terms>,
}

impl QuotaText {
    /// The name under which its counters are kept.
    pub fn first_name(&self) -> &str {
        self.was.as_ref().map_or(&self.name.value, |was| &was.value)
    }
}

/// What a quota says.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// In micro-units.
    pub limit: u64,
    pub unit: Unit,
    pub per: Spanned<Per>,
    pub window: Spanned<WindowText>,
    /// In micro-units; of a bucket.
    pub burst: Option<u64>,
    /// In micro-units; of a fund.
    pub rollover: u64,
    pub models: Vec<Spanned<String>>,
    pub hold: HoldSize,
    pub full: Vec<Spanned<ReliefText>>,
    /// Whether refused calls count.
    pub rejected: bool,
    /// The fund that a cap is of.
    pub of: Option<Spanned<String>>,
}

/// Packs among the funds, as written.
#[derive(Clone, Debug)]
pub(super) struct PacksText {
    /// In front of this one of the plan's quotas.
    pub before: usize,
    pub unit: Unit,
    pub per: Spanned<Per>,
}

/// What happens instead of a refusal, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReliefText {
    Deny,
    Wait(u64),
    /// Micro-units, their unit, and milliseconds.
    Throttle(u64, Unit, u64),
    Downgrade(String),
    /// Micro-units and their unit.
    Overage(u64, Unit),
    Observe,
    NextFund,
}

/// Reads the `tokens` section of a plan.
pub(super) fn read(node: &Node, what: &str, levels: &[String], plan: &mut PlanText, faults: &mut Faults) {
    let known = ["funds", "empty", "caps", "hold", "prompts", "price", "prices", "round", "warn"];
    let Some(fields) = Fields::of(node, what, &known, faults) else { return };
    for (key, role) in [("funds", Role::Fund), ("caps", Role::Cap)] {
        let Some(node) = fields.optional(key) else { continue };
        let entries = map(node, &fields.path(key), faults).unwrap_or_default();
        few(entries.get(MOST_LINES).map(|entry| entry.at), &fields.path(key), faults);
        for entry in entries.iter().take(MOST_LINES) {
            line(entry, role, &fields.path(key), levels, plan, faults);
        }
    }
    if let Some(node) = fields.optional("empty") {
        plan.empty = reliefs(node, &fields.path("empty"), faults);
        if let Some(next) = plan.empty.iter().find(|step| step.value == ReliefText::NextFund) {
            let message = "the next fund has been tried before the funds are empty";
            faults.add(next.at, Code::Conflict, message, "remove it: it is for `full` of a cap with `of`");
        }
        let funds = || plan.quotas.iter().filter(|quota| quota.role == Role::Fund);
        if funds().next().is_none() && plan.packs.is_empty() {
            let message = "`empty` says what happens without funds, but there is no fund";
            faults.add(fields.key_at("empty"), Code::Conflict, message, "remove it, or define a fund");
        } else if funds().all(|fund| fund.terms.is_some()) {
            let terms: Vec<&Terms> = funds().filter_map(|fund| fund.terms.as_ref()).collect();
            overages_are_borne(&plan.empty, &terms, faults);
        }
    }
    if let Some(node) = fields.optional("hold") {
        (plan.hold, plan.failed_try_at) = super::hold::read(node, &fields.path("hold"), faults);
    }
    if let Some(node) = fields.optional("prompts") {
        plan.continued_prompt = continued(node, &fields.path("prompts"), faults).unwrap_or(0);
    }
    if let Some(node) = fields.optional("warn") {
        plan.warn = warn(node, &fields.path("warn"), faults).unwrap_or_default();
        let fills = |quota: &QuotaText| {
            let window = quota.terms.as_ref().map(|terms| &terms.window.value);
            window.is_none_or(|window| !matches!(window, WindowText::Bucket(_) | WindowText::Concurrent))
        };
        if plan.quotas.is_empty() && plan.packs.is_empty() {
            let help = "remove it, or define a fund or a cap";
            faults.add(fields.key_at("warn"), Code::Conflict, "there is no quota to warn of", help);
        } else if !plan.warn.at.is_empty() && plan.packs.is_empty() && !plan.quotas.iter().any(fills) {
            let message = "no quota of the plan reaches a percent: buckets drain and running calls end all the time";
            let help = "remove `at`, or define a fund, or a cap with another window";
            faults.add(fields.key_at("warn"), Code::Conflict, message, help);
        }
    }
    if let Some(node) = fields.optional("price") {
        let words = [("requested", PriceOf::Requested), ("served", PriceOf::Served), ("dearer", PriceOf::Dearer)];
        plan.price_of = choice(node, &fields.path("price"), &words, faults).unwrap_or_default();
    }
    if let Some(node) = fields.optional("prices") {
        let words = [("sealed", false), ("open", true)];
        plan.open_prices = choice(node, &fields.path("prices"), &words, faults).unwrap_or(false);
        if plan.version.is_none() {
            let message = "the prices of a plan without a version are always open";
            faults.add(fields.key_at("prices"), Code::Conflict, message, "remove it, or give the plan a version");
        }
    }
    if let Some(node) = fields.optional("round") {
        plan.round = form(node, &fields.path("round"), faults, round).map_or(1, |round| round.value);
    }
}

/// What a call that goes on with tool results counts: `{continued: 0.05 prompts}`.
fn continued(node: &Node, what: &str, faults: &mut Faults) -> Option<u64> {
    let fields = Fields::of(node, what, &["continued"], faults)?;
    let help = "say what a call counts that only goes on with tool results, for example `continued: 0.05 prompts`";
    let node = fields.required("continued", help, faults)?;
    let (micro, unit) = form(node, &fields.path("continued"), faults, amount)?.value;
    if unit != Unit::Prompts || micro > MICRO {
        let message = "a call that goes on counts one prompt at most";
        faults.add(node.at, Code::BadValue, message, help);
        return None;
    }
    Some(micro)
}

/// `{at: [50, 80, 100], headers: true}`.
fn warn(node: &Node, what: &str, faults: &mut Faults) -> Option<Warn> {
    let fields = Fields::of(node, what, &["at", "headers"], faults)?;
    let mut warn = Warn::default();
    let items = fields.optional("at").and_then(|node| list(node, &fields.path("at"), faults)).unwrap_or_default();
    for item in items {
        let Some(percent) = whole(item, &fields.path("at"), 1, 100, faults) else { continue };
        let percent = u8::try_from(percent).unwrap_or(100);
        if warn.at.last().is_some_and(|last| *last >= percent) {
            faults.add(item.at, Code::BadValue, "percents ascend, each once", "write for example `at: [50, 80, 100]`");
        }
        warn.at.push(percent);
    }
    let headers = fields.optional("headers").and_then(|node| switch(node, &fields.path("headers"), faults));
    warn.headers = headers.unwrap_or(false);
    Some(warn)
}

/// `0.01`: what priced amounts are rounded up to a multiple of.
fn round(written: &str) -> Result<u64, Complaint> {
    let micro = super::scalar::number(written)?;
    if micro == 0 || micro > MICRO {
        let message = format!("{} is no step of rounding", shown(written));
        return Err(Complaint::new(Code::BadValue, message, "write a number above zero and up to one, such as `0.01`"));
    }
    Ok(micro)
}

fn line(entry: &Entry, role: Role, section: &str, levels: &[String], plan: &mut PlanText, faults: &mut Faults) {
    faults.keep(entry.at, name(&entry.key, "a quota"));
    let what = format!("{section}.{}", entry.key);
    if let Some(first) = plan.quotas.iter().find(|first| first.name.value == entry.key) {
        let message = format!("the plan has two quotas named {}", shown(&entry.key));
        let help = format!("give one another name; the first is in line {}", first.name.at.line);
        faults.add(entry.at, Code::Duplicate, message, help);
    }
    if role == Role::Fund && says_packs(entry) {
        let before = plan.quotas.len();
        plan.packs.extend(packs(entry, &what, before, levels, faults));
        return;
    }
    let mut quota =
        QuotaText { name: Spanned { at: entry.at, value: entry.key.clone() }, role, was: None, terms: None };
    let (key, rest): (_, &[&str]) = match role {
        Role::Fund => ("amount", &["per", "window", "models", "hold", "was", "rollover"]),
        Role::Cap => ("limit", &["per", "window", "models", "hold", "was", "burst", "full", "rejected", "of"]),
    };
    let known: Vec<&str> = [key].iter().chain(rest).copied().collect();
    if let Some(fields) = Fields::of(&entry.value, what, &known, faults) {
        quota.was = fields.optional("was").and_then(|node| super::fields::named(node, &fields.path("was"), faults));
        quota.terms = terms(&fields, key, role, levels, faults);
    }
    plan.quotas.push(quota);
}

fn says_packs(entry: &Entry) -> bool {
    let super::tree::Value::Map(entries) = &entry.value.value else { return false };
    entries.iter().any(|entry| entry.key == "from")
}

/// `{from: packs, unit: credits, per: org}`.
fn packs(entry: &Entry, what: &str, before: usize, levels: &[String], faults: &mut Faults) -> Option<PacksText> {
    let fields = Fields::of(&entry.value, what, &["from", "unit", "per"], faults)?;
    let from = fields.required("from", "write `from: packs`", faults)?;
    choice(from, &fields.path("from"), &[("packs", ())], faults);
    let help = "say in which unit packs pay here, for example `unit: credits`";
    let unit = fields.required("unit", help, faults).and_then(|node| form(node, &fields.path("unit"), faults, unit));
    let per = per(&fields, levels, faults);
    let per = per.filter(|per| {
        let of_session = per.value == Per::Session;
        if of_session {
            faults.add(per.at, Code::Conflict, "a session has no packs", "write the level whose packs pay");
        }
        !of_session
    });
    Some(PacksText { before, unit: unit?.value, per: per? })
}

fn per(fields: &Fields<'_>, levels: &[String], faults: &mut Faults) -> Option<Spanned<Per>> {
    let known =
        levels.iter().enumerate().map(|(at, level)| (level.as_str(), Per::Level(u8::try_from(at).unwrap_or(0))));
    let words: Vec<(&str, Per)> = known.chain([("session", Per::Session)]).collect();
    let node = fields.required("per", "say whose account it is in: `per: seat` or `per: org`", faults)?;
    choice(node, &fields.path("per"), &words, faults).map(|value| Spanned { at: node.at, value })
}

fn terms(fields: &Fields<'_>, key: &str, role: Role, levels: &[String], faults: &mut Faults) -> Option<Terms> {
    let help = format!("say how much, for example `{key}: 20000 tokens`");
    let limit = fields.required(key, &help, faults).and_then(|node| form(node, &fields.path(key), faults, amount));
    let per = per(fields, levels, faults);
    let window = fields
        .required("window", "say when it begins anew, for example `window: calendar month`", faults)
        .and_then(|node| form(node, &fields.path("window"), faults, window));
    if let Some(limit) = &limit
        && limit.value.0 == 0
    {
        let help = "to refuse all calls, assign no plan; to set no limit, leave the quota out";
        faults.add(limit.at, Code::BadValue, format!("the {key} of a quota must be above zero"), help);
    }
    let unit = limit.as_ref().map(|limit| limit.value.1);
    let mut same = |key: &str| {
        let node = fields.optional(key)?;
        let (micro, of) = form(node, &fields.path(key), faults, amount)?.value;
        if unit.is_some_and(|unit| unit != of) {
            let unit = unit.map_or("units", Unit::words);
            let message = format!("the {key} is in {}, and the quota in {unit}", of.words());
            faults.add(node.at, Code::Conflict, message, format!("state it in {unit}"));
        }
        Some(Spanned { at: node.at, value: micro })
    };
    let (burst, rollover) = (same("burst"), same("rollover"));
    let models = fields.optional("models").map(|node| model_patterns(node, &fields.path("models"), faults));
    let sizes = [("worst", HoldSize::Worst), ("expected", HoldSize::Expected)];
    let hold = fields.optional("hold").and_then(|node| choice(node, &fields.path("hold"), &sizes, faults));
    let full = fields.optional("full").map(|node| reliefs(node, &fields.path("full"), faults)).unwrap_or_default();
    let rejected = fields.optional("rejected").and_then(|node| {
        let words = [("count", true), ("free", false)];
        let value = choice(node, &fields.path("rejected"), &words, faults)?;
        Some(Spanned { at: node.at, value })
    });
    let of = fields.optional("of").and_then(|node| super::fields::named(node, &fields.path("of"), faults));
    let (limit, window) = (limit?, window?);
    let (unit_at, (limit, unit)) = (limit.at, limit.value);
    same_unit(&full, unit, faults);
    fits(role, unit, unit_at, &window, faults);
    if let Some(rejected) = rejected.as_ref().filter(|rejected| rejected.value) {
        let shared = per.as_ref().is_some_and(|per| !matches!(per.value, Per::Level(0) | Per::Session));
        if of.is_some() {
            let message = "a refused call is paid by no fund, so it counts on no cap of one";
            faults.add(rejected.at, Code::Conflict, message, "remove `rejected`, or `of`");
        }
        counts_rejected(rejected.at, unit, &window.value, shared, models.is_some(), faults);
    }
    if let Some(burst) = burst.as_ref().filter(|burst| burst.value == 0) {
        let help = "state what a full bucket holds, or leave it out: then as much as it refills in its time";
        faults.add(burst.at, Code::BadValue, "a bucket with a burst of nothing refuses every call", help);
    }
    if let Some(burst) = burst.as_ref().filter(|_| !matches!(window.value, WindowText::Bucket(_))) {
        faults.add(burst.at, Code::Conflict, "only a bucket has a burst", "remove it, or write `window: bucket …`");
    }
    if let Some(rollover) = &rollover
        && !window.value.begins_anew()
    {
        let message = "what is unused cannot roll over: this window does not begin anew";
        faults.add(rollover.at, Code::Conflict, message, "remove `rollover`, or choose a window that does");
    }
    Some(Terms {
        limit,
        unit,
        per: per?,
        window,
        burst: burst.map(|burst| burst.value),
        rollover: rollover.map_or(0, |rollover| rollover.value),
        models: models.unwrap_or_default(),
        hold: hold.unwrap_or_default(),
        full,
        rejected: rejected.is_some_and(|rejected| rejected.value),
        of,
    })
}

/// Which caps refused calls may count on.
fn counts_rejected(at: Mark, unit: Unit, window: &WindowText, shared: bool, models: bool, faults: &mut Faults) {
    let help = "remove `rejected: count`, or count them on a cap of their own";
    let mut conflict = |message: &str| faults.add(at, Code::Conflict, message, help);
    if unit != Unit::Requests {
        conflict("a refused call is a request, and consumes nothing else");
    } else if *window == WindowText::Concurrent {
        conflict("a refused call does not run");
    } else if shared {
        conflict("a refused call counts on the account of its seat only: others would lose what they share");
    } else if models {
        conflict("which model a refused call is of is not always known");
    }
}

/// Which windows a quota may have.
fn fits(role: Role, unit: Unit, unit_at: Mark, window: &Spanned<WindowText>, faults: &mut Faults) {
    if role == Role::Fund && window.value.is_rate() {
        let help = "give the fund `calendar month`, `first-use …` or the like, or make it a cap";
        faults.add(window.at, Code::Conflict, "a fund says who pays, not how fast: it cannot have this window", help);
    } else if window.value == WindowText::Concurrent && unit != Unit::Requests {
        let message = format!("`concurrent` counts requests that run, not {}", unit.words());
        faults.add(unit_at, Code::Conflict, message, "write the limit in requests, for example `4 requests`");
    }
}

/// Overage is stated in the unit that it is overage of.
fn same_unit(reliefs: &[Spanned<ReliefText>], unit: Unit, faults: &mut Faults) {
    for relief in reliefs {
        if let ReliefText::Overage(_, of) = relief.value
            && of != unit
        {
            let message = format!("the overage is in {}, and the quota in {}", of.words(), unit.words());
            faults.add(relief.at, Code::Conflict, message, format!("state it in {}", unit.words()));
        }
    }
}

/// An overage of funds is a debt, and there is a fund that pays it.
fn overages_are_borne(reliefs: &[Spanned<ReliefText>], funds: &[&Terms], faults: &mut Faults) {
    let bear: Vec<Unit> = funds.iter().filter(|fund| fund.window.value.begins_anew()).map(|fund| fund.unit).collect();
    for relief in reliefs {
        let ReliefText::Overage(_, unit) = relief.value else { continue };
        match bear.last() {
            _ if bear.contains(&unit) => {}
            Some(last) => {
                let message = format!("no fund in {} begins anew, so that nobody would pay this overage", unit.words());
                faults.add(relief.at, Code::Conflict, message, format!("state it in {}", last.words()));
            }
            None => {
                let message =
                    "no fund begins anew, so that nobody would pay this overage: a pack, a term or a lifetime does not";
                let help = "add a fund with `window: calendar month` or the like, or remove this step";
                faults.add(relief.at, Code::Conflict, message, help);
            }
        }
    }
}

/// A list of what happens in turn. What follows a step that always takes effect is a fault.
fn reliefs(node: &Node, what: &str, faults: &mut Faults) -> Vec<Spanned<ReliefText>> {
    let mut steps: Vec<Spanned<ReliefText>> = Vec::new();
    for item in list(node, what, faults).unwrap_or_default() {
        let Some(step) = form(item, what, faults, relief) else { continue };
        let refuses = step.value == ReliefText::Deny;
        if let Some(last) = steps.last()
            && (matches!(last.value, ReliefText::Deny | ReliefText::Observe)
                || last.value == ReliefText::NextFund && !refuses)
        {
            let message = "this step has no effect: the one before it is final";
            faults.add(step.at, Code::Shadowed, message, "remove it, or move it up");
            continue;
        }
        steps.push(step);
    }
    steps
}

const RELIEF_HELP: &str = "write `deny`, `wait 5s`, `throttle 5 requests per 1m`, `downgrade MODEL`, \
                           `overage 5000 credits`, `next fund` (of a cap) or `observe`";

fn relief(written: &str) -> Result<ReliefText, Complaint> {
    let (word, rest) = written.trim().split_once(char::is_whitespace).unwrap_or((written.trim(), ""));
    let rest = rest.trim();
    match (word, rest) {
        ("deny", "") => Ok(ReliefText::Deny),
        ("observe", "") => Ok(ReliefText::Observe),
        ("next", "fund") => Ok(ReliefText::NextFund),
        ("wait", length) if !length.is_empty() => match duration(length)? {
            1..=600_000 => Ok(ReliefText::Wait(duration(length)?)),
            _ => Err(Complaint::new(
                Code::BadValue,
                format!("a call cannot wait for {}", shown(length)),
                "write a duration from `1ms` to `10m`: clients give up sooner",
            )),
        },
        ("throttle", rate) if !rate.is_empty() => {
            let help = "write how many go on in which time, for example `throttle 5 requests per 1m`";
            let (many, period) = rate
                .split_once(" per ")
                .ok_or_else(|| Complaint::new(Code::BadValue, format!("{} is no rate", shown(rate)), help))?;
            let ((micro, unit), ms) = (amount(many)?, duration(period.trim())?);
            if micro == 0 || ms == 0 {
                return Err(Complaint::new(Code::BadValue, "a throttle lets nothing through", help));
            }
            Ok(ReliefText::Throttle(micro, unit, ms))
        }
        ("downgrade", model) if !model.is_empty() => Ok(ReliefText::Downgrade(model.to_owned())),
        ("overage", most) if !most.is_empty() => amount(most).map(|(micro, unit)| ReliefText::Overage(micro, unit)),
        _ => Err(Complaint::new(Code::BadValue, format!("{} is nothing that can happen", shown(written)), RELIEF_HELP)),
    }
}

/// A list of names and globs of models.
pub(super) fn model_patterns(node: &Node, what: &str, faults: &mut Faults) -> Vec<Spanned<String>> {
    let items = list(node, what, faults).unwrap_or_default();
    few(items.get(MOST_LINES).map(|item| item.at), what, faults);
    let mut found = Vec::new();
    for item in items.iter().take(MOST_LINES) {
        let Some(pattern) = text(item, what, faults) else { continue };
        if faults.keep(item.at, models::glob(pattern)).is_some() {
            found.push(Spanned { at: item.at, value: pattern.to_owned() });
        }
    }
    found
}
