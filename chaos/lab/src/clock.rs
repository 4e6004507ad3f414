//! The only file that reads the time or lets it pass; everywhere else a moment is an argument.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between two looks at something that is awaited: short against everything that is measured here.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Waits for so long.
pub fn pause(time: Duration) {
    thread::sleep(time);
}

/// Milliseconds since 1970, as the client's CSV has them.
#[must_use]
pub fn unix_ms() -> f64 {
    unix_ms_of(SystemTime::now())
}

/// The same of a moment from a log line.
#[must_use]
pub fn unix_ms_of(moment: SystemTime) -> f64 {
    // A wall clock before 1970 only spoils dates.
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1_000.0
}

/// Now as RFC 3339, in whole seconds.
#[must_use]
pub fn today() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Measures how long something has lasted.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// A stopwatch that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A moment in the future, and how long it was away when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    /// How long it was away at first; for messages.
    pub limit: Duration,
}

impl Deadline {
    /// So much later than now.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, limit }
    }

    /// How long it is away now.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Looks again and again until there is something to see, or it is too late.
    pub fn poll<T>(self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            let seen = look();
            if seen.is_some() || self.left().is_zero() {
                return seen;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}
