//! The collector over its socket: in this process, and in another one that is killed.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::store::{Losses, account, usage};
use crate::cli;
use crate::meter::usage::{Source, Usage};
use crate::quota::MICRO;
use crate::report::wire::{
    AccountReport, Charge, MAX_BODY, QuotaReport, Record, SyncHead, SyncReply, VERSION, decode_reply, encode_record,
    encode_sync,
};

/// An own directory for a database, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("farebox-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn database(&self) -> PathBuf {
        self.0.join("ledger.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Set for the child process that [`child`] turns into a collector: its database.
const CHILD: &str = "FAREBOX_TEST_COLLECTOR_DB";

/// Not a test: what a test spawns as a process of its own, through the verb that users start.
#[test]
#[ignore = "started by other tests"]
fn child() {
    let Some(db) = std::env::var_os(CHILD) else { return };
    let args = cli::collector::Args { listen: ([127, 0, 0, 1], 0).into(), db: db.into(), clock: None };
    let exit = cli::collector::run(&args, &mut std::io::stderr(), &mut std::io::stderr());
    assert_eq!(exit, cli::Exit::Fine);
}

/// A collector in a process of its own.
struct Collector {
    process: Child,
    url: String,
}

impl Collector {
    fn start(folder: &Folder) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["collector::tests::child", "--exact", "--ignored", "--nocapture"])
            .env(CHILD, folder.database())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let ready = lines.by_ref().find_map(|line| line.strip_prefix("ready ").map(str::to_owned));
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, url: ready.expect("it says that it is ready") }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn post(&self, body: &[u8]) -> Option<(u16, Vec<u8>)> {
        let mut answer = agent().post(format!("{}/v1/sync", self.url)).send(body).ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.body_mut().read_to_vec().ok()?))
    }

    fn sync(&self, head: &SyncHead, records: &[Record]) -> Option<SyncReply> {
        let encoded: Vec<_> = records.iter().map(encode_record).collect();
        let (status, body) = self.post(&encode_sync(head, &encoded))?;
        (status == 200).then(|| decode_reply(&body).unwrap())
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut answer = agent().get(format!("{}{path}", self.url)).call().unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    fn used(&self) -> usage::Answer {
        serde_json::from_str(&self.get("/v1/usage").1).unwrap()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().new_agent()
}

fn record(vm: u16, sequence: u64) -> Record {
    Record {
        id: format!("{:016x}-{vm}-1-{sequence}", 7),
        bundle: "acme-ai".to_owned(),
        seat: format!("seat-{vm}"),
        org: "acme".to_owned(),
        model: "qwen-max".to_owned(),
        admitted_ms: 1_795_535_400_000,
        source: Source::Reported,
        usage: Usage { output: 1, ..Usage::default() },
        charges: vec![Charge { unit: "credits".to_owned(), amount: MICRO / 2, ..Charge::default() }],
        ..Record::default()
    }
}

fn head(vm: u16, lowest: u64) -> SyncHead {
    let bundle = "acme-ai".to_owned();
    SyncHead { farebox: VERSION, bundle, epoch: 7, vm, generation: 1, lowest, next: lowest, ..SyncHead::default() }
}

#[test]
fn bad_input_gets_a_status_and_a_reason() {
    let folder = Folder::new("bad-input");
    let collector = Collector::start(&folder);
    let why = |(status, body): (u16, Vec<u8>)| {
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        (status, body["error"].as_str().unwrap().to_owned())
    };
    let post = |body: &[u8]| why(collector.post(body).unwrap());
    assert_eq!(post(b"").0, 400);
    assert_eq!(post(b"{\"farebox\": 1}").0, 400);
    let other = encode_sync(&SyncHead { farebox: 9, ..head(0, 1) }, &[] as &[&[u8]]);
    assert_eq!(post(&other), (400, "format version `9` is not spoken here: field `farebox` must be 1".to_owned()));
    let nameless = encode_sync(&SyncHead { bundle: String::new(), ..head(0, 1) }, &[] as &[&[u8]]);
    assert_eq!(post(&nameless).1, "field `bundle` of the head is missing or empty");
    assert_eq!(post(&vec![0; MAX_BODY + 1]).0, 413);

    let get = |path: &str| {
        let (status, body) = collector.get(path);
        why((status, body.into_bytes()))
    };
    assert_eq!(get("/v1/usage?by=colour").0, 400);
    assert_eq!(get("/v1/usage?form=2026-11-24").0, 400);
    assert_eq!(get("/v1/usage?from=soon").0, 400);
    assert_eq!(get("/v1/sync").0, 405);
    assert_eq!(get("/v2").0, 404);
    assert_eq!(collector.get("/healthz"), (200, "{\"status\":\"ok\"}".to_owned()));
    assert_eq!(collector.used().total.requests, 0);
}

#[test]
fn a_sync_is_answered_and_seen_in_usage_accounts_and_losses() {
    let folder = Folder::new("seen");
    let collector = Collector::start(&folder);
    let quota = QuotaReport {
        quota: "plan/fund".to_owned(),
        unit: "credits".to_owned(),
        limit: 10 * MICRO,
        window: 5,
        ends: u64::MAX,
        used: MICRO / 2,
        want: 2 * MICRO,
        ..QuotaReport::default()
    };
    let accounts = vec![AccountReport { subject: "seat/seat-1".to_owned(), quotas: vec![quota] }];
    let reply = collector.sync(&SyncHead { accounts, ..head(1, 3) }, &[record(1, 1)]).unwrap();
    assert_eq!((reply.acknowledged.len(), reply.grants[0].granted), (1, 2 * MICRO));
    let (_, body) = collector.get("/v1/accounts?subject=seat/seat-1");
    let answer: account::Answer = serde_json::from_str(&body).unwrap();
    assert_eq!(answer.quotas[0].left.to_string(), "8");
    assert!(
        collector.get("/v1/losses").1.starts_with("{\"proven\":1,\"rejected\":0,\"conflicts\":0,\"unfinished\":[]")
    );

    let mut out = Vec::new();
    let args = cli::usage::Args {
        collector: collector.url.clone(),
        by: "seat".to_owned(),
        from: None,
        to: None,
        zone: None,
        org: None,
        seat: None,
        model: None,
        bundle: None,
        json: false,
    };
    assert_eq!(cli::usage::run(&args, &mut out, &mut std::io::stderr()), cli::Exit::Fine);
    insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
    seat    org   requests  estimated  input  cache read  cache write  output  reasoning  credits
    seat-1  acme         1          0      0           0            0       1          0      0.5
    total                1          0      0           0            0       1          0      0.5
    lost: 1 (proven: the records of these exchanges will not come)
    ");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let wrong = cli::usage::Args { from: Some("soon".to_owned()), ..args };
    assert_eq!(cli::usage::run(&wrong, &mut out, &mut err), cli::Exit::CouldNotRun);
    assert!(out.is_empty() && String::from_utf8(err).unwrap().contains("`from=soon` is no moment"));
}

#[test]
fn sigterm_ends_it_cleanly_and_nothing_is_forgotten() {
    for signal in ["-TERM", "-INT"] {
        let folder = Folder::new(&format!("stop{signal}"));
        let mut collector = Collector::start(&folder);
        collector.sync(&head(0, 1), &[record(0, 1)]).unwrap();
        assert_eq!(collector.used().total.requests, 1);
        collector.signal(signal);
        assert!(collector.process.wait().unwrap().success());
        assert!(!folder.0.join("ledger.db-wal").exists(), "the database was closed, not left");
        assert_eq!(Collector::start(&folder).used().total.requests, 1);
    }
}

#[test]
fn a_database_that_cannot_be_opened_is_said() {
    let folder = Folder::new("no-database");
    let db = folder.0.join("missing").join("ledger.db");
    let mut err = Vec::new();
    let args = cli::collector::Args { listen: ([127, 0, 0, 1], 0).into(), db, clock: None };
    assert_eq!(cli::collector::run(&args, &mut std::io::sink(), &mut err), cli::Exit::CouldNotRun);
    assert!(String::from_utf8(err).unwrap().starts_with("farebox collector: cannot open the database `"));
}

/// Eight senders at work, the collector killed with -9 in the middle, five times: what was acknowledged is there,
/// what was not comes again, and each record is there once.
#[test]
fn killed_in_the_middle_each_record_arrives_once() {
    const SENDERS: u16 = 8;
    const BATCHES: u64 = 150;
    const BATCH: u64 = 10;
    let folder = Folder::new("killed");
    let collector = std::sync::RwLock::new(Collector::start(&folder));
    let (acknowledged, repeated, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|vm| {
                let (collector, acknowledged, repeated) = (&collector, &acknowledged, &repeated);
                scope.spawn(move || {
                    for batch in 0..BATCHES {
                        let first = batch * BATCH + 1;
                        let records: Vec<_> = (first..first + BATCH).map(|sequence| record(vm, sequence)).collect();
                        // The lock is only held to copy the address: the kill hits calls that are under way.
                        let call = || {
                            let url = collector.read().unwrap().url.clone();
                            let encoded: Vec<_> = records.iter().map(encode_record).collect();
                            let body = encode_sync(&head(vm, first), &encoded);
                            let mut answer = agent().post(format!("{url}/v1/sync")).send(&body[..]).ok()?;
                            let ok = answer.status().as_u16() == 200;
                            let body = answer.body_mut().read_to_vec().ok()?;
                            ok.then(|| decode_reply(&body).unwrap())
                        };
                        let reply = loop {
                            if let Some(reply) = call() {
                                break reply;
                            }
                            repeated.fetch_add(1, Ordering::Relaxed);
                            std::thread::yield_now();
                        };
                        assert_eq!(reply.acknowledged.len() as u64, BATCH);
                        acknowledged.fetch_add(BATCH, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for kill in 1..=5 {
            let all = u64::from(SENDERS) * BATCHES * BATCH;
            while acknowledged.load(Ordering::Relaxed) < all * kill / 6 && !done.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            collector.read().unwrap().signal("-KILL");
            let before = acknowledged.load(Ordering::Relaxed);
            let mut next = Collector::start(&folder);
            assert!(next.used().total.requests >= before, "what was acknowledged is on the disk");
            std::mem::swap(&mut *collector.write().unwrap(), &mut next);
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    let used = collector.read().unwrap().used();
    let _ = writeln!(std::io::stderr(), "5 kills, {} calls repeated", repeated.load(Ordering::Relaxed));
    assert!(repeated.load(Ordering::Relaxed) > 0, "no kill hit anything");
    let all = u64::from(SENDERS) * BATCHES * BATCH;
    assert_eq!((used.total.requests, used.total.output), (all, all));
    assert_eq!(used.total.credits.0, u128::from(all * MICRO / 2));
    assert_eq!(used.losses, Losses::default());
    assert!(used.rows.iter().all(|row| row.requests == BATCHES * BATCH), "{:?}", used.rows);
}
