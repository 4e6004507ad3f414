//! A route as one worker sees it: the route, and this worker's counts for it.
//!
//! If all workers wrote the same counters, the cache lines would move from core to core several times a request. So a worker counts for itself. It adds its
//! counts to the [`Metrics`] when it has nothing in flight, at the latest with its next tick. A scrape is never more than a tick behind.

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

/// Counts that are not in the metrics yet.
struct Tally {
    counters: RefCell<Vec<(Series, LocalIntCounter)>>,
    request_seconds: LocalHistogram,
    attempt_seconds: LocalHistogram,
}

/// One of a route's series. A worker uses few of them, so a linear search finds them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Series {
    Requests(MethodLabel, CodeClass, RequestOutcome),
    Attempts(AttemptOutcome),
    Retries(retry::Reason),
    RetryResults(AttemptOutcome),
    RetriesRefused(Discriminant<retry::Refused>),
}

/// The part of an outcome that its label depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct AttemptOutcome(Discriminant<Outcome>, Class);

impl RouteHandle {
    /// A handle for `route` with empty counts.
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

    /// Counts an attempt. The count reaches the metrics when its request has been counted.
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

    /// Counts a retry.
    pub fn count_retry(&self, metrics: &Metrics, reason: retry::Reason) {
        self.add(Series::Retries(reason), |[upstream, route]| {
            metrics.retries.with_label_values(&[upstream, route, reason.word()])
        });
    }

    /// Counts a retry that the policies refused.
    pub fn count_retry_refused(&self, metrics: &Metrics, why: &retry::Refused) {
        self.add(Series::RetriesRefused(discriminant(why)), |[upstream, route]| {
            metrics.retries_refused.with_label_values(&[upstream, route, why.word()])
        });
        if matches!(why, retry::Refused::Budget(_)) {
            self.route.metrics.budget_exhausted.inc();
        }
    }

    /// Adds one to `series`. `resolve` finds its counter the first time, from the names of upstream and route.
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
    /// Adds all counts to the metrics.
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
    /// Flushes once more, because an attempt may end after its request.
    fn drop(&mut self) {
        self.flush();
    }
}
