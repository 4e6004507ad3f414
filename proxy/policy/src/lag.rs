//! Scheduling lag: time for which the process stood still, because it was stopped or got no processor.
//!
//! Such time says nothing about either side, so it is forgiven: the limits of a request move by it. There is a bound, because the requests of a proxy that gets only
//! a small part of a processor would never end: all standstills together are forgiven up to half of the request's timeout, and count beyond that. A single one that is
//! longer is forgiven whole, because nobody could have ended the request meanwhile, and what it waited for may have arrived.
//!
//! A [`Lag`] cannot be added to a moment. Only [`Forgiveness`] makes a duration of it, so no limit can leave the bound out. Who is to blame is no limit: an endpoint that
//! gives up on a proxy that stands still has not failed, so [`Lag::is_delay_since`] has no bound.

use std::time::Duration;

/// From this much waiting for the downstream on, or for a proxy that stands still, an endpoint that gives up on the rest of a body is not to blame. Less is the pace of a
/// network.
pub(crate) const DELAY_MIN: Duration = Duration::from_secs(1);

/// For how long a process has stood still: in all, and the last time.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Lag {
    total: Duration,
    last: Duration,
}

/// How much of the lag is forgiven to one request. It never falls.
#[derive(Clone, Copy, Debug)]
pub struct Forgiveness {
    /// The total lag when the request began.
    before: Duration,
    /// The total lag that has been noticed.
    noticed: Duration,
    longest: Duration,
    request_timeout: Duration,
}

impl Lag {
    /// Adds a standstill.
    pub fn add(&mut self, standstill: Duration) {
        self.total = self.total.saturating_add(standstill);
        self.last = standstill;
    }

    /// Whether the process has stood still since `before` for so long that an endpoint may have tired of it.
    pub fn is_delay_since(self, before: Lag) -> bool {
        self.total.saturating_sub(before.total) >= DELAY_MIN
    }
}

impl Forgiveness {
    /// For a request with this timeout. Only what comes after `before` is forgiven.
    pub fn new(before: Lag, request_timeout: Duration) -> Forgiveness {
        Forgiveness { before: before.total, noticed: before.total, longest: Duration::ZERO, request_timeout }
    }

    /// Takes note of the lag of this moment, and returns what is forgiven in all. Of several standstills since the last call, the last one may be the longest.
    pub fn notice(&mut self, lag: Lag) -> Duration {
        let since = lag.total.saturating_sub(self.noticed);
        if !since.is_zero() {
            self.noticed = lag.total;
            self.longest = self.longest.max(lag.last.min(since));
        }
        self.forgiven()
    }

    /// What is forgiven, by the lag that was noticed last.
    pub fn forgiven(&self) -> Duration {
        if self.noticed == self.before {
            return Duration::ZERO; // nearly always
        }
        let all = self.noticed.saturating_sub(self.before);
        self.longest.max(all.min(self.request_timeout / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REQUEST: Duration = Duration::from_secs(10);

    #[test]
    fn standstills_are_forgiven_up_to_half_of_the_timeout_and_a_longer_one_whole() {
        // Standstills in milliseconds, and what is forgiven after them.
        for (standstills, forgiven) in [
            (&[][..], 0),
            (&[300_000], 300_000),
            (&[300_000, 400], 300_000),
            (&[400, 300_000], 300_000),
            (&[2_000, 2_000], 4_000),
            (&[2_000, 2_000, 2_000], 5_000),
            (&[4_000, 6_000, 1_000], 6_000),
        ] {
            let mut lag = Lag::default();
            lag.add(Duration::from_secs(7)); // before the request
            let mut one_by_one = Forgiveness::new(lag, REQUEST);
            let mut at_once = one_by_one;
            for standstill in standstills {
                lag.add(Duration::from_millis(*standstill));
                one_by_one.notice(lag);
            }
            assert_eq!(one_by_one.notice(lag), Duration::from_millis(forgiven), "{standstills:?}");
            assert!(at_once.notice(lag) <= one_by_one.forgiven(), "{standstills:?}: not seen one by one");
        }
    }

    #[test]
    fn standstills_are_a_delay_from_a_second_in_all_on_and_those_before_do_not_count() {
        let mut lag = Lag::default();
        lag.add(Duration::from_secs(7));
        let before = lag;
        for (millis, is_delay) in [(400, false), (599, false), (1, true), (300_000, true)] {
            lag.add(Duration::from_millis(millis));
            assert_eq!(lag.is_delay_since(before), is_delay, "{lag:?}");
        }
        assert!(!lag.is_delay_since(lag));
    }

    proptest! {
        #[test]
        fn what_is_forgiven_never_falls_and_has_a_ceiling(
            standstills in prop::collection::vec((1u64..20_000, any::<bool>()), 1..60),
        ) {
            let mut lag = Lag::default();
            let mut forgiveness = Forgiveness::new(lag, REQUEST);
            let (mut before, mut longest, mut total) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
            for (millis, is_noticed) in standstills {
                let standstill = Duration::from_millis(millis);
                lag.add(standstill);
                (longest, total) = (longest.max(standstill), total + standstill);
                if is_noticed {
                    let forgiven = forgiveness.notice(lag);
                    prop_assert!(forgiven >= before && forgiven <= total);
                    prop_assert!(forgiven <= longest.max(REQUEST / 2));
                    before = forgiven;
                }
            }
        }
    }
}
