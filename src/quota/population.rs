//! Very many seats, each with an account: what one takes, and what its look-up costs among all the others. For a figure
//! natively and inside Envoy. Time is a parameter, as everywhere. Never in what is shipped.

use super::measure::levels;
use super::{
    Cells, ExchangeId, Incarnation, Keys, Operation, Outcome, QuotaId, StoreError, first_claimable, read_account,
};
use crate::now::Now;

/// What every seat has been charged of each quota.
const CHARGED: u64 = 5;

/// Seats that have used each of four quotas once.
pub struct Population {
    keys: Keys,
    by: Incarnation,
    seats: u64,
    sequence: u64,
}

/// What was measured with so many seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Bytes of an account's key.
    pub key: usize,
    /// Bytes of an account.
    pub account: usize,
    /// Nanoseconds of a look-up, on the average.
    pub look_up: u64,
    /// Nanoseconds of a hold and a settle together, on the average.
    pub request: u64,
}

impl Population {
    /// Nobody yet.
    ///
    /// # Errors
    /// A store that fails, or has no slot free.
    pub fn new(now: Now, cells: &mut dyn Cells) -> Result<Self, StoreError> {
        let keys = Keys::new("population");
        let by = first_claimable(&keys, 1, false, now, cells)?.ok_or(StoreError)?.by();
        Ok(Self { keys, by, seats: 0, sequence: 0 })
    }

    /// How many there are.
    pub fn seats(&self) -> u64 {
        self.seats
    }

    /// Lets new seats make a call each until there are `seats`.
    ///
    /// # Errors
    /// A store that fails.
    pub fn grow(&mut self, seats: u64, now: Now, cells: &mut dyn Cells) -> Result<(), StoreError> {
        while self.seats < seats {
            self.request(self.seats, CHARGED, now, cells)?;
            self.seats = self.seats.saturating_add(1);
        }
        Ok(())
    }

    /// Looks up the accounts of seats here and there, and has as many hold and settle. What is charged is nothing, so
    /// that it can be done again.
    ///
    /// `clock`: nanoseconds.
    ///
    /// # Errors
    /// A store that fails, and an account that is not there or not as it should be.
    pub fn measure(
        &mut self,
        times: u32,
        now: Now,
        cells: &mut dyn Cells,
        clock: impl Fn() -> u64,
    ) -> Result<Figures, StoreError> {
        let seats = self.seats;
        let somebody = |time: u32| u64::from(time).wrapping_mul(7_919).checked_rem(seats).unwrap_or(0);
        let begun = clock();
        for time in 0..times {
            let account = read_account(&self.keys, &subject(somebody(time)), cells)?.ok_or(StoreError)?;
            let charged = account.reported(QuotaId(1)).ok_or(StoreError)?.current.used;
            if charged != CHARGED {
                return Err(StoreError);
            }
        }
        let looked = clock();
        for time in 0..times {
            self.request(somebody(time), 0, now, cells)?;
        }
        let each = |nanoseconds: u64| nanoseconds.checked_div(u64::from(times)).unwrap_or(0);
        let key = self.keys.account(&subject(0));
        let account = cells.load(&key)?.ok_or(StoreError)?.value.len();
        Ok(Figures {
            key: key.len(),
            account,
            look_up: each(looked.saturating_sub(begun)),
            request: each(clock().saturating_sub(looked)),
        })
    }

    fn request(&mut self, seat: u64, charged: u64, now: Now, cells: &mut dyn Cells) -> Result<(), StoreError> {
        let (keys, by, subjects) = (&self.keys, self.by, [subject(seat)]);
        self.sequence = self.sequence.saturating_add(1);
        let id = ExchangeId { by, sequence: self.sequence };
        let held = Operation::hold(keys, by, 0, id, levels(&subjects, 7), Vec::new(), now).run(cells)?;
        let settled = Operation::settle(keys, by, 0, id, levels(&subjects, charged), vec![1], false, now).run(cells)?;
        if (held, settled) == (Outcome::Done, Outcome::Done) { Ok(()) } else { Err(StoreError) }
    }
}

/// Keys of one length, in no order.
fn subject(seat: u64) -> String {
    format!("seat/{:012x}", seat.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16)
}
