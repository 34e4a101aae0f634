//! How a call is held that fits: what each quota and each fund gives, and what the policy let pass for it.

use super::{Fit, How, Patience, Scale, Throttle, note};
use crate::engine::bill::Borne;
use crate::policy::bundle::Role;
use crate::quota::{Level, Line};

impl Scale<'_, '_> {
    /// The limit that all can pay, and what is held of each.
    pub(super) fn fit(&self, patience: &Patience) -> Fit {
        let paying = self.paying();
        let most = paying.as_ref().map_or(self.size.output, |(_, most)| self.size.output.min(*most));
        let output = self.within(most, self.caps());
        let caps: Vec<usize> = self.caps().map(|(at, _)| at).collect();
        let shares = paying.map(|(segment, _)| self.shares(&segment, output)).unwrap_or_default();
        // What nothing is known of cannot be held, whatever may pass it.
        let over = |at: usize| if self.observe { u64::MAX } else { self.over(at) };
        let share = |at: usize| shares.iter().find(|(of, _)| *of == at).map(|(_, share)| *share);
        let mut levels = self.bill.levels(|at, quota| match quota.role {
            _ if !self.is_known(at) => None,
            Role::Cap => caps.contains(&at).then(|| (self.asked(quota, output), over(at))),
            Role::Fund => share(at).map(|share| (share, over(at))),
        });
        self.add_throttles(output, &mut levels);
        let beyond = |at: usize| share(at).map_or(0, |share| share.saturating_sub(self.has(at)));
        let borne = self
            .bill
            .quotas
            .iter()
            .enumerate()
            .find_map(|(at, quota)| (beyond(at) > 0).then(|| Borne { by: quota.quota.id, amount: beyond(at) }));
        let mut passed = patience.clone();
        for one in &self.lets {
            let took_effect = match self.bill.quotas.get(one.by).map(|quota| quota.role) {
                Some(Role::Cap) if !caps.contains(&one.by) => false,
                Some(Role::Cap) if one.how == How::Overage => self.over(one.by) < u64::MAX,
                Some(Role::Fund) if one.how == How::Overage => self.over(one.by) < u64::MAX && beyond(one.by) > 0,
                _ => true,
            };
            if took_effect {
                note(&mut passed, one.how, self.bill.quotas.get(one.at).copied());
            }
        }
        for (_, cap) in &self.skipped {
            note(&mut passed, How::NextFund, self.bill.quotas.get(*cap).copied());
        }
        Fit { output, levels, borne, passed: passed.passed }
    }

    pub(super) fn is_known(&self, at: usize) -> bool {
        self.stands.get(at).is_some_and(Option::is_some)
    }

    /// How much each of the funds gives: the first what it has, and so on; what none of them has is borne by the one that
    /// may be passed.
    pub(super) fn shares(&self, segment: &[usize], output: u64) -> Vec<(usize, u64)> {
        let Some(first) = segment.first().and_then(|at| self.bill.quotas.get(*at)) else { return Vec::new() };
        let mut rest = self.asked(first, output);
        let mut shares: Vec<(usize, u64)> = Vec::with_capacity(segment.len());
        for at in segment {
            let share = rest.min(self.has(*at));
            // A call that costs nothing is still booked on the first.
            if share > 0 || shares.is_empty() && rest == 0 {
                shares.push((*at, share));
            }
            rest = rest.saturating_sub(share);
            if rest == 0 {
                return shares;
            }
        }
        let known: Vec<usize> = segment.iter().copied().filter(|at| self.is_known(*at)).collect();
        let bears = self.bill.bearer(&known, None).filter(|_| self.observe);
        for at in segment.iter().rev() {
            let over = if bears == Some(*at) { rest } else { self.free(*at).saturating_sub(self.has(*at)) };
            let share = rest.min(over);
            rest = rest.saturating_sub(share);
            match shares.iter_mut().find(|(of, _)| of == at) {
                Some((_, known)) => *known = known.saturating_add(share),
                None if share > 0 => shares.push((*at, share)),
                None => {}
            }
        }
        shares
    }

    fn add_throttles(&self, output: u64, levels: &mut Vec<Level>) {
        for Throttle { bucket, .. } in &self.throttles {
            let subject = self.bill.subject(bucket.per);
            let line = Line { quota: bucket.quota.clone(), amount: self.asked(bucket, output), over: 0 };
            match levels.iter_mut().find(|level| level.subject == subject) {
                Some(level) => level.lines.push(line),
                None => levels.push(Level { subject, lines: vec![line] }),
            }
        }
    }
}
