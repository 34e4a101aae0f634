//! A real Envoy as a host of cases: a stack of its own, in which accounts are fresh whenever a case needs them.

mod call;
mod clock;
mod fresh;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::order;
use super::preload;
use super::request::{caller, quota, quotas, request, unanswerable, unseen};
use super::verdict::{Observed, codes, recorded, text};
use super::{Host, Suite};
use crate::cli::run::Stop;
use crate::cli::stack::{self, Ports, Template, Upstream};
use crate::collector::store::reader;
use crate::now::Now;
use crate::policy::Bundle;
use crate::policy::bundle::HostMode;
use crate::policy::case::{Asked, Case, Ends, RetryAfter, Who};
use crate::quota::Window;
use crate::report::wire::{Outcome, Record};
use crate::sim::ledger;

use fresh::Running;

/// The collector's cluster in the template.
const CLUSTER: &str = "farebox-collector";
/// Longest wait for a record that is expected.
const RECORD_LATE: Duration = Duration::from_secs(8);
/// After so long a record that is not expected would have come: a sync's interval, and some more.
const SETTLED: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(50);

/// What to start, and where to keep its state.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// The Envoy binary
    #[arg(long, env = "ENVOY", default_value = "target/venv/bin/envoy")]
    pub envoy_binary: PathBuf,
    /// The filter
    #[arg(long, env = "FAREBOX_WASM", default_value = "target/wasm/farebox.wasm")]
    pub wasm: PathBuf,
    /// Envoy's configuration, to be filled in
    #[arg(long, default_value = "envoy/envoy.yaml")]
    pub template: PathBuf,
    /// Folder for configurations, logs and ledgers
    #[arg(long, default_value = "target/policy-test")]
    pub state_dir: PathBuf,
    /// The program that serves as collector and upstream; this one if not given
    #[arg(long, env = "FAREBOX")]
    pub farebox: Option<PathBuf>,
}

/// Carries out cases through Envoy.
pub struct Envoy<'s> {
    suite: &'s Suite,
    settings: stack::Settings,
    root: PathBuf,
    agent: ureq::Agent,
    stop: Stop,
    running: Option<Running>,
    started: u32,
    /// Whether the filter's clock can be set, once that is known.
    has_clock: Option<bool>,
}

/// What can be counted before and after a call.
struct Counts {
    refusals: BTreeMap<String, u64>,
    heard: u64,
    records: BTreeSet<String>,
}

impl<'s> Envoy<'s> {
    /// For the cases of this suite.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub fn new(settings: &Settings, suite: &'s Suite) -> Result<Self, String> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|error| format!("cannot resolve `{}`: {error}", path.display()))
        };
        if let Some(collector) = &suite.bundle.collector
            && collector.cluster != CLUSTER
        {
            return Err(format!("the collector's cluster is `{CLUSTER}` in the template, not `{}`", collector.cluster));
        }
        let mut template = fs::read_to_string(&settings.template)
            .map_err(|error| format!("cannot read `{}`: {error}", settings.template.display()))?;
        if suite.bundle.headers == HostMode::First {
            // A host that can hold headers would hide what this policy is written for.
            template =
                template.replace("allow_on_headers_stop_iteration: true", "allow_on_headers_stop_iteration: false");
        }
        let this = || std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"));
        let state = absolute(&settings.state_dir)?;
        let settings = stack::Settings {
            farebox: settings.farebox.clone().map_or_else(this, |path| absolute(&path))?,
            envoy: settings.envoy_binary.clone(),
            template: Template::new(template),
            filter: absolute(&settings.wasm)?,
            policy: suite.text.clone(),
            clock: Some(state.join("clock")),
            state,
            ports: Ports { http: 0, admin: 0, collector: 0, upstream: 0 },
            discovered: true,
            concurrency: Some(1),
            upstream: Upstream::StandIn { pace: Some(Duration::ZERO), seed: Some(0) },
        };
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent = config.timeout_global(Some(Duration::from_secs(60))).build().into();
        let stop = Stop::watch().map_err(|error| format!("cannot watch signals: {error}"))?;
        Ok(Self {
            suite,
            root: settings.state.clone(),
            settings,
            agent,
            stop,
            running: None,
            started: 0,
            has_clock: None,
        })
    }

    /// Uses what the case says was used before a call.
    fn preload(&self, place: usize, asked: &Asked<'_>) -> Result<(), String> {
        let said = self.running.as_ref().and_then(|running| running.clock_ms);
        let now = Now { wall_ms: said.unwrap_or_else(wall_ms), mono_ms: 0 };
        let bundle = &self.suite.bundle;
        let Some(sync) = preload::for_ledger(place, asked, bundle, self.bundle_name(), now) else { return Ok(()) };
        let url = format!("http://127.0.0.1:{}/v1/sync", self.settings.ports.collector);
        let sent = self.agent.post(url).header("content-type", "application/msgpack").send(&sync[..]);
        match sent.map_err(|error| format!("the collector does not answer: {error}"))?.status().as_u16() {
            200 => Ok(()),
            status => Err(format!("the collector answered {status} to what was used before")),
        }
    }

    fn text(&self, port: u16, path: &str) -> Result<String, String> {
        let url = format!("http://127.0.0.1:{port}{path}");
        let answer = self.agent.get(&url).call().and_then(|mut answer| answer.body_mut().read_to_string());
        answer.map_err(|error| format!("`{url}` does not answer: {error}"))
    }

    fn heard(&self) -> Result<Value, String> {
        let text = self.text(self.settings.ports.upstream, "/stats?last=1")?;
        serde_json::from_str(&text).map_err(|error| format!("the stand-in's figures cannot be read: {error}"))
    }

    fn counts(&self) -> Result<Counts, String> {
        let stats = self.text(self.settings.ports.admin, "/stats?filter=farebox.refusals_total")?;
        let heard = self.heard()?.get("requests").and_then(Value::as_u64).unwrap_or(0);
        let records = self.records()?.into_iter().map(|record| record.id).collect();
        Ok(Counts { refusals: refusals(&stats), heard, records })
    }

    /// What the bundle is called by now.
    fn bundle_name(&self) -> &str {
        self.running.as_ref().map_or(&self.suite.bundle.name, |running| &running.name)
    }

    fn records(&self) -> Result<Vec<Record>, String> {
        let database = reader(&self.settings.state.join("collector.db"));
        let records = database.and_then(|database| ledger::records(&database));
        let mut records = records.map_err(|error| format!("the ledger: {error}"))?;
        records.retain(|record| record.bundle == self.bundle_name());
        Ok(records)
    }

    /// The records that a call made, once they are there. `asserted`: their number matters, also when there are none.
    fn new_records(&self, expected: u64, asserted: bool, before: &Counts) -> Result<Vec<Record>, String> {
        let Some(collector) = &self.suite.bundle.collector else { return Ok(Vec::new()) };
        let mut waited = Duration::ZERO;
        let look = |waited: &mut Duration| {
            sleep(LOOK);
            *waited = waited.saturating_add(LOOK);
            let all = self.records()?.into_iter();
            Ok::<Vec<_>, String>(all.filter(|record| !before.records.contains(&record.id)).collect())
        };
        let quiet = if asserted { Duration::from_millis(collector.sync_ms).saturating_add(SETTLED) } else { LOOK };
        loop {
            let found = look(&mut waited)?;
            let enough = found.len() as u64 >= expected;
            // One record too many would come with the same sync or the next.
            if (enough && (expected > 0 || waited >= quiet)) || waited >= RECORD_LATE {
                return Ok(found);
            }
        }
    }
}

impl Host for Envoy<'_> {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn cannot(&mut self, case: &Case) -> Option<String> {
        let suite = self.suite;
        let bundle = &suite.bundle;
        let of_seat = |asked: &Asked<'_>| match asked.who {
            Who::Seat(seat) => Some(seat.clone()),
            Who::Key(_) => None,
        };
        if let Some(seat) = case.calls().iter().find_map(of_seat) {
            return Some(format!("Envoy knows callers by their keys, not as seat `{seat}`"));
        }
        if let Some(from) = case.call.from.filter(|_| bundle.trusted_proxies == 0)
            && from != IpAddr::V4(Ipv4Addr::LOCALHOST)
        {
            return Some(format!("nobody here calls from {from}; a policy with `trusted_proxies` can say so"));
        }
        let local = |asked: &Asked<'_>| preload::local(asked, bundle).first().map(|(_, quota, _)| *quota);
        if let Some(quota) = case.calls().iter().find_map(local) {
            return Some(format!("nobody can use `{}` beforehand: it is kept in Envoy, not in a ledger", quota.name));
        }
        let uncounted = case.expect.charged.as_ref().is_some_and(|charged| !charged.is_empty())
            || case.expect.records.is_some_and(|records| records > 0);
        if bundle.collector.is_none() && uncounted {
            return Some("what is charged can be seen only with a collector".to_owned());
        }
        if case.at_ms.is_some() && depends_on_the_clock(case, bundle) && !self.has_clock() {
            return Some(
                "the outcome depends on the clock, and only a filter with test hooks has one to set".to_owned(),
            );
        }
        if case.calls().iter().any(|asked| matches!(asked.answer.ends, Ends::NoConnection | Ends::NotSent)) {
            return Some("the stand-in cannot be taken away from Envoy".to_owned());
        }
        unanswerable(case).or_else(|| unseen(case, bundle))
    }

    fn order(&self, cases: &[&(String, Case)]) -> Vec<usize> {
        order::by_accounts(cases, &self.suite.bundle)
    }

    fn run(&mut self, case: &Case) -> Result<Observed, String> {
        self.ready(case)?;
        if self.stop.asked.load(std::sync::atomic::Ordering::Relaxed) {
            return Err("interrupted".to_owned());
        }
        let calls = case.calls();
        let mut observed = Err("the case has no call".to_owned());
        for (place, asked) in calls.iter().enumerate() {
            self.set_clocks(asked.at_ms, place == 0)?;
            self.preload(place, asked)?;
            let last = place.saturating_add(1) == calls.len();
            let seen = self.carry_out(case, asked, last)?;
            if !last && !seen.admitted {
                observed = Ok(Observed::spoiled(place, seen.by.as_deref()));
                break;
            }
            observed = Ok(seen);
        }
        let observed = observed?;
        self.used(case, &observed);
        Ok(observed)
    }
}

impl Envoy<'_> {
    /// Makes one call of a case. What is expected is expected of the `last`.
    fn carry_out(&self, case: &Case, asked: &Asked<'_>, last: bool) -> Result<Observed, String> {
        let Who::Key(key) = asked.who else { return Err("the caller has no key".to_owned()) };
        let before = self.counts()?;
        let ends = asked.answer.ends;
        let answered = self.send(&request(asked, key, &self.suite.bundle), ends)?;
        // One that the filter breaks off on purpose says before why it ends, or its record does.
        let cut = case.expect.finish.is_some() || case.expect.outcome == Some(Outcome::CutByUs.name());
        let on_purpose = matches!(ends, Ends::Broken(_) | Ends::Silent(_)) || last && cut;
        if let Some(error) = answered.broke.filter(|_| !on_purpose) {
            return Err(format!("Envoy's answer broke off: {error}"));
        }
        let heard = self.heard()?;
        let admitted = heard.get("requests").and_then(Value::as_u64).unwrap_or(0) > before.heard;
        let expected = case.expect.records.filter(|_| last).unwrap_or(u64::from(admitted));
        let asserted = last && (case.expect.records.is_some() || case.expect.charged.is_some());
        let records = self.new_records(expected, asserted, &before)?;
        let refusals = self.counts()?.refusals;
        let grown = |(by, count): &(&String, &u64)| **count > before.refusals.get(*by).copied().unwrap_or(0);
        let exchange = heard.pointer("/exchanges/0").filter(|_| admitted);
        let read = super::answered::read(&answered.body);
        Ok(Observed {
            finish: read.finish,
            delivered: read.tokens,
            admitted,
            by: refusals.iter().find(grown).map(|(by, _)| by.clone()),
            status: answered.status,
            codes: codes(&answered.body),
            text: text(&answered.body),
            retry_after: answered.retry_after,
            tier: exchange
                .and_then(|exchange| exchange.pointer("/headers/x-farebox-tier")?.as_str())
                .map(str::to_owned),
            max_output: exchange.and_then(|exchange| exchange.get("limit")?.as_u64()),
            max_tokens: exchange.and_then(|exchange| exchange.get("max_tokens")?.as_u64()),
            charged: charged(case, &self.suite.bundle, &records),
            held: None,
            model: exchange.and_then(|exchange| exchange.get("model")?.as_str()).map(str::to_owned),
            sent: exchange
                .and_then(|exchange| serde_json::from_value(exchange.get("headers")?.clone()).ok())
                .unwrap_or_default(),
            ..recorded(case, &self.suite.bundle, &records)
        })
    }
}

/// A wait for the calendar is another one every day; that for a first-use window is the same. Subscriptions, packs and
/// terms come and go, and so do prices.
fn depends_on_the_clock(case: &Case, bundle: &Bundle) -> bool {
    let dated =
        |window: &Window| matches!(window, Window::Calendar { .. } | Window::Anniversary { .. } | Window::Term { .. });
    let timed = matches!(case.expect.retry_after, Some(RetryAfter::AtMost(_) | RetryAfter::Exactly(_)));
    let by = case.expect.by.as_ref().and_then(|by| quota(&case.who, &case.call, by, bundle));
    let waits = timed && by.is_none_or(|(_, quota)| dated(&quota.quota.window));
    let subscribed = caller(&case.who, bundle).and_then(|(seat, _)| seat.subscription);
    let ends = subscribed.is_some_and(|subscription| subscription.term != (0, u64::MAX))
        || quotas(&case.who, &case.call, bundle)
            .iter()
            .any(|(_, quota)| matches!(quota.quota.window, Window::Term { .. }));
    let lines = || bundle.models.rows.iter().flat_map(|row| &row.factor);
    let priced =
        lines().any(|line| line.band.times.is_some() || line.band.days.contains(&true) || line.dates != (0, u64::MAX));
    let opens = caller(&case.who, bundle).is_some_and(|(_, plan)| !plan.connectivity.hours.is_empty());
    waits || ends || priced || opens || case.before.iter().any(|earlier| earlier.at_ms.is_some())
}

fn charged(case: &Case, bundle: &Bundle, records: &[Record]) -> BTreeMap<String, u64> {
    let mut charged = BTreeMap::new();
    for (of, quota) in quotas(&case.who, &case.call, bundle) {
        let name = &quota.ledger;
        let charges = records.iter().flat_map(|record| &record.charges);
        let sum = charges
            .filter(|charge| charge.quota == *name && charge.subject == of)
            .fold(0_u64, |sum, charge| sum.saturating_add(charge.amount));
        charged.insert(quota.name.clone(), sum);
    }
    charged
}

/// Refusals by rule, from lines like `wasmcustom.farebox.refusals_total.kind=rate;.by=calls;: 3`.
fn refusals(stats: &str) -> BTreeMap<String, u64> {
    let read = |line: &str| {
        let (name, count) = line.rsplit_once(": ")?;
        let by = name.split_once(".by=")?.1.split(';').next()?;
        Some((by.to_owned(), count.trim().parse::<u64>().ok()?))
    };
    let mut sums = BTreeMap::<String, u64>::new();
    for (by, count) in stats.lines().filter_map(read) {
        let sum = sums.entry(by).or_default();
        *sum = sum.saturating_add(count);
    }
    sums
}

#[expect(clippy::disallowed_methods, reason = "what was used before is told to a real collector, by its clock")]
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for Envoy<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envoy")
            .field("settings", &self.settings)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::refusals;

    #[test]
    fn refusals_are_summed_by_rule() {
        let stats = "wasmcustom.farebox.refusals_total.kind=rate;.by=calls;: 3\n\
                     wasmcustom.farebox.refusals_total.kind=exhausted;.by=calls;: 1\n\
                     wasmcustom.farebox.refusals_total.kind=forbidden;.by=unknown.body;: 2\nother: 5\n";
        assert_eq!(refusals(stats), [("calls".to_owned(), 4), ("unknown.body".to_owned(), 2)].into());
    }
}
