//! Everything worth counting or logging, each in one place: an event is a metric and, where a person should see it, a log line.
//!
//! No other module logs, and besides this one only a worker's [`RouteHandle`](crate::worker::handle::RouteHandle) counts. Messages are constant, facts are fields. A
//! change is logged once, where it happens.

use std::net::SocketAddr;
use std::time::Duration;

use outrigger_policy::breaker::{State, Transition};
use outrigger_policy::retry;
use tracing::{error, info, warn};

use crate::clock;
use crate::config::Faults;
use crate::telemetry::labels::{CodeClass, MethodLabel, RequestOutcome};
use crate::telemetry::log::ALWAYS;
use crate::telemetry::metrics::Metrics;

/// An event outside of the ordinary course of requests.
pub enum Event<'a> {
    /// Listeners are bound and a configuration is in force.
    Ready {
        /// The address for the app.
        app: SocketAddr,
        /// The address of the admin port.
        admin: SocketAddr,
        /// Worker threads.
        workers: usize,
    },
    /// The system grants fewer descriptors than the allowed connections may need.
    FewDescriptors {
        /// The limit that the system grants.
        descriptors: u64,
        /// The number of connections that this limit allows.
        connections_max: usize,
    },
    /// There is less memory than the allowed connections may need.
    LittleMemory {
        /// Bytes that the process may use.
        memory: usize,
        /// The number of connections that they allow.
        connections_max: usize,
    },
    /// The heap has reached its limit: from now on connections end and requests are refused.
    MemoryFull {
        /// Bytes that are in use.
        used: usize,
        /// Bytes that may be.
        max: usize,
    },
    /// The heap has room again.
    MemoryFree {
        /// Bytes that are in use.
        used: usize,
        /// Bytes that may be.
        max: usize,
    },
    /// A breaker changed its state.
    BreakerMoved {
        /// The name of the upstream.
        upstream: &'a str,
        /// The route, for a route's own breaker; else empty.
        route: &'a str,
        /// `upstream`, `route` or `endpoint`.
        scope: &'static str,
        /// The endpoint's address, for an endpoint's breaker.
        endpoint: Option<SocketAddr>,
        /// The change, with its reason.
        transition: Transition,
    },
    /// A name was looked up.
    NameLookedUp {
        /// The name of the upstream.
        upstream: &'a str,
        /// The name that was looked up.
        host: &'a str,
        /// The resolver's error, if the look-up failed.
        result: Result<(), &'a str>,
        /// Whether the look-up before did not fail in the same way.
        is_news: bool,
    },
    /// An upstream has other addresses than before.
    EndpointsChanged {
        /// The name of the upstream.
        upstream: &'a str,
        /// All addresses that it has now.
        addresses: &'a [SocketAddr],
    },
    /// An attempt to connect to an endpoint has ended.
    Connected {
        /// The name of the upstream.
        upstream: &'a str,
        /// `ok`, or the reason why not.
        result: &'static str,
    },
    /// Another configuration is in force.
    Reloaded {
        /// The number of the generation.
        generation: u64,
        /// Keys that changed in the file and need a restart.
        needs_restart: &'a [&'static str],
    },
    /// A configuration was refused; the former one stays.
    ReloadRejected(&'a Faults),
    /// A downstream connection beyond `listen.connections_max` was refused.
    ConnectionRefused,
    /// The system failed to give a connection.
    AcceptFailed(&'a std::io::Error),
    /// A downstream connection ended.
    ConnectionClosed {
        /// Why it ended.
        reason: &'static str,
        /// `downstream` or `upstream`, where one of them stopped in the middle of a body; else empty.
        side: &'static str,
    },
    /// A thread or a task panicked.
    Panicked {
        /// File and line. The message is left out, because it may contain a part of a request.
        place: &'a str,
    },
    /// An admin connection ended or got its response.
    Asked {
        /// A known path, or `other`.
        path: &'static str,
        /// The status of the response; 0 if there was none, because no head came in time or another connection needed the place.
        status: u16,
    },
    /// Another process listens on our ports. This is the address for the app.
    PortShared(SocketAddr),
    /// Another process has taken over our ports.
    HandedOver,
    /// The stop has begun.
    Draining {
        /// Requests under way.
        in_flight: u64,
    },
    /// The stop is over.
    Drained {
        /// Requests that were cut off.
        cut_off: u64,
        /// How long it took.
        took: Duration,
    },
}

/// A request that has ended, with the last byte of its response.
pub struct RequestSummary<'a> {
    /// The name of the upstream; empty if the request was refused before one was found.
    pub upstream: &'a str,
    /// The name of the route; empty in the same case.
    pub route: &'a str,
    /// The method.
    pub method: MethodLabel,
    /// The status of the response; 0 if there was none.
    pub status: u16,
    /// How the request ended.
    pub outcome: RequestOutcome,
    /// The number of attempts.
    pub attempts: u32,
    /// The endpoint of the last attempt.
    pub endpoint: Option<SocketAddr>,
    /// Why there was no further retry, if one was due.
    pub retry_refused: Option<retry::Refused>,
    /// From the request's head to the last byte of the response.
    pub duration: Duration,
}

impl RequestSummary<'_> {
    /// Counts a request that was refused before a route was found. The route's handle counts all others.
    pub fn count_unrouted(&self, metrics: &Metrics) {
        let (method, code) = (self.method.word(), CodeClass::of(self.status).word());
        metrics.requests.with_label_values(&["", "", method, code, self.outcome.word()]).inc();
    }

    /// Writes the access-log line.
    pub fn log(&self) {
        info!(
            target: ALWAYS,
            upstream = self.upstream,
            route = self.route,
            endpoint = self.endpoint.map(|address| address.to_string()).unwrap_or_default(),
            method = self.method.word(),
            status = self.status,
            outcome = self.outcome.word(),
            attempts = self.attempts,
            retry_refused = self.retry_refused.map_or("", |why| why.word()),
            duration_ms = ms(self.duration),
            "request"
        );
    }
}

impl Event<'_> {
    /// Counts and logs the event.
    pub fn emit(&self, metrics: &Metrics) {
        match self {
            Event::Ready { app, admin, workers } => {
                metrics.reload_success_seconds.set(unix_seconds());
                info!(%app, %admin, workers, generation = 1, version = env!("CARGO_PKG_VERSION"), "ready");
            }
            Event::FewDescriptors { descriptors, connections_max } => {
                warn!(descriptors, connections_max, "connections_max lowered: descriptor limit");
            }
            Event::LittleMemory { memory, connections_max } => {
                warn!(memory, connections_max, "connections_max lowered: memory limit");
            }
            Event::MemoryFull { used, max } => warn!(used, max, "memory limit reached"),
            Event::MemoryFree { used, max } => info!(used, max, "memory limit no longer reached"),
            Event::BreakerMoved { upstream, route, scope, endpoint, transition } => {
                let (from, to, reason) = (transition.from.word(), transition.to.word(), transition.reason.word());
                metrics.breaker_transitions.with_label_values(&[*upstream, scope, from, to, reason]).inc();
                let endpoint = endpoint.map(|address| address.to_string()).unwrap_or_default();
                log_breaker(&BreakerLine { upstream, route, scope, endpoint: &endpoint }, transition);
            }
            Event::NameLookedUp { upstream, host, result, is_news } => {
                let label = if result.is_ok() { "ok" } else { "failed" };
                metrics.name_lookups.with_label_values(&[*upstream, label]).inc();
                if *is_news && let Err(reason) = result {
                    warn!(upstream, host, reason, "dns lookup failed");
                }
            }
            Event::EndpointsChanged { upstream, addresses } => info!(upstream, ?addresses, "endpoints changed"),
            Event::Connected { upstream, result } => metrics.connects.with_label_values(&[*upstream, result]).inc(),
            Event::Reloaded { generation, needs_restart } => {
                metrics.reloads.with_label_values(&["accepted"]).inc();
                metrics.reload_successful.set(1);
                metrics.reload_success_seconds.set(unix_seconds());
                info!(generation, "config reloaded");
                if !needs_restart.is_empty() {
                    warn!(keys = needs_restart.join(", "), "config keys changed that need a restart");
                }
            }
            Event::ReloadRejected(faults) => {
                metrics.reloads.with_label_values(&["rejected"]).inc();
                metrics.reload_successful.set(0);
                error!(faults = %faults, "config rejected");
            }
            Event::ConnectionRefused => count_closed(metrics, "connections_max", ""),
            Event::AcceptFailed(reason) => {
                count_closed(metrics, "accept_failed", "");
                error!(%reason, "connection not accepted");
            }
            Event::ConnectionClosed { reason, side } => count_closed(metrics, reason, side),
            Event::Panicked { place } => {
                metrics.panics.inc();
                error!(place, "panicked; what it was about is gone, the rest goes on");
            }
            Event::Asked { path, status } => {
                metrics.admin_requests.with_label_values(&[*path, CodeClass::of(*status).word()]).inc();
            }
            Event::PortShared(app) => warn!(%app, "another process listens on the same port and has its share"),
            Event::HandedOver => info!("listeners handed over"),
            Event::Draining { in_flight } => info!(in_flight, "draining"),
            Event::Drained { cut_off, took } => info!(cut_off, duration_ms = ms(*took), "drained"),
        }
    }
}

fn count_closed(metrics: &Metrics, reason: &'static str, side: &'static str) {
    metrics.connections_closed.with_label_values(&[reason, side]).inc();
}

/// The fields that say which breaker a line is about.
struct BreakerLine<'a> {
    upstream: &'a str,
    route: &'a str,
    scope: &'static str,
    endpoint: &'a str,
}

/// Each state has a constant message, so that a search finds all of its kind.
fn log_breaker(breaker: &BreakerLine, transition: &Transition) {
    let BreakerLine { upstream, route, scope, endpoint } = breaker;
    let (from, to, reason) = (transition.from.word(), transition.to.word(), transition.reason.word());
    match transition.to {
        State::Open => {
            let open_ms = transition.open_for.map(ms);
            warn!(target: ALWAYS, upstream, scope, route, endpoint, from, to, reason, open_ms, "breaker opened");
        }
        State::HalfOpen => {
            info!(target: ALWAYS, upstream, scope, route, endpoint, from, to, reason, "breaker half-open");
        }
        State::Closed => info!(target: ALWAYS, upstream, scope, route, endpoint, from, to, reason, "breaker closed"),
    }
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn unix_seconds() -> f64 {
    clock::wall().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
