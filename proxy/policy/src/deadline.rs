//! A moment by which something has to be over. Durations say "how long"; only a deadline survives being handed through several steps.

use std::time::{Duration, Instant};

/// The moment after which nobody waits for the answer any more.
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

    /// What is left at `now`; zero when it has passed.
    pub fn remaining(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// Whether something may still begin after a wait of `wait`: an attempt that starts at its deadline cannot end before it.
    pub fn has_room_after(self, now: Instant, wait: Duration) -> bool {
        self.remaining(now) > wait
    }

    /// The earlier of the two: an inner deadline never outlives the outer.
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
}
