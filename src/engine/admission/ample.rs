//! Whether there is so much room that it does not matter what a call comes to within its bound.

use super::{Bill, Fit, Moment, Patience, Price, Scale, Size, Stands};
use crate::engine::bill;
use crate::quota::Window;

/// Of what is left, the share that a call may take whose input is only bounded. Of common text a bound lies some four times
/// above the count.
const SHARE: u64 = 64;
/// Of what is left, the share that may be held at that time, with this call: many such calls at once must not be in the
/// way of others that would have found room.
const HELD: u64 = 8;
/// The same two of what is granted here: what is held too much must not send others to the ledger.
const SHARE_HERE: u64 = 16;
const HELD_HERE: u64 = 2;

/// How a call fits that is held by a bound of its input, if there is room in plenty: nothing is in its way and nothing
/// is asked of the ledger, its output is not shortened, and each account that its input matters to keeps many times as
/// much. `None`: count the input, and weigh it.
pub fn with_ample_room(
    bill: &Bill<'_>,
    price: &Price,
    size: &Size,
    moment: Moment,
    standing: &mut Stands<'_>,
) -> Option<Fit> {
    let scale = Scale::new(bill, price, size, moment.observe, standing);
    if scale.refused().is_some() || scale.blocked().is_some() || !scale.wants().is_empty() {
        return None;
    }
    let fit = scale.fit(&Patience::default());
    (fit.output == size.output && scale.is_ample(&fit)).then_some(fit)
}

impl Scale<'_, '_> {
    fn is_ample(&self, fit: &Fit) -> bool {
        let empty = Size { input: 0, expected: self.size.expected.without_input(), ..self.size };
        self.bill.quotas.iter().zip(&self.stands).all(|(quota, stands)| {
            let subject = self.bill.subject(quota.per);
            let lines = fit.levels.iter().filter(|level| level.subject == subject).flat_map(|level| &level.lines);
            let amount = lines.filter(|line| line.quota.id == quota.quota.id).map(|line| line.amount).next();
            let Some((amount, stands)) = amount.zip(*stands) else { return true };
            let matters = bill::asked(quota, &self.size, self.price) != bill::asked(quota, &empty, self.price);
            let (here, left) = (stands.free(), stands.left(&quota.quota));
            // A bucket books what is held as used, and what has drained of that since does not come back.
            let held = if matches!(quota.quota.window, Window::Bucket { .. }) { stands.used } else { stands.held };
            let all = held.saturating_add(amount);
            let fits = |room: u64, share: u64, held: u64| amount <= room / share && all <= room / held;
            !matters || fits(left, SHARE, HELD) && fits(here, SHARE_HERE, HELD_HERE)
        })
    }
}
