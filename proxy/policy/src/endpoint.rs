//! One address of an upstream, with what the policies know of it.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use crate::breaker::Breaker;

/// One address of an upstream, as the policies see it. All cores share it.
#[derive(Debug)]
pub struct Endpoint<T> {
    /// Unique in the process.
    pub id: u64,
    /// Counts attempts; `None` when switched off.
    pub breaker: Option<Arc<Breaker>>,
    /// Attempts in flight, bodies included.
    pub in_flight: AtomicU32,
    /// What only the floor above knows: its address, its connections.
    pub at: T,
}

impl<T> Endpoint<T> {
    /// With nothing in flight.
    pub fn new(id: u64, breaker: Option<Arc<Breaker>>, at: T) -> Endpoint<T> {
        Endpoint { id, breaker, in_flight: AtomicU32::new(0), at }
    }

    /// Whether its breaker would probably admit an attempt.
    pub fn admits(&self, now: Instant) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| breaker.admits(now))
    }
}
