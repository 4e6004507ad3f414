//! The addresses of an upstream in one generation. The state of an endpoint outlives the generation: the next one takes it over.
//!
//! All workers share it. Its counters are relaxed atomics, because no other memory depends on their order.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use http::HeaderValue;
use outrigger_policy::breaker::{self, Breaker};
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, watch};

use crate::memory::ledger::Entry;

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
    /// The heap that it needs; unset if a look-up has found it since its generation was built.
    pub entry: OnceLock<Entry>,
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

/// The endpoints of an upstream in one generation, replaced as a whole when names resolve to others.
pub struct Endpoints {
    current: ArcSwap<Vec<Arc<Endpoint>>>,
    lookups: watch::Sender<()>,
    /// Notified when the endpoints have changed.
    pub changed: Notify,
}

impl Endpoints {
    /// These endpoints.
    pub fn new(endpoints: Vec<Arc<Endpoint>>) -> Endpoints {
        let current = ArcSwap::from_pointee(endpoints);
        Endpoints { current, lookups: watch::Sender::new(()), changed: Notify::new() }
    }

    /// The current endpoints.
    pub fn load(&self) -> arc_swap::Guard<Arc<Vec<Arc<Endpoint>>>> {
        self.current.load()
    }

    /// Asks for a look-up of the names, because a connection has failed or there was no endpoint.
    pub fn ask_for_lookup(&self) {
        self.lookups.send_replace(());
    }

    /// Tells of every request for a look-up from now on.
    pub fn lookups(&self) -> watch::Receiver<()> {
        self.lookups.subscribe()
    }

    /// Replaces the endpoints. One that stays keeps its counts, and its breaker unless the breaker's configuration changed. Returns whether any came or went.
    pub fn replace(&self, wanted: &[Found], breaker: Option<breaker::Config>, now: Instant) -> bool {
        let before = self.current.load_full();
        let mut former = Former::default();
        former.add("", &before);
        let mut kept = 0;
        let after: Vec<Arc<Endpoint>> = wanted
            .iter()
            .map(|found| {
                let same = former.take(found, breaker, |_| true);
                kept += usize::from(same.is_some());
                same.unwrap_or_else(|| new_endpoint(found, breaker, now))
            })
            .collect();
        let is_same = kept == before.len() && kept == after.len();
        if !is_same {
            self.current.store(Arc::new(after));
            self.changed.notify_waiters();
        }
        !is_same
    }
}

/// The endpoints of the generation before, to be taken over by the next one. Each is taken once.
#[derive(Default)]
pub struct Former<'u>(FxHashMap<SocketAddr, Vec<(&'u str, Arc<Endpoint>)>>);

impl<'u> Former<'u> {
    /// Adds the endpoints of `upstream`.
    pub fn add(&mut self, upstream: &'u str, endpoints: &[Arc<Endpoint>]) {
        for endpoint in endpoints {
            self.0.entry(endpoint.at.address).or_default().push((upstream, Arc::clone(endpoint)));
        }
    }

    /// The endpoint for `found`, from an upstream that `is_from` admits. It has the same host and address, and a breaker with the same numbers.
    pub fn take(
        &mut self,
        found: &Found,
        breaker: Option<breaker::Config>,
        is_from: impl Fn(&str) -> bool,
    ) -> Option<Arc<Endpoint>> {
        let here = self.0.get_mut(&found.address)?;
        let at = here.iter().position(|(upstream, endpoint)| {
            is_from(upstream)
                && endpoint.at.authority == found.authority
                && endpoint.breaker.as_ref().map(|breaker| breaker.config()) == breaker
        })?;
        Some(here.swap_remove(at).1)
    }
}

/// An endpoint that has not been used yet.
pub fn new_endpoint(found: &Found, breaker: Option<breaker::Config>, now: Instant) -> Arc<Endpoint> {
    static NEXT_ID: AtomicU64 = AtomicU64::new(0);
    let Found { address, server_name, authority } = found.clone();
    let (connections, idle) = (AtomicU32::new(0), AtomicU32::new(0));
    let target = Target { address, server_name, authority, connections, idle, entry: OnceLock::new() };
    Arc::new(Endpoint::new(NEXT_ID.fetch_add(1, Relaxed), breaker.map(|config| Breaker::new(config, now)), target))
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
        let (endpoints, now) = (Endpoints::new(Vec::new()), crate::clock::now());
        assert!(endpoints.replace(&wanted(&["10.0.0.1:1", "10.0.0.2:1"]), None, now));
        let before = endpoints.current.load_full();
        assert!(!endpoints.replace(&wanted(&["10.0.0.2:1", "10.0.0.1:1"]), None, now), "only the order changed");
        assert!(endpoints.replace(&wanted(&["10.0.0.3:1", "10.0.0.2:1"]), None, now));
        let after = endpoints.current.load_full();
        assert_eq!(after.len(), 2);
        assert!(Arc::ptr_eq(&before[1], &after[1]));
    }
}
