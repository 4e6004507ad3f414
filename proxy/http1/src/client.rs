//! A client's side of a connection: one request at a time, and its response.
//!
//! It has no task and no timer: its user polls it, and between two requests it needs no polling and holds no buffer. The request can be written and the response
//! read at the same time, because a response may come before its request is whole (RFC 9112 §9.5). It never sends a request twice. When there is no response,
//! [`SendError`] says what is proven about the request.
//!
//! The order of a request: [`ClientConn::begin`], [`ClientConn::poll_response`] until it gives the final head, [`ClientConn::poll_body`] to the end of the
//! body. Then [`ClientConn::is_reusable`] says whether another may begin.

mod request;
mod sending;

use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncReadExt, ReadBuf};

pub use self::request::{OutgoingRequest, SendError, SendErrorKind};
use self::sending::{Cut, Sending};
use crate::head::ResponseHead;
use crate::parse::{BodyError, Decoder, Heads, Limits, RequestKind};
use crate::reading::{Read, poll_head, read_bytes};
use crate::traits::says_close;
use crate::transport::{Delivery, Room, Transport};

/// Room for what is read of a long body, in bytes.
const READ_BYTES_MAX: usize = 32 * 1024;

/// A connection for requests with bodies of type `B`. Dropping it closes it at once. It has a few hundred bytes, so box it where it is moved often.
pub struct ClientConn<S, B> {
    stream: S,
    /// Says how much of a body may be read at once.
    room: Option<Rc<dyn Room>>,
    sending: Sending<B>,
    /// Bytes that were read and not parsed yet.
    incoming: BytesMut,
    heads: Heads,
    /// The body of the response under way.
    body: Decoder,
    /// Whether a head of the response has come.
    has_read: bool,
    /// Whether there was a request before the current one.
    is_reused: bool,
    /// Whether no further request may begin, as far as the head of the response shows.
    is_last: bool,
}

/// What comes in response to a request.
#[derive(Debug)]
pub enum ResponseEvent {
    /// An informational response (1xx, but not 101). More will come. It has released a held body, be it a 100 or not.
    Informational(ResponseHead),
    /// The head of the final response, or of a 101 that was asked for.
    Final(ResponseHead),
}

impl<S: Transport, B: Body<Data = Bytes> + Unpin> ClientConn<S, B> {
    /// A connection over `stream`, which has just been connected.
    pub fn new(stream: S) -> ClientConn<S, B> {
        ClientConn {
            stream,
            room: None,
            sending: Sending::default(),
            incoming: BytesMut::new(),
            heads: Heads::responses(Limits::default()), // each request brings its own
            body: Decoder::Ended,
            has_read: false,
            is_reused: false,
            is_last: false,
        }
    }

    /// From now on `room` says how much may be read at once.
    pub fn set_room(&mut self, room: Rc<dyn Room>) {
        self.room = Some(room);
    }

    /// Begins a request; nothing is written before [`ClientConn::poll_response`]. The connection must be new or [reusable](ClientConn::is_reusable).
    pub fn begin(&mut self, request: OutgoingRequest<'_, B>) {
        let method = &request.head.method;
        self.heads.set_limits(request.limits);
        self.heads.expect_response(RequestKind {
            is_head: *method == Method::HEAD,
            is_connect: *method == Method::CONNECT,
            is_upgrade: request.upgrade.is_some(),
        });
        (self.is_reused, self.has_read) = (self.sending.has_begun, false);
        self.sending.begin(request);
    }

    /// Whether the body is held back because of `Expect: 100-continue`. The crate's user decides how long to wait for the server (RFC 9110 §10.1.1).
    pub fn is_held(&self) -> bool {
        self.sending.is_held()
    }

    /// Releases a held body; the next poll sends it.
    pub fn release_body(&mut self) {
        self.sending.release();
    }

    /// Sends the request and polls for its response. Call it until it returns [`ResponseEvent::Final`].
    ///
    /// # Errors
    /// There will be no response. The connection cannot be used any further.
    pub fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseEvent, SendError>> {
        match self.sending.poll(cx, &mut self.stream) {
            Poll::Ready(Err(Cut::ByBody)) => return Poll::Ready(Err(self.error(SendErrorKind::Body))),
            // A server may respond and read no more of the request.
            Poll::Ready(Ok(()) | Err(Cut::ByPeer)) | Poll::Pending => {}
        }
        let head = ready!(self.poll_head(cx)).map_err(|kind| self.error(kind))?;
        if head.status.is_informational() && head.status != 101 {
            self.sending.release();
            return Poll::Ready(Ok(ResponseEvent::Informational(head)));
        }
        // A server that took the end of this request for a request of its own would answer that one in place of the next (RFC 9112 §9.3).
        self.is_last =
            !self.is_sent() || head.is_http10 || self.body.ends_with_connection() || says_close(&head.fields);
        Poll::Ready(Ok(ResponseEvent::Final(head)))
    }

    /// Polls for the next piece of the response's body, or its trailers. While the request is [being sent](ClientConn::is_sending), poll
    /// [`ClientConn::poll_finish_sending`] beside it.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.body.next(&mut self.incoming, self.heads.limits()) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.body.has_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(why) => return Poll::Ready(Some(Err(BodyError::Malformed(why)))),
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) if self.body.ends_with_connection() && !self.sending.has_failed => {
                    self.body = Decoder::Ended;
                    return Poll::Ready(None);
                }
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(BodyError::Truncated))),
                Ok(_) => {}
            }
        }
    }

    /// Whether the response's body has been read to its end.
    pub fn has_body_ended(&self) -> bool {
        self.body.has_ended()
    }

    /// How many bytes of the response's body are still to come, as far as known.
    pub fn body_size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    /// Whether the request is still being sent, although its response may have come. A body that is held is not.
    pub fn is_sending(&self) -> bool {
        self.sending.is_under_way()
    }

    /// Whether all of the request has been written.
    pub fn is_sent(&self) -> bool {
        !self.sending.is_cut && !self.sending.is_unfinished()
    }

    /// How many bytes of the request have been written so far, its head and its framing included.
    pub fn written(&self) -> u64 {
        self.sending.written
    }

    /// Sends more of the request after the head of its response. Ready when all of it is sent, or when the source of its body or the server has broken it off: then the
    /// connection ends with this response.
    pub fn poll_finish_sending(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sending.poll(cx, &mut self.stream).map(|_| ())
    }

    /// How far what was written has come; see [`Transport::delivery`].
    pub fn delivery(&self) -> Option<Delivery> {
        self.stream.delivery()
    }

    /// Whether another request may begin: the request was sent whole before its response came, the response has ended exactly, and neither side has said that the
    /// connection ends.
    pub fn is_reusable(&self) -> bool {
        !self.is_last && self.body.has_ended() && self.incoming.is_empty()
    }

    /// Gives up the read buffer of a reusable connection until its next request.
    pub fn release_buffer(&mut self) {
        debug_assert!(self.incoming.is_empty(), "bytes would be lost");
        self.incoming = BytesMut::new();
    }

    /// Whether the server has neither closed an idle connection nor sent anything over it. Costs no system call unless something has happened.
    pub fn is_alive(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut unexpected = [0];
        Pin::new(&mut self.stream).poll_read(&mut cx, &mut ReadBuf::new(&mut unexpected)).is_pending()
    }

    /// Makes the drop end the connection with a failure, never cleanly. For a tunnel that broke off.
    pub fn abort(&self) {
        self.stream.abort();
    }

    /// The bytes that were read behind a head that begins a tunnel.
    pub fn take_early(&mut self) -> BytesMut {
        std::mem::take(&mut self.incoming)
    }

    /// The stream, for a tunnel. No request may follow.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The next head, informational or final.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, SendErrorKind>> {
        let room = self.room.as_ref();
        let read = poll_head(&mut self.stream, &mut self.incoming, room, |bytes| self.heads.response(bytes), cx);
        let (head, body) = match ready!(read).map_err(SendErrorKind::Malformed)? {
            Read::Whole(head, body) => (head, body),
            Read::End => return Poll::Ready(Err(SendErrorKind::Closed)),
            Read::NoRoom => return Poll::Ready(Err(SendErrorKind::NoRoom)),
        };
        (self.body, self.has_read) = (body, true);
        Poll::Ready(Ok(head))
    }

    /// Reads the bytes of a body that have arrived.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.incoming.capacity() == self.incoming.len() {
            let rest = self.body.size_hint().exact().unwrap_or(u64::MAX);
            self.incoming.reserve(read_bytes(rest, READ_BYTES_MAX, self.room.as_ref()));
        }
        pin!(self.stream.read_buf(&mut self.incoming)).poll(cx)
    }

    fn error(&self, kind: SendErrorKind) -> SendError {
        let is_malformed = matches!(kind, SendErrorKind::Malformed(_));
        let read = self.has_read || !self.incoming.is_empty() || is_malformed;
        SendError { kind, wrote: self.sending.written > 0, read, reused: self.is_reused }
    }
}
