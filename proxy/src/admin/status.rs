//! The state of the proxy as one value, which becomes JSON for people and gauges for Prometheus.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use outrigger_http1::parse::Limits;
use outrigger_policy::breaker::{Breaker, Reason, State};
use serde::Serialize;

use crate::clock;
use crate::live::route::{Route, Routes};
use crate::shared::Shared;
use crate::telemetry::metrics::Metrics;
use crate::upstream::endpoint::Endpoint;

/// The state of the whole proxy at one moment.
#[derive(Serialize)]
pub(super) struct Snapshot {
    version: &'static str,
    generation: u64,
    state: &'static str,
    connections: usize,
    connections_max: usize,
    upstream_connections: usize,
    upstream_connections_max: usize,
    heap_bytes: usize,
    heap_bytes_max: usize,
    heap_unused_bytes: usize,
    requests_max: u32,
    limits: RequestLimits,
    requests_total: u64,
    requests_in_flight: u64,
    tunnels: usize,
    replay_bytes: usize,
    upstreams: Vec<UpstreamStatus>,
}

#[derive(Serialize)]
struct UpstreamStatus {
    name: String,
    hosts: Vec<String>,
    in_flight: u32,
    waiting: u32,
    in_flight_max: u32,
    response: ResponseLimits,
    routes: Vec<RouteStatus>,
    endpoints: Vec<EndpointStatus>,
}

#[derive(Serialize)]
struct RouteStatus {
    name: String,
    /// `null` where the route shares the upstream's.
    budget: Option<BudgetStatus>,
    breaker: Option<BreakerStatus>,
    #[serde(skip)]
    breaker_scope: &'static str,
    max_attempts: u32,
    request_timeout_seconds: f64,
    attempt_timeout_seconds: f64,
    upload_timeout_seconds: f64,
    upload_bytes_per_second_min: usize,
}

/// How much of a request is accepted; the names are those of the keys in `[listen]`.
#[derive(Serialize)]
struct RequestLimits {
    request_line_bytes_max: usize,
    #[serde(flatten)]
    common: CommonLimits,
}

/// How much of a response is accepted; the names are those of the keys in `[upstreams.NAME.response]`.
#[derive(Serialize)]
struct ResponseLimits {
    #[serde(flatten)]
    common: CommonLimits,
    informational_max: u32,
}

#[derive(Serialize)]
struct CommonLimits {
    head_bytes_max: usize,
    header_bytes_max: usize,
    headers_max: u32,
    trailer_bytes_max: u32,
    trailers_max: u32,
    chunk_extension_bytes_max: u32,
}

#[derive(Serialize)]
struct BudgetStatus {
    balance: f64,
    ratio: f64,
    floor_per_second: u32,
    window_seconds: f64,
}

#[derive(Serialize)]
struct EndpointStatus {
    address: String,
    in_flight: u32,
    connections_busy: u32,
    connections_idle: u32,
    breaker: Option<BreakerStatus>,
}

#[derive(Serialize)]
struct BreakerStatus {
    state: &'static str,
    since: String,
    since_seconds: f64,
    /// The rule behind the last change of state; `null` if there was none.
    reason: Option<&'static str>,
    results_in_window: u32,
    failures_in_window: u32,
    consecutive_failures: u32,
    trips: u32,
    probes_out: u32,
    /// How long until the next probe may be sent; `null` unless open.
    retry_after_seconds: Option<f64>,
    #[serde(skip)]
    number: i64,
}

/// Both clocks at one moment.
struct Clocks {
    now: Instant,
    wall: SystemTime,
}

impl Snapshot {
    /// Takes the snapshot of this moment.
    pub(super) fn take(shared: &Shared) -> Snapshot {
        let clocks = Clocks { now: clock::now(), wall: clock::wall() };
        let live = shared.live();
        let (requests_total, requests_in_flight) = shared.requests();
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            generation: live.generation,
            state: if shared.is_draining() { "draining" } else { "serving" },
            connections: shared.connections(),
            connections_max: shared.connections_max(),
            upstream_connections: shared.sockets.open(),
            upstream_connections_max: shared.sockets.max(),
            heap_bytes: shared.memory.used(),
            heap_bytes_max: shared.memory.max(),
            heap_unused_bytes: shared.memory.unused(),
            requests_max: live.config.listen.requests_max,
            limits: RequestLimits::new(&live.config.listen.limits),
            requests_total,
            requests_in_flight,
            tunnels: shared.tunnels(),
            replay_bytes: shared.replay.kept(),
            upstreams: live.table.all().iter().map(|routes| UpstreamStatus::take(routes, &clocks)).collect(),
        }
    }

    /// Writes it as JSON, with a line break at the end.
    ///
    /// # Errors
    /// `out` fails.
    pub(super) fn write_json(&self, out: &mut impl io::Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        out.write_all(b"\n")
    }

    /// Sets the gauges that mirror a state, and removes the series of what no longer exists.
    pub(super) fn mirror(&self, metrics: &Metrics) {
        metrics.reset_mirrors();
        metrics.generation.set(i64::try_from(self.generation).unwrap_or(i64::MAX));
        metrics.connections.set(as_gauge(self.connections));
        metrics.tunnels.set(as_gauge(self.tunnels));
        metrics.replay_bytes.set(as_gauge(self.replay_bytes));
        metrics.heap_bytes.set(as_gauge(self.heap_bytes));
        metrics.heap_bytes_max.set(as_gauge(self.heap_bytes_max));
        metrics.heap_unused_bytes.set(as_gauge(self.heap_unused_bytes));
        for upstream in &self.upstreams {
            let name = upstream.name.as_str();
            metrics.in_flight.with_label_values(&[name]).set(i64::from(upstream.in_flight));
            metrics.waiting.with_label_values(&[name]).set(i64::from(upstream.waiting));
            for route in &upstream.routes {
                if let Some(budget) = &route.budget {
                    metrics.budget_balance.with_label_values(&[name, &route.name]).set(budget.balance);
                }
                if let Some(breaker) = &route.breaker {
                    let route_name = if route.breaker_scope == "route" { route.name.as_str() } else { "" };
                    metrics
                        .breaker_state
                        .with_label_values(&[name, route.breaker_scope, route_name, ""])
                        .set(breaker.number);
                }
            }
            for endpoint in &upstream.endpoints {
                let address = endpoint.address.as_str();
                let connections = &metrics.endpoint_connections;
                connections.with_label_values(&[name, address, "busy"]).set(i64::from(endpoint.connections_busy));
                connections.with_label_values(&[name, address, "idle"]).set(i64::from(endpoint.connections_idle));
                if let Some(breaker) = &endpoint.breaker {
                    metrics.breaker_state.with_label_values(&[name, "endpoint", "", address]).set(breaker.number);
                }
            }
        }
    }
}

impl UpstreamStatus {
    fn take(routes: &Routes, clocks: &Clocks) -> UpstreamStatus {
        let upstream = &routes.default.upstream;
        UpstreamStatus {
            name: upstream.config.name.to_string(),
            hosts: upstream.config.hosts.clone(),
            in_flight: upstream.in_flight.count(),
            waiting: upstream.in_flight.waiting(),
            in_flight_max: upstream.config.in_flight_max,
            response: ResponseLimits::new(&upstream.config.response),
            routes: routes.all().map(|route| RouteStatus::take(route, clocks)).collect(),
            endpoints: upstream
                .endpoints
                .load()
                .iter()
                .map(|endpoint| EndpointStatus::take(endpoint, clocks))
                .collect(),
        }
    }
}

impl RouteStatus {
    fn take(route: &Route, clocks: &Clocks) -> RouteStatus {
        let timeouts = &route.config.timeouts;
        RouteStatus {
            name: route.name.to_string(),
            budget: route.own.budget.then(|| BudgetStatus::take(route, clocks)),
            breaker: route
                .policies
                .breaker
                .as_ref()
                .filter(|_| route.own.breaker)
                .map(|breaker| BreakerStatus::take(breaker, clocks)),
            breaker_scope: route.breaker_scope,
            max_attempts: route.policies.retry.max_attempts,
            request_timeout_seconds: timeouts.request.as_secs_f64(),
            attempt_timeout_seconds: timeouts.attempt.as_secs_f64(),
            upload_timeout_seconds: timeouts.upload.as_secs_f64(),
            upload_bytes_per_second_min: timeouts.upload_bytes_per_second_min,
        }
    }
}

impl RequestLimits {
    fn new(limits: &Limits) -> RequestLimits {
        RequestLimits { request_line_bytes_max: limits.first_line_bytes, common: CommonLimits::new(limits) }
    }
}

impl ResponseLimits {
    fn new(limits: &Limits) -> ResponseLimits {
        ResponseLimits { common: CommonLimits::new(limits), informational_max: limits.informational_responses }
    }
}

impl CommonLimits {
    fn new(limits: &Limits) -> CommonLimits {
        CommonLimits {
            head_bytes_max: limits.head_bytes,
            header_bytes_max: limits.field_bytes,
            headers_max: limits.fields,
            trailer_bytes_max: limits.trailer_bytes,
            trailers_max: limits.trailer_fields,
            chunk_extension_bytes_max: limits.extension_bytes,
        }
    }
}

impl BudgetStatus {
    fn take(route: &Route, clocks: &Clocks) -> BudgetStatus {
        let config = route.policies.budget.config();
        BudgetStatus {
            balance: route.policies.budget.balance(clocks.now).as_f64(),
            ratio: config.ratio.as_f64(),
            floor_per_second: config.floor_per_second,
            window_seconds: config.window.as_secs_f64(),
        }
    }
}

impl EndpointStatus {
    fn take(endpoint: &Endpoint, clocks: &Clocks) -> EndpointStatus {
        let idle = endpoint.at.idle.load(Relaxed);
        EndpointStatus {
            address: endpoint.at.address.to_string(),
            in_flight: endpoint.in_flight.load(Relaxed),
            connections_busy: endpoint.at.connections.load(Relaxed).saturating_sub(idle),
            connections_idle: idle,
            breaker: endpoint.breaker.as_ref().map(|breaker| BreakerStatus::take(breaker, clocks)),
        }
    }
}

impl BreakerStatus {
    fn take(breaker: &Breaker, clocks: &Clocks) -> BreakerStatus {
        let snapshot = breaker.snapshot(clocks.now);
        let since = clocks.now.saturating_duration_since(snapshot.since);
        BreakerStatus {
            state: snapshot.state.word(),
            since: httpdate::fmt_http_date(clocks.wall.checked_sub(since).unwrap_or(clocks.wall)),
            since_seconds: seconds(since),
            reason: snapshot.reason.map(Reason::word),
            results_in_window: snapshot.results,
            failures_in_window: snapshot.failures,
            consecutive_failures: snapshot.consecutive_failures,
            trips: snapshot.trips,
            probes_out: snapshot.probes_out,
            retry_after_seconds: snapshot.retry_at.map(|at| seconds(at.saturating_duration_since(clocks.now))),
            number: match snapshot.state {
                State::Closed => 0,
                State::HalfOpen => 1,
                State::Open => 2,
            },
        }
    }
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
