//! A scrape costs the machine what a few requests cost, so scrapes get turns: some at once, then so many a second, and a queue with an end. Whoever scrapes faster than that
//! waits; the data path does not.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// After a burst a turn comes this often.
const INTERVAL: Duration = Duration::from_millis(50);
/// Turns that may be taken at once after a calm time.
const BURST: u32 = 50;
/// Turns that may be waited for; fewer than the connections there are, so that probes find a place.
const WAITING_MAX: u32 = 32;

/// When the next turn is due if all that were given are taken one after the other.
pub(super) struct Turns(Cell<Instant>);

impl Turns {
    /// All of them.
    pub(super) fn new(now: Instant) -> Turns {
        Turns(Cell::new(now))
    }

    /// The moment of the next turn, or `None` if too many wait already.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let due = self.0.get().max(now);
        let turn = due.checked_sub(INTERVAL * (BURST - 1)).unwrap_or(now).max(now);
        if turn > now + INTERVAL * WAITING_MAX {
            return None;
        }
        self.0.set(due + INTERVAL);
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_served_at_once_then_some_wait_and_the_rest_is_refused() {
        let start = crate::clock::now() + Duration::from_secs(3600);
        let turns = Turns::new(start);
        for n in 0..BURST {
            assert_eq!(turns.next(start), Some(start), "{n}");
        }
        for n in 1..=WAITING_MAX {
            assert_eq!(turns.next(start), Some(start + INTERVAL * n));
        }
        assert_eq!(turns.next(start), None);
        let later = start + INTERVAL;
        assert_eq!(turns.next(later), Some(start + INTERVAL * (WAITING_MAX + 1)));
        assert_eq!(turns.next(later), None);
        let calm = start + INTERVAL * 1_000;
        assert!((0..BURST).all(|_| turns.next(calm) == Some(calm)));
        assert!(turns.next(calm) > Some(calm));
    }
}
