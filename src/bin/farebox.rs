//! The native binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    farebox::cli::main()
}
