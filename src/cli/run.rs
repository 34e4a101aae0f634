//! `farebox run`: the whole product on this machine, for a first look and for trying policies.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::Exit;
use super::stack::{Ports, Remote, Settings, Stack, StackError, Template, Upstream};

/// The policy of `make run`; the lines worth trying use its keys.
const QUICKSTART: &str = "examples/quickstart/policy.yaml";
/// Where a distribution keeps the certificate authorities it trusts.
const TRUSTED: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// For streams in progress and records on their way, once asked to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Runs Envoy with the filter, a collector and a model stand-in on 127.0.0.1 until Ctrl-C.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy
    #[arg(long, env = "POLICY", default_value = QUICKSTART)]
    policy: PathBuf,
    /// Who answers: http(s)://host[:port], `llama` for llama.cpp with a small real model; a stand-in if not given.
    /// A provider's key goes into the variable UPSTREAM_KEY, clients never hold it
    #[arg(long, env = "UPSTREAM")]
    upstream: Option<String>,
    /// Envoy's port for LLM calls
    #[arg(long, env = "PORT", default_value_t = 10000)]
    port: u16,
    /// Envoy's admin port
    #[arg(long, env = "ADMIN_PORT", default_value_t = 9901)]
    admin_port: u16,
    /// The collector's port
    #[arg(long, env = "COLLECTOR_PORT", default_value_t = 8081)]
    collector_port: u16,
    /// The port of an upstream that runs here
    #[arg(long, env = "UPSTREAM_PORT", default_value_t = 8082)]
    upstream_port: u16,
    /// Envoy's worker threads; one a core if not given
    #[arg(long, env = "CONCURRENCY")]
    concurrency: Option<u32>,
    /// Folder for configuration, logs and the ledger
    #[arg(long, env = "STATE_DIR", default_value = "target/run")]
    state_dir: PathBuf,
    /// The Envoy binary; if not given, the one in target/venv
    #[arg(long, env = "ENVOY")]
    envoy: Option<PathBuf>,
    /// The filter
    #[arg(long, env = "FAREBOX_WASM", default_value = "target/wasm/farebox.wasm")]
    filter: PathBuf,
    /// Envoy's configuration, to be filled in
    #[arg(long, default_value = "envoy/envoy.yaml")]
    template: PathBuf,
    /// The Python that runs llama.cpp; if not given, the one beside Envoy in target/venv
    #[arg(long, env = "PYTHON")]
    python: Option<PathBuf>,
}

/// Runs until a signal or a process that dies.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let stop = match Stop::watch() {
        Ok(stop) => stop,
        Err(error) => return could_not(err, &format!("cannot watch signals: {error}")),
    };
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(message) => return could_not(err, &message),
    };
    match check(&settings.farebox, &args.policy) {
        Ok(Exit::Fine) => {}
        Ok(exit) => return exit,
        Err(error) => return could_not(err, &format!("cannot check the policy: {error}")),
    }
    let mut stack = match Stack::start(&settings, &stop.asked, err) {
        Ok(stack) => stack,
        Err(StackError::Interrupted) => return Exit::Fine,
        Err(error) => return could_not(err, &error.to_string()),
    };
    let lines = guide(args, &settings);
    // A reader who has gone, as in `farebox run | head`, does not stop the stack; Ctrl-C does.
    let _ = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
    while !stop.asked.load(Ordering::Relaxed) {
        if let Err(died) = stack.look() {
            return could_not(err, &format!("{died}\nthe others were stopped"));
        }
        thread::sleep(Duration::from_millis(100));
    }
    let _ = writeln!(err, "stopping; once more to hurry");
    stack.stop(GRACE, &stop.hurry);
    Exit::Fine
}

impl Args {
    fn settings(&self) -> Result<Settings, String> {
        let read = |path: &Path| {
            let advice = "run this in Farebox's own folder, or name another file";
            fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}; {advice}", path.display()))
        };
        let envoy = self.envoy.clone().unwrap_or_else(|| PathBuf::from("target/venv/bin/envoy"));
        Ok(Settings {
            farebox: env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?,
            upstream: self.upstream(&envoy)?,
            envoy,
            template: Template::new(read(&self.template)?),
            filter: absolute(&self.filter)?,
            policy: read(&self.policy)?,
            state: absolute(&self.state_dir)?,
            ports: Ports {
                http: self.port,
                admin: self.admin_port,
                collector: self.collector_port,
                upstream: self.upstream_port,
            },
            concurrency: self.concurrency,
            clock: None,
            discovered: false,
        })
    }

    fn upstream(&self, envoy: &Path) -> Result<Upstream, String> {
        match self.upstream.as_deref() {
            None | Some("") => Ok(Upstream::StandIn { pace: None, seed: None }),
            Some("llama") => {
                let beside = || envoy.with_file_name("python");
                Ok(Upstream::Llama { python: self.python.clone().unwrap_or_else(beside) })
            }
            Some(url) => Remote::parse(url, env::var_os("UPSTREAM_KEY").is_some(), trusted)
                .map(Upstream::At)
                .map_err(|error| format!("UPSTREAM is `{url}`: {error}; or write `llama`")),
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("cannot resolve `{}`: {error}", path.display()))
}

fn trusted() -> Option<PathBuf> {
    let named = env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    named.into_iter().chain(TRUSTED.map(PathBuf::from)).find(|path| path.is_file())
}

/// By the verb itself, so that its diagnostics and exit code are those of `farebox check`.
fn check(farebox: &Path, policy: &Path) -> io::Result<Exit> {
    let status = Command::new(farebox).arg("check").arg(policy).status()?;
    Ok(match status.code() {
        Some(0) => Exit::Fine,
        Some(2) => Exit::PolicyInvalid,
        _ => Exit::CouldNotRun,
    })
}

/// The `ready` line, and commands worth trying.
fn guide(args: &Args, settings: &Settings) -> String {
    let url = format!("http://127.0.0.1:{}", args.port);
    let usage = format!("http://127.0.0.1:{}/v1/usage?by=seat", args.collector_port);
    let ours = args.policy == Path::new(QUICKSTART);
    let (alice, bob) = if ours { ("demo-alice", "demo-bob") } else { ("$KEY", "$KEY") };
    let model = match settings.upstream {
        Upstream::StandIn { .. } => "demo-small",
        Upstream::Llama { .. } => "gemma-3-270m",
        Upstream::At(_) => "$MODEL",
    };
    let curl = |key: &str, more: &str, words: &str, tokens: u32| {
        // Double quotes where the shell has something to fill in, JSON's own escaped.
        let body = format!(
            r#"{{"model":"{model}",{more}"max_tokens":{tokens},"messages":[{{"role":"user","content":"{words}"}}]}}"#
        );
        let body = if body.contains('$') { format!("\"{}\"", body.replace('"', "\\\"")) } else { format!("'{body}'") };
        format!("{url}/v1/chat/completions -H \"authorization: Bearer {key}\" --json {body}")
    };
    let allowed = curl(alice, "", "Say hello", 60);
    let streamed = curl(alice, r#""stream":true,"#, "Tell me a story", 60);
    let denied = curl(bob, "", "Again", 20);
    let mut lines = format!("ready {url}  (Ctrl-C stops it; logs are in {})\n\n", settings.state.display());
    if !ours || model == "$MODEL" {
        lines.push_str("with KEY and MODEL set to a key and a model of your policy:\n\n");
    }
    lines.push_str(&format!("# allowed\ncurl -s {allowed}\n\n# streamed\ncurl -sN {streamed}\n\n"));
    let times = if ours { "# denied at the cap: the fourth call in five hours" } else { "# until a cap denies" };
    lines.push_str(&format!("{times}\nfor i in 1 2 3 4; do curl -sw '\\n%{{http_code}}\\n' {denied}; done\n\n"));
    lines.push_str(&format!("# usage\ncurl -s '{usage}'\n"));
    lines
}

/// What the one who runs this wants, by SIGINT or SIGTERM: the first stops, the second stops at once.
pub(super) struct Stop {
    pub(super) asked: Arc<AtomicBool>,
    pub(super) hurry: Arc<AtomicBool>,
    _runtime: tokio::runtime::Runtime,
}

impl Stop {
    /// Before anything is started: a signal's default would leave processes behind.
    pub(super) fn watch() -> io::Result<Stop> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (asked, hurry) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let (first, second) = (Arc::clone(&asked), Arc::clone(&hurry));
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if first.swap(true, Ordering::Relaxed) {
                    second.store(true, Ordering::Relaxed);
                }
            }
        });
        Ok(Stop { asked, hurry, _runtime: runtime })
    }
}

fn could_not(err: &mut dyn Write, message: &str) -> Exit {
    // Nothing is left to tell of a standard error that fails.
    let _ = writeln!(err, "farebox run: {message}");
    Exit::CouldNotRun
}
