//! What people see of a breaker: in `/status`, in metrics, and in a refusal.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::Breaker;
use super::types::{Open, Snapshot, State};

impl Breaker {
    /// The state and the numbers behind it.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let mut turn = self.turn();
        turn.probes.catch_up(now);
        let state = self.gate().state;
        let sums = self.counts.sums(now);
        let retry_at = match state {
            State::Closed => None,
            State::Open => Some(self.epoch.at(self.reopen_at.load(Relaxed))),
            State::HalfOpen => turn.probes.admit_from(&self.config),
        };
        // While the breaker is open, they say why. While it is closed, an old row says nothing.
        let is_row_current = state != State::Closed || self.counts.has_lately_failed(now);
        Snapshot {
            state,
            since: turn.since,
            reason: turn.reason,
            results: sums.first,
            failures: sums.second,
            consecutive_failures: if is_row_current { self.counts.longest_row() } else { 0 },
            trips: turn.trips,
            probes_out: turn.probes.count_out(),
            retry_at,
        }
    }

    /// Why the breaker refuses, and when it probably admits again.
    pub fn open(&self, now: Instant) -> Open {
        let Snapshot { since, reason, results, failures, consecutive_failures, retry_at, .. } = self.snapshot(now);
        let retry_at = retry_at.map_or(now, |at| at.max(now));
        Open { reason, since, retry_at, results, failures, consecutive_failures }
    }
}
