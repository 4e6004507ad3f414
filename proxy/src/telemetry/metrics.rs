//! Every metric family, declared once.
//!
//! Names are `outrigger_<noun>_<unit>`, with base units. Label values come from enums or from names in the configuration, never from a request, so the
//! configuration limits the number of series. Handles for a route are resolved when a generation is built ([`Metrics::route`]). Gauges that mirror a state
//! (breakers, balances, connections) are set from a snapshot at each scrape.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// In seconds, from a response over loopback to the default request timeout; denser where retries and tails show.
const DURATION_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The families, and the registry that exposes them.
pub struct Metrics {
    registry: Registry,
    pub(crate) requests: IntCounterVec,
    request_seconds: HistogramVec,
    pub(crate) attempts: IntCounterVec,
    attempt_seconds: HistogramVec,
    pub(crate) retries: IntCounterVec,
    pub(crate) retry_results: IntCounterVec,
    pub(crate) retries_refused: IntCounterVec,
    pub(crate) budget_balance: GaugeVec,
    budget_exhausted: IntCounterVec,
    pub(crate) breaker_transitions: IntCounterVec,
    pub(crate) breaker_state: IntGaugeVec,
    pub(crate) in_flight: IntGaugeVec,
    pub(crate) endpoint_connections: IntGaugeVec,
    pub(crate) connects: IntCounterVec,
    pub(crate) name_lookups: IntCounterVec,
    pub(crate) connections: IntGauge,
    pub(crate) connections_closed: IntCounterVec,
    pub(crate) tunnels: IntGauge,
    pub(crate) replay_bytes: IntGauge,
    pub(crate) reloads: IntCounterVec,
    pub(crate) reload_successful: IntGauge,
    pub(crate) reload_success_seconds: Gauge,
    pub(crate) generation: IntGauge,
    pub(crate) admin_requests: IntCounterVec,
    pub(crate) panics: IntCounter,
    build_info: IntGaugeVec,
}

/// A route's handles.
#[derive(Clone)]
pub struct RouteMetrics {
    pub(crate) seconds: Histogram,
    pub(crate) budget_exhausted: IntCounter,
}

/// An upstream's handles.
#[derive(Clone)]
pub struct UpstreamMetrics {
    pub(crate) attempt_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// All families, registered.
    #[expect(clippy::too_many_lines, reason = "a table: each family once, one after the other")]
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let make = Maker { registry: &registry };
        let metrics = Metrics {
            requests: make.counters(
                "requests_total",
                "Requests that ended, by what the downstream got.",
                &["upstream", "route", "method", "code", "outcome"],
            ),
            request_seconds: make.histograms(
                "request_duration_seconds",
                "From a request's head to the last byte of its response.",
                &["upstream", "route"],
            ),
            attempts: make.counters(
                "attempts_total",
                "Times a request was sent, by how it ended.",
                &["upstream", "outcome"],
            ),
            attempt_seconds: make.histograms(
                "attempt_duration_seconds",
                "From sending a request to its response's head.",
                &["upstream"],
            ),
            retries: make.counters(
                "retries_total",
                "Times a request was sent again, by what made it necessary.",
                &["upstream", "route", "reason"],
            ),
            retry_results: make.counters(
                "retry_results_total",
                "Attempts after the first, by how they ended.",
                &["upstream", "route", "result"],
            ),
            retries_refused: make.counters(
                "retries_refused_total",
                "Retries that were called for and not made, by what stood in the way.",
                &["upstream", "route", "reason"],
            ),
            budget_balance: make.gauges(
                "budget_balance",
                "Extra attempts the retry budget would allow now.",
                &["upstream", "route"],
            ),
            budget_exhausted: make.counters(
                "budget_exhausted_total",
                "Retries refused by the budget.",
                &["upstream", "route"],
            ),
            breaker_transitions: make.counters(
                "breaker_transitions_total",
                "Changes of state of circuit breakers, by rule.",
                &["upstream", "scope", "from", "to", "reason"],
            ),
            breaker_state: make.int_gauges(
                "breaker_state",
                "State of a circuit breaker: 0 closed, 1 half-open, 2 open.",
                &["upstream", "scope", "route", "endpoint"],
            ),
            in_flight: make.int_gauges("in_flight", "Requests in flight.", &["upstream"]),
            endpoint_connections: make.int_gauges(
                "endpoint_connections",
                "Open connections to an endpoint.",
                &["upstream", "endpoint", "state"],
            ),
            connects: make.counters("connects_total", "Connections tried, by result.", &["upstream", "result"]),
            name_lookups: make.counters("name_lookups_total", "Name look-ups, by result.", &["upstream", "result"]),
            connections: make.int_gauge("connections", "Open connections from the app."),
            connections_closed: make.counters(
                "connections_closed_total",
                "Connections from the app that ended, by reason.",
                &["reason", "side"],
            ),
            tunnels: make.int_gauge("tunnels", "Open tunnels, by upgrade or CONNECT."),
            replay_bytes: make.int_gauge("replay_bytes", "Bytes of request bodies kept for a possible retry."),
            reloads: make.counters("config_reloads_total", "Configuration reloads, by result.", &["result"]),
            reload_successful: make.int_gauge("config_last_reload_successful", "Whether the last reload was accepted."),
            reload_success_seconds: make
                .gauge("config_last_reload_success_timestamp_seconds", "When a configuration was last accepted."),
            generation: make
                .int_gauge("config_generation", "Number of the configuration in force; 1 is the one it started with."),
            admin_requests: make.counters("admin_requests_total", "Requests on the admin listener.", &["path", "code"]),
            panics: make.counter("panics_total", "Panics, in whatever thread; any is a defect."),
            build_info: make.int_gauges("build_info", "1, with the build's version as a label.", &["version"]),
            registry: registry.clone(),
        };
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for result in ["accepted", "rejected"] {
            metrics.reloads.with_label_values(&[result]).inc_by(0);
        }
        metrics.reload_successful.set(1);
        #[cfg(target_os = "linux")]
        register(&registry, prometheus::process_collector::ProcessCollector::for_self());
        metrics
    }

    /// The handles of a route.
    pub fn route(&self, upstream: &str, route: &str) -> RouteMetrics {
        RouteMetrics {
            seconds: self.request_seconds.with_label_values(&[upstream, route]),
            budget_exhausted: self.budget_exhausted.with_label_values(&[upstream, route]),
        }
    }

    /// The handles of an upstream.
    pub fn upstream(&self, upstream: &str) -> UpstreamMetrics {
        UpstreamMetrics { attempt_seconds: self.attempt_seconds.with_label_values(&[upstream]) }
    }

    /// Removes all series that mirror a state, so that the next scrape does not show what no longer exists.
    pub fn reset_mirrors(&self) {
        self.budget_balance.reset();
        self.breaker_state.reset();
        self.in_flight.reset();
        self.endpoint_connections.reset();
    }

    /// The exposition in Prometheus' text format 0.0.4.
    pub fn text(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("families of the prometheus crate can be encoded")
    }
}

struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(opts(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::with_opts(opts(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.keep(GaugeVec::new(opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.keep(Gauge::with_opts(opts(name, help)))
    }

    fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.keep(IntGaugeVec::new(opts(name, help), labels))
    }

    fn int_gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::with_opts(opts(name, help)))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let opts = HistogramOpts { common_opts: opts(name, help), buckets: DURATION_BUCKETS.to_vec() };
        self.keep(HistogramVec::new(opts, labels))
    }

    fn keep<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let family = made.expect("names and labels above are valid");
        register(self.registry, family.clone());
        family
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("outrigger")
}

fn register(registry: &Registry, family: impl Collector + 'static) {
    registry.register(Box::new(family)).expect("each family is declared once");
}
