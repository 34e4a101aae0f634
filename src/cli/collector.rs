//! `farebox collector`: the reference collector.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::Exit;
use crate::collector::clock::Clock;
use crate::collector::server::{Error, Server, asked_to_stop};

/// Keep the ledger: take records and hand out grants until SIGTERM or Ctrl-C.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to listen; port 0 takes any free one. There is no authentication: only Envoys and operators may reach it.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,
    /// The SQLite file of the ledger; made if it is not there.
    #[arg(long, value_name = "PATH", default_value = "farebox.db")]
    pub db: PathBuf,
    /// For tests: a file with the Unix milliseconds that count as now; while it holds none, the machine's clock does.
    #[arg(long, value_name = "PATH", hide = true)]
    pub clock: Option<PathBuf>,
}

/// Runs until asked to stop. Prints one line, `ready http://…`, when it serves.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let served = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::System)
        .and_then(|runtime| runtime.block_on(serve(args, out)));
    match served {
        Ok(()) => Exit::Fine,
        Err(error) => {
            let _ = writeln!(err, "farebox collector: {error}");
            Exit::CouldNotRun
        }
    }
}

async fn serve(args: &Args, out: &mut dyn Write) -> Result<(), Error> {
    let server = Server::bind(args.listen, &args.db, Clock::new(args.clock.clone())).await?;
    writeln!(out, "ready http://{}", server.address()?).and_then(|()| out.flush()).map_err(Error::System)?;
    server
        .serve(async {
            if let Err(error) = asked_to_stop().await {
                eprintln!("farebox collector: cannot wait for signals, stopping: {error}");
            }
        })
        .await
}
