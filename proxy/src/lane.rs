//! A route as one worker sees it: the route, and what was counted of it here.
//!
//! Counters that all workers write pass their cache lines from core to core several times a request. So a worker counts for itself and adds what it has to
//! the [`Metrics`](crate::metrics::Metrics) when it has nothing under way, at the latest with its next tick: a scrape is never more than a tick behind.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use outrigger_policy::outcome::Outcome;
use outrigger_policy::retry;
use prometheus::IntCounter;
use prometheus::local::{LocalHistogram, LocalIntCounter};

use crate::events::{self, Exchange};
use crate::metrics::Metrics;
use crate::route::Route;

/// A worker's view of a route.
pub struct Lane {
    route: Arc<Route>,
    tally: Tally,
    is_queued: Cell<bool>,
}

/// Lanes that have counted something since they were last flushed.
#[derive(Default)]
pub struct Unflushed(RefCell<Vec<Rc<Lane>>>);

/// What was counted and is not yet in the metrics.
struct Tally {
    counters: RefCell<Vec<(Series, LocalIntCounter)>>,
    request_seconds: LocalHistogram,
    attempt_seconds: LocalHistogram,
}

/// One of a route's series; a worker meets few of them, so they are found by looking through a list.
#[derive(Clone, Copy)]
struct Series {
    family: Family,
    labels: [&'static str; 3],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Requests,
    Attempts,
    Retries,
    RetryResults,
    RetriesRefused,
}

impl Lane {
    /// For `route`, with nothing counted.
    pub fn new(route: Arc<Route>) -> Rc<Lane> {
        let tally = Tally {
            counters: RefCell::default(),
            request_seconds: route.metrics.seconds.local(),
            attempt_seconds: route.upstream.metrics.attempt_seconds.local(),
        };
        Rc::new(Lane { route, tally, is_queued: Cell::new(false) })
    }

    /// Counts a request that has ended.
    pub fn count_exchange(self: &Rc<Self>, metrics: &Metrics, unflushed: &Unflushed, exchange: &Exchange) {
        self.add(metrics, Family::Requests, exchange.labels());
        self.tally.request_seconds.observe(exchange.took.as_secs_f64());
        if !self.is_queued.replace(true) {
            unflushed.0.borrow_mut().push(Rc::clone(self));
        }
    }

    /// Counts an attempt. It shows when its exchange has been counted.
    pub fn count_attempt(&self, metrics: &Metrics, number: u32, outcome: &Outcome, took: Duration) {
        let label = events::outcome(outcome);
        self.add(metrics, Family::Attempts, [label, "", ""]);
        if number > 1 {
            self.add(metrics, Family::RetryResults, [label, "", ""]);
        }
        self.tally.attempt_seconds.observe(took.as_secs_f64());
    }

    /// Counts a retry that is made.
    pub fn count_retry(&self, metrics: &Metrics, reason: retry::Reason) {
        self.add(metrics, Family::Retries, [events::retry_reason(reason), "", ""]);
    }

    /// Counts a retry that is not made.
    pub fn count_retry_refused(&self, metrics: &Metrics, why: retry::Refused) {
        self.add(metrics, Family::RetriesRefused, [events::refused(why), "", ""]);
        if why == retry::Refused::Budget {
            self.route.metrics.budget_exhausted.inc();
        }
    }

    fn add(&self, metrics: &Metrics, family: Family, labels: [&'static str; 3]) {
        let wanted = Series { family, labels };
        let mut counters = self.tally.counters.borrow_mut();
        if let Some((_, counter)) = counters.iter().find(|(series, _)| series.is(&wanted)) {
            return counter.inc();
        }
        let counter = self.resolve(metrics, wanted).local();
        counter.inc();
        counters.push((wanted, counter));
    }

    fn resolve(&self, metrics: &Metrics, Series { family, labels: [a, b, c] }: Series) -> IntCounter {
        let (upstream, route) = (&*self.route.upstream.config.name, &*self.route.name);
        match family {
            Family::Requests => metrics.requests.with_label_values(&[upstream, route, a, b, c]),
            Family::Attempts => metrics.attempts.with_label_values(&[upstream, a]),
            Family::Retries => metrics.retries.with_label_values(&[upstream, route, a]),
            Family::RetryResults => metrics.retry_results.with_label_values(&[upstream, route, a]),
            Family::RetriesRefused => metrics.retries_refused.with_label_values(&[upstream, route, a]),
        }
    }
}

impl Deref for Lane {
    type Target = Route;

    fn deref(&self) -> &Route {
        &self.route
    }
}

impl Unflushed {
    /// Adds everything to the metrics.
    pub fn flush(&self) {
        for lane in self.0.borrow_mut().drain(..) {
            lane.is_queued.set(false);
            lane.tally.flush();
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
    /// An attempt may end after its exchange: its answer was superseded, or it went on in the background.
    fn drop(&mut self) {
        self.flush();
    }
}

impl Series {
    /// Whether they are the same literals. Equal words at two addresses would be two entries of one series, and both would be added up.
    fn is(&self, other: &Series) -> bool {
        let same = |(a, b): (&&'static str, &&'static str)| std::ptr::eq(*a, *b);
        self.family == other.family && self.labels.iter().zip(&other.labels).all(same)
    }
}
