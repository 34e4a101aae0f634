//! A sliding window: what was charged, slice by slice, until the last of a slice is as old as the window is long.
//!
//! The window is cut into [`SLICES`] slices, so that an account stays bounded. A whole slice is forgotten when its
//! *last* moment lies outside: what is remembered is never less than what was charged in any stretch of that length,
//! and more by the charges of one slice at most.

/// Into how many slices a window is cut: what it admits may come late by a sixtieth of its length.
const SLICES: u64 = 60;

/// What a sliding window remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Slices {
    /// How long the window is; 0: not known yet.
    pub(super) length_ms: u64,
    /// The latest moment that was seen. Time that steps back stays here.
    pub(super) latest_ms: u64,
    /// Start and amount of each slice in which something was charged, the oldest first.
    pub(super) charged: Vec<(u64, u64)>,
}

impl Slices {
    fn width(&self) -> u64 {
        self.length_ms.div_ceil(SLICES).max(1)
    }

    /// The moment at which the slice that begins at `start` is forgotten: no charge in it is nearer than the length.
    fn forgotten(&self, start: u64) -> u64 {
        start.saturating_add(self.width()).saturating_sub(1).saturating_add(self.length_ms)
    }

    /// Goes to the moment `wall_ms` of a window of this length, and forgets what lies outside. A length that has
    /// changed counts at once, for all that is still remembered.
    pub(super) fn go_to(&mut self, length_ms: u64, wall_ms: u64) {
        self.latest_ms = self.latest_ms.max(wall_ms);
        if self.length_ms != length_ms {
            let width = self.width();
            self.length_ms = length_ms;
            for (start, amount) in std::mem::take(&mut self.charged) {
                // When in its slice it was charged is not known: as late as can be.
                let last = start.saturating_add(width).saturating_sub(1).min(self.latest_ms);
                self.put(last, amount);
            }
        }
        let (latest, mut charged) = (self.latest_ms, std::mem::take(&mut self.charged));
        charged.retain(|(start, _)| self.forgotten(*start) > latest);
        self.charged = charged;
    }

    /// What counts now.
    pub(super) fn sum(&self) -> u64 {
        self.charged.iter().fold(0, |sum, (_, amount)| sum.saturating_add(*amount))
    }

    /// Charges `amount` now. Answers the start of the slice that it is charged in.
    pub(super) fn charge(&mut self, amount: u64) -> u64 {
        self.put(self.latest_ms, amount)
    }

    /// Only the last slice grows, or one is added behind it.
    fn put(&mut self, moment: u64, amount: u64) -> u64 {
        let start = moment.saturating_sub(moment.checked_rem(self.width()).unwrap_or(0));
        match self.charged.last_mut() {
            _ if amount == 0 => {}
            Some((last, sum)) if *last >= start => *sum = sum.saturating_add(amount),
            _ => self.charged.push((start, amount)),
        }
        start
    }

    /// Takes back `amount` of what was charged in the slice around `moment`, as far as it is still remembered.
    pub(super) fn refund(&mut self, moment: u64, amount: u64) {
        let width = self.width();
        let slice = self.charged.iter_mut().find(|(start, _)| (*start..start.saturating_add(width)).contains(&moment));
        if let Some((_, sum)) = slice {
            *sum = sum.saturating_sub(amount);
        }
        self.charged.retain(|(_, sum)| *sum > 0);
    }

    /// When at the earliest no more than `most` counts, if nothing is charged until then.
    pub(super) fn below(&self, most: u64) -> u64 {
        let mut sum = self.sum();
        let mut moment = self.latest_ms;
        for (start, amount) in &self.charged {
            if sum <= most {
                break;
            }
            sum = sum.saturating_sub(*amount);
            moment = self.forgotten(*start);
        }
        moment
    }
}

#[cfg(test)]
mod tests {
    use super::{SLICES, Slices};
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn a_slice_counts_until_its_last_moment_is_outside() {
        let mut window = Slices::default();
        // Slices of ten.
        window.go_to(600, 1_003);
        assert_eq!((window.charge(5), window.charge(0)), (1_000, 1_000));
        window.go_to(600, 1_012);
        assert_eq!(window.charge(7), 1_010);
        assert_eq!((window.below(7), window.below(11), window.below(0)), (1_609, 1_609, 1_619));
        window.go_to(600, 1_608);
        assert_eq!(window.sum(), 12);
        window.go_to(600, 1_609);
        assert_eq!(window.sum(), 7);
        // Time that steps back is charged where it has been.
        window.go_to(600, 5);
        assert_eq!(window.charge(1), 1_600);
        window.refund(1_019, 3);
        assert_eq!(window.charged, [(1_010, 4), (1_600, 1)]);
        window.refund(1_015, 100);
        window.refund(1_015, 100);
        assert_eq!(window.charged, [(1_600, 1)]);
    }

    #[test]
    fn another_length_counts_at_once() {
        let mut window = Slices::default();
        for at in [1_000, 1_010, 1_020] {
            window.go_to(600, at);
            window.charge(1);
        }
        // Slices of one: each at the last moment at which it can have been charged.
        window.go_to(60, 1_025);
        assert_eq!(window.charged, [(1_009, 1), (1_019, 1), (1_025, 1)]);
        window.go_to(6_000, 1_070);
        assert_eq!(window.charged, [(1_000, 3)]);
    }

    proptest! {
        /// Against all charges with their moments: what counts is at least what the true window has, and at most what
        /// one that is longer by a slice has. Refunds are known to both.
        #[test]
        fn it_remembers_enough_and_little_more(
            length in 1_u64..2_000,
            steps in prop::collection::vec((0_u64..200, 0_u64..50, prop::option::of((0_usize..20, 0_u64..50))), 1..80),
        ) {
            let (mut window, mut charges, mut now): (Slices, Vec<(u64, u64, u64)>, u64) = Default::default();
            for (wait, amount, refund) in steps {
                now += wait;
                window.go_to(length, now);
                charges.push((now, window.charge(amount), amount));
                if let Some((which, back)) = refund {
                    let which = which % charges.len();
                    let (_, slice, charged) = &mut charges[which];
                    let back = back.min(*charged);
                    *charged -= back;
                    window.refund(*slice, back);
                }
                let sum = |length: u64| -> u64 {
                    charges.iter().filter(|(at, ..)| now - at < length).map(|(.., amount)| amount).sum()
                };
                let width = length.div_ceil(SLICES);
                prop_assert!(window.sum() >= sum(length), "{} < {}", window.sum(), sum(length));
                prop_assert!(window.sum() <= sum(length + width), "{} > {}", window.sum(), sum(length + width));
                prop_assert!(window.charged.len() as u64 <= SLICES + 2);
            }
        }

        #[test]
        fn a_wait_is_just_long_enough(
            length in 1_u64..2_000, most in 0_u64..100, steps in prop::collection::vec((0_u64..200, 1_u64..50), 1..40),
        ) {
            let (mut window, mut now) = (Slices::default(), 0);
            for (wait, amount) in steps {
                now += wait;
                window.go_to(length, now);
                window.charge(amount);
            }
            let until = window.below(most);
            let at = |moment: u64| {
                let mut then = window.clone();
                then.go_to(length, moment);
                then.sum()
            };
            prop_assert!(at(until) <= most);
            prop_assert!(until == now || at(until - 1) > most);
            prop_assert_eq!(until == now, window.sum() <= most);
        }
    }
}
