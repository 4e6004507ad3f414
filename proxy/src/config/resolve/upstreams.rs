//! `[upstreams.NAME]`: its own keys, and its sections put together.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use crate::config::fault::{Collector, Place, is_name, quoted};
use crate::config::file::{Item, Settled, Table};
use crate::config::settings::Upstream;

use super::breaker::{BreakerBase, BreakerDraft};
use super::listen::ListenDraft;
use super::policies::{Base, Draft};
use super::routes::{self, RouteDraft};
use super::units::{HOUR, millis, secs};
use super::{address, limits, pool};

/// An upstream, and where its hosts stand: other upstreams may not have the same ones.
pub(super) struct UpstreamDraft {
    pub(super) settings: Upstream,
    hosts: Vec<Place>,
}

impl UpstreamDraft {
    pub(super) fn read(name: &str, table: &mut Table<'_>, listen: &ListenDraft) -> UpstreamDraft {
        if !is_name(name) {
            table.faults.add(&table.place, "an upstream's name is 1 to 64 letters, digits, \"-\" and \"_\"");
        }
        let endpoints = table.texts("endpoints", "\"host:port\"", 1..=1_000, address::parse_endpoint).required(
            Vec::new(),
            r#"endpoints = ["host:port"]"#,
            table.faults,
        );
        listen.check_is_no_endpoint(&endpoints.value, table.faults);
        let hosts = read_hosts(name, table);
        let resolve_interval = table.duration("resolve_interval", millis(500)..=HOUR).or(secs(5));
        let in_flight_max = table.integer("in_flight_max", 1..=1_000_000).or(1_024);
        let connect = table.boolean("connect").or(false);
        let pool = table.section("pool", pool::read);
        let response = table.section("response", limits::read_responses);

        let own = Draft::read(table, &Base::of_upstreams());
        let endpoint_breaker =
            table.section("endpoint_breaker", |table| BreakerDraft::read(table, &BreakerBase::DEFAULT));
        let base = Base::of_routes(&own);
        let routes = table.tables("routes", |table| RouteDraft::read(table, &base));
        routes::check_each_is_reached(&routes, table.faults);

        // A breaker's probe may be a request of any route that shares it, so the longest of them counts.
        let sharing = routes.iter().map(|route| &route.policies).filter(|policies| !policies.has_own_breaker);
        let request = longest(&own.timeouts.request, sharing.map(|policies| &policies.timeouts.request));
        let attempt = longest(&own.timeouts.attempt, routes.iter().map(|route| &route.policies.timeouts.attempt));
        let breaker = own.breaker.finish(request, table.faults);
        let endpoint_breaker = endpoint_breaker.finish(attempt, table.faults);

        let (hosts, places) = hosts.into_iter().map(|host| (host.value, host.place)).unzip();
        let settings = Upstream {
            name: Arc::from(name),
            endpoints: endpoints.value.into_iter().map(|endpoint| endpoint.value).collect(),
            hosts,
            resolve_interval,
            in_flight_max,
            connect,
            endpoint_breaker,
            pool,
            response,
            policies: own.finish(breaker),
            routes: routes.into_iter().map(|route| route.finish(breaker, table.faults)).collect(),
        };
        UpstreamDraft { settings, hosts: places }
    }
}

fn read_hosts(name: &str, table: &mut Table<'_>) -> Vec<Item<String>> {
    let own_name = Item { value: name.to_ascii_lowercase(), place: table.place.clone() };
    table.texts("hosts", "a host name", 1..=1_000, address::parse_host).or(vec![own_name])
}

/// The longest of some timeouts; the first of those that are equal.
fn longest<'s>(
    own: &'s Settled<Duration>,
    others: impl Iterator<Item = &'s Settled<Duration>>,
) -> &'s Settled<Duration> {
    others.fold(own, |longest, other| if other.value > longest.value { other } else { longest })
}

/// Adds a fault for each host that an earlier upstream has too.
pub(super) fn check_hosts_are_unique(upstreams: &[UpstreamDraft], faults: &Collector<'_>) {
    let mut owners: HashMap<&str, &Place> = HashMap::new();
    for upstream in upstreams {
        for (host, place) in upstream.settings.hosts.iter().zip(&upstream.hosts) {
            match owners.entry(host) {
                Entry::Occupied(owner) => {
                    let (path, line) = (&owner.get().path, faults.line(owner.get().offset));
                    let message = format!("the host {} also belongs to {path} in line {line}", quoted(host));
                    faults.add_relation(place, message);
                }
                Entry::Vacant(free) => {
                    free.insert(place);
                }
            }
        }
    }
}
