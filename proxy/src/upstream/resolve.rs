//! Looks up the names of endpoints, again and again while the proxy runs.
//!
//! The proxy must find a backend that comes back under a new address without a restart. So each upstream with a name in its endpoints has one task that
//! resolves all of its names every `resolve_interval`, and at once when a connection fails. A look-up that fails changes nothing, because the old address is a
//! better guess than none. The task runs on the control thread; tokio calls the blocking resolver of the system on a thread of its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::task::JoinSet;

use super::{Upstream, endpoint};
use crate::clock;
use crate::config::Address;
use crate::telemetry::events::Event;
use crate::telemetry::metrics::Metrics;

/// The least time between two look-ups, so that a burst of failed connections causes only one.
const LOOKUP_PAUSE: Duration = Duration::from_millis(500);
/// After this time without a result a look-up counts as failed.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The last addresses of each name; `None` while a name has never been resolved.
type Known = HashMap<String, Vec<IpAddr>>;

/// The addresses of names that the endpoints of the generation before have.
fn known_of(upstream: &Upstream) -> Known {
    let mut known = Known::new();
    for endpoint in upstream.endpoints.load().iter() {
        known.entry(endpoint.at.server_name.to_string()).or_default().push(endpoint.at.address.ip());
    }
    known
}

/// The addresses of all upstreams of a generation that is not yet in force.
pub struct Found(Vec<(Arc<Upstream>, Known)>);

/// Looks up all names of `upstreams` once, but waits no longer than `at_most`. [`watch`] does what takes longer.
pub async fn find<'u>(
    upstreams: impl Iterator<Item = &'u Arc<Upstream>>,
    metrics: &Arc<Metrics>,
    at_most: Duration,
) -> Found {
    let until = clock::now() + at_most;
    let mut look_ups = JoinSet::new();
    for upstream in upstreams {
        let (metrics, upstream) = (Arc::clone(metrics), Arc::clone(upstream));
        look_ups.spawn_local(async move {
            let mut known = known_of(&upstream);
            for name in names_of(&upstream) {
                // A name without a result in time keeps the addresses that are known.
                let _in_time = clock::until(until, look_up(&metrics, &upstream, &name, &mut known)).await;
            }
            (upstream, known)
        });
    }
    Found(look_ups.join_all().await)
}

impl Found {
    /// Puts the addresses in force, together with their generation.
    pub fn apply(self, now: Instant) {
        for (upstream, known) in &self.0 {
            apply(upstream, known, now);
        }
    }
}

fn names_of(upstream: &Upstream) -> Vec<Address> {
    upstream.config.endpoints.iter().filter(|address| address.host.parse::<IpAddr>().is_err()).cloned().collect()
}

/// Looks up the names of `upstream` for as long as it is polled.
pub async fn watch(upstream: Arc<Upstream>, metrics: Arc<Metrics>) {
    let names = names_of(&upstream);
    if names.is_empty() {
        return;
    }
    let mut known = known_of(&upstream);
    loop {
        clock::sleep(LOOKUP_PAUSE).await;
        let pause = upstream.config.resolve_interval.saturating_sub(LOOKUP_PAUSE);
        // A notification that comes during a look-up is kept for the next turn.
        let _woken = clock::until(clock::now() + pause, upstream.endpoints.lookup.notified()).await;
        for name in &names {
            look_up(&metrics, &upstream, name, &mut known).await;
        }
        if apply(&upstream, &known, clock::now()) {
            let addresses: Vec<_> = upstream.endpoints.load().iter().map(|endpoint| endpoint.at.address).collect();
            Event::EndpointsChanged { upstream: &upstream.config.name, addresses: &addresses }.emit(&metrics);
        }
    }
}

async fn look_up(metrics: &Metrics, upstream: &Upstream, name: &Address, known: &mut Known) {
    let asked = tokio::net::lookup_host((name.host.as_str(), name.port));
    let result = match clock::until(clock::now() + LOOKUP_TIMEOUT, asked).await {
        Some(Ok(found)) => {
            let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            addresses.sort_unstable();
            addresses.dedup();
            known.insert(name.host.clone(), addresses);
            Ok(())
        }
        Some(Err(error)) => Err(error.to_string()),
        None => Err("the resolver did not respond".to_owned()),
    };
    Event::NameLookedUp { upstream: &upstream.config.name, host: &name.host, result }.emit(metrics);
}

/// Sets the endpoints to the literal addresses and to the known addresses of the names. Returns whether any came or went.
fn apply(upstream: &Upstream, known: &Known, now: Instant) -> bool {
    let mut wanted = Vec::new();
    for Address { host, port } in &upstream.config.endpoints {
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let authority =
            HeaderValue::try_from(authority).expect("the configuration admits only hosts that fit a header");
        let server_name: Arc<str> = Arc::from(host.as_str());
        let at = |ip| endpoint::Found {
            address: SocketAddr::new(ip, *port),
            server_name: Arc::clone(&server_name),
            authority: authority.clone(),
        };
        match host.parse::<IpAddr>() {
            Ok(ip) => wanted.push(at(ip)),
            Err(_) => wanted.extend(known.get(host).into_iter().flatten().map(|ip| at(*ip))),
        }
    }
    upstream.endpoints.replace(&wanted, upstream.config.endpoint_breaker, now)
}
