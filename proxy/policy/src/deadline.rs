//! How long a request and its attempts may take.
//!
//! A duration says "how long". A request with several steps needs a [`Deadline`], which is a moment. Both deadlines measure the endpoint and not the
//! downstream: while a request's body is still arriving they move along with it. The upload has limits of its own ([`crate::upload`]).

use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::upload::{Side, State, Upload};

/// How long a request and its attempts may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// From the whole request to the response's head, with all attempts and waits.
    pub request: Duration,
    /// From the beginning of one attempt to the response's head.
    pub attempt: Duration,
    /// How long the downstream may send nothing in the middle of a body.
    pub idle_body: Duration,
}

impl Timeouts {
    /// The deadline of a request that began at `begun`, by the state of its body at `now`.
    pub fn request_deadline(&self, begun: Instant, upload: &Upload, now: Instant) -> Deadline {
        match upload.state {
            State::Ended(None) | State::Broken => Deadline::after(begun, self.request),
            State::Ended(Some(at)) => Deadline::after(at.max(begun), self.request),
            State::AwaitingDownstream(_) | State::AwaitingEndpoint(_) => {
                let deadline = Deadline::after(now, self.request);
                upload.whole_by.map_or(deadline, |at| deadline.min(Deadline(at)))
            }
        }
    }

    /// When the attempt that began at `started` times out, by the current state of the body, and with which outcome. `forgiven` is what
    /// [`crate::lag::Forgiveness`] says of the scheduling lag since the attempt began; what was forgiven before belongs to `begun`.
    pub fn attempt_end(
        &self,
        begun: Instant,
        started: Instant,
        upload: &Upload,
        forgiven: Duration,
    ) -> (Instant, Outcome) {
        let within = |since: Instant| Deadline::after(since.max(started), self.attempt);
        let (end, outcome) = match upload.state {
            State::Ended(_) | State::Broken => {
                let since = if let State::Ended(Some(whole_at)) = upload.state { whole_at } else { started };
                // The body has ended, so the deadline does not move any more.
                (within(since).min(self.request_deadline(begun, upload, started)), Outcome::AttemptTimedOut)
            }
            State::AwaitingEndpoint(since) => (within(since), Outcome::AttemptTimedOut),
            State::AwaitingDownstream(since) => (Deadline::after(since, self.idle_body), Outcome::DownstreamError),
        };
        let end = end.0 + forgiven;
        match upload.too_slow {
            Some(slow) if slow.at < end && slow.by == Side::Downstream => (slow.at, Outcome::DownstreamError),
            Some(slow) if slow.at < end => (slow.at, Outcome::AttemptTimedOut),
            _ => (end, outcome),
        }
    }
}

/// The moment after which a response is too late.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// `timeout` from `now`; a timeout beyond the clock's range is a day.
    pub fn after(now: Instant, timeout: Duration) -> Deadline {
        Deadline(now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400)))
    }

    /// The moment itself.
    pub fn at(self) -> Instant {
        self.0
    }

    /// The time left at `now`; zero after the deadline.
    pub fn remaining(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// Whether an attempt after a wait of `wait` would begin before the deadline.
    pub fn has_room_after(self, now: Instant, wait: Duration) -> bool {
        self.remaining(now) > wait
    }

    /// The earlier of the two, since an inner deadline never outlives the outer one.
    pub fn min(self, other: Deadline) -> Deadline {
        Ord::min(self, other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_only_for_what_begins_before_the_deadline() {
        let now = Instant::now();
        let deadline = Deadline::after(now, Duration::from_millis(100));
        for (wait_ms, room) in [(0, true), (99, true), (100, false), (101, false)] {
            assert_eq!(deadline.has_room_after(now, Duration::from_millis(wait_ms)), room, "{wait_ms} ms");
        }
        assert_eq!(deadline.remaining(now + Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn an_endless_timeout_is_a_day_and_no_panic() {
        let now = Instant::now();
        assert_eq!(Deadline::after(now, Duration::MAX).remaining(now), Duration::from_secs(86_400));
    }

    const TIMEOUTS: Timeouts = Timeouts {
        request: Duration::from_secs(30),
        attempt: Duration::from_secs(10),
        idle_body: Duration::from_secs(5),
    };

    #[test]
    fn an_attempt_is_waited_for_until_the_side_that_is_awaited_has_had_its_time() {
        let begun = Instant::now();
        let at = |secs| begun + Duration::from_secs(secs);
        let slow = |secs, by| Some(crate::upload::TooSlow { at: at(secs), by });
        // The state of the body, when it is too slow, when the attempt started; when the attempt ends, and its outcome.
        for (state, too_slow, started, until, outcome) in [
            (State::Ended(None), None, 0, 10, Outcome::AttemptTimedOut),
            (State::Ended(None), None, 25, 30, Outcome::AttemptTimedOut),
            (State::Ended(Some(at(40))), None, 0, 50, Outcome::AttemptTimedOut),
            (State::Ended(Some(at(2))), None, 7, 17, Outcome::AttemptTimedOut),
            (State::Broken, None, 3, 13, Outcome::AttemptTimedOut),
            (State::AwaitingEndpoint(at(60)), None, 0, 70, Outcome::AttemptTimedOut),
            (State::AwaitingEndpoint(at(60)), slow(64, Side::Endpoint), 0, 64, Outcome::AttemptTimedOut),
            (State::AwaitingDownstream(at(60)), None, 0, 65, Outcome::DownstreamError),
            (State::AwaitingDownstream(at(60)), slow(61, Side::Downstream), 0, 61, Outcome::DownstreamError),
            (State::AwaitingDownstream(at(60)), slow(70, Side::Downstream), 0, 65, Outcome::DownstreamError),
        ] {
            let upload = Upload { state, too_slow, ..Upload::NONE };
            let found = TIMEOUTS.attempt_end(begun, at(started), &upload, Duration::ZERO);
            assert_eq!(found, (at(until), outcome), "{state:?}, started at {started} s");
        }
    }

    #[test]
    fn forgiven_lag_moves_the_end_of_an_attempt_and_not_the_moment_at_which_its_body_is_too_slow() {
        let begun = Instant::now();
        let at = |secs| begun + Duration::from_secs(secs);
        let slow_at = |secs| Some(crate::upload::TooSlow { at: at(secs), by: Side::Endpoint });
        for (too_slow, lag, until) in [(None, 0, 10), (None, 7, 17), (slow_at(12), 0, 10), (slow_at(12), 7, 12)] {
            let upload = Upload { too_slow, ..Upload::NONE };
            let (end, _) = TIMEOUTS.attempt_end(begun, begun, &upload, Duration::from_secs(lag));
            assert_eq!(end, at(until), "{too_slow:?}, {lag} s");
        }
    }

    #[test]
    fn the_time_of_a_request_begins_when_it_is_whole() {
        let begun = Instant::now();
        let at = |secs| begun + Duration::from_secs(secs);
        for (state, whole_by, until) in [
            (State::Ended(None), None, 30),
            (State::Broken, None, 30),
            (State::Ended(Some(at(100))), None, 130),
            (State::AwaitingEndpoint(at(60)), Some(at(300)), 92),
            (State::AwaitingDownstream(at(60)), Some(at(70)), 70),
        ] {
            let upload = Upload { state, whole_by, ..Upload::NONE };
            assert_eq!(TIMEOUTS.request_deadline(begun, &upload, at(62)).at(), at(until), "{state:?}");
        }
    }
}
