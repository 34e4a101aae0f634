//! Which settled records go to the collector, and when.
//!
//! The records themselves stay in their slots until they are acknowledged; this is only the book about them.
//! A batch is given out whole, one at a time. Whatever happens to it (refused, timed out, its host gone) its
//! records simply wait again: the collector knows them by id, so sending twice is harmless, and an answer that
//! comes late still frees what it names.

use std::collections::BTreeMap;

use crate::now::Now;
use crate::quota::ExchangeId;

/// Most bytes of records in a batch, unless the caller says otherwise.
pub const BATCH_BYTES: usize = 1 << 20;
/// Most records in a batch, unless the caller says otherwise.
pub const BATCH_RECORDS: usize = 512;
/// A batch without an answer for this long, in milliseconds, counts as failed.
pub const ANSWER_WITHIN_MS: u64 = 10_000;
/// Longest first pause after a failure, in milliseconds; each further failure doubles it.
const PAUSE_MS: u64 = 500;
/// No pause is longer, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 10_000;

/// A settled record that waits in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The VM slot whose exchange slots hold it; another than one's own after a recovery.
    pub vm: u16,
    /// The exchange slot.
    pub slot: u32,
    /// The exchange.
    pub id: ExchangeId,
}

/// What has happened so far. Every record settled here is either acknowledged, rejected or waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records given out in batches, repeated ones counted each time.
    pub sent: u64,
    /// Records given out again after a batch had failed.
    pub retried: u64,
    /// Batches that failed, for whatever reason.
    pub failures: u64,
    /// Records that the collector has.
    pub acknowledged: u64,
    /// Records that the collector will never take: lost, and to be shown.
    pub rejected: u64,
    /// Records that wait or are on their way.
    pub waiting: u64,
    /// Their size in bytes.
    pub waiting_bytes: u64,
}

/// The book of one VM about its unacknowledged records.
#[derive(Clone, Debug)]
pub struct Outbox {
    buffer_bytes: u64,
    seed: u64,
    answer_within_ms: u64,
    /// By order of settling: the oldest goes first.
    entries: BTreeMap<u64, Entry>,
    order: BTreeMap<ExchangeId, u64>,
    next_order: u64,
    out: Option<Batch>,
    failures_in_row: u32,
    rest_until_ms: u64,
    tally: Tally,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    ticket: Ticket,
    bytes: u64,
    sent: bool,
}

#[derive(Clone, Debug)]
struct Batch {
    /// Orders of the entries that have no answer yet.
    unanswered: Vec<u64>,
    until_ms: u64,
}

impl Outbox {
    /// An empty book that calls itself full above `buffer_bytes`. `seed` spreads the retries of many VMs; any
    /// value that differs between them will do.
    pub fn new(buffer_bytes: u64, seed: u64) -> Self {
        Self {
            buffer_bytes,
            seed,
            answer_within_ms: ANSWER_WITHIN_MS,
            entries: BTreeMap::new(),
            order: BTreeMap::new(),
            next_order: 0,
            out: None,
            failures_in_row: 0,
            rest_until_ms: 0,
            tally: Tally::default(),
        }
    }

    /// Changes how long a batch may be out, in milliseconds, before it counts as failed.
    pub fn answer_within(mut self, milliseconds: u64) -> Self {
        self.answer_within_ms = milliseconds;
        self
    }

    /// A new bound from a new configuration. What waits stays.
    pub fn set_buffer_bytes(&mut self, buffer_bytes: u64) {
        self.buffer_bytes = buffer_bytes;
    }

    /// A record of `bytes` bytes waits in exchange slot `slot` of VM slot `vm`. Saying so twice changes nothing.
    pub fn settled(&mut self, slot: u32, vm: u16, id: ExchangeId, bytes: usize) {
        if self.order.contains_key(&id) {
            return;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let order = self.next_order;
        self.next_order = self.next_order.saturating_add(1);
        self.order.insert(id, order);
        self.entries.insert(order, Entry { ticket: Ticket { vm, slot, id }, bytes, sent: false });
        self.tally.waiting = self.tally.waiting.saturating_add(1);
        self.tally.waiting_bytes = self.tally.waiting_bytes.saturating_add(bytes);
    }

    /// Whether a sync may leave now: none is out and no pause is running. A batch past its deadline fails here.
    pub fn ready(&mut self, now: Now) -> bool {
        if self.out.as_ref().is_some_and(|batch| now.mono_ms >= batch.until_ms) {
            self.failed(now);
        }
        self.out.is_none() && now.mono_ms >= self.rest_until_ms
    }

    /// Whether at least `records` wait and may leave now: a whole batch need not wait for more.
    pub fn has_batch(&self, now: Now, records: usize) -> bool {
        self.out.is_none() && now.mono_ms >= self.rest_until_ms && self.entries.len() >= records
    }

    /// The next batch, oldest record first: at least one record, then as many as fit `max_bytes` and `max_records`.
    ///
    /// `None` when nothing waits or when not [`ready`](Self::ready). The batch is out until all of it is
    /// acknowledged or rejected, until [`failed`](Self::failed), or until its deadline.
    pub fn next_batch(&mut self, now: Now, max_bytes: usize, max_records: usize) -> Option<Vec<Ticket>> {
        if !self.ready(now) || self.entries.is_empty() {
            return None;
        }
        let mut room = u64::try_from(max_bytes).unwrap_or(u64::MAX);
        let mut batch = Batch { unanswered: Vec::new(), until_ms: now.mono_ms.saturating_add(self.answer_within_ms) };
        let mut tickets = Vec::new();
        for (&order, entry) in self.entries.iter_mut().take(max_records.max(1)) {
            if entry.bytes > room && !tickets.is_empty() {
                break;
            }
            room = room.saturating_sub(entry.bytes);
            self.tally.retried = self.tally.retried.saturating_add(u64::from(entry.sent));
            self.tally.sent = self.tally.sent.saturating_add(1);
            entry.sent = true;
            batch.unanswered.push(order);
            tickets.push(entry.ticket);
        }
        self.out = Some(batch);
        Some(tickets)
    }

    /// The collector has these records: their slots can be freed. Ids that are not known here are passed over,
    /// and an answer that comes late counts like any other.
    pub fn acknowledged(&mut self, ids: &[ExchangeId]) -> Vec<Ticket> {
        let freed = self.answered(ids);
        self.tally.acknowledged = self.tally.acknowledged.saturating_add(freed.len() as u64);
        freed
    }

    /// The collector will never take these records: their slots can be freed, and they are lost.
    pub fn rejected(&mut self, ids: &[ExchangeId]) -> Vec<Ticket> {
        let freed = self.answered(ids);
        self.tally.rejected = self.tally.rejected.saturating_add(freed.len() as u64);
        freed
    }

    /// The collector answered a sync that had no records: it is there again.
    pub fn reached(&mut self) {
        self.failures_in_row = 0;
        self.rest_until_ms = 0;
    }

    /// The batch, or a sync without records, failed: all of it waits again, and a pause begins, twice as long as
    /// the one before.
    pub fn failed(&mut self, now: Now) {
        self.out = None;
        self.tally.failures = self.tally.failures.saturating_add(1);
        self.rest_until_ms = now.mono_ms.saturating_add(self.pause());
        self.failures_in_row = self.failures_in_row.saturating_add(1);
    }

    /// Whether more is waiting than the buffer may hold: the policy's rule for that applies. Nothing is dropped.
    pub fn full(&self) -> bool {
        self.tally.waiting_bytes > self.buffer_bytes
    }

    /// Whether a batch is out.
    pub fn out(&self) -> bool {
        self.out.is_some()
    }

    /// The figures for metrics.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    fn answered(&mut self, ids: &[ExchangeId]) -> Vec<Ticket> {
        let mut freed = Vec::new();
        for id in ids {
            let Some(entry) = self.order.remove(id).and_then(|order| self.entries.remove(&order)) else { continue };
            self.tally.waiting = self.tally.waiting.saturating_sub(1);
            self.tally.waiting_bytes = self.tally.waiting_bytes.saturating_sub(entry.bytes);
            freed.push(entry.ticket);
        }
        if let Some(batch) = &mut self.out {
            batch.unanswered.retain(|order| self.entries.contains_key(order));
            if batch.unanswered.is_empty() {
                self.out = None;
                self.reached();
            }
        }
        freed
    }

    /// Between half and all of 500 ms × 2ⁿ, at most 10 s: spread, so that a fleet does not come back as one.
    fn pause(&self) -> u64 {
        let whole = PAUSE_MS.saturating_mul(1 << self.failures_in_row.min(16)).min(LONGEST_PAUSE_MS);
        let half = whole / 2;
        half + mix(self.seed ^ u64::from(self.failures_in_row)) % (half + 1)
    }
}

/// SplitMix64's finaliser: spreads small differences over all bits.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{any, prop, proptest};

    use super::{BATCH_BYTES, BATCH_RECORDS, ExchangeId, Now, Outbox, Tally, Ticket};
    use crate::quota::Incarnation;

    fn id(sequence: u64) -> ExchangeId {
        ExchangeId { by: Incarnation { epoch: 1, vm: 0, generation: 1 }, sequence }
    }

    fn at(mono_ms: u64) -> Now {
        Now { wall_ms: 0, mono_ms }
    }

    fn with(records: u64) -> Outbox {
        let mut outbox = Outbox::new(1_000, 7);
        (1..=records).for_each(|n| outbox.settled(n as u32, 0, id(n), 100));
        outbox
    }

    fn sequences(batch: Option<Vec<Ticket>>) -> Vec<u64> {
        batch.unwrap_or_default().iter().map(|ticket| ticket.id.sequence).collect()
    }

    #[test]
    fn one_batch_at_a_time_oldest_first_within_bounds() {
        let mut outbox = with(5);
        assert_eq!(sequences(outbox.next_batch(at(0), 250, 9)), [1, 2]);
        assert_eq!(outbox.next_batch(at(1), 250, 9), None, "one is out");
        let freed = outbox.acknowledged(&[id(1), id(2), id(77)]);
        assert_eq!(freed, [Ticket { vm: 0, slot: 1, id: id(1) }, Ticket { vm: 0, slot: 2, id: id(2) }]);
        assert_eq!(sequences(outbox.next_batch(at(2), 10, 9)), [3], "a record larger than a batch goes alone");
        outbox.acknowledged(&[id(3)]);
        assert_eq!(sequences(outbox.next_batch(at(3), BATCH_BYTES, 1)), [4]);
        outbox.acknowledged(&[id(4)]);
        assert_eq!(sequences(outbox.next_batch(at(4), BATCH_BYTES, BATCH_RECORDS)), [5]);
        outbox.acknowledged(&[id(5)]);
        assert_eq!(outbox.next_batch(at(5), BATCH_BYTES, BATCH_RECORDS), None);
        assert_eq!(outbox.tally(), Tally { sent: 5, acknowledged: 5, ..Tally::default() });
    }

    #[test]
    fn a_whole_batch_waits_for_nothing_but_the_one_before_and_a_pause() {
        let mut outbox = with(3);
        assert!(outbox.has_batch(at(0), 3) && !outbox.has_batch(at(0), 4));
        outbox.next_batch(at(0), 999, 1);
        assert!(!outbox.has_batch(at(1), 2), "one is out");
        outbox.failed(at(1));
        assert!(!outbox.has_batch(at(2), 3), "a pause runs");
        assert!(outbox.has_batch(at(10_001), 3));
    }

    #[test]
    fn failures_double_the_pause_up_to_ten_seconds_and_success_ends_it() {
        let mut outbox = with(1);
        let mut now = 0;
        for least in [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000] {
            assert_eq!(sequences(outbox.next_batch(at(now), 999, 9)), [1]);
            outbox.failed(at(now));
            assert!(!outbox.ready(at(now + least - 1)), "{least}");
            now += if least == 5_000 { 10_000 } else { 2 * least };
            assert!(outbox.ready(at(now)), "{least}");
        }
        assert_eq!(outbox.tally().retried, 6);
        outbox.next_batch(at(now), 999, 9);
        outbox.acknowledged(&[id(1)]);
        outbox.settled(2, 0, id(2), 1);
        assert_eq!(sequences(outbox.next_batch(at(now), 999, 9)), [2]);
        outbox.failed(at(now));
        assert!(outbox.ready(at(now + 500)), "the pause begins small again");
    }

    #[test]
    fn seeds_spread_the_retries() {
        let pauses: BTreeSet<u64> = (0..100)
            .map(|seed| {
                let mut outbox = Outbox::new(0, seed);
                outbox.failed(at(0));
                (0..=500).find(|&ms| outbox.ready(at(ms))).unwrap()
            })
            .collect();
        assert!(pauses.len() > 50 && pauses.first() >= Some(&250), "{pauses:?}");
    }

    #[test]
    fn a_batch_past_its_deadline_waits_again_and_its_late_answer_counts() {
        let mut outbox = with(2).answer_within(3_000);
        assert_eq!(sequences(outbox.next_batch(at(0), 999, 9)), [1, 2]);
        assert!(!outbox.ready(at(2_999)));
        assert!(!outbox.ready(at(3_000)), "it failed just now, so a pause runs");
        assert_eq!(sequences(outbox.next_batch(at(3_500), 999, 9)), [1, 2]);
        assert_eq!(outbox.acknowledged(&[id(1)]).len(), 1, "the first answer, late");
        assert!(outbox.out(), "record 2 has no answer yet");
        assert_eq!(outbox.acknowledged(&[id(1), id(2)]).len(), 1, "the second answer");
        assert_eq!(outbox.tally(), Tally { sent: 4, retried: 2, failures: 1, acknowledged: 2, ..Tally::default() });
    }

    #[test]
    fn what_an_answer_does_not_name_is_sent_again() {
        let mut outbox = with(3).answer_within(1_000);
        outbox.next_batch(at(0), 999, 9);
        assert_eq!(outbox.rejected(&[id(2)]).len(), 1);
        assert_eq!(outbox.acknowledged(&[id(1)]).len(), 1);
        assert_eq!(outbox.next_batch(at(999), 999, 9), None);
        assert!(!outbox.ready(at(1_000)));
        assert_eq!(sequences(outbox.next_batch(at(1_500), 999, 9)), [3]);
        assert_eq!(outbox.tally().rejected, 1);
    }

    #[test]
    fn it_is_full_above_its_bound_and_drops_nothing() {
        let mut outbox = with(10);
        assert!(!outbox.full());
        outbox.settled(11, 0, id(11), 1);
        outbox.settled(11, 0, id(11), 1);
        assert!(outbox.full());
        assert_eq!((outbox.tally().waiting, outbox.tally().waiting_bytes), (11, 1_001));
        outbox.next_batch(at(0), 999, 9);
        outbox.acknowledged(&[id(1)]);
        assert!(!outbox.full());
    }

    proptest! {
        #[test]
        fn every_record_is_freed_exactly_once(seed: u64, fates in prop::collection::vec(any::<(u8, u8)>(), 1..200)) {
            let mut outbox = Outbox::new(u64::MAX, seed).answer_within(2_000);
            let (mut now, mut settled, mut freed, mut late) = (0, 0, Vec::new(), Vec::new());
            for (fate, more) in fates {
                for _ in 0..more % 4 {
                    settled += 1;
                    outbox.settled(settled as u32, 0, id(settled), usize::from(more));
                }
                now += u64::from(more) * 20;
                let ids: Vec<_> =
                    outbox.next_batch(at(now), 300, 5).unwrap_or_default().iter().map(|ticket| ticket.id).collect();
                match fate % 4 {
                    0 => freed.extend(outbox.acknowledged(&ids)),
                    1 => freed.extend(outbox.acknowledged(&late)),
                    2 if !ids.is_empty() => outbox.failed(at(now)),
                    _ => late.extend(ids),
                }
                let tally = outbox.tally();
                assert_eq!(tally.waiting + tally.acknowledged, settled);
            }
            while outbox.tally().waiting > 0 {
                now += 10_000;
                let batch = outbox.next_batch(at(now), 300, 5).unwrap_or_default();
                freed.extend(outbox.acknowledged(&batch.iter().map(|ticket| ticket.id).collect::<Vec<_>>()));
            }
            let once: BTreeSet<_> = freed.iter().map(|ticket| ticket.id).collect();
            assert_eq!((once.len(), freed.len()), (settled as usize, settled as usize));
            assert_eq!(outbox.tally().waiting_bytes, 0);
        }
    }
}
