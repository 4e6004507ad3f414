//! An endpoint's response, and its body until it has ended: then the endpoint's lease is settled, and the connection goes back to the pool if the request has been
//! sent.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use outrigger_http1::head::ResponseHead;
use outrigger_policy::balance::Lease;
use outrigger_policy::call::Admission;
use outrigger_policy::lag::Lag;
use outrigger_policy::outcome::{BodyEnd, Class, goes_on};

use super::attempt::{Arrived, Follows};
use super::record::Record;
use crate::clock;
use crate::upstream::endpoint::Target;
use crate::upstream::stream::Stream;

/// A superseded response is read to its end if it is no longer than this, so that its connection can be reused.
const SUPERSEDED_BYTES_MAX: usize = 16 * 1024;

/// An endpoint's response on its way to the downstream.
pub(super) struct Received {
    pub(super) head: ResponseHead,
    pub(super) body: Source,
}

/// Where the bytes of a body come from.
pub(super) enum Source {
    /// From memory, with the class of the response.
    Whole(Bytes, Class),
    /// From an endpoint.
    Streaming(Box<Streaming>),
    /// From nowhere any more: the body has ended, but the endpoint has not taken all of the request.
    Uploading(Box<(Stream, Lease<Target>)>, Class),
    /// From nowhere: a tunnel to an endpoint begins.
    Tunnel(Box<(Stream, Lease<Target>)>, Class),
    /// From nowhere: the rest of the body will not come.
    BrokenOff(Class),
}

/// A body that comes in from an endpoint.
pub(super) struct Streaming {
    pub(super) stream: Stream,
    lease: Lease<Target>,
    /// Provisional, by its head alone.
    class: Class,
    keep_alive: Option<Duration>,
    pub(super) head_at: Instant,
    /// Whether pieces of the body have come for so long after the head that nothing more depends on it.
    goes_on: bool,
    /// The worker's scheduling lag before the body.
    lag_before: Lag,
}

/// The body broke off on the endpoint's side. The downstream connection must end without a clean end of the message.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the endpoint broke its response off")]
pub struct BrokenOff;

impl Received {
    /// A response whose head came at `now`. `class` is provisional, by the head alone. A response without a body gives its connection back at once.
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
                if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    record.decide(now, |cx| lease.settle_breaker(class, cx));
                }
                Source::Tunnel(Box::new((stream, lease)), class)
            }
            Follows::Body(keep_alive) => {
                record.decide(now, |cx| lease.on_head(class, cx));
                let has_ended = stream.has_body_ended();
                let lag_before = record.context.lag();
                let streaming =
                    Streaming { stream, lease, class, keep_alive, head_at: now, goes_on: false, lag_before };
                if has_ended { streaming.finish(record, now) } else { Source::Streaming(Box::new(streaming)) }
            }
        };
        Received { head, body }
    }
}

impl Streaming {
    /// The body has ended as announced. Either the request is still on its way, or the connection goes back to the pool.
    pub(super) fn finish(self, record: &mut Record, now: Instant) -> Source {
        let Streaming { stream, mut lease, class, keep_alive, .. } = self;
        let class = class.at_end(BodyEnd::Whole);
        if stream.is_sending() || stream.undelivered().is_some() {
            record.decide(now, |cx| lease.settle_breaker(class, cx));
            return Source::Uploading(Box::new((stream, lease)), class);
        }
        if let Some(handle) = record.handle() {
            record.context.pool.give_back(stream, &handle.upstream.config.pool, keep_alive, now);
        }
        record.decide(now, |cx| lease.settle(class, cx));
        Source::Whole(Bytes::new(), class)
    }

    /// A piece of the body has come and more is to come. Breakers whose probe this is take note.
    pub(super) fn on_piece(&mut self, admission: Option<&mut Admission>) {
        if self.goes_on {
            return;
        }
        let now = clock::now();
        self.goes_on = goes_on(self.head_at, now);
        self.lease.on_piece(now);
        if let Some(admission) = admission {
            admission.on_piece(now);
        }
    }

    /// How the body has ended if it is left now.
    pub(super) fn left(&self) -> BodyEnd {
        if self.goes_on { BodyEnd::AbandonedGoingOn } else { BodyEnd::Abandoned }
    }

    /// Whether this process has stood still for long since the head, so that the endpoint may have tired of sending.
    pub(super) fn stood_still(&self, record: &Record) -> bool {
        // The tick may not have noticed yet.
        record.context.notice_lag(clock::now());
        record.context.lag().is_delay_since(self.lag_before)
    }

    /// The body ends before its end.
    pub(super) fn fail(self, end: BodyEnd, record: &mut Record, now: Instant) {
        record.decide(now, |cx| self.lease.settle(self.class.at_end(end), cx));
    }
}

impl Source {
    /// The whole body, if it arrives complete and is no longer than [`SUPERSEDED_BYTES_MAX`].
    pub(super) async fn read_whole(self, record: &mut Record) -> Option<Bytes> {
        let mut streaming = match self {
            Source::Whole(bytes, _) => return Some(bytes),
            Source::Uploading(..) => return Some(Bytes::new()),
            Source::Tunnel(..) | Source::BrokenOff(_) => return None,
            Source::Streaming(streaming) => streaming,
        };
        let mut whole = BytesMut::new();
        while let Some(frame) = poll_fn(|cx| streaming.stream.poll_body(cx)).await {
            let Ok(frame) = frame else {
                streaming.fail(BodyEnd::BrokenOff, record, clock::now());
                return None;
            };
            let has_ended = streaming.stream.has_body_ended();
            let data = frame.into_data().ok().filter(|data| whole.len() + data.len() <= SUPERSEDED_BYTES_MAX);
            let Some(data) = data else {
                // The body cannot be kept, but if it has ended, its connection can.
                if has_ended {
                    streaming.finish(record, clock::now());
                }
                return None;
            };
            whole.extend_from_slice(&data);
            if has_ended {
                break;
            }
        }
        streaming.finish(record, clock::now());
        Some(whole.freeze())
    }

    /// The class of the response: provisional until the body has ended.
    pub(super) fn class(&self) -> Class {
        match self {
            Source::Whole(_, class)
            | Source::Uploading(_, class)
            | Source::Tunnel(_, class)
            | Source::BrokenOff(class) => *class,
            Source::Streaming(streaming) => streaming.class,
        }
    }

    /// Whether no more bytes will come.
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Source::Whole(bytes, _) => bytes.is_empty(),
            Source::Streaming(_) | Source::BrokenOff(_) => false,
            Source::Uploading(..) | Source::Tunnel(..) => true,
        }
    }
}
