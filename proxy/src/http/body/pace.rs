//! How fast a request's body comes, and when that is too slow.
//!
//! Against its rate counts only time in which the caller was awaited: an endpoint that takes nothing slows its caller down. The whole body has a limit in plain time; it
//! is used up by whoever was awaited for the greater part of it. Time for which the whole worker stood still is nobody's.

use std::time::{Duration, Instant};

/// The rate is looked at from here on: a body begins with one packet, whatever follows.
const RATE_FROM: Duration = Duration::from_secs(10);

/// The pace of one body.
#[derive(Clone, Debug)]
pub struct Pace {
    /// When its request's head had come.
    began: Instant,
    /// How long the worker had been absent by then.
    absent_before: Duration,
    whole: Duration,
    bytes_per_second_min: u64,
    /// Time in which the caller was awaited, the wait under way apart.
    awaited: Duration,
    bytes: u64,
}

/// When a body is too slow, as things stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooSlow {
    /// From here on.
    pub at: Instant,
    /// Whether it is the caller who was awaited; else it is the endpoint.
    pub is_by_caller: bool,
}

impl Pace {
    /// Of a body whose request's head came at `began`, when the worker had been absent for `absent_before`; it must come within `whole`, at
    /// `bytes_per_second_min` or faster.
    pub fn new(began: Instant, absent_before: Duration, whole: Duration, bytes_per_second_min: usize) -> Pace {
        let bytes_per_second_min = bytes_per_second_min as u64;
        Pace { began, absent_before, whole, bytes_per_second_min, awaited: Duration::ZERO, bytes: 0 }
    }

    /// When its request's head had come.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The caller was awaited for so long.
    pub(super) fn waited(&mut self, time: Duration) {
        self.awaited = self.awaited.saturating_add(time);
    }

    /// So much has come.
    pub(super) fn came(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// When the whole of it must have come. `absent` is how long the worker has been absent by now.
    pub(super) fn whole_by(&self, absent: Duration) -> Instant {
        self.began + self.whole + absent.saturating_sub(self.absent_before)
    }

    /// When it is too slow if nothing more comes. The caller has been awaited since `awaited_since`, if it is.
    pub(super) fn too_slow(&self, awaited_since: Option<Instant>, absent: Duration) -> TooSlow {
        let whole_by = self.whole_by(absent);
        let awaited = awaited_since.map_or(Duration::ZERO, |since| whole_by.saturating_duration_since(since));
        let is_by_caller = self.awaited.saturating_add(awaited) >= whole_by.saturating_duration_since(self.began) / 2;
        let by_whole = TooSlow { at: whole_by, is_by_caller };
        let (Some(since), Some(earned)) = (awaited_since, self.earned()) else { return by_whole };
        let left = earned.saturating_sub(self.awaited);
        let by_rate = since.checked_add(left).map(|at| at + absent.saturating_sub(self.absent_before));
        match by_rate {
            Some(at) if at < by_whole.at => TooSlow { at, is_by_caller: true },
            _ => by_whole,
        }
    }

    /// For how long in all the caller may be awaited after what has come.
    fn earned(&self) -> Option<Duration> {
        let millis = self.bytes.saturating_mul(1_000).checked_div(self.bytes_per_second_min)?;
        Some(Duration::from_millis(millis).max(RATE_FROM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const WHOLE: Duration = Duration::from_secs(300);

    #[test]
    fn the_rate_is_that_of_the_time_in_which_the_caller_was_awaited() {
        let began = clock::now();
        let after = |secs| began + Duration::from_secs(secs);
        // Bytes, seconds of former waits, beginning of the present one, when it is too slow.
        for (bytes, waited, since, expected) in [
            (0, 0, Some(0), 10),
            (10, 0, Some(0), 10),
            (1_000, 0, Some(0), 10),
            (1_100, 0, Some(0), 11),
            (1_100, 9, Some(9), 11),
            (1_100, 11, Some(200), 200),
            // The endpoint took nothing for 90 s.
            (1_100, 10, Some(100), 101),
            (1_100, 10, None, 300),
            (1_000_000, 10, Some(100), 300),
            (usize::MAX, 10, Some(100), 300),
        ] {
            let mut pace = Pace::new(began, Duration::ZERO, WHOLE, 100);
            pace.came(bytes);
            pace.waited(Duration::from_secs(waited));
            let too_slow = pace.too_slow(since.map(after), Duration::ZERO);
            assert_eq!(too_slow.at, after(expected), "{bytes} bytes, {waited} s, {since:?}");
            assert!(too_slow.is_by_caller || expected == 300, "{bytes} bytes, {waited} s, {since:?}");
        }
    }

    #[test]
    fn a_rate_of_zero_is_none() {
        let began = clock::now();
        let pace = Pace::new(began, Duration::ZERO, WHOLE, 0);
        assert_eq!(pace.too_slow(Some(began), Duration::ZERO), TooSlow { at: began + WHOLE, is_by_caller: true });
    }

    #[test]
    fn the_whole_is_used_up_by_whoever_was_awaited_for_longer() {
        let began = clock::now();
        for (waited, since, is_by_caller) in
            [(149, None, false), (150, None, true), (0, Some(149), true), (0, Some(151), false)]
        {
            let mut pace = Pace::new(began, Duration::ZERO, WHOLE, 0);
            pace.waited(Duration::from_secs(waited));
            let since = since.map(|since| began + Duration::from_secs(since));
            assert_eq!(pace.too_slow(since, Duration::ZERO), TooSlow { at: began + WHOLE, is_by_caller });
        }
    }

    #[test]
    fn time_for_which_the_worker_was_absent_counts_for_nobody() {
        let began = clock::now();
        let (before, now) = (Duration::from_secs(7), Duration::from_secs(60));
        let pace = Pace::new(began, before, WHOLE, 100);
        assert_eq!(pace.whole_by(now), began + WHOLE + Duration::from_secs(53));
        assert_eq!(pace.too_slow(Some(began), now).at, began + Duration::from_secs(63));
    }
}
