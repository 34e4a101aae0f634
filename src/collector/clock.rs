//! The one place where the collector reads a clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the collector takes for the time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// For tests: the file that says what time it is.
    said: Option<Arc<PathBuf>>,
}

impl Clock {
    /// The machine's clock; or where `said` is given, the Unix milliseconds in that file, as long as it holds some.
    pub fn new(said: Option<PathBuf>) -> Self {
        Self { said: said.map(Arc::new) }
    }

    /// Unix milliseconds; 0 when the machine thinks it is before 1970.
    pub(super) fn wall_ms(&self) -> u64 {
        let said = self.said.as_ref().and_then(|file| std::fs::read_to_string(file.as_path()).ok());
        said.and_then(|said| said.trim().parse().ok()).unwrap_or_else(machine_ms)
    }
}

#[expect(clippy::disallowed_methods, reason = "a host: everything below it gets the time as a parameter")]
fn machine_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Clock, machine_ms};

    #[test]
    fn a_file_says_the_time_while_it_holds_one() {
        let file = std::env::temp_dir().join(format!("farebox-clock-{}", std::process::id()));
        let clock = Clock::new(Some(file.clone()));
        let before = machine_ms();
        assert!(clock.wall_ms() >= before);
        std::fs::write(&file, "1795608000000\n").unwrap();
        assert_eq!(clock.wall_ms(), 1_795_608_000_000);
        std::fs::write(&file, "").unwrap();
        assert!(clock.wall_ms() >= before);
        std::fs::remove_file(&file).unwrap();
    }
}
