//! The whole product on this machine: Envoy with the filter, the collector, an upstream.
//!
//! `farebox run` and `farebox test --envoy` are this with other ports. Every process is a child with a log of
//! its own in the state folder; dropping the [`Stack`] stops them all.

mod child;
mod config;
mod discovery;
mod ports;
mod upstream;

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use child::Child;
pub use child::Died;
pub use config::{Remote, Template};
use discovery::Judged;
use ports::bind;
pub use ports::{Claim, Ports};
pub use upstream::Upstream;

/// Longest wait for one process to serve. Envoy compiles the filter first; llama.cpp reads its weights.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(50);

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `farebox` binary, for the verbs that serve.
    pub farebox: PathBuf,
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// `envoy/envoy.yaml`, read.
    pub template: Template,
    /// The filter, `farebox.wasm`.
    pub filter: PathBuf,
    /// The policy's text.
    pub policy: String,
    /// Folder for the rendered configuration, logs and the ledger; made if missing.
    pub state: PathBuf,
    /// Where to listen.
    pub ports: Ports,
    /// Envoy's worker threads; one a core if not given.
    pub concurrency: Option<u32>,
    /// Who answers.
    pub upstream: Upstream,
    /// For tests: the file that tells the collector what time it is.
    pub clock: Option<PathBuf>,
    /// For tests: Envoy finds the policy by discovery, so that a running stack [can have another](Stack::renew).
    pub discovered: bool,
}

/// Why a stack is not running.
#[derive(Debug)]
pub enum StackError {
    /// Something on this machine is missing or in the way; the text says what to do.
    Setup(String),
    /// A process ended by itself.
    Died(Died),
    /// A process does not serve.
    Late {
        /// Which.
        name: &'static str,
        /// Where it says more.
        log: PathBuf,
    },
    /// The caller wants to stop.
    Interrupted,
}

impl std::fmt::Display for StackError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StackError::Setup(text) => f.write_str(text),
            StackError::Died(died) => died.fmt(f),
            StackError::Late { name, log } => {
                write!(f, "{name} does not serve after {} s; its log is `{}`", PATIENCE.as_secs(), log.display())
            }
            StackError::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for StackError {}

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    ports: Ports,
    /// In the order in which they started; stopped in reverse.
    children: Vec<Child>,
}

impl Stack {
    /// Starts everything and waits until all of it serves. One line a step goes to `progress`; `interrupt` ends
    /// the wait early.
    ///
    /// # Errors
    /// See [`StackError`]; nothing is left running then.
    pub fn start(settings: &Settings, interrupt: &AtomicBool, progress: &mut dyn Write) -> Result<Stack, StackError> {
        settings.check()?;
        fs::create_dir_all(&settings.state).map_err(|error| cannot("make the folder", &settings.state, &error))?;
        let mut stack = Stack { ports: settings.ports, children: Vec::new() };
        let collector = settings.collector();
        stack.add("collector", collector, &settings.state, progress)?;
        let here = settings.remote().is_none();
        if here {
            let command = settings.upstream.command(settings, progress)?;
            stack.add("upstream", command, &settings.state, progress)?;
        }
        stack.await_serving("collector", settings.ports.collector, "/healthz", interrupt)?;
        if here {
            stack.await_serving("upstream", settings.ports.upstream, settings.upstream.health(), interrupt)?;
        }
        let path = settings.configure()?;
        stack.add("envoy", settings.envoy(&path), &settings.state, progress)?;
        stack.await_serving("envoy", settings.ports.admin, "/ready", interrupt)?;
        if settings.discovered {
            stack.await_judged(Judged::default(), interrupt)?;
        }
        Ok(stack)
    }

    /// Gives Envoy the policy that `settings` have by now, and waits until it has taken it. Calls that come then meet
    /// that one. Envoy goes on, with what it keeps under the name of the bundle.
    ///
    /// # Errors
    /// See [`StackError`]; a policy that Envoy refuses leaves the one before in force.
    pub fn renew(&mut self, settings: &Settings, interrupt: &AtomicBool) -> Result<(), StackError> {
        let admin = self.ports.admin;
        let before = self.wait_for("envoy", interrupt, || Judged::ask(admin))?;
        settings.configure()?;
        self.await_judged(before, interrupt)
    }

    /// Looks whether all still run.
    ///
    /// # Errors
    /// The first that does not.
    pub fn look(&mut self) -> Result<(), Died> {
        self.children.iter_mut().try_for_each(Child::look)
    }

    /// Stops accepting calls, gives those in progress and the records on their way up to `grace`, then ends every
    /// process. `hurry` cuts the grace short.
    pub fn stop(mut self, grace: Duration, hurry: &AtomicBool) {
        self.drain(grace, hurry);
        self.end();
    }

    fn drain(&mut self, grace: Duration, hurry: &AtomicBool) {
        let admin = self.ports.admin;
        if self.look().is_err() || post(admin, "/drain_listeners").is_err() {
            return;
        }
        wait(grace, hurry, || stat(admin, "http.llm.downstream_rq_active").is_none_or(|active| active == 0));
        // Records leave with the filter's next syncs; what is left over is in its shared data, which ends with Envoy.
        wait(grace.min(Duration::from_millis(1_500)), hurry, || false);
    }

    fn end(&mut self) {
        while let Some(mut child) = self.children.pop() {
            child.end();
        }
    }

    fn add(
        &mut self,
        name: &'static str,
        command: Command,
        state: &Path,
        progress: &mut dyn Write,
    ) -> Result<(), StackError> {
        let child = Child::start(name, command, state)
            .map_err(|error| StackError::Setup(format!("cannot start the {name}: {error}")))?;
        // Progress that nobody reads any more is no reason to stop.
        let _ = writeln!(progress, "starting {name:<9} log: {}", child.log().display());
        self.children.push(child);
        Ok(())
    }

    fn await_serving(
        &mut self,
        name: &'static str,
        port: u16,
        path: &str,
        interrupt: &AtomicBool,
    ) -> Result<(), StackError> {
        self.wait_for(name, interrupt, || ask(port, path).ok()).map(drop)
    }

    /// Waits until Envoy has judged the configuration of the filter that it found last.
    fn await_judged(&mut self, before: Judged, interrupt: &AtomicBool) -> Result<(), StackError> {
        let admin = self.ports.admin;
        let refused = self.wait_for("envoy", interrupt, || Judged::ask(admin)?.since(before))?;
        match self.children.iter().find(|child| refused && child.name() == "envoy") {
            Some(envoy) => {
                let (log, lines) = (envoy.log().display(), envoy.last_lines());
                Err(StackError::Setup(format!("envoy refuses the filter; the last lines of `{log}`:\n{lines}")))
            }
            None => Ok(()),
        }
    }

    /// Looks for what the process of this name is to bring about.
    fn wait_for<T>(
        &mut self,
        name: &'static str,
        interrupt: &AtomicBool,
        found: impl Fn() -> Option<T>,
    ) -> Result<T, StackError> {
        let start = now();
        loop {
            self.look().map_err(StackError::Died)?;
            if let Some(found) = found() {
                return Ok(found);
            }
            if interrupt.load(Ordering::Relaxed) {
                return Err(StackError::Interrupted);
            }
            if start.elapsed() > PATIENCE {
                let log = self.children.iter().find(|child| child.name() == name).map(|child| child.log().to_owned());
                return Err(StackError::Late { name, log: log.unwrap_or_default() });
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.end();
    }
}

impl Settings {
    /// Everything that can be known before the first process starts.
    fn check(&self) -> Result<(), StackError> {
        for (what, path, advice) in [
            ("Envoy", &self.envoy, "`make tools` installs it; ENVOY names another"),
            ("the filter", &self.filter, "`make build` builds it; FAREBOX_WASM names another"),
        ] {
            if !path.is_file() {
                return Err(StackError::Setup(format!("{what} is not at `{}`: {advice}", path.display())));
            }
        }
        let Ports { http, admin, collector, upstream } = self.ports;
        let mut wanted = vec![(http, "PORT"), (admin, "ADMIN_PORT"), (collector, "COLLECTOR_PORT")];
        if !matches!(self.upstream, Upstream::At(_)) {
            wanted.push((upstream, "UPSTREAM_PORT"));
        }
        let mut seen = Vec::<(u16, &str)>::new();
        for (port, variable) in wanted {
            if let Some((_, other)) = seen.iter().find(|(one, _)| *one == port) {
                return Err(StackError::Setup(format!("{other} and {variable} are both {port}: change one of them")));
            }
            seen.push((port, variable));
            bind(port).map_err(|error| {
                StackError::Setup(format!("port {port} is not free ({error}): set {variable} to another"))
            })?;
        }
        Ok(())
    }

    fn remote(&self) -> Option<&Remote> {
        match &self.upstream {
            Upstream::At(remote) => Some(remote),
            Upstream::StandIn { .. } | Upstream::Llama { .. } => None,
        }
    }

    /// Writes Envoy's configuration, and says where. What Envoy has read already is not read again, but for the filter's.
    fn configure(&self) -> Result<PathBuf, StackError> {
        let mut config = self.template.render(&self.policy, self.ports, &self.filter, self.remote())?;
        if self.discovered {
            let path = self.state.join("filter.yaml");
            let (rest, own) = discovery::apart(&config, &path)?;
            discovery::publish(&own, &path)?;
            config = rest;
        }
        let path = self.state.join("envoy.yaml");
        fs::write(&path, config).map_err(|error| cannot("write", &path, &error))?;
        Ok(path)
    }

    fn collector(&self) -> Command {
        let mut command = Command::new(&self.farebox);
        command.arg("collector").arg("--listen").arg(local(self.ports.collector));
        command.arg("--db").arg(self.state.join("collector.db"));
        if let Some(clock) = &self.clock {
            command.arg("--clock").arg(clock);
        }
        command
    }

    fn envoy(&self, config: &Path) -> Command {
        let mut command = Command::new(&self.envoy);
        // Two Envoys on one machine share memory by base id; a dynamic one keeps several stacks apart.
        command.arg("--use-dynamic-base-id").arg("-c").arg(config);
        // Envoy's own start fills pages; what the filter says and what goes wrong should not drown in it.
        command.args(["--log-level", "warning", "--component-log-level", "wasm:info"]);
        if let Some(workers) = self.concurrency {
            command.arg("--concurrency").arg(workers.to_string());
        }
        command
    }
}

fn local(port: u16) -> String {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> StackError {
    StackError::Setup(format!("cannot {what} `{}`: {error}", path.display()))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(2))).build().into()
}

fn ask(port: u16, path: &str) -> Result<String, ureq::Error> {
    agent().get(format!("http://{}{path}", local(port))).call()?.body_mut().read_to_string()
}

fn post(port: u16, path: &str) -> Result<(), ureq::Error> {
    agent().post(format!("http://{}{path}", local(port))).send_empty().map(|_| ())
}

/// One of Envoy's gauges or counters.
fn stat(admin: u16, name: &str) -> Option<u64> {
    let text = ask(admin, &format!("/stats?filter=^{name}$")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
}

fn wait(longest: Duration, hurry: &AtomicBool, done: impl Fn() -> bool) {
    let start = now();
    while start.elapsed() < longest && !hurry.load(Ordering::Relaxed) && !done() {
        std::thread::sleep(LOOK);
    }
}

#[expect(clippy::disallowed_methods, reason = "a host waits by the clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ports: Ports) -> Settings {
        let here = PathBuf::from(file!());
        Settings {
            farebox: here.clone(),
            envoy: here.clone(),
            template: Template::new(String::new()),
            filter: here,
            policy: String::new(),
            state: PathBuf::new(),
            ports,
            concurrency: None,
            upstream: Upstream::StandIn { pace: None, seed: None },
            clock: None,
            discovered: false,
        }
    }

    #[test]
    fn a_port_that_is_taken_names_its_variable() {
        let claim = Claim::new().unwrap();
        let ports = claim.ports();
        let _held = bind(ports.collector).unwrap();
        let error = settings(ports).check().unwrap_err().to_string();
        assert!(error.contains("set COLLECTOR_PORT to another"), "{error}");
    }

    #[test]
    fn two_ports_must_differ() {
        let claim = Claim::new().unwrap();
        let ports = claim.ports();
        let error = settings(Ports { admin: ports.http, ..ports }).check().unwrap_err().to_string();
        assert!(error.starts_with("PORT and ADMIN_PORT are both"), "{error}");
    }

    #[test]
    fn what_is_missing_is_named_with_the_cure() {
        let claim = Claim::new().unwrap();
        let settings = Settings { filter: PathBuf::from("no/farebox.wasm"), ..settings(claim.ports()) };
        let error = settings.check().unwrap_err().to_string();
        assert!(error.contains("`no/farebox.wasm`") && error.contains("make build"), "{error}");
    }
}
