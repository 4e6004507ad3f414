//! One attempt: a stream to the endpoint that was chosen, the request over it, and the wait for a response's head.
//!
//! Attempts know nothing of each other; two may be in flight. How long one may take is said by [`outrigger_policy::deadline`]: it measures the endpoint, not the downstream, and not ourselves.

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
use outrigger_policy::outcome::{Outcome, Pushback};
use outrigger_policy::retry;
use outrigger_policy::upload::Pace;

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

/// An endpoint that does not ask for a held body is sent it all the same after so long (RFC 9110 §10.1.1 leaves it to us; as curl does).
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
    host: HostField,
    reuse: Reuse,
    /// The protocols that are asked for.
    upgrade: Option<Vec<u8>>,
    traits: RequestTraits,
}

/// What the request says as `Host`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HostField {
    /// What it came with.
    Kept,
    /// The endpoint's: the request was addressed to us, not to the upstream.
    OfEndpoint,
}

/// What an attempt came to.
pub(super) struct Attempted {
    /// 1 is the first.
    pub(super) number: u32,
    pub(super) lease: Lease<Target>,
    pub(super) outcome: Outcome,
    pub(super) result: Result<Arrived, ProxyError>,
    /// When it was over, the response's body apart.
    pub(super) at: Instant,
}

/// A response whose head has come.
pub(super) struct Arrived {
    pub(super) head: ResponseHead,
    pub(super) stream: Stream,
    pub(super) follows: Follows,
}

/// What follows a head.
pub(super) enum Follows {
    /// A body. The endpoint closes its idle connections after the time given, if it says so.
    Body(Option<Duration>),
    /// A tunnel.
    Tunnel,
}

impl Sender {
    /// Of a request that has been admitted; `head` as it came.
    pub(super) fn new(
        record: &mut Record,
        handle: Rc<RouteHandle>,
        mut head: RequestHead,
        (host, reuse): (HostField, Reuse),
    ) -> Sender {
        let (context, downstream) = (Rc::clone(&record.context), Rc::clone(&record.downstream));
        let (config, begun) = (&handle.config, record.started);
        let pace = Pace::new(begun, context.lag(), config.timeouts.upload, config.timeouts.upload_bytes_per_second_min);
        // Kept also for what may not be repeated: it may have to be sent again when it provably never left.
        let upload = Upload::new(&downstream.stream, config.repeat.replay_bytes_max, &context.shared.replay, pace);
        if let Some(left) = forward::max_forwards(&head) {
            forward::forward_one_fewer(&mut head, left);
        }
        // A request with a body goes on with HTTP.
        let has_body = upload.length() != BodyLength::None;
        let upgrade = requested_upgrade(&head, &config.upgrade).filter(|_| !has_body);
        forward::forward_request(&mut head);
        record.upload = upload.clone();
        let traits = downstream.stream.traits();
        Sender { context, handle, upload, downstream, head, begun, host, reuse, upgrade, traits }
    }

    /// Makes attempt `number`, which began at `started`, at the endpoint of `lease`. `alarm` is its own for as long as it lasts.
    pub(super) async fn attempt(
        &self,
        number: u32,
        lease: Lease<Target>,
        started: Instant,
        alarm: AttemptAlarm,
    ) -> Attempted {
        let timer = Timer { sender: self, alarm, started, lag_before: self.context.lag() };
        let sent = self.send(lease.endpoint(), &timer).await;
        let at = clock::now();
        let (outcome, result) = match sent {
            Ok((head, stream)) => self.read_head(head, stream),
            Err(SendFailure { outcome, error }) => (outcome, Err(error)),
        };
        Attempted { number, lease, outcome, result, at }
    }

    async fn send(&self, endpoint: &Arc<Endpoint>, timer: &Timer<'_>) -> Result<(ResponseHead, Stream), SendFailure> {
        let is_connect = self.head.method == Method::CONNECT;
        if !is_connect && let Some(stream) = self.context.pool.reuse(endpoint, self.reuse, timer.started) {
            match self.response(stream, endpoint, timer).await {
                // It had died while idle. Nothing was written: the same attempt goes on over a new connection, if the body can.
                Err(failure) if failure.outcome == Outcome::Unsent && self.upload.is_replayable() => {
                    self.handle.count_retry(&self.context.shared.metrics, retry::Reason::Unsent);
                }
                done => return done,
            }
        }
        // Boxed: most requests find a connection.
        let connecting = Box::pin(self.context.pool.connect(endpoint, self.handle.config.timeouts.connect));
        let connected = timer.bound(connecting).await?;
        let result = connected.as_ref().map_or_else(|failure| failure.error.reason().word(), |_| "ok");
        self.context.shared.emit(&Event::Connected { upstream: &self.handle.upstream.config.name, result });
        if connected.is_err() {
            self.handle.upstream.endpoints.lookup.notify_one();
        }
        let stream = connected?;
        if is_connect {
            // All that was asked for; not a byte has been sent.
            return Ok((ResponseHead::from_status(StatusCode::OK), stream));
        }
        self.response(stream, endpoint, timer).await
    }

    /// Sends the request over `stream` and waits for its response's head. The stream is lost when this fails or is dropped.
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
                if let Some(at) = release_at.filter(|_| stream.is_held())
                    && release.poll_until(at, cx).is_ready()
                {
                    stream.release_body();
                }
                match stream.poll_response(cx) {
                    Poll::Ready(Ok(ResponseEvent::Final(head))) => return Poll::Ready(Ok(head)),
                    Poll::Ready(Ok(ResponseEvent::Informational(head))) => self.pass_on_informational(head),
                    Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                    // The response goes first: one that is there is taken even at the last moment.
                    Poll::Pending => return timer.poll_over(cx).map(Err),
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

    /// The downstream may make use of it, whatever comes of the attempt. A 100 ends at this hop.
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

/// The alarm of an attempt: the exchange's, or for a second attempt beside it one of its own.
pub(super) enum AttemptAlarm {
    /// The exchange's.
    Shared,
    /// Its own.
    Own(Alarm),
}

/// How long an attempt is waited for.
struct Timer<'a> {
    sender: &'a Sender,
    alarm: AttemptAlarm,
    started: Instant,
    /// The worker's scheduling lag by then, in all.
    lag_before: Duration,
}

impl Timer<'_> {
    /// The output of `work`, if it comes in time. Work is dropped when it does not.
    async fn bound<F: Future>(&self, work: F) -> Result<F::Output, SendFailure> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll_over(cx).map(Err),
        })
        .await
    }

    /// Ready once it is over.
    fn poll_over(&self, cx: &mut Cx<'_>) -> Poll<SendFailure> {
        let Sender { context, handle, upload, begun, downstream, .. } = self.sender;
        let timeouts = &handle.policies.timeouts;
        let alarm = if let AttemptAlarm::Own(alarm) = &self.alarm { alarm } else { &downstream.alarm };
        // Looked at anew each time: when the upload has ended, the endpoint's time begins.
        let outcome = loop {
            let lag = context.lag();
            let (end, outcome) =
                timeouts.attempt_end(*begun, self.started, &upload.standing(lag), lag - self.lag_before);
            ready!(alarm.poll_until(end, cx));
            // It may have rung before the tick could notice the lag.
            context.notice_lag(clock::now());
            if context.lag() == lag {
                break outcome;
            }
        };
        let now = clock::now();
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
