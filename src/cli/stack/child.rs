//! A process of the stack.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{LOOK, now};

/// Lines of a log that are shown when its process has died.
const LAST_LINES: usize = 20;
/// As much of the log's end is looked at for them.
const LAST_BYTES: u64 = 16 << 10;
/// After SIGTERM; then SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process that ended by itself.
#[derive(Debug)]
pub struct Died {
    /// Which.
    pub name: &'static str,
    /// How.
    pub status: ExitStatus,
    /// The end of its log.
    pub last_lines: String,
    /// All of its log.
    pub log: PathBuf,
}

impl fmt::Display for Died {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Died { name, status, last_lines, log } = self;
        write!(f, "{name} ended ({status}); the last lines of `{}`:\n{last_lines}", log.display())
    }
}

#[derive(Debug)]
pub(super) struct Child {
    name: &'static str,
    process: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `command` with standard error in `<state>/<name>.log`; standard output goes there too, but for
    /// Envoy, whose standard output is the access log.
    pub(super) fn start(name: &'static str, mut command: Command, state: &Path) -> io::Result<Child> {
        let log = state.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let out = if name == "envoy" { File::create(state.join("access.log"))? } else { file.try_clone()? };
        // A process group of its own: Ctrl-C is for the one who started the stack, who then stops it in order.
        let process = command.stdin(Stdio::null()).stdout(out).stderr(file).process_group(0).spawn()?;
        Ok(Child { name, process, log })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// The end of its log.
    pub(super) fn last_lines(&self) -> String {
        last_lines(&self.log)
    }

    pub(super) fn look(&mut self) -> Result<(), Died> {
        match self.process.try_wait() {
            Ok(Some(status)) => {
                Err(Died { name: self.name, status, last_lines: self.last_lines(), log: self.log.clone() })
            }
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// SIGTERM, and SIGKILL for one that does not listen.
    pub(super) fn end(&mut self) {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| self.look().is_ok()) {
            // It fails only for a process that has gone, which is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
            let start = now();
            while start.elapsed() < PATIENCE {
                if self.look().is_err() {
                    return;
                }
                std::thread::sleep(LOOK);
            }
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn last_lines(log: &Path) -> String {
    let mut text = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
        file.take(LAST_BYTES).read_to_end(&mut text)
    });
    if let Err(error) = read {
        return format!("  (cannot be read: {error})");
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
    last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("farebox-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        command
    }

    #[test]
    fn the_dead_speak_by_their_last_lines() {
        let folder = folder("dead");
        let mut child = Child::start("upstream", shell("seq 100; echo no luck >&2; exit 3"), &folder).unwrap();
        let died = loop {
            match child.look() {
                Err(died) => break died.to_string(),
                Ok(()) => std::thread::sleep(LOOK),
            }
        };
        assert!(died.starts_with("upstream ended (exit status: 3)"), "{died}");
        assert!(died.ends_with("  100\n  no luck") && !died.contains("\n  80\n"), "{died}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_process_ends_when_told() {
        let folder = folder("told");
        let script = "trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.01; done";
        let mut child = Child::start("collector", shell(script), &folder).unwrap();
        while last_lines(child.log()) != "  up" {
            std::thread::sleep(LOOK);
        }
        child.end();
        assert_eq!(last_lines(child.log()), "  up\n  told");
        assert!(child.look().is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
