//! One address of an upstream, with the state that the policies keep for it.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use crate::breaker::Breaker;

/// One address of an upstream, as the policies see it. All cores share it.
#[derive(Debug)]
pub struct Endpoint<T> {
    /// Unique in the process.
    pub id: u64,
    /// The breaker, which counts attempts; `None` when switched off.
    pub breaker: Option<Arc<Breaker>>,
    /// Attempts in flight, including the bodies of their responses.
    pub in_flight: AtomicU32,
    /// The part that only the driver knows, such as its address.
    pub at: T,
}

impl<T> Endpoint<T> {
    /// An endpoint with nothing in flight.
    pub fn new(id: u64, breaker: Option<Arc<Breaker>>, at: T) -> Endpoint<T> {
        Endpoint { id, breaker, in_flight: AtomicU32::new(0), at }
    }

    /// Whether it takes as many attempts as come: its breaker is closed. A half-open one admits, too, but only probes.
    pub fn takes_requests(&self, now: Instant) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| breaker.is_closed()) && self.admits(now)
    }

    /// Whether its breaker would probably admit an attempt.
    pub fn admits(&self, now: Instant) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| breaker.admits(now))
    }
}
