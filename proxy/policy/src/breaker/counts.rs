//! What a closed breaker counts: results and failures over a window, and failures in a row.
//!
//! **Every attempt has one result in the window.** It is a success from its healthy head on. A body that breaks off takes that back and counts a failure at the moment of the break.
//!
//! **A row says that nothing works.** It may open the last endpoint, so it has to be certain. There are two, because a response succeeds twice: by its head and by its body.
//! The row of failures ends with each healthy head, for callers may read a stream for hours. The row of bodies that broke off ends only with a body that did not: an endpoint
//! whose every body breaks off has healthy heads, too. Both begin anew when the failure before was longer than a window ago: twenty failures in a week say nothing.
//!
//! Both rows are in one word, so that a success after a success reads one word and writes nothing but the window. Two cores that count at the same moment after a calm
//! window may lose one count of a row.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::types::Config;
use crate::units::Epoch;
use crate::window::{Sums, Window};

/// No failure was counted yet.
const NEVER: u64 = u64::MAX;
/// One failure. The row of failures is the lower half of the word.
const FAILURE: u64 = 1;
/// One body that broke off. Their row is the upper half.
const BROKEN_BODY: u64 = 1 << 32;
const FAILURES: u64 = BROKEN_BODY - 1;

#[derive(Debug)]
pub(super) struct Counts {
    epoch: Epoch,
    /// The first counter has the results, the second the failures.
    window: Window,
    window_nanos: u64,
    rows: AtomicU64,
    /// Nanoseconds since `epoch` of the last failure. Without one in the window no rule can trip, so the sums are not needed.
    failed_at: AtomicU64,
}

/// What a failure is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failed {
    /// There was no healthy head.
    AtHead,
    /// A body broke off after a healthy head.
    InBody {
        /// When its head was counted as a success, if it was, as [`Counts::on_head`] returned it.
        counted_at: Option<u64>,
    },
}

impl Counts {
    pub(super) fn new(epoch: Epoch, config: &Config) -> Counts {
        Counts {
            epoch,
            window: Window::new(epoch, config.window),
            window_nanos: u64::try_from(config.window.as_nanos()).unwrap_or(u64::MAX),
            rows: AtomicU64::new(0),
            failed_at: AtomicU64::new(NEVER),
        }
    }

    /// A healthy head came. Returns the moment in nanoseconds since the epoch.
    pub(super) fn on_head(&self, now: Instant) -> u64 {
        let nanos = self.epoch.nanos(now);
        self.window.add_at(nanos, 1, 0);
        self.on_sign_of_life();
        nanos
    }

    /// A head that is neither a success nor a failure.
    pub(super) fn on_sign_of_life(&self) {
        // Read before writing: most successes come after successes, and a store would move the cache line from core to core.
        if self.rows.load(Relaxed) & FAILURES != 0 {
            self.rows.fetch_and(!FAILURES, Relaxed);
        }
    }

    /// A response whose head was counted has ended, and its body did not break off.
    pub(super) fn on_end(&self) {
        if self.rows.load(Relaxed) != 0 {
            self.rows.store(0, Relaxed);
        }
    }

    /// A success whose head was not counted.
    pub(super) fn on_success(&self, now: Instant) {
        self.window.add(now, 1, 0);
        self.on_end();
    }

    /// A failure. Returns the longer row.
    pub(super) fn on_failure(&self, failed: Failed, now: Instant) -> u32 {
        let more = match failed {
            Failed::AtHead => FAILURE,
            Failed::InBody { counted_at } => {
                if let Some(counted_at) = counted_at {
                    self.window.take_back_at(counted_at, 1, 0);
                }
                FAILURE + BROKEN_BODY
            }
        };
        let nanos = self.epoch.nanos(now);
        self.window.add_at(nanos, 1, 1);
        if !self.is_recent(self.failed_at.swap(nanos, Relaxed), nanos) {
            self.rows.store(0, Relaxed);
        }
        longer(self.rows.fetch_add(more, Relaxed) + more)
    }

    /// Whether a failure was ever counted.
    pub(super) fn has_ever_failed(&self) -> bool {
        self.failed_at.load(Relaxed) != NEVER
    }

    /// Whether the failures in the window reach the ratio of `config`.
    pub(super) fn is_ratio_reached(&self, config: &Config, now: Instant) -> bool {
        if !self.has_lately_failed(now) {
            return false;
        }
        let Sums { first: results, second: failures } = self.window.sums(now);
        results >= config.volume_min && config.failure_ratio.is_reached_by(failures, results)
    }

    /// Whether a failure was counted in the window before this moment. If not, the rows are over.
    pub(super) fn has_lately_failed(&self, now: Instant) -> bool {
        self.is_recent(self.failed_at.load(Relaxed), self.epoch.nanos(now))
    }

    pub(super) fn sums(&self, now: Instant) -> Sums {
        self.window.sums(now)
    }

    /// The longer row.
    pub(super) fn longest_row(&self) -> u32 {
        longer(self.rows.load(Relaxed))
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.window.clear();
        self.rows.store(0, Relaxed);
    }

    fn is_recent(&self, failed_at: u64, nanos: u64) -> bool {
        failed_at != NEVER && nanos.saturating_sub(failed_at) <= self.window_nanos
    }
}

fn longer(rows: u64) -> u32 {
    // Each half has 32 bits.
    (rows >> 32).max(rows & FAILURES) as u32
}
