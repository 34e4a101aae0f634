//! One endpoint for everything remote: records and standings out, acknowledgements and grants in.

use crate::engine::effect::{Effect, Severity};
use crate::engine::vm::{Place, Touched, Vm};
use crate::now::Now;
use crate::quota::grant::{self, GrantLine};
use crate::quota::operation::Operation;
use crate::quota::slot::{self, Slot};
use crate::quota::{Cells, QuotaId, StoreError};
use crate::report::outbox::Ticket;
use crate::report::wire::{self, AccountReport, QuotaReport, SyncHead, SyncReply};

/// Longest batch in bytes and in records.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_RECORDS: usize = 512;
/// How long an answer may take; then the batch counts as failed and comes again.
const TIMEOUT_MS: u64 = 2_000;
/// Shortest time between two fetches for those who wait.
const FETCH_MS: u64 = 20;

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
    tickets: Vec<Ticket>,
    fetched: Vec<(String, QuotaId)>,
}

/// How much is wanted of one quota beyond its grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Micro-units, summed over those who wait.
    pub amount: u64,
    /// A fetch for it is out.
    pub asked: bool,
}

impl Vm {
    /// Someone waits for `missing` micro-units more of a quota.
    pub(super) fn want(&mut self, subject: &str, quota: QuotaId, missing: u64) {
        let wanted = self.wanted.entry((subject.to_owned(), quota)).or_default();
        if wanted.asked {
            *wanted = Wanted::default();
        }
        wanted.amount = wanted.amount.saturating_add(missing);
    }

    /// Whether [`Vm::sync`] would have something to send now.
    pub(super) fn wants_sync(&self, now: Now) -> bool {
        let Some(collector) = &self.bundle.collector else { return false };
        let free = self.flight.as_ref().is_none_or(|flight| flight.deadline_ms <= now.mono_ms);
        let fetch = self.wanted.values().any(|wanted| !wanted.asked)
            && now.mono_ms.saturating_sub(self.last_fetch_ms) >= FETCH_MS;
        let due = now.mono_ms.saturating_sub(self.last_sync_ms) >= collector.sync_ms
            && (self.outbox.waiting() > 0 || self.touched.values().any(|touched| touched.dirty));
        free && (fetch || due)
    }

    /// The next request to the collector, or `None` when there is nothing to say or one is still out.
    pub fn sync(&mut self, now: Now, cells: &mut dyn Cells, effects: &mut Vec<Effect>) -> Option<Callout> {
        if self.flight.as_ref().is_some_and(|flight| flight.deadline_ms <= now.mono_ms) {
            self.lost(now);
        }
        if self.flight.is_some() || !self.wants_sync(now) {
            return None;
        }
        match self.compose(now, cells) {
            Ok(callout) => callout,
            Err(StoreError) => {
                effects.push(Effect::Log(Severity::Error, format!("sync not composed: {StoreError}")));
                None
            }
        }
    }

    fn compose(&mut self, now: Now, cells: &mut dyn Cells) -> Result<Option<Callout>, StoreError> {
        let Some(collector) = self.bundle.collector.clone() else { return Ok(None) };
        let Some(by) = self.incarnation() else { return Ok(None) };
        let tickets = self.outbox.next_batch(now, BATCH_BYTES, BATCH_RECORDS).unwrap_or_default();
        let mut records = Vec::with_capacity(tickets.len());
        for ticket in &tickets {
            if let Some(Slot::Settled { id, record }) = slot::read(&self.keys, ticket.vm, ticket.slot, cells)?
                && id == ticket.id
            {
                records.push(record);
            }
        }
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
        let fetched: Vec<_> = self.wanted.keys().cloned().collect();
        self.wanted.values_mut().for_each(|wanted| wanted.asked = true);
        if !fetched.is_empty() {
            self.last_fetch_ms = now.mono_ms;
        }
        self.last_sync_ms = now.mono_ms;
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        self.flight = Some(Flight { token, deadline_ms: now.mono_ms.saturating_add(TIMEOUT_MS), tickets, fetched });
        Ok(Some(Callout {
            cluster: collector.cluster,
            path: "/v1/sync",
            headers: vec![("content-type", "application/msgpack".to_owned())],
            body: wire::encode_sync(&head, &records),
            timeout_ms: TIMEOUT_MS,
            token,
        }))
    }

    fn report_accounts(&mut self, now: Now, cells: &mut dyn Cells) -> Result<Vec<AccountReport>, StoreError> {
        let mut reports = Vec::new();
        for (subject, touched) in &mut self.touched {
            let asked = self.wanted.keys().any(|(wanted, _)| wanted == subject);
            if !touched.dirty && !asked {
                continue;
            }
            touched.dirty = false;
            let account = crate::quota::account::read(&self.keys, subject, cells)?;
            let quotas = touched
                .quotas
                .iter()
                .map(|entry| {
                    let want = self.wanted.get(&(subject.clone(), entry.quota.id)).map_or(0, |wanted| wanted.amount);
                    let part = grant::report(account.as_ref(), &entry.quota, now);
                    QuotaReport {
                        quota: entry.name.clone(),
                        unit: entry.unit.to_owned(),
                        limit: entry.quota.limit,
                        window: part.window,
                        ends: part.ends,
                        length_ms: part.length_ms,
                        used: part.used,
                        returned: part.returned,
                        granted: part.granted,
                        want,
                    }
                })
                .collect();
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
                if let Err(StoreError) = self.apply(&reply, flight, now, cells, effects) {
                    effects.push(Effect::Log(Severity::Error, format!("sync answer not applied: {StoreError}")));
                }
                effects.push(Effect::Wake(self.waiting()));
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
        let rejected: Vec<Ticket> = flight
            .iter()
            .flat_map(|flight| reply.rejected.iter().filter_map(|r| flight.tickets.get(r.position as usize)))
            .copied()
            .collect();
        for (ticket, why) in rejected.iter().zip(&reply.rejected) {
            effects.push(Effect::Count { metric: "records_rejected_total", labels: vec![], by: 1 });
            effects.push(Effect::Log(
                Severity::Error,
                format!("the collector will never take record {}: {}", ticket.id, why.reason),
            ));
        }
        let mut gone = self.outbox.acknowledged(&reply.acknowledged);
        gone.extend(self.outbox.rejected(&rejected));
        if let Some(flight) = flight {
            self.outbox.landed(now);
            for key in flight.fetched {
                if self.wanted.get(&key).is_some_and(|wanted| wanted.asked) {
                    self.wanted.remove(&key);
                }
            }
        }
        effects.push(Effect::Count { metric: "records_acknowledged_total", labels: vec![], by: gone.len() as u64 });
        for ticket in gone {
            Operation::free(&self.keys, ticket.id, ticket.vm, ticket.slot).run(cells)?;
            self.vacate(Place { id: ticket.id, slot: ticket.slot });
        }
        Ok(())
    }

    fn merge_grants(&mut self, reply: &SyncReply, now: Now, cells: &mut dyn Cells) -> Result<(), StoreError> {
        for (subject, touched) in &self.touched {
            let lines: Vec<GrantLine> = reply
                .grants
                .iter()
                .filter(|grant| grant.subject == *subject)
                .filter_map(|grant| {
                    let known = touched.quotas.iter().find(|entry| entry.name == grant.quota)?;
                    Some(GrantLine {
                        quota: known.quota.clone(),
                        window: grant.window,
                        ends: grant.ends,
                        granted: grant.granted,
                        left: grant.left,
                    })
                })
                .collect();
            if !lines.is_empty() {
                grant::merge(&self.keys, subject, &lines, now, cells)?;
            }
        }
        Ok(())
    }

    /// The answer to what is out will not come: send it again, after a pause.
    fn lost(&mut self, now: Now) {
        if let Some(flight) = self.flight.take() {
            self.outbox.failed(now);
            for key in flight.fetched {
                if let Some(wanted) = self.wanted.get_mut(&key) {
                    wanted.asked = false;
                }
            }
            self.touched.values_mut().for_each(|touched: &mut Touched| touched.dirty = true);
        }
    }

    /// The root that had dispatched is gone, and with it the answer to what is out.
    pub fn orphaned(&mut self, now: Now) {
        self.lost(now);
    }
}
