//! How the quotas of a key stand, told to that key: by a page of their own, in answers, and in records.

use serde_json::{Value, json};

use super::bill::Bill;
use super::denial::LimitView;
use super::effect::Reply;
use crate::now::Now;
use crate::policy::bundle::{PlanQuota, Role};
use crate::quota::{MICRO, Standing, Window};
use crate::report::wire::Reached;

/// The page: every quota of the seat, packs among them, what is left of each, and until when.
///
/// What only the ledger knows, and has not said here yet, is `null`.
pub fn page(bill: &Bill<'_>, now: Now, mut standing: impl FnMut(&str, &PlanQuota) -> Option<Standing>) -> Reply {
    let quota = |quota: &&PlanQuota| {
        let subject = bill.subject(quota.per);
        let of = bill.quotas.iter().find(|fund| Some(fund.quota.id) == quota.of);
        entry(quota, of.map(|fund| fund.name.as_str()), standing(&subject, quota), now)
    };
    let quotas: Vec<Value> = bill.quotas.iter().map(quota).collect();
    let body = json!({ "seat": bill.seat.name, "plan": bill.plan.label(), "quotas": quotas });
    let headers = [("content-type", "application/json"), ("cache-control", "no-store")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Reply { status: 200, headers, body: body.to_string().into_bytes() }
}

/// `of`: the fund that it is a cap of, if it is of one alone.
fn entry(quota: &PlanQuota, of: Option<&str>, standing: Option<Standing>, now: Now) -> Value {
    let role = match quota.role {
        Role::Fund => "fund",
        Role::Cap => "cap",
    };
    let view = standing.map(|standing| (standing, LimitView::of(quota, &standing, now)));
    let units = |micro: u64| amount(micro, quota.unit.has_fractions());
    json!({
        "name": quota.name,
        "role": role,
        "of": of,
        "unit": quota.unit.words(),
        "limit": units(quota.quota.limit),
        "used": view.as_ref().map(|(standing, _)| units(standing.used)),
        "held": view.as_ref().map(|(standing, _)| units(standing.held)),
        "left": view.as_ref().map(|(standing, _)| units(standing.left(&quota.quota))),
        "begun": view.as_ref().and_then(|(standing, _)| moment(standing.window)),
        "resets": view.as_ref().and_then(|(_, view)| moment(view.resets_ms?)),
    })
}

/// An amount in whole units, or as a decimal in text where fractions mean something: no figure is rounded.
fn amount(micro: u64, fractions: bool) -> Value {
    if !fractions {
        return Value::from(micro / MICRO);
    }
    let (whole, rest) = (micro / MICRO, micro % MICRO);
    let text = format!("{whole}.{rest:06}");
    Value::from(text.trim_end_matches('0').trim_end_matches('.'))
}

/// A moment as RFC 3339 in UTC; `None`: there is none.
fn moment(unix_ms: u64) -> Option<String> {
    let ms = i64::try_from(unix_ms).ok().filter(|ms| *ms > 1)?;
    jiff::Timestamp::from_millisecond(ms).ok().map(|at| at.to_string())
}

/// How full a quota is in percent, rounded down: what is used or held of all that the window has, wherever it was
/// granted. A bucket, which drains by itself, and what only counts what runs have no such figure.
///
/// What was used here beyond what was granted here counts too, until the ledger grants it, although the ledger may have
/// heard of it: so a percent may be told that much early, and none is missed.
pub fn percent(quota: &PlanQuota, standing: &Standing) -> Option<u8> {
    if matches!(quota.quota.window, Window::Bucket { .. } | Window::Concurrent) {
        return None;
    }
    // What went over from the last window is part of the whole.
    let whole = quota.quota.limit.max(standing.granted);
    let taken = standing.spent().saturating_add(standing.held);
    let beyond = if quota.quota.granted { taken.saturating_sub(standing.granted) } else { 0 };
    let gone = whole.saturating_sub(standing.left(&quota.quota)).saturating_add(beyond);
    let percent = u128::from(gone).saturating_mul(100).checked_div(u128::from(whole))?;
    Some(u8::try_from(percent.min(100)).unwrap_or(100))
}

/// The percents that this use of the quotas reaches, by what they stand at before it and what `charged` is added.
pub fn reached(
    bill: &Bill<'_>,
    charged: impl Fn(&str, &PlanQuota) -> Option<u64>,
    mut standing: impl FnMut(&str, &PlanQuota) -> Option<Standing>,
) -> Vec<Reached> {
    let mut reached = Vec::new();
    for quota in &bill.quotas {
        let subject = bill.subject(quota.per);
        let Some((amount, stands)) = charged(&subject, quota).zip(standing(&subject, quota)) else { continue };
        // What it holds is replaced by what it used: what others hold is not used yet.
        let after = Standing { used: stands.used.saturating_add(amount), held: 0, ..stands };
        let highest = |standing: &Standing| {
            let percent = percent(quota, standing)?;
            bill.plan.warn.at.iter().rev().find(|at| **at <= percent)
        };
        // A sliding window is another one at every moment: what it stood at before this call was said before.
        let sliding = matches!(quota.quota.window, Window::Sliding { .. });
        let before = if sliding { highest(&Standing { held: 0, ..stands }) } else { None };
        if let Some(highest) = highest(&after).filter(|highest| Some(*highest) > before) {
            let (quota, window) = (quota.ledger.clone(), stands.window);
            reached.push(Reached { subject, quota, window, percent: *highest });
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{amount, entry, moment, percent};
    use crate::now::Now;
    use crate::policy::bundle::{HoldSize, Per, PlanQuota, Role};
    use crate::policy::unit::Unit;
    use crate::quota::{MICRO, Quota, QuotaId, Standing, Window};

    fn quota(window: Window, granted: bool) -> PlanQuota {
        PlanQuota {
            name: "month".into(),
            ledger: "team/month".into(),
            role: Role::Fund,
            unit: Unit::Credits,
            per: Per::Level(0),
            models: Vec::new(),
            hold: HoldSize::Worst,
            full: Vec::new(),
            rejected: false,
            of: None,
            quota: Quota { id: QuotaId(1), limit: 100 * MICRO, window, granted, rollover: 0 },
        }
    }

    #[test]
    fn what_others_were_granted_counts_as_gone() {
        let fund = quota(Window::Lifetime, true);
        let stands = |granted: u64, used: u64, left: u64| Standing {
            granted: granted * MICRO,
            used: used * MICRO,
            ledger_left: left * MICRO,
            ..Standing::default()
        };
        assert_eq!(percent(&fund, &stands(20, 5, 60)), Some(25));
        // Of 20 that were granted 27 were used, which the ledger has not heard.
        assert_eq!(percent(&fund, &stands(20, 27, 60)), Some(47));
        assert_eq!(percent(&fund, &stands(100, 100, 0)), Some(100));
        assert_eq!(percent(&fund, &stands(100, 130, 0)), Some(100));
        let local = quota(Window::Lifetime, false);
        assert_eq!(percent(&local, &Standing { ledger_left: u64::MAX, ..stands(100, 79, 0) }), Some(79));
        let sliding = quota(Window::Sliding { length_ms: 1 }, false);
        assert_eq!(percent(&sliding, &Standing { ledger_left: u64::MAX, ..stands(100, 79, 0) }), Some(79));
        assert_eq!(percent(&quota(Window::Concurrent, false), &stands(1, 0, 0)), None);
    }

    #[test]
    fn what_is_left_is_without_what_is_owed() {
        let now = Now { wall_ms: 0, mono_ms: 0 };
        let (granted, used, owed) = (100 * MICRO, 20 * MICRO, 30 * MICRO);
        let stands = Standing { granted, used, owed, ledger_left: u64::MAX, ..Standing::default() };
        let fund = quota(Window::Lifetime, false);
        let told = entry(&fund, None, Some(stands), now);
        assert_eq!((&told["used"], &told["left"]), (&json!("20"), &json!("50")));
        assert_eq!(percent(&fund, &stands), Some(50));
    }

    #[test]
    fn figures_are_told_exactly() {
        assert_eq!(amount(3_180_000, true), "3.18");
        assert_eq!(amount(25_000 * MICRO, true), "25000");
        assert_eq!(amount(7 * MICRO, false), 7);
        assert_eq!(moment(0), None);
        assert_eq!(moment(1_764_000_000_000).as_deref(), Some("2025-11-24T16:00:00Z"));
    }
}
