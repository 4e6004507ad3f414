//! The response's way down: the endpoint's body, or one of our own, with everything that ends when it ends.

use std::future::poll_fn;
use std::task::{Context as Cx, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use outrigger_http1::encode::BodyLength;
use outrigger_http1::head::ResponseHead;
use outrigger_policy::balance::Lease;
use outrigger_policy::call::Admission;
use outrigger_policy::outcome::{BodyEnd, Class};
use outrigger_policy::retry::Refused;
use outrigger_policy::upload::Side;

use super::attempt::{Arrived, Follows};
use super::record::Record;
use super::tunnel::Tunnel;
use crate::clock;
use crate::downstream::problem;
use crate::downstream::progress::Ending;
use crate::error::ProxyError;
use crate::telemetry::labels::RequestOutcome;
use crate::upstream::endpoint::Target;
use crate::upstream::stream::Stream;
use crate::worker::connections::ticks;

/// A response that a retry supersedes is read to its end if it is no longer than this, so that its connection lives on.
const SUPERSEDED_BYTES_MAX: usize = 16 * 1024;

/// What a request comes to.
pub enum Reply {
    /// A response.
    Response(Response),
    /// A tunnel, with the response that begins it.
    Tunnel(Tunnel),
}

/// What goes down.
pub struct Response {
    /// Its head; framing is made where it is written.
    pub head: ResponseHead,
    /// Its body, and the exchange's end with it.
    pub body: ResponseBody,
    /// The next request is better off with our successor.
    pub is_last: bool,
}

/// An endpoint's response on its way to the downstream.
pub(super) struct Received {
    pub(super) head: ResponseHead,
    pub(super) body: Source,
}

/// Where the bytes of a body come from.
pub(super) enum Source {
    /// They are here; how the response counts.
    Whole(Bytes, Class),
    /// They come in from an endpoint.
    Streaming(Box<Streaming>),
    /// They have come; what is left is the request's way up.
    Unfinished(Unfinished, Class),
    /// There are none: a tunnel to an endpoint begins.
    Tunnel(Box<(Stream, Lease<Target>)>, Class),
}

/// A body that comes in from an endpoint.
pub(super) struct Streaming {
    stream: Stream,
    lease: Lease<Target>,
    /// As its head tells.
    class: Class,
    keep_alive: Option<Duration>,
}

/// The body broke off on the endpoint's side: the downstream's connection must end without ending the message.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the endpoint broke its response off")]
pub struct BrokenOff;

/// A request whose response has come and gone before it was whole: the endpoint still takes it.
pub struct Unfinished {
    stream: Stream,
    at_most: Duration,
}

impl Unfinished {
    /// Lets it go on, but not for ever.
    pub async fn finish(mut self) {
        // How it ends is nobody's concern any more.
        let _ = clock::until(clock::now() + self.at_most, poll_fn(|cx| self.stream.poll_finish_sending(cx))).await;
    }
}

impl Received {
    /// A response whose head came at `now` and counts as `class`, as far as the head tells. A body that is already at its end gives its connection back at once.
    pub(super) fn new(
        record: &mut Record,
        arrived: Arrived,
        mut lease: Lease<Target>,
        class: Class,
        now: Instant,
    ) -> Received {
        let Arrived { head, stream, follows } = arrived;
        let body = match follows {
            Follows::Tunnel => {
                record.decide(now, |cx| lease.tell_breaker(class, cx));
                Source::Tunnel(Box::new((stream, lease)), class)
            }
            Follows::Body(keep_alive) => {
                record.decide(now, |cx| lease.on_head(class, cx));
                let has_ended = stream.has_body_ended();
                let streaming = Streaming { stream, lease, class, keep_alive };
                if has_ended { streaming.finish(record, now) } else { Source::Streaming(Box::new(streaming)) }
            }
        };
        Received { head, body }
    }
}

impl Streaming {
    /// The body has ended exactly: the connection goes back to the pool, unless the request is still on its way up.
    fn finish(self, record: &mut Record, now: Instant) -> Source {
        let Streaming { stream, lease, class, keep_alive } = self;
        let class = class.at_end(BodyEnd::Whole);
        let config = record.handle().cloned();
        let source = match config {
            Some(handle) if stream.is_sending() => {
                Source::Unfinished(Unfinished { stream, at_most: handle.config.timeouts.idle_body }, class)
            }
            Some(handle) => {
                record.context.pool.give_back(stream, &handle.upstream.config.pool, keep_alive, now);
                Source::Whole(Bytes::new(), class)
            }
            None => Source::Whole(Bytes::new(), class),
        };
        record.decide(now, |cx| lease.settle(class, cx));
        source
    }

    /// The endpoint broke the body off, or stopped in the middle of it.
    fn fail(self, end: BodyEnd, record: &mut Record, now: Instant) {
        record.decide(now, |cx| self.lease.settle(self.class.at_end(end), cx));
    }
}

impl Source {
    /// All of it, if it comes whole and is not too long.
    pub(super) async fn read_whole(self, record: &mut Record) -> Option<Bytes> {
        let mut streaming = match self {
            Source::Whole(bytes, _) => return Some(bytes),
            Source::Unfinished(..) => return Some(Bytes::new()),
            Source::Tunnel(..) => return None,
            Source::Streaming(streaming) => streaming,
        };
        let mut whole = BytesMut::new();
        while let Some(frame) = poll_fn(|cx| streaming.stream.poll_body(cx)).await {
            let Ok(frame) = frame else {
                streaming.fail(BodyEnd::BrokenOff, record, clock::now());
                return None;
            };
            let data = frame.into_data().ok()?;
            if whole.len() + data.len() > SUPERSEDED_BYTES_MAX {
                return None;
            }
            whole.extend_from_slice(&data);
            if streaming.stream.has_body_ended() {
                break;
            }
        }
        streaming.finish(record, clock::now());
        Some(whole.freeze())
    }

    fn class(&self) -> Class {
        match self {
            Source::Whole(_, class) | Source::Unfinished(_, class) | Source::Tunnel(_, class) => *class,
            Source::Streaming(streaming) => streaming.class,
        }
    }

    fn has_ended(&self) -> bool {
        match self {
            Source::Whole(bytes, _) => bytes.is_empty(),
            Source::Streaming(_) => false,
            Source::Unfinished(..) | Source::Tunnel(..) => true,
        }
    }
}

/// Hands an endpoint's response down.
pub(super) fn pass_on(mut record: Box<Record>, received: Received, admission: Admission, is_last: bool) -> Reply {
    let Received { mut head, body } = received;
    let mut admission = Some(admission);
    let class = body.class();
    record.responds(head.status.as_u16());
    if let Some(why) = record.retry_refused() {
        problem::mark_retry_refused(&mut head, why.word());
    }
    problem::mark_attempts(&mut head.fields, record.attempts());
    if let Source::Tunnel(through, _) = body {
        // The tunnel is what was asked for: with its beginning the request has succeeded and is counted. Its slot is taken until its end.
        let now = clock::now();
        record.ends(RequestOutcome::Response(class), now);
        settle(&mut record, &mut admission, class, now);
        record.count();
        let idle = record.handle().map_or(u32::MAX, |handle| ticks(handle.config.timeouts.tunnel_idle));
        record.downstream.progress.enter_tunnel(idle);
        return Reply::Tunnel(Tunnel::new(head, *through, record, admission));
    }
    // A probe is settled by its head, so that a long stream cannot hold half-open.
    if admission.as_ref().is_some_and(Admission::is_probe) {
        settle(&mut record, &mut admission, class, clock::now());
    }
    Reply::Response(Response { head, body: ResponseBody::new(body, record, admission), is_last })
}

/// Hands a response of our own down. An admission comes with the class of its request.
pub(super) fn refuse(
    mut record: Box<Record>,
    error: &ProxyError,
    admission: Option<(Admission, Class)>,
    is_last: bool,
) -> Response {
    let reason = error.reason();
    record.responds(reason.row().status.as_u16());
    let now = clock::now();
    record.ends(RequestOutcome::Error(reason), now);
    let (mut admission, class) =
        admission.map_or((None, Class::Neutral), |(admission, class)| (Some(admission), class));
    settle(&mut record, &mut admission, class, now);
    let upstream = record.handle().map_or("", |handle| &handle.upstream.config.name);
    let refused = record.retry_refused().map(Refused::word);
    let (mut head, bytes) = problem::response(error, upstream, record.attempts(), refused);
    problem::mark_attempts(&mut head.fields, record.attempts());
    Response { head, body: ResponseBody::new(Source::Whole(bytes, class), record, admission), is_last }
}

fn settle(record: &mut Record, admission: &mut Option<Admission>, class: Class, now: Instant) {
    if let (Some(admission), Some(handle)) = (admission, record.handle().cloned()) {
        record.decide(now, |cx| admission.settle(class, &handle.policies, cx));
    }
}

/// What is sent to the downstream, and the end of the exchange: its record is told how the body ended, and counts when it is dropped.
pub struct ResponseBody {
    source: Source,
    record: Box<Record>,
    admission: Option<Admission>,
}

impl ResponseBody {
    fn new(source: Source, record: Box<Record>, admission: Option<Admission>) -> ResponseBody {
        // From here nothing is repeated.
        record.upload.stop_keeping();
        let idle_body = record.handle().map(|handle| handle.config.timeouts.idle_body);
        record.downstream.progress.enter_body(idle_body.map_or(u32::MAX, ticks));
        let mut body = ResponseBody { source, record, admission };
        if body.source.has_ended() {
            body.end(clock::now());
        }
        body
    }

    /// The next frame.
    pub fn poll_frame(&mut self, cx: &mut Cx<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let streaming = match &mut self.source {
            Source::Whole(bytes, _) if !bytes.is_empty() => {
                let frame = Frame::data(std::mem::take(bytes));
                self.end(clock::now());
                return Poll::Ready(Some(Ok(frame)));
            }
            Source::Whole(..) | Source::Unfinished(..) | Source::Tunnel(..) => return Poll::Ready(None),
            Source::Streaming(streaming) => streaming,
        };
        match streaming.stream.poll_body(cx) {
            Poll::Pending => {
                self.record.downstream.progress.set_awaits_endpoint(true);
                if streaming.stream.is_sending() {
                    self.look_at_upload();
                }
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                // Nobody polls past the last frame of a body of known length.
                if streaming.stream.has_body_ended() {
                    self.finish();
                } else {
                    self.record.downstream.progress.set_awaits_endpoint(false);
                    self.record.downstream.progress.moved();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => {
                self.fail(BodyEnd::BrokenOff);
                Poll::Ready(Some(Err(BrokenOff)))
            }
        }
    }

    /// Whether nothing more is to come.
    pub fn has_ended(&self) -> bool {
        self.source.has_ended()
    }

    /// What is known of its length before it is read.
    pub fn length(&self) -> BodyLength {
        let exact = match &self.source {
            Source::Whole(bytes, _) => Some(bytes.len() as u64),
            Source::Unfinished(..) | Source::Tunnel(..) => Some(0),
            Source::Streaming(streaming) => streaming.stream.body_size_hint().exact(),
        };
        match exact {
            Some(0) => BodyLength::None,
            Some(length) => BodyLength::Known(length),
            None => BodyLength::Unknown,
        }
    }

    /// The endpoint broke it off, and what had come before has gone out: the downstream's connection must not end cleanly.
    pub fn broke_off(&mut self) {
        self.record.ends(RequestOutcome::Truncated, clock::now());
        self.record.downstream.progress.end(Ending::Truncated);
    }

    /// It has been read as far as the downstream wants it; what is left of the request's way up.
    pub fn into_unfinished(mut self) -> Option<Unfinished> {
        let source = std::mem::replace(&mut self.source, Source::Whole(Bytes::new(), Class::Neutral));
        let Source::Unfinished(mut unfinished, _) = source else {
            self.source = source;
            return None;
        };
        let lag = self.record.context.lag();
        let whole_by = self.record.upload.standing(lag).whole_by;
        let left = whole_by.map_or(Duration::ZERO, |at| at.saturating_duration_since(clock::now()));
        unfinished.at_most = unfinished.at_most.min(left);
        Some(unfinished)
    }

    /// The endpoint's body has ended exactly.
    fn finish(&mut self) {
        let source = std::mem::replace(&mut self.source, Source::Whole(Bytes::new(), Class::Neutral));
        let now = clock::now();
        if let Source::Streaming(streaming) = source {
            self.source = streaming.finish(&mut self.record, now);
        }
        self.end(now);
    }

    /// All of it has been handed over.
    fn end(&mut self, now: Instant) {
        let class = self.source.class();
        self.record.ends(RequestOutcome::Response(class), now);
        settle(&mut self.record, &mut self.admission, class, now);
    }

    /// The endpoint's body will not end as it should.
    fn fail(&mut self, end: BodyEnd) {
        let source = std::mem::replace(&mut self.source, Source::Whole(Bytes::new(), Class::Neutral));
        if let Source::Streaming(streaming) = source {
            let class = streaming.class.at_end(end);
            let now = clock::now();
            streaming.fail(end, &mut self.record, now);
            settle(&mut self.record, &mut self.admission, class, now);
        }
    }

    /// The endpoint still takes the request. Its downstream may have become too slow, and it is too late for a response that says so; an endpoint that takes nothing is
    /// held to its response alone.
    fn look_at_upload(&self) {
        let too_slow = self.record.upload.standing(self.record.context.lag()).too_slow;
        if too_slow.is_some_and(|slow| slow.by == Side::Downstream && slow.at <= clock::now()) {
            self.record.downstream.progress.end(Ending::BodyIdleTimeout(Side::Downstream));
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // An endpoint that stops in the middle has failed, though it was we who ended the connection.
        if self.record.has_idle_endpoint() {
            self.fail(BodyEnd::IdleTimeout);
        }
    }
}
