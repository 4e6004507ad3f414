//! The only file that reads the time or makes anything random; everywhere else both are arguments.
//!
//! A moment is a `Duration` since the run began: schedule, record and tests then need no clock at all.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time of one run, begun when it was made. Copies share that beginning.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_unix: Duration,
}

impl Clock {
    /// A run beginning now.
    #[must_use]
    pub fn start() -> Self {
        // A wall clock before 1970 only spoils the date in the report.
        let started_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_unix }
    }

    /// How long the run has lasted.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The moment `at` for timers.
    #[must_use]
    pub fn instant(&self, at: Duration) -> Instant {
        self.started + at
    }

    /// When the run began, as the wall clock said then.
    #[must_use]
    pub fn started_unix(&self) -> Duration {
        self.started_unix
    }
}

/// Sixteen hex digits that differ from run to run, for request ids. Not secret.
#[must_use]
pub fn random_prefix() -> String {
    format!("{:016x}", RandomState::new().hash_one(0_u8))
}
