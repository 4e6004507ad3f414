//! The schedule of both kinds of load: when each request is due. Pure.
//!
//! Open loop: request n is due at n / rate, computed from n and not from the one before, so neither rounding nor a late
//! wake-up adds up, and nothing the server does can move it. That is what keeps coordinated omission out (Gil Tene, "How NOT
//! to Measure Latency"): if the server stalls, requests keep falling due and their waiting is measured.
//! Closed loop: a request is due when its connection is free, so a slow server slows the load down.
//!
//! Nothing here waits or reads a clock; [`crate::tickets`] does.

use std::time::Duration;

/// The highest rate accepted, per second: beyond it one thread cannot keep the schedule, and the report would blame the server.
pub const RATE_MAX: f64 = 100_000.0;

/// Requests per second, above 0 and at most [`RATE_MAX`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// `None` if it is not in range.
    #[must_use]
    pub fn per_second(rate: f64) -> Option<Self> {
        (rate > 0.0 && rate <= RATE_MAX).then_some(Self(rate))
    }

    /// The number, per second.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// When request `n`, counted from 0, is due.
    #[must_use]
    pub fn due(self, n: u64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            reason = "exact below 2^53 requests, which is 2,800 years at the highest rate"
        )]
        let seconds = n as f64 / self.0;
        // Beyond what a Duration holds the run never gets there.
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// What makes requests fall due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// The schedule: this many a second, come what may.
    Open(Rate),
    /// The responses: each connection sends its next request when the last has ended.
    Closed,
}

/// When to make no more requests; whichever comes first. Both absent: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// No request is due at or after this moment.
    pub after: Option<Duration>,
    /// No more requests than this.
    pub requests: Option<u64>,
}

impl End {
    /// Whether request `n`, counted from 0 and due at `due`, is past the end.
    #[must_use]
    pub fn reached(&self, n: u64, due: Duration) -> bool {
        self.after.is_some_and(|after| due >= after) || self.requests.is_some_and(|requests| n >= requests)
    }
}

/// One request to be sent: its number and the moment its latency counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Counted from 0, never used twice.
    pub n: u64,
    /// Since the run began.
    pub due: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: f64) -> Rate {
        Rate::per_second(per_second).expect("in range")
    }

    #[test]
    fn due_times_are_evenly_spaced_and_do_not_drift() {
        let check = |per_second: f64, n: u64, expected: Duration| {
            assert_eq!(rate(per_second).due(n), expected, "request {n} at {per_second}/s");
        };
        check(50.0, 0, Duration::ZERO);
        check(50.0, 1, Duration::from_millis(20));
        check(0.5, 3, Duration::from_secs(6));
        check(3.0, 3_000_000, Duration::from_secs(1_000_000));
        check(1e-9, u64::MAX, Duration::MAX);
    }

    #[test]
    fn a_rate_that_is_no_rate_is_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, RATE_MAX * 1.01] {
            assert_eq!(Rate::per_second(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_run_makes_exactly_the_requests_due_before_its_end() {
        let made = |end: End| (0..).take_while(|&n| !end.reached(n, rate(200.0).due(n))).count();
        let ten_seconds = Some(Duration::from_secs(10));
        assert_eq!(made(End { after: ten_seconds, requests: None }), 2_000);
        assert_eq!(made(End { after: None, requests: Some(7) }), 7);
        assert_eq!(made(End { after: ten_seconds, requests: Some(7) }), 7);
        assert_eq!(made(End { after: ten_seconds, requests: Some(9_999) }), 2_000);
    }

    #[test]
    fn without_an_end_the_run_goes_on() {
        assert!(!End::default().reached(u64::MAX, Duration::MAX));
    }
}
