//! One attempt: choose an endpoint, get its permit and a connection, send, wait as long as patience lasts, classify.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use outrigger_http1::client::OutgoingRequest;
use outrigger_http1::head::{Name, RequestHead, ResponseHead};
use outrigger_http1::traits::{RequestTraits, switched_protocol};
use outrigger_policy::balance;
use outrigger_policy::breaker::{Breaker, Permit};
use outrigger_policy::deadline::Deadline;
use outrigger_policy::outcome::{Class, Outcome, Pushback};
use outrigger_policy::retry;

use super::body::{Passing, Source};
use super::patience::AttemptPatience;
use super::record::Record;
use crate::clock;
use crate::config::Repeat;
use crate::error::{OpenBreaker, ProxyError};
use crate::events::{self, Event};
use crate::http::body::{Replay, Upload, Upstate};
use crate::http::client::Reuse;
use crate::http::conn::{Conn, SendFailure};
use crate::http::headers;
use crate::http::server::Caller;
use crate::lane::Lane;
use crate::upstream::Endpoint;
use crate::worker::Worker;

/// An answer that a retry supersedes is read to its end if it is no longer than this, so that its connection lives on.
const SUPERSEDED_BYTES_MAX: usize = 16 * 1024;
/// How long that may take beyond the wait before the retry.
const SUPERSEDED_GRACE: Duration = Duration::from_millis(5);

/// Everything that stays the same from attempt to attempt.
pub(super) struct Call {
    pub(super) worker: Rc<Worker>,
    pub(super) lane: Rc<Lane>,
    head: RequestHead,
    pub(super) upload: Upload,
    started: Instant,
    /// The caller addressed us, not the upstream: `Host` becomes the endpoint's.
    pub(super) names_endpoint: bool,
    pub(super) is_repeatable: bool,
    /// The protocols that are asked for.
    pub(super) upgrade: Option<Vec<u8>>,
    /// How the caller wants to be answered.
    pub(super) caller: Rc<Caller>,
    manner: RequestTraits,
    /// Endpoints of the attempts that failed.
    pub(super) tried: Vec<u64>,
}

/// What an attempt came to, for the policies and for the caller.
pub(super) struct Attempt {
    pub(super) outcome: Outcome,
    pub(super) result: Result<Passing, ProxyError>,
    /// Which endpoint it went to.
    pub(super) endpoint: u64,
    /// When it was over, the answer's body apart.
    pub(super) at: Instant,
}

/// An endpoint with an attempt on it: counted as in flight until dropped, and its permit with it.
pub(super) struct Busy {
    pub(super) endpoint: Arc<Endpoint>,
    permit: Option<Permit>,
    worker: Rc<Worker>,
    lane: Rc<Lane>,
}

/// Whether a request may be sent again although it may have been acted on (RFC 9110 §9.2.2, or the route's word).
pub(super) fn is_repeatable(repeat: &Repeat, head: &RequestHead) -> bool {
    let is_idempotent =
        matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
    is_idempotent || repeat.idempotent || (repeat.idempotency_key && head.fields.has(Name::IdempotencyKey))
}

/// Waits until `moment`; meanwhile reads a superseded answer to its end. Returns it if it was read whole.
pub(super) async fn pause(superseded: Option<Passing>, moment: Instant) -> Option<Passing> {
    let whole = match superseded {
        None => None,
        Some(passing) => clock::until(moment + SUPERSEDED_GRACE, read_whole(passing)).await.flatten(),
    };
    clock::sleep_until(moment).await;
    whole
}

async fn read_whole(mut passing: Passing) -> Option<Passing> {
    let mut whole = BytesMut::new();
    while let Some(frame) = passing.body.frame().await {
        let data = frame.ok()?.into_data().ok()?;
        if whole.len() + data.len() > SUPERSEDED_BYTES_MAX {
            return None;
        }
        whole.extend_from_slice(&data);
    }
    Some(Passing { head: passing.head, body: Source::Whole(whole.freeze()), class: passing.class })
}

/// What the caller is told about an open breaker.
pub(super) fn open_breaker(
    scope: &'static str,
    breaker: &Breaker,
    retry_at: Instant,
    now: Instant,
) -> Box<OpenBreaker> {
    let snapshot = breaker.snapshot(now);
    Box::new(OpenBreaker {
        scope,
        rule: snapshot.reason.map_or("", events::rule),
        open_for: now.saturating_duration_since(snapshot.since),
        retry_after: retry_at.saturating_duration_since(now),
    })
}

impl Call {
    pub(super) fn new(
        caller: &Rc<Caller>,
        lane: &Rc<Lane>,
        head: RequestHead,
        upload: Upload,
        started: Instant,
    ) -> Call {
        let (worker, manner) = (Rc::clone(&caller.worker), caller.conn.borrow().traits());
        let (caller, lane) = (Rc::clone(caller), Rc::clone(lane));
        let (names_endpoint, is_repeatable, upgrade, tried) = (false, false, None, Vec::new());
        Call { worker, lane, head, upload, started, names_endpoint, is_repeatable, upgrade, caller, manner, tried }
    }

    /// When the caller's patience ends. It begins when the request is whole: an upload is not the upstream's slowness, and has a limit of its own.
    pub(super) fn deadline(&self) -> Deadline {
        let request = self.lane.policies.timeouts.request;
        match self.upload.state() {
            Upstate::Ended(None) | Upstate::Broken => Deadline::after(self.started, request),
            Upstate::Ended(Some(at)) => Deadline::after(at.max(self.started), request),
            Upstate::AwaitingCaller(_) | Upstate::AwaitingEndpoint(_) => {
                let until_whole = self.upload.whole_by(self.worker.absent());
                let deadline = Deadline::after(clock::now(), request);
                until_whole.map_or(deadline, |at| deadline.min(Deadline::after(at, Duration::ZERO)))
            }
        }
    }

    /// Whether another attempt would find an endpoint.
    pub(super) fn has_endpoint(&self) -> bool {
        let now = clock::now();
        self.lane.upstream.endpoints.load().iter().any(|endpoint| endpoint.admits(now))
    }

    /// Makes one attempt.
    ///
    /// # Errors
    /// A refusal: no endpoint may be tried, so no attempt was made.
    pub(super) async fn attempt(&mut self, record: &mut Record, started: Instant) -> Result<Attempt, ProxyError> {
        let busy = self.choose(started)?;
        record.attempts += 1;
        record.endpoint = Some(busy.endpoint.address);
        let counted =
            Counted { call: self, number: record.attempts, started, outcome: Outcome::CallerGone, over_at: None };
        self.upload.await_endpoint(started);
        let patience = AttemptPatience::new(self, started);
        let sent = self.send(&busy.endpoint, patience, started).await;
        let (now, endpoint) = (clock::now(), busy.endpoint.id);
        let (outcome, result) = match sent {
            Ok((head, conn)) => self.read_head(head, conn, busy, now),
            Err(failure) => {
                busy.settle(failure.outcome.class(), now);
                (failure.outcome, Err(failure.error))
            }
        };
        counted.end(outcome, now);
        Ok(Attempt { outcome, result, endpoint, at: now })
    }

    /// Power of two choices among the endpoints whose breaker admits; one that has not been tried yet goes first.
    fn choose(&self, now: Instant) -> Result<Busy, ProxyError> {
        let endpoints = self.lane.upstream.endpoints.load();
        if endpoints.is_empty() {
            self.lane.upstream.endpoints.lookup.notify_one();
            return Err(ProxyError::NoAddress);
        }
        let admits = |at: usize| endpoints[at].admits(now);
        let is_new = |at: usize| !self.tried.contains(&endpoints[at].id) && admits(at);
        let load = |at: usize| endpoints[at].in_flight.load(Relaxed);
        let mut dice = self.worker.dice();
        // A permit can be refused after all when another worker was faster; each refusal takes one endpoint out.
        for _ in 0..endpoints.len() {
            let choice = balance::pick(endpoints.len(), is_new, load, &mut *dice)
                .or_else(|| balance::pick(endpoints.len(), admits, load, &mut *dice));
            let Some(endpoint) = choice.map(|at| &endpoints[at]) else { break };
            let Some(breaker) = &endpoint.breaker else {
                return Ok(Busy::new(endpoint, None, self));
            };
            let admission = breaker.try_acquire(now, &mut *dice);
            if let Some(moved) = admission.moved {
                self.worker.shared.tell(&Event::BreakerMoved {
                    route: &self.lane,
                    endpoint: Some(endpoint.address),
                    moved,
                });
            }
            if let Ok(permit) = admission.permit {
                return Ok(Busy::new(endpoint, Some(permit), self));
            }
        }
        Err(all_open(&endpoints, now))
    }

    async fn send(
        &self,
        endpoint: &Arc<Endpoint>,
        mut patience: AttemptPatience<'_>,
        now: Instant,
    ) -> Result<(ResponseHead, Conn), SendFailure> {
        let reuse = if self.is_repeatable { Reuse::Any } else { Reuse::Fresh };
        let is_connect = self.head.method == Method::CONNECT;
        if !is_connect && let Some(conn) = self.worker.pool.take(endpoint, reuse, now) {
            match patience.response(conn, self.outgoing(endpoint)).await {
                // It had died while idle. Nothing was written: the same attempt goes on over a new connection, if the body can.
                Err(failure) if failure.outcome == Outcome::Unsent && self.upload.is_replayable() => {
                    self.lane.count_retry(&self.worker.shared.metrics, retry::Reason::Unsent);
                }
                done => return done,
            }
        }
        // Boxed for the same reason as the pause: most requests find a connection.
        let connecting = Box::pin(self.worker.pool.connect(endpoint, self.lane.policies.timeouts.connect));
        let connected = patience.bound(connecting).await?;
        let result = connected.as_ref().map_or_else(|failure| failure.error.row().reason, |_| "ok");
        self.worker.shared.tell(&Event::Connected { upstream: &self.lane.upstream.config.name, result });
        if connected.is_err() {
            self.lane.upstream.endpoints.lookup.notify_one();
        }
        let conn = connected?;
        if is_connect {
            // All that was asked for; not a byte has been sent.
            return Ok((ResponseHead::from_status(StatusCode::OK), conn));
        }
        patience.response(conn, self.outgoing(endpoint)).await
    }

    fn outgoing<'a>(&'a self, endpoint: &'a Endpoint) -> OutgoingRequest<'a, Replay> {
        OutgoingRequest {
            head: &self.head,
            host: self.names_endpoint.then(|| endpoint.authority.as_bytes()),
            length: self.upload.length(),
            expects_continue: self.manner.expects_continue && self.upload.is_untouched(),
            accepts_trailers: self.manner.accepts_trailers && self.upgrade.is_none(),
            limits: self.lane.upstream.config.response,
            body: self.upload.read(),
            upgrade: self.upgrade.as_deref(),
        }
    }

    fn read_head(
        &self,
        mut head: ResponseHead,
        conn: Conn,
        busy: Busy,
        now: Instant,
    ) -> (Outcome, Result<Passing, ProxyError>) {
        if self.head.method == Method::CONNECT {
            return tunnel(head, conn, busy, now);
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(head, conn, busy, now);
        }
        let notes = headers::forward_answer(&mut head);
        let outcome = Outcome::Answered { status: head.status.as_u16(), pushback: notes.pushback };
        let class = outcome.class();
        let source = Source::streaming(conn, busy.answered(class, now), notes.keep_alive);
        (outcome, Ok(Passing { head, body: source, class }))
    }

    /// The endpoint goes on with another protocol, if it is one that was asked for.
    fn switch(
        &self,
        mut head: ResponseHead,
        conn: Conn,
        busy: Busy,
        now: Instant,
    ) -> (Outcome, Result<Passing, ProxyError>) {
        let asked = self.upgrade.as_deref().unwrap_or_default();
        let Some(protocol) = switched_protocol(&head, asked) else {
            busy.settle(Class::Failure, now);
            return (Outcome::Garbled, Err(ProxyError::UnaskedUpgrade));
        };
        headers::forward_answer(&mut head);
        head.fields.append("connection", b"upgrade");
        head.fields.append("upgrade", protocol);
        tunnel(head, conn, busy, now)
    }
}

/// The endpoint is there, and has agreed to the tunnel if it had to.
fn tunnel(head: ResponseHead, conn: Conn, busy: Busy, now: Instant) -> (Outcome, Result<Passing, ProxyError>) {
    let outcome = Outcome::Answered { status: head.status.as_u16(), pushback: Pushback::None };
    let class = outcome.class();
    let body = Source::Tunnel(Box::new((conn, busy.told(class, now))));
    (outcome, Ok(Passing { head, body, class }))
}

/// An attempt, counted when it is over; one that is dropped on its way has lost its caller.
struct Counted<'a> {
    call: &'a Call,
    number: u32,
    started: Instant,
    outcome: Outcome,
    over_at: Option<Instant>,
}

impl Counted<'_> {
    fn end(mut self, outcome: Outcome, at: Instant) {
        (self.outcome, self.over_at) = (outcome, Some(at));
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let Call { worker, lane, .. } = self.call;
        let at = self.over_at.unwrap_or_else(clock::now);
        let took = at.saturating_duration_since(self.started);
        lane.count_attempt(&worker.shared.metrics, self.number, &self.outcome, took);
    }
}

fn all_open(endpoints: &[Arc<Endpoint>], now: Instant) -> ProxyError {
    // The one that admits first decides when coming back makes sense.
    let open = endpoints.iter().filter_map(|endpoint| endpoint.breaker.as_ref());
    let first = open.min_by_key(|breaker| breaker.snapshot(now).reopen_at.unwrap_or(now));
    let Some(breaker) = first else { return ProxyError::NoAddress };
    let snapshot = breaker.snapshot(now);
    let retry_at = snapshot.reopen_at.unwrap_or(now + breaker.config().open_base);
    ProxyError::EndpointsOpen(open_breaker("endpoint", breaker, retry_at, now))
}

impl Busy {
    fn new(endpoint: &Arc<Endpoint>, permit: Option<Permit>, call: &Call) -> Busy {
        endpoint.in_flight.fetch_add(1, Relaxed);
        Busy { endpoint: Arc::clone(endpoint), permit, worker: Rc::clone(&call.worker), lane: Rc::clone(&call.lane) }
    }

    /// An answer's head has come. A probe is settled by it, so that a long stream cannot hold half-open; a failure too. Another answer
    /// is a success only when its body has come whole.
    fn answered(mut self, class: Class, now: Instant) -> Busy {
        if class != Class::Success || self.permit.as_ref().is_some_and(Permit::is_probe) {
            self.tell_breaker(class, now);
        }
        self
    }

    /// The breaker has its result, and the attempt goes on.
    fn told(mut self, class: Class, now: Instant) -> Busy {
        self.tell_breaker(class, now);
        self
    }

    /// The attempt is over.
    pub(super) fn settle(mut self, class: Class, now: Instant) {
        self.tell_breaker(class, now);
    }

    fn tell_breaker(&mut self, class: Class, now: Instant) {
        let (Some(breaker), Some(permit)) = (&self.endpoint.breaker, self.permit.take()) else {
            return;
        };
        if let Some(moved) = breaker.on_result(permit, class, now, &mut *self.worker.dice()) {
            self.worker.shared.tell(&Event::BreakerMoved {
                route: &self.lane,
                endpoint: Some(self.endpoint.address),
                moved,
            });
        }
    }

    /// How long a body may stand still.
    pub(super) fn idle_body(&self) -> Duration {
        self.lane.policies.timeouts.idle_body
    }

    /// Gives a connection back to its pool.
    pub(super) fn put_back(&self, conn: Conn, keep_alive: Option<Duration>, now: Instant) {
        self.worker.pool.put_back(conn, &self.lane.upstream.config.pool, keep_alive, now);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Relaxed);
    }
}
