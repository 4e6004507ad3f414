//! The upload of a request's body: how fast it must arrive, and which side is to blame when it does not.
//!
//! Only time in which the proxy waited for the downstream counts against the least rate, because an endpoint that does not read slows its downstream down. The
//! whole body has a time limit. When that is over, the side for which the proxy waited longer is to blame. Time for which the whole process stood still (its
//! scheduling lag) counts against neither, within a bound ([`crate::lag`]).

use std::time::{Duration, Instant};

use crate::lag::{DELAY_MIN, Forgiveness, Lag};

/// The rate is checked only after this much waiting, because a body begins with a single packet.
const RATE_FROM: Duration = Duration::from_secs(10);

/// The state of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Everything was sent by this moment; `None` if there was no body.
    Ended(Option<Instant>),
    /// The proxy waits for the downstream, which last sent something at this moment.
    AwaitingDownstream(Instant),
    /// The proxy waits for the endpoint, which last took something at this moment.
    AwaitingEndpoint(Instant),
    /// The downstream broke it off.
    Broken,
}

impl State {
    /// The state after a look at how far the bytes for the endpoint have come, without which a body has ended when the last of it is in a send buffer. An
    /// endpoint that takes bytes from there goes forward, and the body ends when it has taken the last one.
    pub fn seen(self, look: Look) -> State {
        match self {
            State::Ended(Some(read_at)) if look.is_complete => State::Ended(Some(read_at.max(look.left_at))),
            State::Ended(Some(since)) | State::AwaitingEndpoint(since) => {
                State::AwaitingEndpoint(since.max(look.left_at))
            }
            State::Ended(None) | State::AwaitingDownstream(_) | State::Broken => self,
        }
    }
}

/// How far the bytes for an endpoint had come at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// Whether the endpoint had acknowledged all of them.
    pub is_complete: bool,
    /// When one of them last left for the endpoint.
    pub left_at: Instant,
}

/// An upload as a decision sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upload {
    /// The state of the body.
    pub state: State,
    /// For how long the proxy has waited for the downstream, without the current wait.
    pub awaited: Duration,
    /// Whether the whole body can be sent once more.
    pub is_replayable: bool,
    /// When it becomes too slow if nothing more arrives; `None` if nothing more is expected.
    pub too_slow: Option<TooSlow>,
    /// When the whole body must have arrived; `None` in the same case.
    pub whole_by: Option<Instant>,
}

impl Upload {
    /// The upload of a request without a body.
    pub const NONE: Upload = Upload {
        state: State::Ended(None),
        awaited: Duration::ZERO,
        is_replayable: true,
        too_slow: None,
        whole_by: None,
    };

    /// Whether the endpoint may have tired of the body through no fault of its own: the downstream has broken it off, or the proxy waits for the downstream and has
    /// waited for long in all, or the proxy `stood_still` for long while it sent the body. What is in a send buffer may not have left, so the end of a body excuses
    /// nothing.
    pub fn is_delayed(&self, now: Instant, stood_still: bool) -> bool {
        match self.state {
            State::Broken => true,
            State::Ended(None) => false,
            State::AwaitingDownstream(since) => {
                stood_still || self.awaited.saturating_add(now.saturating_duration_since(since)) >= DELAY_MIN
            }
            State::Ended(Some(_)) | State::AwaitingEndpoint(_) => stood_still,
        }
    }
}

/// When a body becomes too slow, and because of which side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooSlow {
    /// The moment from which it is too slow.
    pub at: Instant,
    /// The side to blame.
    pub by: Side,
}

/// A side of the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The client of the proxy.
    Downstream,
    /// The endpoint of an attempt.
    Endpoint,
}

/// Measures the pace of one body.
#[derive(Clone, Debug)]
pub struct Pace {
    /// When the request's head had arrived.
    began: Instant,
    /// The scheduling lag since then, as far as it is forgiven.
    forgiveness: Forgiveness,
    whole: Duration,
    bytes_per_second_min: u64,
    /// The time spent waiting for the downstream, without the current wait.
    awaited: Duration,
    bytes: u64,
}

impl Pace {
    /// For a body whose request's head arrived at `began`. It must arrive within `whole`, at `bytes_per_second_min` or faster.
    pub fn new(began: Instant, forgiveness: Forgiveness, whole: Duration, bytes_per_second_min: usize) -> Pace {
        let bytes_per_second_min = bytes_per_second_min as u64;
        Pace { began, forgiveness, whole, bytes_per_second_min, awaited: Duration::ZERO, bytes: 0 }
    }

    /// When the request's head had arrived.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Takes note of the scheduling lag of this moment.
    pub fn notice(&mut self, lag: Lag) {
        self.forgiveness.notice(lag);
    }

    /// The waits for the downstream so far.
    pub fn awaited(&self) -> Duration {
        self.awaited
    }

    /// Adds a wait for the downstream.
    pub fn waited(&mut self, time: Duration) {
        self.awaited = self.awaited.saturating_add(time);
    }

    /// Adds bytes that have arrived.
    pub fn came(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// When the whole body must have arrived.
    pub fn whole_by(&self) -> Instant {
        self.began + self.whole + self.forgiveness.forgiven()
    }

    /// When the body becomes too slow if nothing more arrives. `awaited_since` is the beginning of the current wait for the downstream, if there is one.
    pub fn too_slow(&self, awaited_since: Option<Instant>) -> TooSlow {
        let whole_by = self.whole_by();
        let awaited = awaited_since.map_or(Duration::ZERO, |since| whole_by.saturating_duration_since(since));
        let is_awaited = self.awaited.saturating_add(awaited) >= whole_by.saturating_duration_since(self.began) / 2;
        let by_whole = TooSlow { at: whole_by, by: if is_awaited { Side::Downstream } else { Side::Endpoint } };
        let (Some(since), Some(earned)) = (awaited_since, self.earned()) else { return by_whole };
        let left = earned.saturating_sub(self.awaited);
        let by_rate = since.checked_add(left).map(|at| at + self.forgiveness.forgiven());
        match by_rate {
            Some(at) if at < by_whole.at => TooSlow { at, by: Side::Downstream },
            _ => by_whole,
        }
    }

    /// How long the proxy may wait for the downstream in total, by the bytes that have arrived.
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
    fn a_body_has_ended_when_the_endpoint_has_taken_all_of_it() {
        let began = Instant::now();
        let at = |secs| began + Duration::from_secs(secs);
        for (state, is_complete, left, expected) in [
            (State::Ended(None), false, 9, State::Ended(None)),
            (State::Ended(Some(at(5))), true, 5, State::Ended(Some(at(5)))),
            (State::Ended(Some(at(5))), true, 9, State::Ended(Some(at(9)))),
            // The whole body fitted into the endpoint's window before its end was seen.
            (State::Ended(Some(at(5))), true, 4, State::Ended(Some(at(5)))),
            (State::Ended(Some(at(5))), false, 9, State::AwaitingEndpoint(at(9))),
            // It has taken nothing since, so it has had its time from the last byte on.
            (State::Ended(Some(at(5))), false, 3, State::AwaitingEndpoint(at(5))),
            (State::AwaitingEndpoint(at(5)), false, 9, State::AwaitingEndpoint(at(9))),
            (State::AwaitingEndpoint(at(5)), true, 9, State::AwaitingEndpoint(at(9))),
            (State::AwaitingEndpoint(at(5)), false, 3, State::AwaitingEndpoint(at(5))),
            (State::AwaitingDownstream(at(5)), false, 9, State::AwaitingDownstream(at(5))),
            (State::Broken, true, 9, State::Broken),
        ] {
            let look = Look { is_complete, left_at: at(left) };
            assert_eq!(state.seen(look), expected, "{state:?}, {look:?}");
        }
    }

    #[test]
    fn the_rate_is_that_of_the_time_in_which_the_downstream_was_awaited() {
        let began = Instant::now();
        let after = |secs| began + Duration::from_secs(secs);
        // Bytes, seconds of former waits, beginning of the current wait, when the body is too slow.
        for (bytes, waited, since, expected) in [
            (0, 0, Some(0), 10),
            (10, 0, Some(0), 10),
            (1_000, 0, Some(0), 10),
            (1_100, 0, Some(0), 11),
            (1_100, 9, Some(9), 11),
            (1_100, 11, Some(200), 200),
            // The endpoint read nothing for 90 s.
            (1_100, 10, Some(100), 101),
            (1_100, 10, None, 300),
            (1_000_000, 10, Some(100), 300),
            (usize::MAX, 10, Some(100), 300),
        ] {
            let mut pace = Pace::new(began, Forgiveness::new(Lag::default(), WHOLE), WHOLE, 100);
            pace.came(bytes);
            pace.waited(Duration::from_secs(waited));
            let too_slow = pace.too_slow(since.map(after));
            assert_eq!(too_slow.at, after(expected), "{bytes} bytes, {waited} s, {since:?}");
            assert!(too_slow.by == Side::Downstream || expected == 300, "{bytes} bytes, {waited} s, {since:?}");
        }
    }

    #[test]
    fn a_body_is_delayed_while_the_downstream_is_awaited_from_a_second_in_all_or_by_a_standstill_of_the_proxy() {
        let begun = Instant::now();
        let after = |ms| begun + Duration::from_millis(ms);
        // The state, former waits in milliseconds; whether it is delayed, and whether a standstill delays it.
        for (state, awaited_ms, is_delayed, by_standstill) in [
            (State::AwaitingDownstream(after(2_001)), 0, false, true),
            (State::AwaitingDownstream(after(2_000)), 0, true, true),
            (State::AwaitingDownstream(after(2_900)), 899, false, true),
            (State::AwaitingDownstream(after(2_900)), 900, true, true),
            (State::AwaitingEndpoint(begun), 60_000, false, true),
            (State::Ended(Some(begun)), 60_000, false, true),
            (State::Ended(None), 0, false, false),
            (State::Broken, 0, true, true),
        ] {
            let upload = Upload { state, awaited: Duration::from_millis(awaited_ms), ..Upload::NONE };
            assert_eq!(upload.is_delayed(after(3_000), false), is_delayed, "{state:?}, {awaited_ms} ms");
            assert_eq!(upload.is_delayed(after(3_000), true), by_standstill, "{state:?}, {awaited_ms} ms");
        }
    }

    #[test]
    fn a_rate_of_zero_is_none() {
        let began = Instant::now();
        let pace = Pace::new(began, Forgiveness::new(Lag::default(), WHOLE), WHOLE, 0);
        let expected = TooSlow { at: began + WHOLE, by: Side::Downstream };
        assert_eq!(pace.too_slow(Some(began)), expected);
    }

    #[test]
    fn the_side_that_was_awaited_for_longer_is_to_blame_for_the_whole() {
        let began = Instant::now();
        for (waited, since, by) in [
            (149, None, Side::Endpoint),
            (150, None, Side::Downstream),
            (0, Some(149), Side::Downstream),
            (0, Some(151), Side::Endpoint),
        ] {
            let mut pace = Pace::new(began, Forgiveness::new(Lag::default(), WHOLE), WHOLE, 0);
            pace.waited(Duration::from_secs(waited));
            let since = since.map(|since| began + Duration::from_secs(since));
            assert_eq!(pace.too_slow(since), TooSlow { at: began + WHOLE, by });
        }
    }

    #[test]
    fn scheduling_lag_counts_against_neither_side_up_to_its_bound() {
        let began = Instant::now();
        let forgiveness = Forgiveness::new(Lag::default(), Duration::from_secs(200));
        let mut pace = Pace::new(began, forgiveness, WHOLE, 100);
        let mut lag = Lag::default();
        // Standstills of 53 s; when the body has to be there, and when it is too slow.
        for (whole_by, too_slow) in [(353, 63), (400, 110), (400, 110)] {
            lag.add(Duration::from_secs(53));
            pace.notice(lag);
            assert_eq!(pace.whole_by(), began + Duration::from_secs(whole_by));
            assert_eq!(pace.too_slow(Some(began)).at, began + Duration::from_secs(too_slow));
        }
    }
}
