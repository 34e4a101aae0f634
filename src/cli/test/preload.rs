//! What a case says was used before a call.

use super::request::quota;
use crate::now::Now;
use crate::policy::Bundle;
use crate::policy::bundle::PlanQuota;
use crate::policy::case::Asked;
use crate::quota::{
    Cells, ExchangeId, Keys, Level, Line, Operation, Outcome, StoreError, Window, first_claimable, mean_length,
    next_window, open_epoch,
};
use crate::report::wire::{AccountReport, QuotaReport, SyncHead, VERSION, encode_sync};

/// The epoch of an Envoy that never was: it was granted what the case says was used before its first call, and used it.
/// What was used before the next call another one has used.
pub(super) const EPOCH: u64 = 0x7573_6564;

/// The sync by which that Envoy tells the ledger what it used before the call at this `place`, under the bundle's `name`;
/// `None`: nothing that the ledger keeps.
pub(super) fn for_ledger(place: usize, asked: &Asked<'_>, bundle: &Bundle, name: &str, now: Now) -> Option<Vec<u8>> {
    let used = asked.used.iter().filter_map(|(who, used)| {
        let (subject, quota) = quota(who, asked.call, &used.quota, bundle)?;
        let report = report(quota.ledger.clone(), quota, used.micro, now)?;
        Some(AccountReport { subject, quotas: vec![report] })
    });
    let accounts: Vec<AccountReport> = used.collect();
    let head = SyncHead {
        farebox: VERSION,
        bundle: name.to_owned(),
        epoch: EPOCH.saturating_add(place as u64),
        generation: 1,
        lowest: 1,
        next: 1,
        accounts,
        ..SyncHead::default()
    };
    (!head.accounts.is_empty()).then(|| encode_sync(&head, &[] as &[Vec<u8>]))
}

/// A first-use window opens at the moment of the call.
fn report(name: String, quota: &PlanQuota, used: u64, now: Now) -> Option<QuotaReport> {
    let (window, ends) = next_window(&quota.quota.window, now).filter(|_| quota.quota.granted)?;
    let length_ms = match quota.quota.window {
        Window::FirstUse { length_ms } => length_ms,
        _ => 0,
    };
    Some(QuotaReport {
        quota: name,
        unit: quota.unit.name().to_owned(),
        limit: quota.quota.limit,
        window,
        ends,
        length_ms,
        used,
        returned: 0,
        granted: used,
        want: 0,
        rollover: quota.quota.rollover,
        every_ms: mean_length(&quota.quota.window).unwrap_or(0),
        waived: false,
    })
}

/// The quotas among those used that no ledger keeps.
pub(super) fn local<'b>(asked: &Asked<'_>, bundle: &'b Bundle) -> Vec<(String, &'b PlanQuota, u64)> {
    let local = asked.used.iter().filter_map(|(who, used)| {
        let (subject, quota) = quota(who, asked.call, &used.quota, bundle).filter(|(_, quota)| !quota.quota.granted)?;
        Some((subject, quota, used.micro))
    });
    local.collect()
}

/// Uses them: by two exchanges in a VM slot of their own, one that has ended and one that goes on and on.
///
/// # Errors
/// When the store or the quotas say no.
pub(super) fn use_local(asked: &Asked<'_>, bundle: &Bundle, cells: &mut dyn Cells, now: Now) -> Result<(), String> {
    let used = local(asked, bundle);
    if used.is_empty() {
        return Ok(());
    }
    let running = |quota: &PlanQuota| quota.quota.window == Window::Concurrent;
    let levels = |amount: &dyn Fn(&PlanQuota, u64) -> u64| -> Vec<Level> {
        let mut levels: Vec<Level> = Vec::new();
        for (subject, quota, micro) in &used {
            let line = Line { quota: quota.quota.clone(), amount: amount(quota, *micro), over: 0 };
            match levels.iter_mut().find(|level| level.subject == *subject) {
                Some(level) => level.lines.push(line),
                None => levels.push(Level { subject: subject.clone(), lines: vec![line] }),
            }
        }
        levels
    };
    let live = levels(&|quota, micro| if running(quota) { micro } else { 0 });
    let spent = levels(&|quota, micro| if running(quota) { 0 } else { micro });
    let nothing = levels(&|_, _| 0);
    let keys = Keys::new(&bundle.name);
    let claim = |cells: &mut dyn Cells| -> Result<_, StoreError> {
        let epoch = open_epoch(&keys, cells, EPOCH)?;
        first_claimable(&keys, epoch, false, now, cells)
    };
    let by = claim(cells).map_err(|error| error.to_string())?.ok_or("no VM slot is free")?.by();
    let id = |sequence| ExchangeId { by, sequence };
    let mut operations = [
        Operation::hold(&keys, by, 0, id(1), nothing, Vec::new(), now),
        Operation::settle(&keys, by, 0, id(1), spent, Vec::new(), false, now),
        Operation::hold(&keys, by, 0, id(2), live, Vec::new(), now),
    ];
    for operation in &mut operations {
        match operation.run(cells) {
            Ok(Outcome::Done) => {}
            other => return Err(format!("what was used before does not fit: {other:?}")),
        }
    }
    Ok(())
}
