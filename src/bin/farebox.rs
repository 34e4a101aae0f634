//! The native binary.

fn main() -> farebox::cli::Exit {
    farebox::cli::main()
}
