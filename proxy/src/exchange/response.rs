//! The response on its way downstream: an endpoint's, or one of the proxy's own. Its end is the end of the exchange, unless the request is still being sent.

use std::task::{Context as Cx, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use outrigger_http1::encode::BodyLength;
use outrigger_http1::head::ResponseHead;
use outrigger_policy::call::Admission;
use outrigger_policy::outcome::{BodyEnd, Class};
use outrigger_policy::retry::Refused;

use super::received::{BrokenOff, Received, Source};
use super::record::Record;
use super::tunnel::Tunnel;
use super::uploading::{self, UploadEnd};
use crate::clock;
use crate::downstream::problem;
use crate::downstream::progress::Ending;
use crate::error::ProxyError;
use crate::telemetry::labels::RequestOutcome;
use crate::worker::connections::{note_delivery, ticks};

/// The result of a request.
pub enum Reply {
    /// A response.
    Response(Response),
    /// A tunnel, with the response that begins it.
    Tunnel(Tunnel),
}

/// A response to send downstream.
pub struct Response {
    /// Its head, without framing, which is added where the head is written.
    pub head: ResponseHead,
    /// Its body, which holds the exchange.
    pub body: ResponseBody,
    /// Whether the connection ends with this response: the proxy drains, and the next request should go to its successor.
    pub is_last: bool,
}

/// Sends an endpoint's response downstream.
pub(super) fn pass_on(mut record: Box<Record>, received: Received, mut admission: Admission, is_last: bool) -> Reply {
    let Received { mut head, body } = received;
    let class = body.class();
    record.responds(head.status.as_u16());
    if let Some(why) = record.retry_refused() {
        problem::mark_retry_refused(&mut head, why.word());
    }
    problem::mark_attempts(&mut head.fields, record.attempts());
    if let Source::Tunnel(through, _) = body {
        // The request asked for the tunnel. So it has succeeded and is counted when the tunnel begins; its slot stays taken until the tunnel ends.
        let now = clock::now();
        record.ends(RequestOutcome::Response(class), now);
        let mut admission = Some(admission);
        // The head that answers a CONNECT is the proxy's own, so the endpoint has done nothing yet.
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            settle(&mut record, &mut admission, class, now);
        }
        record.count();
        let idle = record.handle().map_or(u32::MAX, |handle| ticks(handle.config.timeouts.tunnel_idle));
        record.downstream.progress.enter_tunnel(idle);
        return Reply::Tunnel(Tunnel::new(head, *through, record, admission));
    }
    // Else the body ends at once, and settles it.
    if let Source::Streaming(streaming) = &body
        && let Some(handle) = record.handle().cloned()
    {
        record.decide(streaming.head_at, |cx| admission.on_head(class, &handle.policies, cx));
    }
    Reply::Response(Response { head, body: ResponseBody::new(body, record, Some(admission)), is_last })
}

/// Sends a response of the proxy's own. An admission comes with the class of its request.
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

/// The body of a response to the downstream. It notes in the exchange's record how the body ended; the record counts when this is dropped.
pub struct ResponseBody {
    source: Source,
    record: Box<Record>,
    admission: Option<Admission>,
}

impl ResponseBody {
    fn new(source: Source, record: Box<Record>, admission: Option<Admission>) -> ResponseBody {
        // From here on nothing is retried.
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
            Source::Whole(..) | Source::Uploading(..) | Source::Tunnel(..) => return Poll::Ready(None),
            // Polled again, because bytes that came before are still to be written.
            Source::BrokenOff(_) => return Poll::Ready(Some(Err(BrokenOff))),
            Source::Streaming(streaming) => streaming,
        };
        if streaming.stream.is_sending() {
            uploading::send_beside(&mut streaming.stream, &self.record, cx);
        }
        match streaming.stream.poll_body(cx) {
            Poll::Pending => {
                // An endpoint that waits for more of the request owes nothing.
                let is_owed = streaming.stream.is_sending() && self.record.upload.awaits_downstream();
                let progress = &self.record.downstream.progress;
                progress.set_awaits_endpoint(!is_owed);
                // It may still be reading what was written.
                if progress.is_asked() {
                    note_delivery(progress, streaming.stream.undelivered());
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
                    streaming.on_piece(self.admission.as_mut());
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

    /// Sends more of the request, while there is no room for more of the response.
    pub fn poll_upload(&mut self, cx: &mut Cx<'_>) {
        if let Source::Streaming(streaming) = &mut self.source
            && streaming.stream.is_sending()
        {
            uploading::send_beside(&mut streaming.stream, &self.record, cx);
        }
    }

    /// Whether no more frames will come.
    pub fn has_ended(&self) -> bool {
        self.source.has_ended()
    }

    /// What is known of its length before it is read.
    pub fn length(&self) -> BodyLength {
        let exact = match &self.source {
            Source::Whole(bytes, _) => Some(bytes.len() as u64),
            Source::Uploading(..) | Source::Tunnel(..) => Some(0),
            Source::Streaming(streaming) => streaming.stream.body_size_hint().exact(),
            Source::BrokenOff(_) => None,
        };
        match exact {
            Some(0) => BodyLength::None,
            Some(length) => BodyLength::Known(length),
            None => BodyLength::Unknown,
        }
    }

    /// The endpoint broke the body off, and everything before that has been sent: ends the downstream connection, but not cleanly.
    pub fn broke_off(&mut self) {
        self.record.ends(RequestOutcome::Truncated, clock::now());
        self.record.downstream.progress.end(Ending::Truncated);
    }

    /// The downstream needs no more of the body. The exchange goes on if its request is still being sent.
    pub fn into_uploading(self) -> Option<Uploading> {
        matches!(self.source, Source::Uploading(..)).then_some(Uploading(self))
    }

    /// The endpoint's body has ended as announced.
    fn finish(&mut self) {
        let source = std::mem::replace(&mut self.source, Source::Whole(Bytes::new(), Class::Neutral));
        let now = clock::now();
        if let Source::Streaming(streaming) = source {
            self.source = streaming.finish(&mut self.record, now);
        }
        self.end(now);
    }

    /// The whole body has been handed over.
    fn end(&mut self, now: Instant) {
        let class = self.source.class();
        self.record.ends(RequestOutcome::Response(class), now);
        settle(&mut self.record, &mut self.admission, class, now);
    }

    /// The body ends before its end. What the downstream or this process held up is not the endpoint's failure: an endpoint gives up on a response that nobody reads, and
    /// on a request whose body does not come.
    fn fail(&mut self, end: BodyEnd) {
        let record = &self.record;
        let stood_still = || matches!(&self.source, Source::Streaming(streaming) if streaming.stood_still(record));
        let is_delayed = || stood_still() || record.downstream.progress.is_held_up() || record.upload.is_delayed(false);
        let end = if end == BodyEnd::BrokenOff && is_delayed() { BodyEnd::Delayed } else { end };
        let class = self.source.class().at_end(end);
        let source = std::mem::replace(&mut self.source, Source::BrokenOff(class));
        if let Source::Streaming(streaming) = source {
            let now = clock::now();
            streaming.fail(end, &mut self.record, now);
            settle(&mut self.record, &mut self.admission, class, now);
        }
    }
}

/// An exchange that has responded and still sends its request. It keeps its slot, its lease and its place in the drain until this is dropped.
pub struct Uploading(ResponseBody);

impl Uploading {
    /// Sends more of the request.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<UploadEnd> {
        let ResponseBody { source: Source::Uploading(held, _), record, .. } = &mut self.0 else {
            return Poll::Ready(UploadEnd::Over);
        };
        uploading::send_rest(&mut held.0, record, cx)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Source::Streaming(streaming) = &self.source {
            // An endpoint that sends nothing for long has not failed: the stream may have nothing to say.
            self.fail(streaming.left());
        }
    }
}
