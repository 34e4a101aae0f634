//! `farebox upstream`: the model stand-in.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::Exit;
use crate::upstream::script::duration;
use crate::upstream::server::{Settings, serve};

/// Serves an OpenAI- and Anthropic-speaking model stand-in that reports exactly the tokens it sends.
///
/// Prompts steer it by markers: `[[output=200]]`, ignore-limit, input=N, cached=N, cache-write=N, cache-write-1h=N, reasoning=N,
/// tool-calls=N, used=web_search, arguments, images=N, seconds=N, silent, absurd, break=K, stall=K, no-response, served=M, fail=503, error=429, inside-error, garbage, trailers,
/// crlf, comments, echo, pace=1ms, slow-headers=500ms; several go into one pair of brackets, or into the request header `x-upstream: output=200
/// silent`. A request with tools that says "use the tool" gets a tool call. GET /stats shows what was written to whom.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8082")]
    listen: SocketAddr,
    /// Time between two tokens
    #[arg(long, default_value = "20ms", value_parser = pace)]
    pace: Duration,
    /// Decides every answer
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn pace(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "write a time like 20ms, 2s or 0".to_owned())
}

/// Runs until a signal stops it.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return could_not(err, &format!("cannot start: {error}")),
    };
    match runtime.block_on(until_stopped(args, out)) {
        Ok(()) => Exit::Fine,
        Err(message) => could_not(err, &message),
    }
}

async fn until_stopped(args: &Args, out: &mut dyn Write) -> Result<(), String> {
    let cannot_listen = |error| format!("cannot listen on {}: {error}; choose another with --listen", args.listen);
    let listener = TcpListener::bind(args.listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("cannot watch signals: {error}"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| format!("cannot watch signals: {error}"))?;
    writeln!(out, "ready http://{address}")
        .and_then(|()| out.flush())
        .map_err(|error| format!("cannot print: {error}"))?;
    tokio::select! {
        served = serve(listener, Settings { pace: args.pace, seed: args.seed }) => {
            served.map_err(|error| format!("cannot serve: {error}"))
        }
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

fn could_not(err: &mut dyn Write, message: &str) -> Exit {
    // Nothing is left to tell of a standard error that fails.
    let _ = writeln!(err, "farebox upstream: {message}");
    Exit::CouldNotRun
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::Args;
    use crate::upstream::script::NAMES;

    #[test]
    fn every_marker_is_in_the_help() {
        let help = Args::augment_args(clap::Command::new("upstream")).render_long_help().to_string();
        let words: Vec<&str> = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
        for name in NAMES {
            assert!(words.contains(&name), "`{name}` is not in:\n{help}");
        }
    }
}
