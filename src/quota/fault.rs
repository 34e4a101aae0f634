//! Seeded faults: the search and the properties must notice each of them. Shipped builds have none.

/// A way to break the protocol on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody looks at generations: a fenced owner goes on writing.
    NoGenerationCheck,
    /// Recovery does not rewrite the slot of a hold that it is about to undo.
    NoRestampOfSlot,
    /// Recovery stamps only the accounts that it changes.
    NoStampOfUntouchedLevels,
    /// An undone hold leaves its own number behind.
    UndoKeepsNumber,
    /// Finishing a settle does not look whether an account has it already.
    ForwardIgnoresNumber,
    /// A hold writes its slot first and its accounts afterwards.
    CommitBeforeAccounts,
    /// Taking a hold back starts one level too low.
    RollbackForgetsALevel,
    /// Recovery leaves held slots as they are.
    LostNotEnded,
    /// Recovery ends a held exchange as if it had never been.
    LostIsForgotten,
    /// Settling forgets what was held.
    SettleKeepsHeld,
    /// Held amounts are not looked at by admission: check, then settle.
    AdmissionIgnoresHeld,
    /// Each hold may pass by its overage what others have passed already.
    OverCountsAnew,
    /// A window that passes on what it has left keeps it as well.
    CarriedIsKept,
    /// What a window was charged beyond what it had ends with it.
    DebtIsForgotten,
    /// A quota of what runs at once lets everything pass.
    LiveIsNotCounted,
    /// A sliding window looks only at what is held.
    SlidingForgetsSettled,
    /// A sliding window takes back in its latest slice what was charged in an earlier one.
    RefundIsLate,
}

#[cfg(test)]
thread_local! {
    static SEEDED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Whether this fault was seeded.
#[cfg(test)]
pub(super) fn seeded(fault: Fault) -> bool {
    SEEDED.get() == Some(fault)
}

/// Whether this fault was seeded: never, and the compiler knows.
#[cfg(not(test))]
pub(super) const fn seeded(_: Fault) -> bool {
    false
}

/// Runs `work` with a fault seeded in this thread.
#[cfg(test)]
pub(super) fn with<T>(fault: Option<Fault>, work: impl FnOnce() -> T) -> T {
    SEEDED.set(fault);
    let result = work();
    SEEDED.set(None);
    result
}

#[cfg(test)]
thread_local! {
    static UNDERFLOW: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// More was released than was held: shipped builds count no lower than nothing, tests must know.
#[cfg(test)]
pub(super) fn note_underflow() {
    UNDERFLOW.set(true);
}

/// Whether that happened since the last call.
#[cfg(test)]
pub(super) fn underflowed() -> bool {
    UNDERFLOW.replace(false)
}
