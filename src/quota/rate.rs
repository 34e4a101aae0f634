//! How a bucket drains.

/// A bucket: `limit` micro-units that refill in `period_ms`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) limit: u64,
    pub(super) period_ms: u64,
}

impl Rate {
    fn period(self) -> u128 {
        u128::from(self.period_ms.max(1))
    }

    /// What drains in `elapsed_ms` and a remainder of earlier drains: whole micro-units, and the new remainder in
    /// micro-units times milliseconds of the period. Exact, however often it is asked.
    pub(super) fn drained(self, elapsed_ms: u64, remainder: u64) -> (u64, u64) {
        let product = u128::from(self.limit) * u128::from(elapsed_ms) + u128::from(remainder);
        let whole = u64::try_from(product / self.period()).unwrap_or(u64::MAX);
        (whole, u64::try_from(product % self.period()).unwrap_or(0))
    }

    /// The most that can have drained in `elapsed_ms`.
    pub(super) fn drained_at_most(self, elapsed_ms: u64) -> u64 {
        let product = u128::from(self.limit) * u128::from(elapsed_ms);
        u64::try_from(product.div_ceil(self.period())).unwrap_or(u64::MAX)
    }

    /// Milliseconds until `amount` has drained beyond a remainder of earlier drains, or `None` when nothing ever does.
    pub(super) fn time_for(self, amount: u64, remainder: u64) -> Option<u64> {
        let product = (u128::from(amount) * self.period()).saturating_sub(u128::from(remainder));
        (self.limit > 0).then(|| u64::try_from(product.div_ceil(u128::from(self.limit))).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::Rate;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn a_bucket_drains_the_same_in_one_step_or_many(
            limit in 1_u64..1_000_000_000_000, period in 1_u64..100_000_000,
            steps in proptest::collection::vec(0_u64..5_000, 1..40),
        ) {
            let rate = Rate { limit, period_ms: period };
            let (mut sum, mut remainder) = (0, 0);
            for step in &steps {
                let (drained, rest) = rate.drained(*step, remainder);
                sum += drained;
                remainder = rest;
            }
            prop_assert_eq!(rate.drained(steps.iter().sum(), 0), (sum, remainder));
            prop_assert!(rate.drained_at_most(steps.iter().sum()) >= sum);
        }

        #[test]
        fn a_wait_is_just_long_enough(
            limit in 1_u64..1_000_000, period in 1_u64..1_000_000, amount in 1_u64..1_000_000, part in 0_u64..1_000_000,
        ) {
            let (rate, remainder) = (Rate { limit, period_ms: period }, part % period);
            let wait = rate.time_for(amount, remainder).unwrap();
            prop_assert!(rate.drained(wait, remainder).0 >= amount);
            prop_assert!(wait == 0 || rate.drained(wait - 1, remainder).0 < amount);
        }
    }
}
