//! The upstream side of one exchange, over any protocol.
//!
//! It is a closed set, matched without a `_` arm. HTTP/1 lends a whole connection to one exchange at a time; over HTTP/2 a stream will be one of many on a
//! connection. [`SendFailure`] is the one place that maps an error of the codec to an outcome for the policies and an error for the downstream.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use outrigger_http1::client::{ClientConn, OutgoingRequest, ResponseEvent, SendError, SendErrorKind};
use outrigger_http1::parse::{BodyError, Refusal};
use outrigger_http1::transport::{Delivery, Room, Transport};
use outrigger_policy::outcome::Outcome;

use super::endpoint::Endpoint;
use super::sockets::Socket;
use crate::downstream::stream::Stream as Downstream;
use crate::downstream::upload::Replay;
use crate::error::ProxyError;
use crate::transport::ByteStream;

/// A shorter request is in the peer's kernel when its response comes, and need not be asked after.
const LONG_BYTES: u64 = 64 * 1024;

/// The upstream side of one exchange. Dropping it ends the exchange at once.
pub enum Stream {
    /// A whole HTTP/1 connection.
    Http1(Box<Http1>),
}

/// An HTTP/1 connection, its endpoint, and when it was opened.
pub struct Http1 {
    conn: ClientConn<ByteStream, Replay>,
    endpoint: Counted,
    _socket: Socket,
    born: Instant,
}

/// An attempt that failed before the head of a response came.
pub struct SendFailure {
    /// What the policies learn of it.
    pub outcome: Outcome,
    /// What the downstream gets to see.
    pub error: ProxyError,
}

impl Stream {
    /// A stream over `bytes`, a new connection to `endpoint` with its `socket`.
    pub fn http1(bytes: ByteStream, endpoint: &Arc<Endpoint>, socket: Socket, born: Instant) -> Stream {
        let (conn, endpoint) = (ClientConn::new(bytes), Counted::new(endpoint));
        Stream::Http1(Box::new(Http1 { conn, endpoint, _socket: socket, born }))
    }

    /// The same stream; `room` says how much it may read at once.
    #[must_use]
    pub fn reading(mut self, room: &Rc<dyn Room>) -> Stream {
        let Stream::Http1(http1) = &mut self;
        http1.conn.set_room(Rc::clone(room));
        self
    }

    /// The endpoint at the other end.
    pub fn endpoint(&self) -> &Endpoint {
        let Stream::Http1(http1) = self;
        &http1.endpoint.0
    }

    /// When its connection was made.
    pub fn born(&self) -> Instant {
        let Stream::Http1(http1) = self;
        http1.born
    }

    /// Begins a request. Nothing is sent before [`Stream::poll_response`].
    pub fn begin(&mut self, request: OutgoingRequest<'_, Replay>) {
        let Stream::Http1(http1) = self;
        http1.conn.begin(request);
    }

    /// Whether the body is held back until the endpoint asks for it.
    pub fn is_held(&self) -> bool {
        let Stream::Http1(http1) = self;
        http1.conn.is_held()
    }

    /// Sends a body that was held back.
    pub fn release_body(&mut self) {
        let Stream::Http1(http1) = self;
        http1.conn.release_body();
    }

    /// Sends the request and polls for its response. `is_delayed` says whether the endpoint may have tired of the request's body through no fault of its own.
    ///
    /// # Errors
    /// There will be no response. The outcome says what is proven about the request.
    pub fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        is_delayed: impl FnOnce() -> bool,
    ) -> Poll<Result<ResponseEvent, SendFailure>> {
        let Stream::Http1(http1) = self;
        http1.conn.poll_response(cx).map_err(|error| SendFailure::new(error, is_delayed))
    }

    /// Polls for the next piece of the response's body, or its trailers.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Stream::Http1(http1) = self;
        http1.conn.poll_body(cx)
    }

    /// Whether the response's body has been read to its end.
    pub fn has_body_ended(&self) -> bool {
        let Stream::Http1(http1) = self;
        http1.conn.has_body_ended()
    }

    /// How many bytes of the response's body are still to come, as far as known.
    pub fn body_size_hint(&self) -> SizeHint {
        let Stream::Http1(http1) = self;
        http1.conn.body_size_hint()
    }

    /// Whether the request is still being sent, although its response may have come.
    pub fn is_sending(&self) -> bool {
        let Stream::Http1(http1) = self;
        http1.conn.is_sending()
    }

    /// How many bytes of the request the endpoint has taken so far.
    pub fn written(&self) -> u64 {
        let Stream::Http1(http1) = self;
        http1.conn.written()
    }

    /// Sends more of the request after the head of its response. Ready when all of it is sent or no more can be sent.
    pub fn poll_finish_sending(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stream::Http1(http1) = self;
        http1.conn.poll_finish_sending(cx)
    }

    /// How far what was written has come. It costs a system call; ask only when a decision depends on it.
    pub fn delivery(&self) -> Option<Delivery> {
        let Stream::Http1(http1) = self;
        http1.conn.delivery()
    }

    /// How far the request has come if it has been written whole and the endpoint has not taken all of it yet. Costs a system call only for a long request.
    pub fn undelivered(&self) -> Option<Delivery> {
        let Stream::Http1(http1) = self;
        if http1.conn.written() <= LONG_BYTES || !http1.conn.is_sent() {
            return None;
        }
        http1.conn.delivery().filter(|delivery| !delivery.is_complete)
    }

    /// Whether its connection can carry another request.
    pub fn is_reusable(&self) -> bool {
        let Stream::Http1(http1) = self;
        http1.conn.is_reusable()
    }

    /// Gives up the read buffer of a reusable connection until its next request.
    pub fn release_buffer(&mut self) {
        let Stream::Http1(http1) = self;
        http1.conn.release_buffer();
    }

    /// Whether the endpoint has neither closed an idle connection nor sent anything over it. Costs no system call unless something has happened.
    pub fn is_alive(&mut self) -> bool {
        let Stream::Http1(http1) = self;
        http1.conn.is_alive()
    }

    /// The bytes that have arrived behind a head that begins a tunnel.
    pub fn take_early(&mut self) -> BytesMut {
        let Stream::Http1(http1) = self;
        http1.conn.take_early()
    }

    /// Passes bytes between the endpoint and `downstream`.
    ///
    /// # Errors
    /// One side broke.
    pub fn poll_tunnel(
        &mut self,
        cx: &mut Context<'_>,
        tunnel: &mut outrigger_http1::tunnel::Tunnel,
        downstream: &Downstream,
    ) -> Poll<io::Result<()>> {
        let Stream::Http1(http1) = self;
        downstream.poll_tunnel(cx, tunnel, http1.conn.stream_mut())
    }

    /// Makes the connection end with a reset, never cleanly.
    pub fn abort(&mut self) {
        let Stream::Http1(http1) = self;
        http1.conn.stream_mut().abort();
    }
}

impl SendFailure {
    fn new(SendError { kind, wrote, read, reused }: SendError, is_delayed: impl FnOnce() -> bool) -> SendFailure {
        let (outcome, error) = match kind {
            SendErrorKind::Malformed(Refusal::UnexpectedUpgrade) => {
                (Outcome::MalformedResponse, ProxyError::UnexpectedUpgrade)
            }
            SendErrorKind::Malformed(_) => (Outcome::MalformedResponse, ProxyError::MalformedResponse),
            SendErrorKind::NoRoom => (Outcome::MemoryLimit, ProxyError::MemoryLimit),
            // The downstream's fault first, because it can show before a byte was written.
            SendErrorKind::Body => (Outcome::DownstreamError, ProxyError::MalformedRequestBody),
            SendErrorKind::Closed if !wrote => (Outcome::Unsent, ProxyError::Reset),
            // Also behind an informational response: a 100 asks for the body that does not come.
            SendErrorKind::Closed if is_delayed() => (Outcome::EndedAwaitingBody, ProxyError::EndedAwaitingBody),
            SendErrorKind::Closed if read => (Outcome::MalformedResponse, ProxyError::MalformedResponse),
            SendErrorKind::Closed => (Outcome::Reset { reused }, ProxyError::Reset),
        };
        SendFailure { outcome, error }
    }
}

/// Counts one open connection of an endpoint, for as long as it lives.
struct Counted(Arc<Endpoint>);

impl Counted {
    fn new(endpoint: &Arc<Endpoint>) -> Counted {
        endpoint.at.connections.fetch_add(1, Relaxed);
        Counted(Arc::clone(endpoint))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.at.connections.fetch_sub(1, Relaxed);
    }
}
