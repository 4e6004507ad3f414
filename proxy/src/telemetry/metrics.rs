//! Every metric family, declared once.
//!
//! Names are `outrigger_<noun>_<unit>`, with base units. Label values come from enums or from names in the configuration, never from a request. Handles for a
//! route are resolved when a generation is built ([`Metrics::route`]). Gauges that mirror a state (breakers, balances, connections) are set from a snapshot at
//! each scrape.
//!
//! A series ends with what it names, so the configuration limits their number however often it is reloaded. The handles of an upstream or a route hold its name.
//! A generation that keeps the name takes the same hold, and a request under way keeps it until it is counted. When nobody holds a name any more,
//! [`Metrics::remove_unheld`] removes its series from every family that has an `upstream` label.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::memory::ledger::{Entry, Ledger};

/// In seconds, from a response over loopback to the default request timeout; denser where retries and tails show.
const DURATION_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The families, and the registry that exposes them.
pub struct Metrics {
    registry: Registry,
    /// The families with an `upstream` label.
    of_upstreams: Vec<Box<dyn OfUpstreams>>,
    /// Written when a generation is built and when series are removed; no request takes this lock.
    held: Mutex<Held>,
    /// The heap that the configurations in use need, their series included.
    pub ledger: Ledger,
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
    pub(crate) waiting: IntGaugeVec,
    pub(crate) endpoint_connections: IntGaugeVec,
    pub(crate) connects: IntCounterVec,
    pub(crate) name_lookups: IntCounterVec,
    pub(crate) connections: IntGauge,
    pub(crate) connections_closed: IntCounterVec,
    pub(crate) tunnels: IntGauge,
    pub(crate) replay_bytes: IntGauge,
    pub(crate) heap_bytes: IntGauge,
    pub(crate) heap_bytes_max: IntGauge,
    pub(crate) heap_unused_bytes: IntGauge,
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
    _hold: Hold,
}

/// An upstream's handles.
#[derive(Clone)]
pub struct UpstreamMetrics {
    pub(crate) attempt_seconds: Histogram,
    _hold: Hold,
}

/// Keeps the series of an upstream or a route.
type Hold = Arc<()>;

/// The names that may have series, as upstream and route. The route is empty for the upstream itself, which every route of it holds too.
#[derive(Default)]
struct Held(HashMap<String, HashMap<String, Name>>);

/// A name that may have series.
#[derive(Default)]
struct Name {
    hold: Weak<()>,
    /// The heap of the series that every name has from the start.
    series: Option<Entry>,
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
        let make = Maker { registry: &registry, of_upstreams: RefCell::default() };
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
            waiting: make.int_gauges("waiting", "Requests that wait before a retry, or for a slot.", &["upstream"]),
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
            heap_bytes: make.int_gauge("heap_bytes", "Bytes of the heap that are in use."),
            heap_bytes_max: make.int_gauge("heap_limit_bytes", "Bytes of the heap that may be in use."),
            heap_unused_bytes: make.int_gauge("heap_unused_bytes", "Bytes of the heap's pages that are not in use."),
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
            of_upstreams: make.of_upstreams.take(),
            held: Mutex::default(),
            ledger: Ledger::default(),
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
        self.held((upstream, route), |_hold| RouteMetrics {
            seconds: self.request_seconds.with_label_values(&[upstream, route]),
            budget_exhausted: self.budget_exhausted.with_label_values(&[upstream, route]),
            _hold,
        })
    }

    /// The handles of an upstream.
    pub fn upstream(&self, upstream: &str) -> UpstreamMetrics {
        self.held((upstream, ""), |_hold| UpstreamMetrics {
            attempt_seconds: self.attempt_seconds.with_label_values(&[upstream]),
            _hold,
        })
    }

    /// Makes the handles of the series of an upstream, or of a route. The series are held before there are any, so that they stay from then on.
    fn held<H>(&self, (upstream, route): (&str, &str), make: impl FnOnce(Hold) -> H) -> H {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let known = held.0.entry(upstream.to_owned()).or_default().entry(route.to_owned()).or_default();
        let hold = known.hold.upgrade().unwrap_or_default();
        known.hold = Arc::downgrade(&hold);
        let (handles, entry) = self.ledger.enter(|| make(hold));
        // Series that are there already have their entry.
        known.series.get_or_insert(entry);
        handles
    }

    /// Removes the series of upstreams and routes that nobody holds any more.
    pub fn remove_unheld(&self) {
        // Locked to the end, so that no generation takes a hold on a name whose series are about to go.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // They end after their series, so that the ledger never lacks what is still there.
        let gone = held.forget_unheld();
        if !gone.is_empty() {
            self.of_upstreams.iter().for_each(|family| family.keep_only(&held));
        }
    }

    /// Removes all series that mirror a state, and all series that nobody holds, so that the next scrape does not show what no longer exists.
    pub fn reset_mirrors(&self) {
        self.remove_unheld();
        self.budget_balance.reset();
        self.breaker_state.reset();
        self.in_flight.reset();
        self.waiting.reset();
        self.endpoint_connections.reset();
    }

    /// The exposition, for tests.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        let mut text = Vec::new();
        self.write_text(&mut text).expect("memory");
        String::from_utf8(text).expect("text")
    }

    /// Writes the exposition in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// `out` fails.
    pub fn write_text(&self, out: &mut impl io::Write) -> prometheus::Result<()> {
        // One by one, so that each family's values are let go when they have been written.
        self.registry.gather().into_iter().try_for_each(|family| TextEncoder::new().encode(&[family], out))
    }
}

impl Held {
    /// Takes out the names that nobody holds.
    fn forget_unheld(&mut self) -> Vec<Name> {
        let mut gone = Vec::new();
        self.0.retain(|_, routes| {
            gone.extend(routes.extract_if(|_, name| name.hold.strong_count() == 0).map(|(_, name)| name));
            !routes.is_empty()
        });
        gone
    }

    fn has(&self, upstream: &str, route: &str) -> bool {
        self.0.get(upstream).is_some_and(|routes| routes.contains_key(route))
    }
}

/// A family with an `upstream` label.
trait OfUpstreams: Send + Sync {
    /// Removes the series whose upstream or route is not `held`.
    fn keep_only(&self, held: &Held);
}

impl<B: MetricVecBuilder> OfUpstreams for MetricVec<B> {
    fn keep_only(&self, held: &Held) {
        for family in Collector::collect(self) {
            for series in family.get_metric() {
                let labels = series.get_label().iter().map(|label| (label.name(), label.value()));
                let labels: HashMap<&str, &str> = labels.collect();
                let value = |label| labels.get(label).copied().unwrap_or_default();
                let (upstream, route) = (value("upstream"), value("route"));
                // Without an upstream: the request was refused before one was found.
                if !upstream.is_empty() && !held.has(upstream, route) {
                    // It fails only if the series is gone already.
                    let _ = self.remove(&labels);
                }
            }
        }
    }
}

struct Maker<'a> {
    registry: &'a Registry,
    of_upstreams: RefCell<Vec<Box<dyn OfUpstreams>>>,
}

impl Maker<'_> {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep_all(IntCounterVec::new(opts(name, help), labels), labels)
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::with_opts(opts(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.keep_all(GaugeVec::new(opts(name, help), labels), labels)
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.keep(Gauge::with_opts(opts(name, help)))
    }

    fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.keep_all(IntGaugeVec::new(opts(name, help), labels), labels)
    }

    fn int_gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::with_opts(opts(name, help)))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let opts = HistogramOpts { common_opts: opts(name, help), buckets: DURATION_BUCKETS.to_vec() };
        self.keep_all(HistogramVec::new(opts, labels), labels)
    }

    fn keep_all<B>(&self, made: prometheus::Result<MetricVec<B>>, labels: &[&str]) -> MetricVec<B>
    where
        B: MetricVecBuilder + 'static,
        MetricVec<B>: Clone,
    {
        let family = self.keep(made);
        if labels.contains(&"upstream") {
            self.of_upstreams.borrow_mut().push(Box::new(family.clone()));
        }
        family
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_held_keeps_its_series_in_every_family() {
        let metrics = Metrics::new();
        let text = |word: &str| metrics.text().lines().filter(|line| line.contains(word)).count();
        let (a, a_default, a_pay) = (metrics.upstream("a"), metrics.route("a", "default"), metrics.route("a", "pay"));
        let (b, b_pay) = (metrics.upstream("b"), metrics.route("b", "pay"));
        for (upstream, route) in [("a", "default"), ("a", "pay"), ("b", "pay"), ("", "")] {
            metrics.requests.with_label_values(&[upstream, route, "GET", "2xx", "success"]).inc();
            metrics.retries.with_label_values(&[upstream, route, "reset"]).inc();
            metrics.connects.with_label_values(&[upstream, "ok"]).inc();
            metrics.breaker_state.with_label_values(&[upstream, "route", route, ""]).set(2);
            metrics.budget_balance.with_label_values(&[upstream, route]).set(1.0);
        }
        let all = text("outrigger_");
        metrics.remove_unheld();
        assert_eq!(text("outrigger_"), all, "everything is held");
        drop(a_pay);
        metrics.remove_unheld();
        assert_eq!(text("upstream=\"a\"") + text("upstream=\"b\"") + text("upstream=\"\""), text("upstream="));
        assert!(text("route=\"pay\",upstream=\"a\"") == 0 && text("route=\"pay\",upstream=\"b\"") > 17);
        assert_eq!(metrics.requests.with_label_values(&["a", "default", "GET", "2xx", "success"]).get(), 1);
        // As a reload that keeps the name, and then one that does not, while a request of the first generation is under way.
        drop((a, a_default, metrics.route("b", "pay")));
        metrics.remove_unheld();
        assert_eq!(text("upstream=\"a\""), 0);
        assert_eq!(
            metrics.requests.with_label_values(&["b", "pay", "GET", "2xx", "success"]).get(),
            1,
            "it is still held"
        );
        assert_eq!(text("upstream=\"\""), 5, "what was refused before an upstream was found");
        drop((b, b_pay));
        metrics.remove_unheld();
        assert_eq!((text("upstream=\"b\""), text("upstream=\"\"")), (0, 5));
    }
}
