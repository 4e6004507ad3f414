//! Everything worth counting or telling, each in one place: an event is a metric and, where a person should see it, a log line.
//!
//! Nobody else in the crate logs or touches a counter. Messages are constant, facts are fields; a change is told once, where it happens.

use std::net::SocketAddr;
use std::time::Duration;

use outrigger_policy::breaker::{Reason, State, Transition};
use outrigger_policy::outcome::{Class, Outcome};
use outrigger_policy::retry;
use tracing::{error, info, warn};

use crate::clock;
use crate::config::Faults;
use crate::log::ALWAYS;
use crate::route::Route;
use crate::shared::Shared;

/// What can happen outside of the ordinary way of a request.
pub enum Event<'a> {
    /// Listeners are bound and a configuration is in force.
    Ready {
        /// The app's side.
        app: SocketAddr,
        /// The operator's side.
        admin: SocketAddr,
        /// Worker threads.
        workers: usize,
    },
    /// The system grants fewer descriptors than the allowed connections may need.
    FewDescriptors {
        /// What it grants.
        descriptors: u64,
        /// Connections that they carry.
        connections_max: usize,
    },
    /// A breaker changed its state.
    BreakerMoved {
        /// Whose.
        route: &'a Route,
        /// The endpoint's address, for an endpoint's breaker.
        endpoint: Option<SocketAddr>,
        /// How.
        moved: Transition,
    },
    /// A name was looked up.
    NameLookedUp {
        /// For which upstream.
        upstream: &'a str,
        /// Which name.
        host: &'a str,
        /// What the resolver said, if it failed.
        result: Result<(), String>,
    },
    /// An upstream has other addresses than before.
    EndpointsChanged {
        /// Which.
        upstream: &'a str,
        /// All of them now.
        addresses: &'a [SocketAddr],
    },
    /// A connection to an endpoint was tried.
    Connected {
        /// Whose.
        upstream: &'a str,
        /// `ok`, or the reason why not.
        result: &'static str,
    },
    /// Another configuration is in force.
    Reloaded {
        /// Its number.
        generation: u64,
        /// Keys that changed in the file and need a restart.
        needs_restart: &'a [&'static str],
    },
    /// A configuration was refused; the former one stays.
    ReloadRejected(&'a Faults),
    /// A connection from the app was refused for want of room.
    ConnectionRefused,
    /// The system gave no connection.
    AcceptFailed(&'a std::io::Error),
    /// A connection from the app ended.
    ConnectionClosed(&'static str),
    /// A thread or a task panicked.
    Panicked {
        /// Which line of which file; what was said may hold a part of a request.
        place: &'a str,
    },
    /// Somebody asked on the operator's side.
    Asked {
        /// A path that there is, or `other`.
        path: &'static str,
        /// 0 if there was no answer: no head came in time, or before its place was needed.
        status: u16,
    },
    /// Another process listens on our ports; the app's is this one.
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

impl Shared {
    /// Counts and logs one event.
    pub fn tell(&self, event: &Event) {
        let metrics = &self.metrics;
        match event {
            Event::Ready { app, admin, workers } => {
                metrics.generation.set(1);
                metrics.reload_success_seconds.set(unix_seconds());
                info!(%app, %admin, workers, generation = 1, version = env!("CARGO_PKG_VERSION"), "ready");
            }
            Event::FewDescriptors { descriptors, connections_max } => {
                warn!(
                    descriptors,
                    connections_max, "the descriptor limit carries fewer connections than listen.connections_max"
                );
            }
            Event::BreakerMoved { route, endpoint, moved } => self.tell_breaker(route, *endpoint, moved),
            Event::NameLookedUp { upstream, host, result } => {
                let label = if result.is_ok() { "ok" } else { "failed" };
                metrics.name_lookups.with_label_values(&[*upstream, label]).inc();
                if let Err(reason) = result {
                    warn!(upstream, host, reason, "name not resolved");
                }
            }
            Event::EndpointsChanged { upstream, addresses } => info!(upstream, ?addresses, "endpoints changed"),
            Event::Connected { upstream, result } => metrics.connects.with_label_values(&[*upstream, result]).inc(),
            Event::Reloaded { generation, needs_restart } => {
                metrics.reloads.with_label_values(&["accepted"]).inc();
                metrics.reload_successful.set(1);
                metrics.reload_success_seconds.set(unix_seconds());
                metrics.generation.set(i64::try_from(*generation).unwrap_or(i64::MAX));
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
            Event::ConnectionRefused => metrics.connections_closed.with_label_values(&["connections_max"]).inc(),
            Event::AcceptFailed(reason) => {
                metrics.connections_closed.with_label_values(&["accept_failed"]).inc();
                error!(%reason, "connection not accepted");
            }
            Event::ConnectionClosed(reason) => metrics.connections_closed.with_label_values(&[reason]).inc(),
            Event::Panicked { place } => {
                metrics.panics.inc();
                error!(place, "panicked; what it was about is gone, the rest goes on");
            }
            Event::Asked { path, status } => {
                metrics.admin_requests.with_label_values(&[*path, code_class(*status)]).inc();
            }
            Event::PortShared(app) => warn!(%app, "another process listens on the same port and has its share"),
            Event::HandedOver => info!("handed over"),
            Event::Draining { in_flight } => info!(in_flight, "draining"),
            Event::Drained { cut_off, took } => info!(cut_off, took_ms = ms(*took), "drained"),
        }
    }

    fn tell_breaker(&self, route: &Route, endpoint: Option<SocketAddr>, moved: &Transition) {
        let upstream = &*route.upstream.config.name;
        let scope = if endpoint.is_some() { "endpoint" } else { route.breaker_scope };
        let (from, to, reason) = (state(moved.from), state(moved.to), rule(moved.reason));
        self.metrics.breaker_transitions.with_label_values(&[upstream, scope, from, to, reason]).inc();
        let endpoint = endpoint.map(|address| address.to_string()).unwrap_or_default();
        let route = if scope == "route" { &*route.name } else { "" };
        match moved.open_for {
            Some(open_for) => {
                warn!(target: ALWAYS, upstream, scope, route, endpoint, from, to, reason, open_ms = ms(open_for), "breaker moved");
            }
            None => info!(target: ALWAYS, upstream, scope, route, endpoint, from, to, reason, "breaker moved"),
        }
    }
}

/// What happened to a request, told when its last byte has gone.
pub struct Exchange<'a> {
    /// `None` if it was refused before a route was found.
    pub route: Option<&'a Route>,
    /// One of the standard methods, or `other`.
    pub method: &'static str,
    /// Of the answer; 0 if there was none.
    pub status: u16,
    /// `success`, `failure`, `overload`, a [`crate::error::Row`]'s reason, `truncated`, `stalled` or `caller_gone`.
    pub outcome: &'static str,
    /// Times it was sent.
    pub attempts: u32,
    /// Where the last attempt went.
    pub endpoint: Option<SocketAddr>,
    /// Why there was no further attempt, if one was called for.
    pub given_up: Option<retry::Refused>,
    /// From head to last byte.
    pub took: Duration,
}

impl Exchange<'_> {
    /// Values of the labels `method`, `code` and `outcome`.
    pub fn labels(&self) -> [&'static str; 3] {
        [self.method, code_class(self.status), self.outcome]
    }
}

impl Shared {
    /// Counts a request that was refused before a route was found; the others are counted by their [`Lane`](crate::lane::Lane).
    pub fn count_unrouted(&self, exchange: &Exchange) {
        let [method, code, outcome] = exchange.labels();
        self.metrics.requests.with_label_values(&["", "", method, code, outcome]).inc();
    }

    /// Logs a request that has ended.
    pub fn log_exchange(&self, exchange: &Exchange) {
        let (upstream, route) = exchange.route.map_or(("", ""), |route| (&*route.upstream.config.name, &*route.name));
        let endpoint = exchange.endpoint.map(|address| address.to_string()).unwrap_or_default();
        info!(
            target: ALWAYS,
            upstream,
            route,
            endpoint,
            method = exchange.method,
            status = exchange.status,
            outcome = exchange.outcome,
            attempts = exchange.attempts,
            given_up = exchange.given_up.map_or("", refused),
            took_ms = ms(exchange.took),
            "exchange"
        );
    }
}

/// The word for a state, in labels and logs.
pub fn state(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Open => "open",
        State::HalfOpen => "half_open",
    }
}

/// The word for the rule that moved a breaker.
pub fn rule(reason: Reason) -> &'static str {
    match reason {
        Reason::FailureRatio => "failure_ratio",
        Reason::ConsecutiveFailures => "consecutive_failures",
        Reason::OpenTimeOver => "open_time_over",
        Reason::ProbeFailed => "probe_failed",
        Reason::ProbeExpired => "probe_expired",
        Reason::ProbesSucceeded => "probes_succeeded",
    }
}

/// The word for what stood in the way of a retry.
pub fn refused(why: retry::Refused) -> &'static str {
    match why {
        retry::Refused::Attempts => "attempts",
        retry::Refused::NotRepeatable => "not_repeatable",
        retry::Refused::BodyTooLarge => "body_too_large",
        retry::Refused::Pushback => "pushback",
        retry::Refused::Deadline => "deadline",
        retry::Refused::NoEndpoint => "no_endpoint",
        retry::Refused::Budget => "budget",
    }
}

/// The word for how an answer counts.
pub fn class(class: Class) -> &'static str {
    match class {
        Class::Success => "success",
        Class::Failure => "failure",
        Class::Overload => "overload",
        Class::Neutral => "neutral",
    }
}

/// The word for what made a retry necessary.
pub fn retry_reason(reason: retry::Reason) -> &'static str {
    match reason {
        retry::Reason::ConnectFailure => "connect_failure",
        retry::Reason::Reset => "reset",
        retry::Reason::AttemptTimeout => "attempt_timeout",
        retry::Reason::Status => "status",
        retry::Reason::Unsent => "unsent",
    }
}

/// The word for how an attempt ended.
pub fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answered { .. } => class(outcome.class()),
        Outcome::ConnectFailed => "connect_failed",
        Outcome::Unsent => "unsent",
        Outcome::Reset { .. } => "reset",
        Outcome::AttemptTimedOut => "attempt_timeout",
        Outcome::Garbled => "garbled",
        Outcome::CallerGone => "caller_gone",
        Outcome::CallerFault => "caller_fault",
    }
}

fn code_class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        0 => "none",
        _ => "other",
    }
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn unix_seconds() -> f64 {
    clock::wall().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
