//! The request's body on its way up: how fast it must come, and whose fault it is when it does not.
//!
//! Against the least rate counts only time in which the downstream was awaited: an endpoint that takes nothing slows its downstream down. The whole body has a limit in plain time; it
//! is used up by whoever was awaited for the greater part of it. Time for which the whole process stood still (its scheduling lag) is nobody's.

use std::time::{Duration, Instant};

/// The rate is looked at from here on: a body begins with one packet, whatever follows.
const RATE_FROM: Duration = Duration::from_secs(10);

/// How a body stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Everything has been read, at this moment; there was no body if it is `None`.
    Ended(Option<Instant>),
    /// The downstream is awaited; it last sent something at this moment.
    AwaitingDownstream(Instant),
    /// The endpoint is not taking more; it last did at this moment.
    AwaitingEndpoint(Instant),
    /// The downstream's side broke.
    Broken,
}

/// A body on its way up, as a decision sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upload {
    /// How it stands.
    pub state: State,
    /// The whole of it can be sent once more.
    pub is_replayable: bool,
    /// When it is too slow if nothing more comes; `None` if nothing more is to come.
    pub too_slow: Option<TooSlow>,
    /// When the whole of it must have come; `None` likewise.
    pub whole_by: Option<Instant>,
}

impl Upload {
    /// Of a request without a body.
    pub const NONE: Upload = Upload { state: State::Ended(None), is_replayable: true, too_slow: None, whole_by: None };
}

/// When a body is too slow, as things stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooSlow {
    /// From here on.
    pub at: Instant,
    /// Whose fault it is.
    pub by: Side,
}

/// A side of the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Who calls us.
    Downstream,
    /// Whom we call.
    Endpoint,
}

/// The pace of one body.
#[derive(Clone, Debug)]
pub struct Pace {
    /// When its request's head had come.
    began: Instant,
    /// The scheduling lag by then, in all.
    lag_before: Duration,
    whole: Duration,
    bytes_per_second_min: u64,
    /// Time in which the downstream was awaited, the wait under way apart.
    awaited: Duration,
    bytes: u64,
}

impl Pace {
    /// Of a body whose request's head came at `began`, when the scheduling lag was `lag_before` in all; it must come within `whole`, at
    /// `bytes_per_second_min` or faster.
    pub fn new(began: Instant, lag_before: Duration, whole: Duration, bytes_per_second_min: usize) -> Pace {
        let bytes_per_second_min = bytes_per_second_min as u64;
        Pace { began, lag_before, whole, bytes_per_second_min, awaited: Duration::ZERO, bytes: 0 }
    }

    /// When its request's head had come.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The downstream was awaited for so long.
    pub fn waited(&mut self, time: Duration) {
        self.awaited = self.awaited.saturating_add(time);
    }

    /// So many bytes have come.
    pub fn came(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// When the whole of it must have come. `lag` is the scheduling lag by now, in all.
    pub fn whole_by(&self, lag: Duration) -> Instant {
        self.began + self.whole + lag.saturating_sub(self.lag_before)
    }

    /// When it is too slow if nothing more comes. The downstream has been awaited since `awaited_since`, if it is.
    pub fn too_slow(&self, awaited_since: Option<Instant>, lag: Duration) -> TooSlow {
        let whole_by = self.whole_by(lag);
        let awaited = awaited_since.map_or(Duration::ZERO, |since| whole_by.saturating_duration_since(since));
        let is_awaited = self.awaited.saturating_add(awaited) >= whole_by.saturating_duration_since(self.began) / 2;
        let by_whole = TooSlow { at: whole_by, by: if is_awaited { Side::Downstream } else { Side::Endpoint } };
        let (Some(since), Some(earned)) = (awaited_since, self.earned()) else { return by_whole };
        let left = earned.saturating_sub(self.awaited);
        let by_rate = since.checked_add(left).map(|at| at + lag.saturating_sub(self.lag_before));
        match by_rate {
            Some(at) if at < by_whole.at => TooSlow { at, by: Side::Downstream },
            _ => by_whole,
        }
    }

    /// For how long in all the downstream may be awaited after what has come.
    fn earned(&self) -> Option<Duration> {
        let millis = self.bytes.saturating_mul(1_000).checked_div(self.bytes_per_second_min)?;
        Some(Duration::from_millis(millis).max(RATE_FROM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Duration = Duration::from_secs(300);

    #[test]
    fn the_rate_is_that_of_the_time_in_which_the_downstream_was_awaited() {
        let began = Instant::now();
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
            assert!(too_slow.by == Side::Downstream || expected == 300, "{bytes} bytes, {waited} s, {since:?}");
        }
    }

    #[test]
    fn a_rate_of_zero_is_none() {
        let began = Instant::now();
        let pace = Pace::new(began, Duration::ZERO, WHOLE, 0);
        let expected = TooSlow { at: began + WHOLE, by: Side::Downstream };
        assert_eq!(pace.too_slow(Some(began), Duration::ZERO), expected);
    }

    #[test]
    fn the_whole_is_used_up_by_whoever_was_awaited_for_longer() {
        let began = Instant::now();
        for (waited, since, by) in [
            (149, None, Side::Endpoint),
            (150, None, Side::Downstream),
            (0, Some(149), Side::Downstream),
            (0, Some(151), Side::Endpoint),
        ] {
            let mut pace = Pace::new(began, Duration::ZERO, WHOLE, 0);
            pace.waited(Duration::from_secs(waited));
            let since = since.map(|since| began + Duration::from_secs(since));
            assert_eq!(pace.too_slow(since, Duration::ZERO), TooSlow { at: began + WHOLE, by });
        }
    }

    #[test]
    fn scheduling_lag_counts_for_nobody() {
        let began = Instant::now();
        let (before, now) = (Duration::from_secs(7), Duration::from_secs(60));
        let pace = Pace::new(began, before, WHOLE, 100);
        assert_eq!(pace.whole_by(now), began + WHOLE + Duration::from_secs(53));
        assert_eq!(pace.too_slow(Some(began), now).at, began + Duration::from_secs(63));
    }
}
