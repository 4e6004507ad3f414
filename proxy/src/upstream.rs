//! A service we call and its addresses, with the state that outlives a configuration.
//!
//! An [`Upstream`] belongs to one generation; what must survive a reload hangs on it by `Arc` and is taken over by the next generation when its own
//! numbers did not change: [`Endpoints`] with their breakers, the budget, the breaker of calls, the count of requests under way.
//! All of it is shared by the workers; counters are relaxed atomics, because nothing is ordered by them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Instant;

use arc_swap::ArcSwap;
use http::HeaderValue;
use outrigger_policy::breaker::{self, Breaker};
use tokio::sync::Notify;

use crate::config;
use crate::metrics::UpstreamMetrics;

/// One upstream in one generation.
pub struct Upstream {
    /// As the configuration has it.
    pub config: config::Upstream,
    /// Its addresses; shared with the generations before and after.
    pub endpoints: Arc<Endpoints>,
    /// Requests under way; shared likewise.
    pub in_flight: Arc<AtomicU32>,
    /// Resolved handles.
    pub metrics: UpstreamMetrics,
}

/// The addresses of an upstream, replaced as a whole when names resolve to others.
pub struct Endpoints {
    current: ArcSwap<Vec<Arc<Endpoint>>>,
    /// Wakes the look-up of names: a connection has failed.
    pub lookup: Notify,
}

/// One address of an upstream.
pub struct Endpoint {
    /// Unique in the process; pools know their connections by it.
    pub id: u64,
    /// Where it is.
    pub address: SocketAddr,
    /// The address as configured, for `Host`.
    pub authority: HeaderValue,
    /// Counts attempts; `None` when switched off.
    pub breaker: Option<Arc<Breaker>>,
    /// Attempts under way, bodies included.
    pub in_flight: AtomicU32,
    /// Open connections of all workers.
    pub connections: AtomicU32,
    /// Those of them that wait for their next request.
    pub idle: AtomicU32,
}

/// A place among the requests under way; given back when dropped.
pub struct Slot(Arc<AtomicU32>);

impl Upstream {
    /// Takes a place among the requests under way, unless all are taken.
    pub fn enter(&self) -> Option<Slot> {
        // Add first, then look: two workers cannot both take the last place.
        if self.in_flight.fetch_add(1, Relaxed) >= self.config.in_flight_max {
            self.in_flight.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Slot(Arc::clone(&self.in_flight)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Endpoints {
    /// No addresses yet.
    pub fn empty() -> Arc<Endpoints> {
        Arc::new(Endpoints { current: ArcSwap::from_pointee(Vec::new()), lookup: Notify::new() })
    }

    /// The addresses now.
    pub fn load(&self) -> arc_swap::Guard<Arc<Vec<Arc<Endpoint>>>> {
        self.current.load()
    }

    /// Replaces the addresses; those that stay keep their breaker and their counts, unless the breaker's numbers changed. Returns whether any came or went.
    pub fn replace(
        &self,
        wanted: &[(SocketAddr, HeaderValue)],
        breaker: Option<breaker::Config>,
        now: Instant,
    ) -> bool {
        let before = self.current.load_full();
        let keep = |address: SocketAddr, authority: &HeaderValue| {
            let same = |e: &&Arc<Endpoint>| {
                e.address == address && e.authority == *authority && e.breaker.as_ref().map(|b| b.config()) == breaker
            };
            before.iter().find(same).cloned()
        };
        let mut after: Vec<Arc<Endpoint>> = Vec::with_capacity(wanted.len());
        for (address, authority) in wanted {
            if after.iter().any(|e| e.address == *address) {
                continue; // two names of one address are one endpoint
            }
            after.push(
                keep(*address, authority).unwrap_or_else(|| Endpoint::new(*address, authority.clone(), breaker, now)),
            );
        }
        let is_same = after.len() == before.len() && after.iter().all(|a| before.iter().any(|b| Arc::ptr_eq(a, b)));
        if !is_same {
            self.current.store(Arc::new(after));
        }
        !is_same
    }
}

impl Endpoint {
    fn new(
        address: SocketAddr,
        authority: HeaderValue,
        breaker: Option<breaker::Config>,
        now: Instant,
    ) -> Arc<Endpoint> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Arc::new(Endpoint {
            id: NEXT_ID.fetch_add(1, Relaxed),
            address,
            authority,
            breaker: breaker.map(|config| Breaker::new(config, now)),
            in_flight: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            idle: AtomicU32::new(0),
        })
    }

    /// Whether its breaker would probably admit an attempt.
    pub fn admits(&self, now: Instant) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| breaker.admits(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(addresses: &[&str]) -> Vec<(SocketAddr, HeaderValue)> {
        addresses.iter().map(|a| (a.parse().expect("an address"), HeaderValue::from_static("backend:5001"))).collect()
    }

    #[test]
    fn an_address_that_stays_keeps_its_endpoint_and_one_that_left_is_gone() {
        let (endpoints, now) = (Endpoints::empty(), crate::clock::now());
        assert!(endpoints.replace(&wanted(&["10.0.0.1:1", "10.0.0.2:1"]), None, now));
        let before = endpoints.current.load_full();
        assert!(
            !endpoints.replace(&wanted(&["10.0.0.2:1", "10.0.0.1:1", "10.0.0.1:1"]), None, now),
            "only the order changed"
        );
        assert!(endpoints.replace(&wanted(&["10.0.0.3:1", "10.0.0.2:1"]), None, now));
        let after = endpoints.current.load_full();
        assert_eq!(after.len(), 2);
        assert!(Arc::ptr_eq(&before[1], &after[1]));
    }
}
