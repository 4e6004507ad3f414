//! The one clock and the one random generator of the proxy; clippy bans every other reading of time or chance.
//!
//! Time goes through tokio's clock, so that a test with paused time moves the whole proxy, policies included. The generator is a small fast
//! generator for jitter and balancing, one per worker; it must never be used for secrets.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng;
use rand::rngs::SmallRng;

/// The generator that policies draw from.
pub type Rng = SmallRng;

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
pub fn rng() -> Rng {
    Rng::from_rng(&mut rand::rng())
}

/// Ends at `moment`.
pub fn sleep_until(moment: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(tokio::time::Instant::from_std(moment))
}

/// Ends after `time`.
pub fn sleep(time: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(time)
}

/// The output of `work`, or `None` if `work` is not done by `moment`. `work` is dropped then.
pub async fn until<F: Future>(moment: Instant, work: F) -> Option<F::Output> {
    tokio::time::timeout_at(tokio::time::Instant::from_std(moment), work).await.ok()
}

/// A timer for moments that mostly never come, such as the deadlines of requests.
///
/// Arming a timer for each request and disarming it again costs more than all policies together. The deadlines of the requests on one connection only
/// move later. So the timer stays armed for an early one, and checks the deadline of the current request only when it rings.
#[derive(Default)]
pub struct Alarm(RefCell<Option<Pin<Box<tokio::time::Sleep>>>>);

impl Alarm {
    /// Ready once `moment` has come. Only one task at a time may wait.
    pub fn poll_until(&self, moment: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let moment = tokio::time::Instant::from_std(moment);
        let mut armed = self.0.borrow_mut();
        let sleep = armed.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(moment)));
        if moment < sleep.deadline() {
            sleep.as_mut().reset(moment);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= moment {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(moment);
        }
    }
}
