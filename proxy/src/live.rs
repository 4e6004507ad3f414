//! One generation: the routes and upstreams of one configuration, ready to serve.
//!
//! A request takes one [`Live`] when it begins and keeps it to its end. A reload builds the next one beside it and swaps the pointer; it never edits a
//! generation. State that outlives a generation (breakers, budgets, endpoints, counts) is handed over here, and only here. It is found by name, that of an endpoint by
//! host and address, and kept if its configuration did not change.
//!
//! A generation is whole when it is built, with the addresses of its endpoints: the swap is the only thing that puts any part of it in force.

pub mod reload;
pub mod route;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use outrigger_policy::breaker::Breaker;
use outrigger_policy::budget::Budget;
use outrigger_policy::call;
use outrigger_policy::deadline::Timeouts;
use outrigger_policy::limit::InFlight;
use rustc_hash::FxHashMap;

use self::route::{Own, Pattern, Route, Routes, Table};
use crate::config::{self, Config};
use crate::memory::ledger::Entry;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Upstream;
use crate::upstream::endpoint::{Endpoint, Endpoints, Former, Found, new_endpoint};
use crate::upstream::resolve::{Addresses, locate};

/// One generation.
pub struct Live {
    /// Counts up from 1.
    pub generation: u64,
    /// The configuration it was built from.
    pub config: Config,
    /// Finds the route of a request.
    pub table: Table,
    /// The heap that it needs, besides endpoints and series, which may outlive it.
    _entry: Entry,
}

/// The name of the route that an upstream has without configuring one.
const DEFAULT_ROUTE: &str = "default";

impl Live {
    /// Builds a generation from `config` and takes over from `before` what did not change. `addresses` are those of its names; it needs nothing else to serve.
    pub fn build(
        config: Config,
        before: Option<&Live>,
        addresses: &Addresses,
        metrics: &Metrics,
        now: Instant,
    ) -> Live {
        let generation = before.map_or(1, |live| live.generation + 1);
        let before = before.map(Live::by_name).unwrap_or_default();
        let ((config, table), entry) = metrics.ledger.enter(|| {
            // A copy, because another thread may have allocated the original, and only what this one allocates is counted.
            let config = config.clone();
            let table = build_table(&config, &before, addresses, metrics, now);
            (config, table)
        });
        Live { generation, config, table, _entry: entry }
    }

    /// Every upstream.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.table.all().iter().map(|routes| &routes.default.upstream)
    }

    fn by_name(&self) -> FxHashMap<&str, &Routes> {
        self.table.all().iter().map(|routes| (&*routes.default.upstream.config.name, routes)).collect()
    }
}

/// The routes of every upstream.
fn build_table(
    config: &Config,
    before: &FxHashMap<&str, &Routes>,
    addresses: &Addresses,
    metrics: &Metrics,
    now: Instant,
) -> Table {
    let mut hosts = FxHashMap::default();
    let mut routes = Vec::with_capacity(config.upstreams.len());
    let endpoints = endpoints(config, before, addresses, metrics, now);
    for (at, (upstream, endpoints)) in config.upstreams.iter().zip(endpoints).enumerate() {
        hosts.extend(upstream.hosts.iter().map(|host| (host.clone(), at)));
        let old = before.get(&*upstream.name).copied();
        routes.push(build_upstream(upstream, old, Endpoints::new(endpoints), metrics, now));
    }
    Table::new(routes, hosts, config.default_upstream)
}

/// The endpoints of each upstream. An endpoint goes on with its breaker and its connections if its host and address are the same, in its own upstream or else in
/// another one that does not keep it: an upstream that gets another name is still the same service.
fn endpoints(
    config: &Config,
    before: &FxHashMap<&str, &Routes>,
    addresses: &Addresses,
    metrics: &Metrics,
    now: Instant,
) -> Vec<Vec<Arc<Endpoint>>> {
    let mut former = Former::default();
    for (name, routes) in before {
        former.add(name, &routes.default.upstream.endpoints.load());
    }
    // Every upstream chooses among its own before any chooses among the others'.
    let mut chosen = Vec::with_capacity(config.upstreams.len());
    for upstream in &config.upstreams {
        let mut own = |found: &Found| former.take(found, upstream.endpoint_breaker, |name| *name == *upstream.name);
        let found = locate(upstream, addresses).into_iter().map(|found| (own(&found), found));
        chosen.push(found.collect::<Vec<_>>());
    }
    let mut endpoints = Vec::with_capacity(chosen.len());
    for (upstream, chosen) in config.upstreams.iter().zip(chosen) {
        let breaker = upstream.endpoint_breaker;
        let chosen = chosen.into_iter().map(|(own, found)| {
            let taken_over = own.or_else(|| former.take(&found, breaker, |_| true));
            taken_over.unwrap_or_else(|| {
                let (endpoint, entry) = metrics.ledger.enter(|| new_endpoint(&found, breaker, now));
                // It is new, so it has no entry yet.
                let _ = endpoint.at.entry.set(entry);
                endpoint
            })
        });
        endpoints.push(chosen.collect());
    }
    endpoints
}

fn build_upstream(
    config: &config::Upstream,
    old: Option<&Routes>,
    endpoints: Endpoints,
    metrics: &Metrics,
    now: Instant,
) -> Routes {
    let max = config.in_flight_max;
    let kept = old.map(|old| Arc::clone(&old.default.upstream.in_flight));
    let in_flight = kept.inspect(|in_flight| in_flight.set_max(max)).unwrap_or_else(|| InFlight::new(max));
    let upstream =
        Arc::new(Upstream { config: config.clone(), endpoints, in_flight, metrics: metrics.upstream(&config.name) });
    let builder = Builder { upstream: &upstream, old, metrics, now };
    let default = builder.route(DEFAULT_ROUTE, &config.policies, None, Own { budget: true, breaker: true });
    let configured = config.routes.iter().map(|route| {
        let own = Own { budget: route.has_own_budget, breaker: route.has_own_breaker };
        let built = builder.route(&route.name, &route.policies, Some(&default), own);
        (Pattern { path_prefix: route.path_prefix.clone(), methods: route.methods.clone() }, built)
    });
    let configured = configured.collect();
    Routes::new(default, configured)
}

struct Builder<'a> {
    upstream: &'a Arc<Upstream>,
    old: Option<&'a Routes>,
    metrics: &'a Metrics,
    now: Instant,
}

impl Builder<'_> {
    /// `shared` is the upstream's default route, whose budget and breaker a route uses unless they are its `own`.
    fn route(&self, name: &str, config: &config::Policies, shared: Option<&Arc<Route>>, own: Own) -> Arc<Route> {
        static NEXT_ID: AtomicU32 = AtomicU32::new(0);
        let old = self.old.and_then(|old| old.all().find(|route| &*route.name == name));
        let budget = match shared.filter(|_| !own.budget) {
            Some(shared) => Arc::clone(&shared.policies.budget),
            None => carried_budget(old, config).unwrap_or_else(|| Arc::new(Budget::new(config.budget, self.now))),
        };
        let breaker = match shared.filter(|_| !own.breaker) {
            Some(shared) => shared.policies.breaker.clone(),
            None => config.breaker.map(|config| {
                let kept = old.filter(|old| old.own.breaker).and_then(|old| old.policies.breaker.clone());
                let kept = kept.filter(|breaker| breaker.config() == config);
                kept.unwrap_or_else(|| Breaker::new(config, self.now))
            }),
        };
        Arc::new(Route {
            id: NEXT_ID.fetch_add(1, Relaxed),
            name: Arc::from(name),
            upstream: Arc::clone(self.upstream),
            policies: self.policies(config, budget, breaker),
            config: config.clone(),
            breaker_scope: if shared.is_some() && own.breaker { "route" } else { "upstream" },
            own,
            metrics: self.metrics.route(&self.upstream.config.name, name),
        })
    }

    fn policies(
        &self,
        config: &config::Policies,
        budget: Arc<Budget>,
        breaker: Option<Arc<Breaker>>,
    ) -> call::Policies {
        let config::Timeouts { request, attempt, idle_body, .. } = config.timeouts;
        call::Policies {
            in_flight_max: self.upstream.config.in_flight_max,
            in_flight: Arc::clone(&self.upstream.in_flight),
            breaker,
            budget,
            timeouts: Timeouts { request, attempt, idle_body },
            retry: config.retry.clone(),
            // The configuration has no keys for these two yet.
            hedge: None,
            hold: None,
        }
    }
}

fn carried_budget(old: Option<&Arc<Route>>, config: &config::Policies) -> Option<Arc<Budget>> {
    old.filter(|old| old.own.budget)
        .map(|old| Arc::clone(&old.policies.budget))
        .filter(|budget| budget.config() == config.budget)
}
