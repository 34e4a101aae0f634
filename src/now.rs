//! The one way time enters the core: as a parameter.

/// The host's two clocks, read together once an event.
///
/// `wall_ms` decides windows and goes into records; `mono_ms` decides deadlines and never runs back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Now {
    /// Milliseconds since the Unix epoch, by the host's wall clock.
    pub wall_ms: u64,
    /// Milliseconds since some fixed moment of this host, by its monotonic clock.
    pub mono_ms: u64,
}
