//! Ending an exchange whose VM died, from what its slot says.

use std::collections::BTreeSet;

use crate::engine::bill::{Beyond, Bill, held_amount};
use crate::meter::dialect::{Api, Dialect};
use crate::meter::usage::Source;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Lost};
use crate::policy::unit::Consumed;
use crate::quota::{Ending, Held, HeldLevel, Level, QuotaId};
use crate::report::wire::{self, Outcome, Record};

/// What a lost exchange costs, and its record.
///
/// The draft in the slot already carries the charge for all that was held. Where the plan charges what had been
/// delivered instead, and the bundle still knows the plan and the model, it is worked out here.
pub(super) fn end(bundle: &Bundle, held: &Held, now: Now) -> Ending {
    let mut record = wire::decode_record(&held.draft).unwrap_or_default();
    record.id = held.id.to_string();
    record.outcome = Outcome::Unsettled;
    record.source = Source::Estimated;
    record.settled_ms = now.wall_ms;
    record.delivered = held.delivered;
    record.usage.output = record.usage.output.max(held.delivered);
    pin(&mut record, held);
    // What only counts running exchanges settles to nothing, whatever stands in its line.
    let used = delivered(bundle, held, &mut record).unwrap_or_else(|| held.levels.clone());
    Ending { used, record: wire::encode_record(&record) }
}

fn delivered(bundle: &Bundle, held: &Held, record: &mut Record) -> Option<Vec<HeldLevel>> {
    let seat = bundle.seats.iter().find(|seat| seat.name == record.seat)?;
    let plan = bundle.plan_of(&record.plan)?;
    if plan.hold.lost != Lost::Delivered {
        return None;
    }
    let sent = if record.sent.is_empty() { &record.model } else { &record.sent };
    let model = bundle.models.find(sent)?;
    let dialect = Dialect::named(&record.dialect)?;
    // The record does not say for what it was asked where one wire format serves several ends; what was held bounds it.
    let price = model.price(record.came_ms, Api::of(dialect, b""), plan.round);
    let session = held.levels.iter().find_map(|level| level.subject.strip_prefix("session/")?.rsplit('/').next());
    let session = session.and_then(|session| session.parse().ok()).unwrap_or(0);
    let bill = Bill::of(bundle, plan, seat, session, sent, record.came_ms);
    let mut usage = record.usage;
    usage.output = held.delivered;
    let consumed = Consumed { usage, prompts: record.prompts, tool_calls: record.tool_calls, again: 0 };
    // What of it was an overage the slot does not say: its fund gives that in its turn.
    let mut used = bill.used(&consumed, &price, &held.levels, Beyond::default());
    // The accounts hold what the slot names. If the plan was edited since, all is charged as held where it does not
    // know a line; a line that is new to it is not charged, and a price that rose charges no more than was held.
    for level in &mut used {
        let held_of = |quota| held_amount(&held.levels, &level.subject, quota);
        level.lines.retain_mut(|line| {
            let Some(most) = held_of(line.quota.id) else { return false };
            line.amount = line.amount.min(most);
            true
        });
    }
    let mut levels = held.levels.clone();
    for level in &mut levels {
        let mut said = BTreeSet::new();
        for line in &mut level.lines {
            // Of a quota that is held on several lines the first says it all.
            let first = said.insert(line.quota);
            line.amount = if first { amount(&used, &level.subject, line.quota)? } else { 0 };
        }
    }
    record.usage = usage;
    record.charges = bill.charges(&used, &held.levels);
    Some(levels)
}

fn amount(levels: &[Level], subject: &str, quota: QuotaId) -> Option<u64> {
    let level = levels.iter().find(|level| level.subject == subject)?;
    level.lines.iter().find(|line| line.quota.id == quota).map(|line| line.amount)
}

/// The draft was written before its windows were known, and before the hold was extended.
fn pin(record: &mut Record, held: &Held) {
    for charge in &mut record.charges {
        let Some((plan, name)) = charge.quota.split_once('/') else { continue };
        let id = QuotaId::of(plan, name);
        let mut lines = held.levels.iter().filter(|level| level.subject == charge.subject).flat_map(|l| &l.lines);
        let Some(line) = lines.find(|line| line.quota == id) else { continue };
        let amount = held_amount(&held.levels, &charge.subject, id);
        (charge.window, charge.amount) = (line.begun(), amount.unwrap_or(line.amount));
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::end;
    use crate::engine::admission::{Moment, Patience, Verdict, weigh};
    use crate::engine::bill::{Bill, Size};
    use crate::engine::expectation::Expected;
    use crate::meter::dialect::{Api, Dialect};
    use crate::meter::usage::Usage;
    use crate::now::Now;
    use crate::policy;
    use crate::policy::bundle::{Bundle, Lost};
    use crate::quota::{self, Cells, Held, Keys, Operation, Outcome, Slot, first_claimable, read_slot};
    use crate::report::wire::{Record, decode_record, encode_record};
    use crate::sim::SharedData;

    /// A plan that charges a lost exchange by what was delivered, at this price a thousand output tokens.
    fn bundle(price: u32, more_caps: &str) -> Bundle {
        let mut text = String::new();
        write!(
            text,
            "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [authorization]}}]\n\
             models: {{m: {{count: o200k_base, credits: {{input: 0, output: {price}}}}}}}\n\
             plans: {{p: {{tokens: {{hold: {{lost: delivered}}, caps: {{pay: {{limit: 900 credits, per: seat, \
             window: calendar month}}{more_caps}}}}}}}}}\n\
             assign: [{{otherwise: p}}]\nseats:\n  s: {{org: o, keys: ['sha256:{:064x}']}}\n",
            1
        )
        .unwrap();
        policy::compile(&text, "b").unwrap()
    }

    /// What the slot of an exchange says that was admitted under `bundle` for `output` tokens and delivered them.
    fn held(bundle: &Bundle, output: u64) -> Held {
        let (shared, keys, now) = (SharedData::new(), Keys::new("b"), Now { wall_ms: 1_000, mono_ms: 0 });
        let mut cells = shared.cells(0);
        let cells: &mut dyn Cells = &mut cells;
        let (plan, seat) = (&bundle.plans[0], &bundle.seats[0]);
        let usage = Usage { output, ..Usage::default() };
        let price = bundle.models.find("m").unwrap().price(0, Api::of(Dialect::OpenAiChat, b""), 1);
        let bill = Bill::of(bundle, plan, seat, 0, "m", 0);
        let size = Size {
            input: 0,
            output,
            expected: Expected::Assumed(0),
            beside: 0,
            choices: 1,
            floor: 0,
            enough: u64::MAX,
            prompts: 0,
            asked: Usage::default(),
            tools: false,
            again: 0,
        };
        let moment = Moment { now, last: false, observe: false };
        let mut unused =
            |_: &str, quota: &crate::policy::bundle::PlanQuota, _: u64| quota::Standing::unused(&quota.quota, now);
        let verdict = weigh(&bill, &price, &size, moment, &mut Patience::default(), &mut unused, &|_| false);
        let Verdict::Fits(fit) = verdict else { panic!("{verdict:?}") };
        let levels = fit.levels;
        let draft = encode_record(&Record {
            plan: plan.label(),
            seat: seat.name.clone(),
            model: "m".to_owned(),
            usage,
            dialect: Dialect::OpenAiChat.name().to_owned(),
            charges: bill.charges(&levels, &[]),
            ..Record::default()
        });
        let by = first_claimable(&keys, 1, true, now, cells).unwrap().unwrap().by();
        let id = crate::quota::ExchangeId { by, sequence: 1 };
        let mut hold = Operation::hold(&keys, by, 0, id, levels, draft, now);
        assert_eq!(hold.run(cells), Ok(Outcome::Done));
        let mut noted = Operation::extend(&keys, by, 0, id, vec![], output, now);
        assert_eq!(noted.run(cells), Ok(Outcome::Done));
        match read_slot(&keys, by.vm, 0, cells) {
            Ok(Some(Slot::Held(held))) => held,
            slot => panic!("{slot:?}"),
        }
    }

    /// Amounts that the accounts are charged, and that the record says.
    fn ended(later: &Bundle, held: &Held) -> (Vec<u64>, Vec<u64>) {
        let ending = end(later, held, Now::default());
        let lines = ending.used.iter().flat_map(|level| &level.lines).map(|line| line.amount).collect();
        (lines, decode_record(&ending.record).unwrap().charges.iter().map(|charge| charge.amount).collect())
    }

    #[test]
    fn of_two_versions_of_a_plan_the_one_it_was_admitted_under_says_what_is_charged() {
        let mut both = bundle(1_000, "");
        let (mut old, mut new) = (both.plans[0].clone(), both.plans[0].clone());
        (old.version, old.hold.lost) = (Some("1".to_owned()), Lost::Held);
        new.version = Some("2".to_owned());
        both.plans = vec![new.clone()];
        let mut held = held(&both, 100);
        held.delivered = 10;
        both.plans = vec![old, new];
        assert_eq!(ended(&both, &held), (vec![10_000_000], vec![10_000_000]));
    }

    #[test]
    fn the_record_says_what_the_accounts_are_charged_also_after_the_policy_was_edited() {
        let held = held(&bundle(1_000, ""), 100);
        assert_eq!(ended(&bundle(1_000, ""), &held), (vec![100_000_000], vec![100_000_000]));
        // A cap that was added since is not held, so it is not charged.
        let added = bundle(1_000, ", more: {limit: 900 credits, per: seat, window: calendar month}");
        assert_eq!(ended(&added, &held), (vec![100_000_000], vec![100_000_000]));
        // A price that rose since charges no more than was held.
        assert_eq!(ended(&bundle(5_000, ""), &held), (vec![100_000_000], vec![100_000_000]));
    }
}
