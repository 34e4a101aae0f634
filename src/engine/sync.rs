//! One endpoint for everything remote: records and standings out, acknowledgements and grants in.

use std::collections::BTreeMap;

use crate::engine::effect::{Effect, Severity};
use crate::engine::vm::{Touched, TouchedQuota, Vm};
use crate::now::Now;
use crate::quota::{
    Account, Cells, ExchangeId, GrantLine, Keys, Operation, Outcome, Period, Quota, QuotaId, Slot, StoreError, Window,
    give_back, give_back_past, give_back_unused, grant, mean_length, next_window, read_account, read_slot,
};
use crate::report::id::exchange_id;
use crate::report::outbox::Ticket;
use crate::report::wire::{self, AccountReport, MAX_QUOTAS, QuotaReport, SyncHead, SyncReply};

/// Longest batch in bytes and in records.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_RECORDS: usize = 512;
/// Most accounts, and about how many lines about their quotas, in one sync: within what `report::wire` lets pass.
const SYNC_ACCOUNTS: usize = 1_024;
const SYNC_LINES: usize = 8_192;
/// How long an answer may take; then the batch counts as failed and comes again.
const TIMEOUT_MS: u64 = 2_000;
/// How long an account must be unused until its unspent grants are returned.
const IDLE_MS: u64 = 60_000;
/// The pause after a fetch that was answered.
const FETCH_AGAIN_MS: u64 = 10;
/// The pause after a failed fetch for those who wait: they have seconds at most.
const FETCH_PAUSE_MS: u64 = 200;
/// How long a first-use window runs on that has ended by our clock, and not by that of the ledger, which has just said so.
const STILL_MS: u64 = 1_000;

/// A request for the host to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callout {
    /// The Envoy cluster.
    pub cluster: String,
    /// Its path; the method is `POST`.
    pub path: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// When to give up.
    pub timeout_ms: u64,
    /// To be given back with the answer.
    pub token: u64,
}

/// A sync that is out.
pub(super) struct Flight {
    token: u64,
    deadline_ms: u64,
    /// The records in it, in their order.
    tickets: Vec<Ticket>,
    /// What it asks for.
    wanted: Wanted,
}

/// Micro-units wanted beyond the grants, by account and quota, summed over those who wait.
pub(super) type Wanted = BTreeMap<(String, QuotaId), u64>;

impl Vm {
    /// Someone waits for `missing` micro-units more of a quota.
    pub(super) fn want(&mut self, subject: &str, quota: QuotaId, missing: u64) {
        let wanted = self.wanted.entry((subject.to_owned(), quota)).or_default();
        *wanted = wanted.saturating_add(missing);
    }

    /// Whether [`Vm::sync`] would have something to send now.
    pub(super) fn wants_sync(&self, now: Now) -> bool {
        let Some(collector) = &self.bundle.collector else { return false };
        if self.flight.as_ref().is_some_and(|flight| now.mono_ms < flight.deadline_ms) {
            return false;
        }
        let fetch = !self.wanted.is_empty() && now.mono_ms >= self.fetch_after_ms;
        let due = now.mono_ms.saturating_sub(self.last_sync_ms) >= collector.sync_ms;
        // Else a VM could report no more than a batch a period, and above that run out of slots.
        let batch = self.outbox.has_batch(now, BATCH_RECORDS);
        fetch || batch || due && (self.outbox.tally().waiting > 0 || self.touched.values().any(|touched| touched.dirty))
    }

    /// The next request to the collector, or `None` when there is nothing to say or one is still out.
    pub fn sync(&mut self, now: Now, cells: &mut dyn Cells, effects: &mut Vec<Effect>) -> Option<Callout> {
        if self.flight.as_ref().is_some_and(|flight| flight.deadline_ms <= now.mono_ms) {
            self.lost(now);
        }
        if self.flight.is_some() || !self.wants_sync(now) {
            return None;
        }
        // A VM that was claimed by another one still has something to say, and may wait for it to admit again.
        let home = if self.speaker().is_none() { self.be_home(now, cells, effects) } else { Ok(()) };
        match home.and_then(|()| self.compose(now, cells)) {
            Ok(callout) => callout,
            Err(StoreError) => {
                effects.push(Effect::Log(Severity::Error, format!("sync not composed: {StoreError}")));
                // What was taken up for it was not said.
                self.touched.values_mut().for_each(|touched| touched.dirty = true);
                if self.outbox.out() {
                    self.outbox.failed(now);
                }
                None
            }
        }
    }

    fn compose(&mut self, now: Now, cells: &mut dyn Cells) -> Result<Option<Callout>, StoreError> {
        let Some(collector) = self.bundle.collector.clone() else { return Ok(None) };
        let Some(by) = self.speaker() else { return Ok(None) };
        let (tickets, records) = self.load_batch(now, cells)?;
        let accounts = self.report_accounts(now, cells)?;
        let (lowest, next) = self.progress();
        let head = SyncHead {
            farebox: wire::VERSION,
            bundle: self.bundle.name.clone(),
            epoch: by.epoch,
            vm: by.vm,
            generation: by.generation,
            lowest,
            next,
            records: u32::try_from(records.len()).unwrap_or(u32::MAX),
            accounts,
        };
        self.last_sync_ms = now.mono_ms;
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        let wanted = std::mem::take(&mut self.wanted);
        self.flight = Some(Flight { token, deadline_ms: now.mono_ms.saturating_add(TIMEOUT_MS), tickets, wanted });
        Ok(Some(Callout {
            cluster: collector.cluster,
            path: "/v1/sync",
            headers: vec![("content-type", "application/msgpack".to_owned())],
            body: wire::encode_sync(&head, &records),
            timeout_ms: TIMEOUT_MS,
            token,
        }))
    }

    /// Returns what is granted and not spent on accounts that nobody has used here for a while, so that other Envoys
    /// can have it, and so that little is stranded if this process dies.
    pub(super) fn give_back_idle(&mut self, now: Now, cells: &mut dyn Cells) -> Result<(), StoreError> {
        for (subject, touched) in &mut self.touched {
            if touched.used_ms == 0 || now.mono_ms.saturating_sub(touched.used_ms) < IDLE_MS {
                continue;
            }
            for entry in &touched.quotas {
                give_back(&self.keys, subject, entry.quota.id, 0, cells)?;
            }
            touched.used_ms = 0;
            touched.dirty = true;
        }
        Ok(())
    }

    /// Returns what is granted and not spent of quotas that a newer policy has lowered: it was granted out of more than
    /// there is now, perhaps here and elsewhere.
    pub(super) fn give_back_lowered(&mut self, cells: &mut dyn Cells) -> Result<(), StoreError> {
        if !self.lowered {
            return Ok(());
        }
        for (subject, touched) in self.touched.iter_mut().filter(|(_, touched)| touched.lowered) {
            for entry in &touched.quotas {
                give_back(&self.keys, subject, entry.quota.id, 0, cells)?;
            }
            touched.lowered = false;
            touched.dirty = true;
        }
        self.lowered = false;
        Ok(())
    }

    /// The next batch of records, from their slots. What a slot does not hold any more was acknowledged to somebody else.
    fn load_batch(&mut self, now: Now, cells: &mut dyn Cells) -> Result<(Vec<Ticket>, Vec<Vec<u8>>), StoreError> {
        let (mut tickets, mut records, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for ticket in self.outbox.next_batch(now, BATCH_BYTES, BATCH_RECORDS).unwrap_or_default() {
            match read_slot(&self.keys, ticket.vm, ticket.slot, cells)? {
                Some(Slot::Settled { id, record }) if id == ticket.id => {
                    tickets.push(ticket);
                    records.push(record);
                }
                _ => gone.push(ticket.id),
            }
        }
        for ticket in self.outbox.acknowledged(&gone) {
            self.sent(ticket, cells)?;
        }
        Ok((tickets, records))
    }

    /// How touched accounts stand: those that somebody waits for first, and as many others as one sync may carry. The
    /// rest stays dirty, for the next.
    fn report_accounts(&mut self, now: Now, cells: &mut dyn Cells) -> Result<Vec<AccountReport>, StoreError> {
        let wants = |subject: &String| self.wanted.keys().any(|(wanted, _)| wanted == subject);
        let (asked, others): (Vec<_>, Vec<_>) = self
            .touched
            .iter_mut()
            .filter(|(subject, touched)| touched.dirty || wants(subject))
            .partition(|(subject, _)| wants(subject));
        let (mut reports, mut lines) = (Vec::new(), 0_usize);
        for (subject, touched) in asked.into_iter().chain(others) {
            if reports.len() >= SYNC_ACCOUNTS || lines >= SYNC_LINES {
                break;
            }
            touched.pass_on(&self.keys, subject, now, cells)?;
            let unused = touched.give_back_unused(&self.keys, subject, cells)?;
            let account = read_account(&self.keys, subject, cells)?;
            touched.dirty = false;
            // What went back is wanted too, if more is: in the window that opens now.
            let want = |quota: QuotaId| {
                let wanted = self.wanted.get(&(subject.clone(), quota)).copied();
                wanted.map_or(0, |want| want.saturating_add(unused.get(&quota).copied().unwrap_or(0)))
            };
            let mut quotas: Vec<QuotaReport> = touched
                .quotas
                .iter()
                .flat_map(|entry| entry.reports(account.as_ref(), want(entry.quota.id), now))
                .collect();
            lines = lines.saturating_add(quotas.len());
            while quotas.len() > MAX_QUOTAS {
                let rest = quotas.split_off(MAX_QUOTAS);
                let quotas = std::mem::replace(&mut quotas, rest);
                reports.push(AccountReport { subject: subject.clone(), quotas });
            }
            reports.push(AccountReport { subject: subject.clone(), quotas });
        }
        Ok(reports)
    }

    /// The answer to the callout with this `token`: status and body, or `None` when it failed.
    /// Answers that come too late are still good: everything in them is cumulative.
    pub fn answered(
        &mut self,
        token: u64,
        answer: Option<(u16, &[u8])>,
        now: Now,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) {
        let reply = match answer {
            Some((200, body)) => wire::decode_reply(body).map_err(|error| error.to_string()),
            Some((status, _)) => Err(format!("it answered {status}")),
            None => Err("no answer".to_owned()),
        };
        let mine = self.flight.as_ref().is_some_and(|flight| flight.token == token);
        match reply {
            Ok(reply) => {
                let flight = if mine { self.flight.take() } else { None };
                // A ledger that has something left and gives none of it is not asked as fast as it answers.
                self.fetch_after_ms = now.mono_ms.saturating_add(FETCH_AGAIN_MS);
                if let Err(StoreError) = self.apply(&reply, flight, now, cells, effects) {
                    effects.push(Effect::Log(Severity::Error, format!("sync answer not applied: {StoreError}")));
                }
                self.count_rejected(now, cells, effects);
                effects.push(Effect::Wake(self.waiting()));
                if self.wants_sync(now) {
                    effects.push(Effect::SyncSoon);
                }
            }
            Err(why) if mine => {
                effects.push(Effect::Count { metric: "sync_failed_total", labels: vec![], by: 1 });
                effects.push(Effect::Log(Severity::Warn, format!("collector sync failed, will be repeated: {why}")));
                self.lost(now);
            }
            Err(_) => {}
        }
    }

    fn apply(
        &mut self,
        reply: &SyncReply,
        flight: Option<Flight>,
        now: Now,
        cells: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        self.merge_grants(reply, now, cells)?;
        let known: Vec<ExchangeId> = reply.acknowledged.iter().filter_map(|id| exchange_id(id)).collect();
        let mut gone = self.outbox.acknowledged(&known);
        effects.push(Effect::Count { metric: "records_acknowledged_total", labels: vec![], by: gone.len() as u64 });
        if let Some(flight) = flight {
            gone.extend(self.drop_rejected(reply, &flight, effects));
            self.outbox.reached();
        }
        let mut result = Ok(());
        for ticket in gone {
            if self.free(ticket, cells, effects).is_err() {
                // It is not freed, so it is sent again: the ledger will know it, and that answer frees it.
                self.outbox.settled(ticket.slot, ticket.vm, ticket.id, 0);
                result = Err(StoreError);
            }
        }
        result
    }

    /// The slot of `ticket` is needed no more.
    fn free(&mut self, ticket: Ticket, cells: &mut dyn Cells, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let by = self.owner(ticket);
        match Operation::free(&self.keys, by, ticket.slot, ticket.id).run(cells)? {
            Outcome::Fenced => self.fenced_as(by, effects),
            Outcome::Contended => return Err(StoreError),
            _ => self.sent(ticket, cells)?,
        }
        Ok(())
    }

    /// Records that the ledger will never take are lost, and that is shown.
    fn drop_rejected(&mut self, reply: &SyncReply, flight: &Flight, effects: &mut Vec<Effect>) -> Vec<Ticket> {
        let mut ids = Vec::new();
        for rejection in &reply.rejected {
            let Some(ticket) = usize::try_from(rejection.position).ok().and_then(|at| flight.tickets.get(at)) else {
                continue;
            };
            ids.push(ticket.id);
            effects.push(Effect::Count { metric: "records_rejected_total", labels: vec![], by: 1 });
            let text = format!("the collector will never take record {}: {}", ticket.id, rejection.reason);
            effects.push(Effect::Log(Severity::Error, text));
        }
        self.outbox.rejected(&ids)
    }

    fn merge_grants(&mut self, reply: &SyncReply, now: Now, cells: &mut dyn Cells) -> Result<(), StoreError> {
        for (subject, touched) in &mut self.touched {
            let lines: Vec<GrantLine> = reply
                .grants
                .iter()
                .filter(|grant| grant.subject == *subject)
                .filter_map(|grant| {
                    let known = touched.quotas.iter().find(|entry| entry.name == grant.quota)?;
                    let still = opens_by_use(&known.quota) && grant.ends <= now.wall_ms;
                    let ends = if still { now.wall_ms.saturating_add(STILL_MS) } else { grant.ends };
                    Some(GrantLine {
                        quota: known.quota.id,
                        window: grant.window,
                        ends,
                        granted: grant.granted,
                        left: grant.left,
                        owed: grant.owed,
                    })
                })
                .collect();
            if lines.is_empty() {
                continue;
            }
            grant(&self.keys, subject, &lines, cells)?;
            // It may answer somebody who has gone since: what nobody uses goes back once more.
            let account = read_account(&self.keys, subject, cells)?;
            let unspent = |line: &GrantLine| {
                let known = account.as_ref().and_then(|account| account.reported(line.quota));
                known.map(|known| known.current).filter(|current| current.unspent() > 0)
            };
            if touched.used_ms == 0 && lines.iter().any(|line| unspent(line).is_some()) {
                touched.used_ms = now.mono_ms.max(1);
            }
            // And a first-use window at once, if the call that it was asked for is not admitted.
            let first_use = |line: &&GrantLine| {
                touched.quotas.iter().any(|known| known.quota.id == line.quota && opens_by_use(&known.quota))
            };
            let provisional = lines.iter().filter(first_use).filter_map(unspent).any(|current| current.is_unused());
            touched.dirty |= provisional;
        }
        Ok(())
    }

    /// The answer to what is out will not come: send it again, after a pause.
    fn lost(&mut self, now: Now) {
        let Some(flight) = self.flight.take() else { return };
        if !flight.tickets.is_empty() {
            self.outbox.failed(now);
        }
        for ((subject, quota), missing) in flight.wanted {
            self.want(&subject, quota, missing);
        }
        self.fetch_after_ms = now.mono_ms.saturating_add(FETCH_PAUSE_MS);
        self.touched.values_mut().for_each(|touched| touched.dirty = true);
    }

    /// The root that had dispatched is gone, and with it the answer to what is out.
    pub fn orphaned(&mut self, now: Now) {
        self.lost(now);
    }
}

impl Touched {
    /// Gives back what was granted in first-use windows that nobody here has used: how much, by quota.
    fn give_back_unused(
        &self,
        keys: &Keys,
        subject: &str,
        cells: &mut dyn Cells,
    ) -> Result<BTreeMap<QuotaId, u64>, StoreError> {
        let mut returned = BTreeMap::new();
        for known in self.quotas.iter().filter(|known| opens_by_use(&known.quota)) {
            returned.insert(known.quota.id, give_back_unused(keys, subject, known.quota.id, cells)?);
        }
        Ok(returned)
    }

    /// Gives back what is left in windows that have ended, of quotas that roll it over.
    fn pass_on(&self, keys: &Keys, subject: &str, now: Now, cells: &mut dyn Cells) -> Result<(), StoreError> {
        let rolls = |known: &&TouchedQuota| known.quota.rollover > 0;
        if !self.quotas.iter().any(|known| rolls(&known)) {
            return Ok(());
        }
        let account = read_account(keys, subject, cells)?;
        for known in self.quotas.iter().filter(rolls) {
            let reported = account.as_ref().and_then(|account| account.reported(known.quota.id));
            let left = |period: Period| period.ends <= now.wall_ms && period.unspent() > 0;
            if reported.is_some_and(|known| left(known.current) || known.before.into_iter().any(left)) {
                give_back_past(keys, subject, known.quota.id, now.wall_ms, cells)?;
            }
        }
        Ok(())
    }
}

/// Whether the ledger opens its windows when somebody uses them.
fn opens_by_use(quota: &Quota) -> bool {
    quota.granted && matches!(quota.window, Window::FirstUse { .. })
}

impl TouchedQuota {
    /// What the ledger hears: the windows before the current one that are kept, the current one, and the one that is
    /// wanted if that is none of them.
    fn reports(&self, account: Option<&Account>, want: u64, now: Now) -> Vec<QuotaReport> {
        let known = account.and_then(|account| account.reported(self.quota.id));
        let before = known.as_ref().map(|known| known.before.clone()).unwrap_or_default();
        let current = known.map(|known| known.current).filter(|current| current.start != 0);
        let live = current.filter(|current| now.wall_ms < current.ends);
        let mut reports = Vec::new();
        reports.extend(before.into_iter().map(|period| self.report(period, 0)));
        if let Some(current) = current {
            reports.push(self.report(current, if live.is_some() { want } else { 0 }));
        }
        if want > 0 && live.is_none() {
            let next = match self.quota.window {
                // The ledger says when it opens.
                Window::FirstUse { .. } => Period::default(),
                _ => {
                    let (start, ends) = next_window(&self.quota.window, now).unwrap_or_default();
                    Period { start, ends, ..Period::default() }
                }
            };
            reports.push(self.report(next, want));
        }
        reports
    }

    fn report(&self, period: Period, want: u64) -> QuotaReport {
        let length_ms = match self.quota.window {
            Window::FirstUse { length_ms } => length_ms,
            _ => 0,
        };
        QuotaReport {
            quota: self.name.clone(),
            unit: self.unit.to_owned(),
            limit: self.quota.limit,
            window: period.start,
            ends: period.ends,
            length_ms,
            used: period.used,
            returned: period.returned,
            granted: period.granted,
            want,
            rollover: self.quota.rollover,
            every_ms: mean_length(&self.quota.window).unwrap_or(0),
            waived: period.waived,
        }
    }
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;
