//! The addresses of an upstream, with the state that outlives a configuration.
//!
//! All workers share it. Its counters are relaxed atomics, because no other memory depends on their order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Instant;

use arc_swap::ArcSwap;
use http::HeaderValue;
use outrigger_policy::breaker::{self, Breaker};
use tokio::sync::Notify;

/// An endpoint: what the policies know about it, and its address.
pub type Endpoint = outrigger_policy::endpoint::Endpoint<Target>;

/// The address of an endpoint, and the counts of its connections.
pub struct Target {
    /// The address to connect to.
    pub address: SocketAddr,
    /// Its host as configured: the name that a TLS handshake asks for and verifies.
    pub server_name: Arc<str>,
    /// Host and port as configured, for `Host`.
    pub authority: HeaderValue,
    /// Open connections of all workers.
    pub connections: AtomicU32,
    /// Idle connections of all workers; a part of `connections`.
    pub idle: AtomicU32,
}

/// An address that was found for an endpoint of the configuration.
#[derive(Clone)]
pub struct Found {
    /// The address.
    pub address: SocketAddr,
    /// The configured host.
    pub server_name: Arc<str>,
    /// The configured host and port.
    pub authority: HeaderValue,
}

/// The endpoints of an upstream, replaced as a whole when names resolve to others.
pub struct Endpoints {
    current: ArcSwap<Vec<Arc<Endpoint>>>,
    /// Notified when a connection has failed, so that the names are looked up again.
    pub lookup: Notify,
    /// Notified when the endpoints have changed.
    pub changed: Notify,
}

impl Endpoints {
    /// No addresses yet.
    pub fn empty() -> Arc<Endpoints> {
        let current = ArcSwap::from_pointee(Vec::new());
        Arc::new(Endpoints { current, lookup: Notify::new(), changed: Notify::new() })
    }

    /// The current endpoints.
    pub fn load(&self) -> arc_swap::Guard<Arc<Vec<Arc<Endpoint>>>> {
        self.current.load()
    }

    /// Replaces the endpoints. One that stays keeps its counts, and its breaker unless the breaker's configuration changed. Returns whether any came or went.
    pub fn replace(&self, wanted: &[Found], breaker: Option<breaker::Config>, now: Instant) -> bool {
        let before = self.current.load_full();
        let keep = |found: &Found| {
            let same = |endpoint: &&Arc<Endpoint>| {
                endpoint.at.address == found.address
                    && endpoint.at.authority == found.authority
                    && endpoint.breaker.as_ref().map(|breaker| breaker.config()) == breaker
            };
            before.iter().find(same).cloned()
        };
        let mut after: Vec<Arc<Endpoint>> = Vec::with_capacity(wanted.len());
        for found in wanted {
            if after.iter().any(|endpoint| endpoint.at.address == found.address) {
                continue; // two names with one address are one endpoint
            }
            after.push(keep(found).unwrap_or_else(|| Arc::new(new_endpoint(found, breaker, now))));
        }
        let is_same = after.len() == before.len() && after.iter().all(|a| before.iter().any(|b| Arc::ptr_eq(a, b)));
        if !is_same {
            self.current.store(Arc::new(after));
            self.changed.notify_waiters();
        }
        !is_same
    }
}

fn new_endpoint(found: &Found, breaker: Option<breaker::Config>, now: Instant) -> Endpoint {
    static NEXT_ID: AtomicU64 = AtomicU64::new(0);
    let Found { address, server_name, authority } = found.clone();
    let target = Target { address, server_name, authority, connections: AtomicU32::new(0), idle: AtomicU32::new(0) };
    Endpoint::new(NEXT_ID.fetch_add(1, Relaxed), breaker.map(|config| Breaker::new(config, now)), target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(addresses: &[&str]) -> Vec<Found> {
        let found = |address: &&str| Found {
            address: address.parse().expect("an address"),
            server_name: Arc::from("backend"),
            authority: HeaderValue::from_static("backend:5001"),
        };
        addresses.iter().map(found).collect()
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
