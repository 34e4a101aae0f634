//! The native program's verbs.

pub mod collector;
pub mod usage;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Fine = 0,
    /// It could not do what it was asked to.
    CouldNotRun = 1,
    /// The policy is invalid.
    PolicyInvalid = 2,
    /// A test failed.
    TestFailed = 3,
}
