//! One attempt: takes a stream to the chosen endpoint, sends the request over it, and waits for the head of the response.
//!
//! Two attempts may be in flight; they know nothing of each other. [`outrigger_policy::deadline`] decides how long one may take. It measures the endpoint: time
//! that the downstream or this process loses does not count.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Cx, Poll, ready};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use outrigger_http1::client::{OutgoingRequest, ResponseEvent};
use outrigger_http1::encode::BodyLength;
use outrigger_http1::head::{RequestHead, ResponseHead};
use outrigger_http1::traits::{RequestTraits, requested_upgrade, switched_protocol};
use outrigger_policy::balance::Lease;
use outrigger_policy::deadline::Attempt;
use outrigger_policy::lag::{Forgiveness, Lag};
use outrigger_policy::outcome::{Outcome, Pushback};
use outrigger_policy::retry;
use outrigger_policy::upload::{Look, Pace};

use super::forward;
use super::record::Record;
use crate::clock::{self, Alarm};
use crate::downstream::stream::Downstream;
use crate::downstream::upload::{Replay, Upload};
use crate::error::ProxyError;
use crate::telemetry::events::Event;
use crate::upstream::endpoint::{Endpoint, Target};
use crate::upstream::pool::Reuse;
use crate::upstream::stream::{SendFailure, Stream};
use crate::worker::context::Context;
use crate::worker::handle::RouteHandle;

/// How long a body waits for the endpoint's 100 before it is sent anyway. RFC 9110 §10.1.1 leaves the time to us; curl uses the same.
const CONTINUE_MAX: Duration = Duration::from_secs(1);

/// Everything that stays the same from attempt to attempt.
pub(super) struct Sender {
    pub(super) context: Rc<Context>,
    pub(super) handle: Rc<RouteHandle>,
    pub(super) upload: Upload,
    downstream: Rc<Downstream>,
    head: RequestHead,
    /// When the request began.
    begun: Instant,
    /// The worker's scheduling lag since then, as far as it is forgiven.
    forgiveness: RefCell<Forgiveness>,
    host: HostField,
    reuse: Reuse,
    /// The protocols that the request asks to upgrade to, if any are allowed.
    upgrade: Option<Vec<u8>>,
    traits: RequestTraits,
}

/// Which `Host` the endpoint gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HostField {
    /// The one that the request came with.
    Kept,
    /// The endpoint's own, because the request was addressed to the proxy and not to the upstream.
    OfEndpoint,
}

/// An attempt that has ended, as far as the head of its response.
pub(super) struct Attempted {
    /// 1 is the first.
    pub(super) number: u32,
    pub(super) lease: Lease<Target>,
    pub(super) outcome: Outcome,
    pub(super) result: Result<Arrived, ProxyError>,
    /// When it failed or the head of its response came.
    pub(super) at: Instant,
}

/// A response whose head has come.
pub(super) struct Arrived {
    pub(super) head: ResponseHead,
    pub(super) stream: Stream,
    pub(super) follows: Follows,
}

/// What follows the head of a response.
pub(super) enum Follows {
    /// A body, and after which idle time the endpoint closes the connection, if it says so.
    Body(Option<Duration>),
    /// A tunnel.
    Tunnel,
}

impl Sender {
    /// For an admitted request. `head` is as the downstream sent it.
    pub(super) fn new(
        record: &mut Record,
        handle: Rc<RouteHandle>,
        mut head: RequestHead,
        (host, reuse): (HostField, Reuse),
    ) -> Sender {
        let (context, downstream) = (Rc::clone(&record.context), Rc::clone(&record.downstream));
        let (config, begun) = (&handle.config, record.started);
        let timeouts = &config.timeouts;
        let forgiveness = Forgiveness::new(context.lag(), timeouts.request);
        let pace = || Pace::new(begun, forgiveness, timeouts.upload, timeouts.upload_bytes_per_second_min);
        // Bodies of requests that are not repeatable are kept too: an attempt that provably sent nothing may be retried.
        let upload = Upload::new(&downstream.stream, config.repeat.replay_bytes_max, &context.shared.replay, pace);
        if let Some(left) = forward::max_forwards(&head) {
            forward::forward_one_fewer(&mut head, left);
        }
        // A request with a body cannot become a tunnel.
        let has_body = upload.length() != BodyLength::None;
        let upgrade = requested_upgrade(&head, &config.upgrade).filter(|_| !has_body);
        forward::forward_request(&mut head);
        record.upload = upload.clone();
        let traits = downstream.stream.traits();
        let forgiveness = RefCell::new(forgiveness);
        Sender { context, handle, upload, downstream, head, begun, forgiveness, host, reuse, upgrade, traits }
    }

    /// How much of the lag is forgiven to the request so far.
    pub(super) fn forgiven(&self, lag: Lag) -> Duration {
        self.forgiveness.borrow_mut().notice(lag)
    }

    /// Makes attempt `number`, which began at `started`, at the endpoint of `lease`. No other attempt uses `alarm` meanwhile.
    pub(super) async fn attempt(
        &self,
        number: u32,
        lease: Lease<Target>,
        started: Instant,
        alarm: AttemptAlarm,
    ) -> Attempted {
        let lag_before = self.context.lag();
        let forgiven_before = self.forgiven(lag_before);
        let timer = Timer { sender: self, alarm, started, lag_before, forgiven_before, look: Cell::default() };
        let sent = self.send(lease.endpoint(), &timer).await;
        let at = clock::now();
        let (outcome, result) = match sent {
            Ok((head, stream)) => self.read_head(head, stream),
            // The body goes on, but not for this attempt: the other one in flight has read a piece that was not kept.
            Err(SendFailure { error: ProxyError::MalformedRequestBody, .. }) if !self.upload.is_broken() => {
                (Outcome::Superseded, Err(ProxyError::Reset))
            }
            Err(SendFailure { outcome, error }) => (outcome, Err(error)),
        };
        Attempted { number, lease, outcome, result, at }
    }

    async fn send(&self, endpoint: &Arc<Endpoint>, timer: &Timer<'_>) -> Result<(ResponseHead, Stream), SendFailure> {
        let is_connect = self.head.method == Method::CONNECT;
        if !is_connect && let Some(stream) = self.context.pool.reuse(endpoint, self.reuse, timer.started) {
            match self.response(stream, endpoint, timer).await {
                // The connection had died while idle, and no byte was written. The same attempt goes on over a new one, if the body can be replayed.
                Err(failure) if failure.outcome == Outcome::Unsent && self.upload.is_replayable() => {
                    self.handle.count_retry(&self.context.shared.metrics, retry::Reason::Unsent);
                }
                done => return done,
            }
        }
        // Boxed, because most requests find an idle connection.
        let connecting = Box::pin(self.context.pool.connect(endpoint, self.handle.config.timeouts.connect));
        let connected = timer.bound(connecting).await?;
        let result = connected.as_ref().map_or_else(|failure| failure.error.reason().word(), |_| "ok");
        self.context.shared.emit(&Event::Connected { upstream: &self.handle.upstream.config.name, result });
        if connected.is_err() {
            self.handle.upstream.endpoints.ask_for_lookup();
        }
        let stream = connected?;
        if is_connect {
            // A CONNECT asks for the connection alone, so nothing is sent.
            return Ok((ResponseHead::from_status(StatusCode::OK), stream));
        }
        self.response(stream, endpoint, timer).await
    }

    /// Sends the request over `stream` and waits for the head of the response. The stream is lost when this fails or is dropped.
    async fn response(
        &self,
        mut stream: Stream,
        endpoint: &Endpoint,
        timer: &Timer<'_>,
    ) -> Result<(ResponseHead, Stream), SendFailure> {
        stream.begin(self.outgoing(endpoint));
        let release_at = stream.is_held().then(|| clock::now() + CONTINUE_MAX);
        let release = Alarm::default();
        let head = std::future::poll_fn(|cx| {
            loop {
                // A downstream that sends its body all the same does not wait for the endpoint, and nobody could tell later whether the bytes are wanted.
                if let Some(at) = release_at.filter(|_| stream.is_held())
                    && (self.downstream.stream.poll_unasked(cx).is_ready() || release.poll_until(at, cx).is_ready())
                {
                    stream.release_body();
                }
                match stream.poll_response(cx, || timer.is_delayed()) {
                    Poll::Ready(Ok(ResponseEvent::Final(head))) => return Poll::Ready(Ok(head)),
                    Poll::Ready(Ok(ResponseEvent::Informational(head))) => self.pass_on_informational(head),
                    Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                    // Polled before the timer: a response that has arrived is taken even at the last moment.
                    Poll::Pending => return timer.poll_over(Some(&stream), cx).map(Err),
                }
            }
        })
        .await?;
        Ok((head, stream))
    }

    fn outgoing<'a>(&'a self, endpoint: &'a Endpoint) -> OutgoingRequest<'a, Replay> {
        OutgoingRequest {
            head: &self.head,
            host: (self.host == HostField::OfEndpoint).then(|| endpoint.at.authority.as_bytes()),
            length: self.upload.length(),
            expects_continue: self.traits.expects_continue && self.upload.is_untouched(),
            accepts_trailers: self.traits.accepts_trailers && self.upgrade.is_none(),
            limits: self.handle.upstream.config.response,
            body: self.upload.read(),
            upgrade: self.upgrade.as_deref(),
        }
    }

    /// Sends an informational response downstream at once, whatever becomes of the attempt. A 100 ends at this hop.
    fn pass_on_informational(&self, mut head: ResponseHead) {
        if head.status != StatusCode::CONTINUE {
            forward::forward_response(&mut head);
            self.downstream.stream.send_informational(&head);
        }
    }

    fn read_head(&self, mut head: ResponseHead, stream: Stream) -> (Outcome, Result<Arrived, ProxyError>) {
        let (pushback, follows) = if self.head.method == Method::CONNECT {
            (Pushback::None, Follows::Tunnel)
        } else if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let requested = self.upgrade.as_deref().unwrap_or_default();
            let Some(protocol) = switched_protocol(&head, requested) else {
                return (Outcome::MalformedResponse, Err(ProxyError::UnexpectedUpgrade));
            };
            forward::forward_response(&mut head);
            head.fields.append("connection", b"upgrade");
            head.fields.append("upgrade", protocol);
            (Pushback::None, Follows::Tunnel)
        } else {
            let notes = forward::forward_response(&mut head);
            (notes.pushback, Follows::Body(notes.keep_alive))
        };
        let outcome = Outcome::Response { status: head.status.as_u16(), pushback };
        (outcome, Ok(Arrived { head, stream, follows }))
    }
}

/// The alarm of an attempt. A second attempt in flight needs one of its own.
pub(super) enum AttemptAlarm {
    /// The exchange's.
    Shared,
    /// One for this attempt alone.
    Own(Alarm),
}

/// The time limit of an attempt.
struct Timer<'a> {
    sender: &'a Sender,
    alarm: AttemptAlarm,
    started: Instant,
    /// The worker's scheduling lag before the attempt.
    lag_before: Lag,
    /// What was forgiven to the request before the attempt.
    forgiven_before: Duration,
    /// How far its bytes had come when the alarm last rang.
    look: Cell<Option<Look>>,
}

impl Timer<'_> {
    /// The output of `work`. Drops `work` and fails when the time is over.
    async fn bound<F: Future>(&self, work: F) -> Result<F::Output, SendFailure> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll_over(None, cx).map(Err),
        })
        .await
    }

    /// Whether the endpoint may have tired of the request's body because of the downstream, or because this process stood still during the attempt.
    fn is_delayed(&self) -> bool {
        let Sender { context, upload, .. } = self.sender;
        // The tick may not have noticed yet.
        context.notice_lag(clock::now());
        upload.is_delayed(context.lag().is_delay_since(self.lag_before))
    }

    /// Ready once the time is over. `stream`: where the request is being sent, once there is a connection.
    fn poll_over(&self, stream: Option<&Stream>, cx: &mut Cx<'_>) -> Poll<SendFailure> {
        let Sender { context, handle, upload, begun, downstream, .. } = self.sender;
        let timeouts = &handle.policies.timeouts;
        let alarm = if let AttemptAlarm::Own(alarm) = &self.alarm { alarm } else { &downstream.alarm };
        let end = || {
            let lag = context.lag();
            let forgiven = self.sender.forgiven(lag) - self.forgiven_before;
            let attempt = Attempt { started: self.started, look: self.look.get(), forgiven };
            timeouts.attempt_end(*begun + self.forgiven_before, &attempt, &upload.standing(lag))
        };
        // Computed anew each time, because the endpoint's time begins when the upload has ended.
        let (now, outcome) = loop {
            ready!(alarm.poll_until(end().0, cx));
            let now = clock::now();
            // The alarm may have rung before the tick noticed the lag, and while the endpoint takes what a send buffer holds.
            context.notice_lag(now);
            if let Some(delivery) = stream.filter(|_| upload.length() != BodyLength::None).and_then(Stream::delivery) {
                let left_at = now.checked_sub(delivery.still_for).unwrap_or(self.started);
                let look = Look { is_complete: delivery.is_complete, left_at };
                self.look.set(Some(look));
                upload.note(look, self.started);
            }
            let (end, outcome) = end();
            if end <= now {
                break (now, outcome);
            }
        };
        let error = match outcome {
            Outcome::DownstreamError => ProxyError::UploadTimeout,
            _ if timeouts.request_deadline(*begun, &upload.standing(context.lag()), now).at() <= now => {
                ProxyError::RequestTimeout
            }
            _ => ProxyError::AttemptTimeout,
        };
        Poll::Ready(SendFailure { outcome, error })
    }
}
