//! The accounting of one exchange. It collects the decisions and the outcomes, and counts and logs them once, when the exchange ends.
//!
//! The record is the observer of its request's decisions. It owns no slot, permit or lease; those are guards of their own.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use http::Method;
use outrigger_policy::observe::{self, Decision, Observer, Scope};
use outrigger_policy::outcome::Outcome;
use outrigger_policy::retry::{Reason, Refused};
use outrigger_policy::upload::Side;

use crate::clock::{self, Rng};
use crate::downstream::progress::Ending;
use crate::downstream::stream::Downstream;
use crate::downstream::upload::Upload;
use crate::telemetry::events::{Event, RequestSummary};
use crate::telemetry::labels::{MethodLabel, RequestOutcome};
use crate::upstream::endpoint::Target;
use crate::worker::context::Context;
use crate::worker::handle::RouteHandle;

/// What a decision about an exchange needs: the moment, the rng, and the record as the observer.
pub(super) type Decide<'a> = observe::Context<'a, Rng, Record>;

/// An exchange under way.
pub(super) struct Record {
    pub(super) context: Rc<Context>,
    pub(super) downstream: Rc<Downstream>,
    pub(super) started: Instant,
    /// The request's body.
    pub(super) upload: Upload,
    handle: Option<Rc<RouteHandle>>,
    method: MethodLabel,
    attempts: Attempts,
    /// Why a retry is due that has been decided and not sent. It counts when it is sent.
    due_retry: Option<Reason>,
    retry_refused: Option<Refused>,
    status: u16,
    /// How the exchange ended, and when.
    outcome: Option<(RequestOutcome, Instant)>,
    is_counted: bool,
}

/// The account of one attempt.
#[derive(Clone, Copy)]
struct Attempt {
    endpoint: SocketAddr,
    began: Instant,
    /// How the attempt ended, and when; `None` while it is in flight.
    ended: Option<(Outcome, Instant)>,
}

/// All attempts in their order. Most requests make one attempt, which needs no allocation.
#[derive(Default)]
struct Attempts {
    first: Option<Attempt>,
    more: Vec<Attempt>,
}

impl Record {
    pub(super) fn begin(
        context: &Rc<Context>,
        downstream: &Rc<Downstream>,
        method: Option<&Method>,
        now: Instant,
    ) -> Box<Record> {
        downstream.progress.enter_exchange(!downstream.stream.has_body_ended());
        context.begin_request();
        // Boxed, because it moves many times before the last byte.
        Box::new(Record {
            context: Rc::clone(context),
            downstream: Rc::clone(downstream),
            started: now,
            upload: Upload::default(),
            handle: None,
            method: method.map_or(MethodLabel::Other, MethodLabel::of),
            attempts: Attempts::default(),
            due_retry: None,
            retry_refused: None,
            status: 0,
            outcome: None,
            is_counted: false,
        })
    }

    /// Notes the route of the request.
    pub(super) fn routed(&mut self, handle: &Rc<RouteHandle>) {
        self.handle = Some(Rc::clone(handle));
    }

    /// The route of the request, if one was found.
    pub(super) fn handle(&self) -> Option<&Rc<RouteHandle>> {
        self.handle.as_ref()
    }

    /// Runs `decide` at `now` with the worker's rng and this record as the observer.
    pub(super) fn decide<T>(&mut self, now: Instant, decide: impl FnOnce(&mut Decide<'_>) -> T) -> T {
        let context = Rc::clone(&self.context);
        let mut rng = context.rng();
        decide(&mut Decide { now, rng: &mut *rng, observer: self })
    }

    /// Attempts made so far.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts.count()
    }

    /// Why there was no further retry, if one was due.
    pub(super) fn retry_refused(&self) -> Option<Refused> {
        self.retry_refused
    }

    /// Notes the status of the response that goes downstream.
    pub(super) fn responds(&mut self, status: u16) {
        self.status = status;
    }

    /// Notes how the exchange ends, and when. Only the first note counts.
    pub(super) fn ends(&mut self, outcome: RequestOutcome, now: Instant) {
        self.outcome.get_or_insert((outcome, now));
    }

    /// Whether the exchange was ended because the endpoint stopped sending.
    fn has_idle_endpoint(&self) -> bool {
        self.downstream.progress.ending() == Some(Ending::BodyIdleTimeout(Side::Endpoint))
    }

    /// Counts and logs the exchange, once.
    pub(super) fn count(&mut self) {
        if std::mem::replace(&mut self.is_counted, true) {
            return;
        }
        let without_end = || match self.has_idle_endpoint() {
            true => RequestOutcome::BodyIdleTimeout,
            false => RequestOutcome::DownstreamDisconnect,
        };
        let (outcome, now) = self.outcome.unwrap_or_else(|| (without_end(), clock::now()));
        self.count_unfinished_attempts(now);
        let handle = self.handle.as_ref();
        let summary = RequestSummary {
            upstream: handle.map_or("", |handle| &handle.upstream.config.name),
            route: handle.map_or("", |handle| &handle.name),
            method: self.method,
            status: self.status,
            outcome,
            attempts: self.attempts.count(),
            endpoint: self.attempts.last().map(|attempt| attempt.endpoint),
            retry_refused: self.retry_refused,
            duration: now.saturating_duration_since(self.started),
        };
        let metrics = &self.context.shared.metrics;
        match handle {
            Some(handle) => handle.count_request(metrics, &self.context.unflushed, &summary),
            None => summary.count_unrouted(metrics),
        }
        if self.context.live().config.log.access {
            summary.log();
        }
    }

    fn end_attempt(&mut self, number: u32, outcome: Outcome, now: Instant) {
        let Some(attempt) = self.attempts.get_mut(number) else { return };
        attempt.ended = Some((outcome, now));
        let duration = now.saturating_duration_since(attempt.began);
        if let Some(handle) = &self.handle {
            handle.count_attempt(&self.context.shared.metrics, number, &outcome, duration);
        }
    }

    /// Counts the attempts in flight, which have ended because the downstream disconnected.
    fn count_unfinished_attempts(&mut self, now: Instant) {
        for number in 1..=self.attempts.count() {
            if self.attempts.get_mut(number).is_some_and(|attempt| attempt.ended.is_none()) {
                self.end_attempt(number, Outcome::DownstreamDisconnect, now);
            }
        }
    }
}

impl Observer<Target> for Record {
    fn on(&mut self, now: Instant, decision: Decision<'_, Target>) {
        let (Some(handle), shared) = (&self.handle, &self.context.shared) else { return };
        match decision {
            Decision::BreakerMoved { scope, transition } => {
                let (scope, endpoint) = match scope {
                    Scope::Calls => (handle.breaker_scope, None),
                    Scope::Endpoint(endpoint) => ("endpoint", Some(endpoint.at.address)),
                };
                let (upstream, route) =
                    (&*handle.upstream.config.name, if scope == "route" { &*handle.name } else { "" });
                shared.emit(&Event::BreakerMoved { upstream, route, scope, endpoint, transition });
            }
            Decision::Attempt { endpoint, .. } => {
                if let Some(reason) = self.due_retry.take() {
                    handle.count_retry(&shared.metrics, reason);
                }
                self.attempts.push(Attempt { endpoint: endpoint.at.address, began: now, ended: None });
            }
            Decision::Ended { number, outcome } => self.end_attempt(number, outcome, now),
            Decision::Cancelled { number } => self.end_attempt(number, Outcome::Superseded, now),
            Decision::Retry { reason, .. } => self.due_retry = Some(reason),
            Decision::NoRetry { why, .. } => {
                handle.count_retry_refused(&shared.metrics, &why);
                self.retry_refused = Some(why);
            }
            Decision::Admitted { .. } | Decision::Rejected(_) | Decision::NoHedge { .. } => {}
            Decision::Held { .. } | Decision::Queued { .. } => {}
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.count();
        self.context.end_request();
        self.downstream.progress.leave(!self.downstream.stream.has_body_ended());
    }
}

impl Attempts {
    fn push(&mut self, attempt: Attempt) {
        if self.first.is_none() {
            self.first = Some(attempt);
        } else {
            self.more.push(attempt);
        }
    }

    fn count(&self) -> u32 {
        u32::from(self.first.is_some()) + u32::try_from(self.more.len()).unwrap_or(u32::MAX)
    }

    fn last(&self) -> Option<&Attempt> {
        self.more.last().or(self.first.as_ref())
    }

    /// Attempt `number`; 1 is the first.
    fn get_mut(&mut self, number: u32) -> Option<&mut Attempt> {
        match number.checked_sub(2) {
            None => self.first.as_mut(),
            Some(at) => self.more.get_mut(at as usize),
        }
    }
}
