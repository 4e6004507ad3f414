//! How long to wait before a retry: exponential growth under a cap, drawn with full jitter.
//!
//! Full jitter is `rand(0, min(cap, base·2ⁿ))` (AWS Builders' Library, "Timeouts, retries and backoff with jitter"). The draw is made
//! inside the capped interval. Capping after the draw would make many clients wait exactly `cap`, and jitter is there to spread them.

use std::time::Duration;

use rand::{Rng, RngExt};

/// The limits of the delays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// The upper limit of the first delay.
    pub base: Duration,
    /// The upper limit of every delay.
    pub cap: Duration,
}

impl Backoff {
    /// The delay before retry number `retry` (1 is the first).
    pub fn draw(&self, retry: u32, rng: &mut impl Rng) -> Duration {
        draw_up_to(doubled(self.base, retry.saturating_sub(1), self.cap), rng)
    }
}

/// `base·2ⁿ`, never more than `cap`.
pub(crate) fn doubled(base: Duration, n: u32, cap: Duration) -> Duration {
    base.saturating_mul(1u32.checked_shl(n).unwrap_or(u32::MAX)).min(cap)
}

/// A delay drawn evenly from `0..=max`.
pub(crate) fn draw_up_to(max: Duration, rng: &mut impl Rng) -> Duration {
    Duration::from_nanos(rng.random_range(0..=u64::try_from(max.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    const BACKOFF: Backoff = Backoff { base: Duration::from_millis(25), cap: Duration::from_millis(250) };

    #[test]
    fn the_interval_doubles_up_to_the_cap_and_never_overflows() {
        let ms = Duration::from_millis;
        for (n, expected) in
            [(0, ms(25)), (1, ms(50)), (2, ms(100)), (3, ms(200)), (4, ms(250)), (40, ms(250)), (u32::MAX, ms(250))]
        {
            assert_eq!(doubled(BACKOFF.base, n, BACKOFF.cap), expected, "n = {n}");
        }
    }

    #[test]
    fn draws_fill_the_interval_evenly_and_do_not_pile_up_at_the_cap() {
        let mut rng = StdRng::seed_from_u64(1);
        let draws: Vec<_> = (0..10_000).map(|_| BACKOFF.draw(9, &mut rng)).collect();
        assert!(draws.iter().all(|d| *d <= BACKOFF.cap));
        for tenth in 0..10u32 {
            let (low, high) = (BACKOFF.cap * tenth / 10, BACKOFF.cap * (tenth + 1) / 10);
            let share = draws.iter().filter(|d| (low..high).contains(d)).count();
            assert!((900..=1_100).contains(&share), "tenth {tenth} holds {share} of 10000");
        }
    }
}
