//! Starting and stopping the collector.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::clock::Clock;
use super::http;
use super::store::{self, Store};
use super::writer::Writer;

/// Connections that are still busy this long after the signal to stop are cut.
const GRACE: Duration = Duration::from_secs(5);

/// Why the collector could not run.
#[derive(Debug)]
pub enum Error {
    /// The database could not be opened.
    Database(PathBuf, store::Error),
    /// The address could not be listened on.
    Listen(SocketAddr, std::io::Error),
    /// The operating system gave no thread or socket.
    System(std::io::Error),
    /// The thread that writes has ended by itself.
    WriterEnded,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(path, error) => write!(f, "cannot open the database `{}`: {error}", path.display()),
            Self::Listen(address, error) => write!(f, "cannot listen on `{address}`: {error}"),
            Self::System(error) => write!(f, "the system refused: {error}"),
            Self::WriterEnded => f.write_str("the thread that writes the ledger has ended: start the collector again"),
        }
    }
}

impl std::error::Error for Error {}

/// A collector that listens, but does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    writer: Writer,
    thread: JoinHandle<()>,
    writer_ended: oneshot::Receiver<()>,
    database: PathBuf,
    clock: Clock,
}

impl Server {
    /// Opens the database and the socket. Port 0 takes any free one.
    pub async fn bind(listen: SocketAddr, database: &Path, clock: Clock) -> Result<Self, Error> {
        let store = Store::open(database).map_err(|error| Error::Database(database.to_owned(), error))?;
        let listener = TcpListener::bind(listen).await.map_err(|error| Error::Listen(listen, error))?;
        let (writer, thread, writer_ended) = Writer::start(store, clock.clone()).map_err(Error::System)?;
        Ok(Self { listener, writer, thread, writer_ended, database: database.to_owned(), clock })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        self.listener.local_addr().map_err(Error::System)
    }

    /// Serves until `stop` resolves; then finishes what has begun, and commits it.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let (stopping, stopped) = oneshot::channel::<()>();
        let routes = http::routes(self.writer, self.database, self.clock);
        let server = axum::serve(self.listener, routes).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        let mut serving = tokio::spawn(async move { server.await });
        let ended_early = tokio::select! {
            () = stop => false,
            _ = self.writer_ended => true,
            _ = &mut serving => false,
        };
        let _ = stopping.send(());
        if !serving.is_finished() && tokio::time::timeout(GRACE, &mut serving).await.is_err() {
            serving.abort();
        }
        if ended_early {
            return Err(Error::WriterEnded);
        }
        // Connections that were cut may hold the writer's handle a little longer: they are not waited for.
        let thread = self.thread;
        let _ = tokio::time::timeout(GRACE, tokio::task::spawn_blocking(move || thread.join())).await;
        Ok(())
    }
}

/// Resolves when the process is asked to stop: SIGTERM or SIGINT.
pub async fn asked_to_stop() -> Result<(), Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::System)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::System)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
