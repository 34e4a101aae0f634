//! The one thread that writes: many syncs share a transaction, and each is answered after its commit.
//!
//! While a commit waits for the disk, the next syncs queue up; all that have come by then form the next
//! transaction. So the more there is to do, the less a sync costs.

use std::thread::JoinHandle;

use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};
use tokio::sync::oneshot;

use super::clock::Clock;
use super::store::{Applied, Error, Store, apply};
use crate::report::wire::{Record, SyncHead, SyncReply};

/// Syncs that may wait for the writer.
const QUEUE: usize = 64;
/// Syncs that share a transaction.
const MOST_SYNCS: usize = 64;

/// A sync as it was decoded.
#[derive(Clone, Debug, Default)]
pub struct Sync {
    /// Its head.
    pub head: SyncHead,
    /// Its records, or why one is none.
    pub records: Vec<Result<Record, String>>,
}

/// Why a sync was not committed. Nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many are waiting.
    Busy,
    /// The database failed, and how.
    Failed(String),
    /// The writer has ended.
    Gone,
}

struct Job {
    /// `None` only asks whether a transaction can be committed.
    sync: Option<Sync>,
    answer: oneshot::Sender<Result<SyncReply, Refused>>,
}

/// A handle to the writer. The thread ends, all it has begun committed, when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Writer(Sender<Job>);

impl Writer {
    /// Starts the thread. The receiver resolves when it ends, for whatever reason.
    pub fn start(store: Store, clock: Clock) -> std::io::Result<(Self, JoinHandle<()>, oneshot::Receiver<()>)> {
        let (jobs, queue) = channel(QUEUE);
        let (alive, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            let _alive: oneshot::Sender<()> = alive;
            work(store, queue, &clock);
        })?;
        Ok((Self(jobs), thread, ended))
    }

    /// Applies a sync; resolves when it is on the disk.
    pub async fn sync(&self, sync: Sync) -> Result<SyncReply, Refused> {
        self.ask(Some(sync)).await
    }

    /// Asks whether syncs would be committed now, without changing anything.
    pub async fn probe(&self) -> Result<(), Refused> {
        self.ask(None).await.map(|_| ())
    }

    async fn ask(&self, sync: Option<Sync>) -> Result<SyncReply, Refused> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Job { sync, answer }).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Busy,
            TrySendError::Closed(_) => Refused::Gone,
        })?;
        answered.await.unwrap_or(Err(Refused::Gone))
    }
}

fn work(mut store: Store, mut queue: Receiver<Job>, clock: &Clock) {
    while let Some(first) = queue.blocking_recv() {
        let mut jobs = vec![first];
        while jobs.len() < MOST_SYNCS
            && let Ok(next) = queue.try_recv()
        {
            jobs.push(next);
        }
        let (syncs, answers): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.sync, job.answer)).unzip();
        let results = commit(&mut store, &syncs, clock.wall_ms()).unwrap_or_else(|error| {
            eprintln!("farebox collector: nothing was committed: {error}");
            syncs.iter().map(|_| Err(Refused::Failed(error.to_string()))).collect()
        });
        for (result, answer) in results.into_iter().zip(answers) {
            let reply = result.map(|applied| {
                applied.warnings.iter().for_each(|line| eprintln!("farebox collector: {line}"));
                applied.reply
            });
            // Whoever asked may be gone: it will ask again, and the ledger knows its records then.
            let _ = answer.send(reply);
        }
    }
}

/// Applies the syncs in one transaction. One that fails is undone alone.
fn commit(store: &mut Store, syncs: &[Option<Sync>], now_ms: u64) -> Result<Vec<Result<Applied, Refused>>, Error> {
    let mut transaction = store.begin()?;
    let mut results = Vec::with_capacity(syncs.len());
    for sync in syncs {
        let Some(sync) = sync else {
            results.push(Ok(Applied::default()));
            continue;
        };
        // A savepoint that is dropped is rolled back.
        let point = transaction.savepoint()?;
        match apply(&point, &sync.head, &sync.records, now_ms) {
            Ok(applied) => {
                point.commit()?;
                results.push(Ok(applied));
            }
            Err(error) => {
                point.finish()?;
                results.push(Err(Refused::Failed(error.to_string())));
            }
        }
    }
    transaction.commit()?;
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::{Clock, Refused, Store, Sync, Writer, commit};
    use crate::collector::store::usage;
    use crate::report::wire::{AccountReport, QuotaReport, Record, SyncHead};

    fn sync(sequence: u64, subjects: usize) -> Sync {
        let id = format!("0000000000000001-0-1-{sequence}");
        let record = Record { id, bundle: "b".to_owned(), ..Record::default() };
        let account = AccountReport { quotas: vec![QuotaReport::default()], ..AccountReport::default() };
        let head = SyncHead { bundle: "b".to_owned(), accounts: vec![account; subjects], ..SyncHead::default() };
        Sync { head, records: vec![Ok(record)] }
    }

    fn requests(store: &mut Store) -> u64 {
        usage::answer(&store.begin().unwrap(), &usage::Question::default()).unwrap().total.requests
    }

    #[test]
    fn a_sync_that_fails_is_undone_alone() {
        let mut store = Store::in_memory().unwrap();
        let broken = store.begin().unwrap();
        broken.execute_batch("DROP TABLE quotas").unwrap();
        broken.commit().unwrap();
        let results = commit(&mut store, &[Some(sync(1, 0)), Some(sync(2, 1)), None, Some(sync(3, 0))], 5).unwrap();
        assert!(matches!(results[1], Err(Refused::Failed(_))), "{results:?}");
        let news: Vec<_> = results.iter().map(|result| result.as_ref().map_or(9, |applied| applied.new)).collect();
        assert_eq!(news, [1, 9, 0, 1]);
        assert_eq!(requests(&mut store), 2);
    }

    #[test]
    fn a_full_queue_refuses_and_what_was_queued_is_committed() {
        let path = std::env::temp_dir().join(format!("farebox-queue-{}.db", std::process::id()));
        let (writer, thread, _ended) = Writer::start(Store::open(&path).unwrap(), Clock::default()).unwrap();
        // Another program writes, so the writer waits and the queue fills.
        let mut other = Store::open(&path).unwrap();
        let lock = other.begin().unwrap();
        let answers = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let ask = |sequence| {
                let writer = writer.clone();
                async move { writer.sync(sync(sequence, 0)).await }
            };
            let asked: Vec<_> = (1..=200).map(|sequence| tokio::spawn(ask(sequence))).collect();
            tokio::task::yield_now().await;
            drop(lock);
            let mut answers = Vec::new();
            for one in asked {
                answers.push(one.await.unwrap());
            }
            answers
        });
        drop(writer);
        thread.join().unwrap();
        let taken = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!(answers.iter().all(|answer| answer.is_ok() || *answer == Err(Refused::Busy)), "{answers:?}");
        assert!((64..200).contains(&taken), "{taken} were taken");
        assert_eq!(requests(&mut Store::open(&path).unwrap()), taken as u64);
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", path.display()));
        }
    }
}
