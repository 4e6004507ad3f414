//! A route as one worker sees it: the route, and what was counted of it here.
//!
//! Counters that all workers write pass their cache lines from core to core several times a request. So a worker counts for itself and adds what it has to
//! the [`Metrics`] when it has nothing in flight, at the latest with its next tick: a scrape is never more than a tick behind.

use std::cell::{Cell, RefCell};
use std::mem::{Discriminant, discriminant};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use outrigger_policy::outcome::{Class, Outcome};
use outrigger_policy::retry;
use prometheus::IntCounter;
use prometheus::local::{LocalHistogram, LocalIntCounter};

use crate::live::route::Route;
use crate::telemetry::events::RequestSummary;
use crate::telemetry::labels::{CodeClass, MethodLabel, RequestOutcome};
use crate::telemetry::metrics::Metrics;

/// A worker's view of a route.
pub struct RouteHandle {
    route: Arc<Route>,
    tally: Tally,
    is_queued: Cell<bool>,
}

/// Handles that have counted something since they were last flushed.
#[derive(Default)]
pub struct Unflushed(RefCell<Vec<Rc<RouteHandle>>>);

/// What was counted and is not yet in the metrics.
struct Tally {
    counters: RefCell<Vec<(Series, LocalIntCounter)>>,
    request_seconds: LocalHistogram,
    attempt_seconds: LocalHistogram,
}

/// One of a route's series; a worker meets few of them, so they are found by looking through a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Series {
    Requests(MethodLabel, CodeClass, RequestOutcome),
    Attempts(AttemptOutcome),
    Retries(retry::Reason),
    RetryResults(AttemptOutcome),
    RetriesRefused(Discriminant<retry::Refused>),
}

/// As much of an outcome as its word tells.
#[derive(Clone, Copy, PartialEq, Eq)]
struct AttemptOutcome(Discriminant<Outcome>, Class);

impl RouteHandle {
    /// For `route`, with nothing counted.
    pub fn new(route: Arc<Route>) -> Rc<RouteHandle> {
        let tally = Tally {
            counters: RefCell::default(),
            request_seconds: route.metrics.seconds.local(),
            attempt_seconds: route.upstream.metrics.attempt_seconds.local(),
        };
        Rc::new(RouteHandle { route, tally, is_queued: Cell::new(false) })
    }

    /// Counts a request that has ended.
    pub fn count_request(self: &Rc<Self>, metrics: &Metrics, unflushed: &Unflushed, request: &RequestSummary) {
        let RequestSummary { method, outcome, .. } = *request;
        let code = CodeClass::of(request.status);
        self.add(Series::Requests(method, code, outcome), |[upstream, route]| {
            metrics.requests.with_label_values(&[upstream, route, method.word(), code.word(), outcome.word()])
        });
        self.tally.request_seconds.observe(request.duration.as_secs_f64());
        if !self.is_queued.replace(true) {
            unflushed.0.borrow_mut().push(Rc::clone(self));
        }
    }

    /// Counts an attempt. It shows when its request has been counted.
    pub fn count_attempt(&self, metrics: &Metrics, number: u32, outcome: &Outcome, duration: Duration) {
        let key = AttemptOutcome(discriminant(outcome), outcome.class());
        self.add(Series::Attempts(key), |[upstream, _]| {
            metrics.attempts.with_label_values(&[upstream, outcome.word()])
        });
        if number > 1 {
            self.add(Series::RetryResults(key), |[upstream, route]| {
                metrics.retry_results.with_label_values(&[upstream, route, outcome.word()])
            });
        }
        self.tally.attempt_seconds.observe(duration.as_secs_f64());
    }

    /// Counts a retry that is made.
    pub fn count_retry(&self, metrics: &Metrics, reason: retry::Reason) {
        self.add(Series::Retries(reason), |[upstream, route]| {
            metrics.retries.with_label_values(&[upstream, route, reason.word()])
        });
    }

    /// Counts a retry that is not made.
    pub fn count_retry_refused(&self, metrics: &Metrics, why: &retry::Refused) {
        self.add(Series::RetriesRefused(discriminant(why)), |[upstream, route]| {
            metrics.retries_refused.with_label_values(&[upstream, route, why.word()])
        });
        if matches!(why, retry::Refused::Budget(_)) {
            self.route.metrics.budget_exhausted.inc();
        }
    }

    /// Adds one to `series`. It is resolved when it is met first, with the names of upstream and route.
    fn add(&self, series: Series, resolve: impl FnOnce([&str; 2]) -> IntCounter) {
        let mut counters = self.tally.counters.borrow_mut();
        if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == series) {
            return counter.inc();
        }
        let counter = resolve([&self.route.upstream.config.name, &self.route.name]).local();
        counter.inc();
        counters.push((series, counter));
    }
}

impl Deref for RouteHandle {
    type Target = Route;

    fn deref(&self) -> &Route {
        &self.route
    }
}

impl Unflushed {
    /// Adds everything to the metrics.
    pub fn flush(&self) {
        for handle in self.0.borrow_mut().drain(..) {
            handle.is_queued.set(false);
            handle.tally.flush();
        }
    }
}

impl Tally {
    fn flush(&self) {
        self.counters.borrow().iter().for_each(|(_, counter)| counter.flush());
        self.request_seconds.flush();
        self.attempt_seconds.flush();
    }
}

impl Drop for Tally {
    /// An attempt may end after its request: it went on in the background.
    fn drop(&mut self) {
        self.flush();
    }
}
