//! How long a request and its attempts may take.
//!
//! A duration says "how long". A request with several steps needs a [`Deadline`], which is a moment. Both deadlines measure the endpoint and not the
//! downstream: while a request's body is still arriving they move along with it. The upload has limits of its own ([`crate::upload`]).

use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::upload::{Look, Side, State, Upload};

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

    /// When an attempt of the request that began at `begun` times out, by the current state of the body, and with which outcome. What was forgiven before the attempt
    /// belongs to `begun`.
    pub fn attempt_end(&self, begun: Instant, attempt: &Attempt, upload: &Upload) -> (Instant, Outcome) {
        let Attempt { started, look, forgiven } = *attempt;
        let within = |since: Instant| Deadline::after(since.max(started), self.attempt);
        let (end, outcome) = match look.map_or(upload.state, |look| upload.state.seen(look)) {
            State::Ended(whole_at) => (within(whole_at.unwrap_or(started)), Outcome::AttemptTimedOut),
            State::Broken => (within(started), Outcome::AttemptTimedOut),
            State::AwaitingEndpoint(since) => (within(since), Outcome::AttemptTimedOut),
            State::AwaitingDownstream(since) => (Deadline::after(since, self.idle_body), Outcome::DownstreamError),
        };
        // Once the body has ended, the deadline of the request does not move any more, though a retry may still be sending what was kept.
        let is_fixed = matches!(upload.state, State::Ended(_) | State::Broken);
        let end = if is_fixed { end.min(self.request_deadline(begun, upload, started)) } else { end };
        let end = end.0 + forgiven;
        match upload.too_slow {
            Some(slow) if slow.at < end && slow.by == Side::Downstream => (slow.at, Outcome::DownstreamError),
            Some(slow) if slow.at < end => (slow.at, Outcome::AttemptTimedOut),
            _ => (end, outcome),
        }
    }
}

/// An attempt as its deadline sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// When it began.
    pub started: Instant,
    /// How far its bytes had come when it last had to look.
    pub look: Option<Look>,
    /// What [`crate::lag::Forgiveness`] says of the scheduling lag since it began. Time for which the process stood still counts against neither side.
    pub forgiven: Duration,
}

impl Attempt {
    /// An attempt that has just begun.
    pub fn begun(started: Instant) -> Attempt {
        Attempt { started, look: None, forgiven: Duration::ZERO }
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
            let found = TIMEOUTS.attempt_end(begun, &Attempt::begun(at(started)), &upload);
            assert_eq!(found, (at(until), outcome), "{state:?}, started at {started} s");
        }
    }

    #[test]
    fn an_attempt_whose_bytes_go_on_leaving_has_its_time_from_the_last_of_them() {
        let begun = Instant::now();
        let at = |secs| begun + Duration::from_secs(secs);
        // The state of the body, when the attempt started, whether all its bytes have left, when the last one did; when the attempt ends.
        for (state, started, is_complete, left, until) in [
            (State::AwaitingEndpoint(at(60)), 0, false, 63, 73),
            (State::AwaitingEndpoint(at(60)), 0, false, 58, 70),
            // A retry sends what was kept; the whole body had come at 2 s, so the request ends at 32 s.
            (State::Ended(Some(at(2))), 7, false, 12, 22),
            (State::Ended(Some(at(2))), 7, true, 12, 22),
            (State::Ended(Some(at(2))), 7, true, 7, 17),
            (State::Ended(Some(at(2))), 7, false, 28, 32),
            (State::Ended(None), 0, false, 5, 10),
            (State::Broken, 3, false, 5, 13),
        ] {
            let upload = Upload { state, ..Upload::NONE };
            let look = Some(Look { is_complete, left_at: at(left) });
            let found = TIMEOUTS.attempt_end(begun, &Attempt { look, ..Attempt::begun(at(started)) }, &upload);
            assert_eq!(found, (at(until), Outcome::AttemptTimedOut), "{state:?}, {look:?}");
        }
    }

    #[test]
    fn forgiven_lag_moves_the_end_of_an_attempt_and_not_the_moment_at_which_its_body_is_too_slow() {
        let begun = Instant::now();
        let at = |secs| begun + Duration::from_secs(secs);
        let slow_at = |secs| Some(crate::upload::TooSlow { at: at(secs), by: Side::Endpoint });
        for (too_slow, lag, until) in [(None, 0, 10), (None, 7, 17), (slow_at(12), 0, 10), (slow_at(12), 7, 12)] {
            let upload = Upload { too_slow, ..Upload::NONE };
            let attempt = Attempt { forgiven: Duration::from_secs(lag), ..Attempt::begun(begun) };
            let (end, _) = TIMEOUTS.attempt_end(begun, &attempt, &upload);
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
