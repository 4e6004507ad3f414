//! The one clock and the one dice of the proxy; clippy bans every other reading of time or chance.
//!
//! Time goes through tokio's clock, so that a test with paused time moves the whole proxy, policies included. The dice is a small fast
//! generator for jitter and balancing, one per worker; it must never be used for secrets.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng;
use rand::rngs::SmallRng;

/// The generator that policies draw from.
pub type Dice = SmallRng;

/// Monotonic time.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Wall-clock time, for dates that people and headers read.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// A freshly seeded generator.
#[expect(clippy::disallowed_methods, reason = "the one place that makes a generator")]
pub fn dice() -> Dice {
    Dice::from_rng(&mut rand::rng())
}

/// Ends at `moment`.
pub fn sleep_until(moment: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(tokio::time::Instant::from_std(moment))
}

/// Ends after `time`.
pub fn sleep(time: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(time)
}

/// The output of `work`, or `None` if it is not there at `moment`. Work is dropped then.
pub async fn until<F: Future>(moment: Instant, work: F) -> Option<F::Output> {
    tokio::time::timeout_at(tokio::time::Instant::from_std(moment), work).await.ok()
}
