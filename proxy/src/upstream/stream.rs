//! The upstream side of one exchange, whatever carries it.
//!
//! A closed set, matched without a `_` arm: HTTP/1 lends a whole connection to one exchange at a time; over HTTP/2 a stream will be one of many of a connection. What went wrong
//! with a request is said here in the words of the policies and of the proxy's own responses, at one place: [`SendFailure`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use outrigger_http1::client::{ClientConn, OutgoingRequest, ResponseEvent, SendError, SendErrorKind};
use outrigger_http1::parse::{BodyError, Refusal};
use outrigger_http1::transport::Transport;
use outrigger_policy::outcome::Outcome;

use super::endpoint::Endpoint;
use crate::downstream::stream::Stream as Downstream;
use crate::downstream::upload::Replay;
use crate::error::ProxyError;
use crate::transport::ByteStream;

/// The upstream side of one exchange; dropped, it is ended at once.
pub enum Stream {
    /// A connection of its own.
    Http1(Box<Http1>),
}

/// An HTTP/1 connection, where it goes, and since when it is open.
pub struct Http1 {
    conn: ClientConn<ByteStream, Replay>,
    endpoint: Counted,
    born: Instant,
}

/// An attempt that got no response's head.
pub struct SendFailure {
    /// For the policies.
    pub outcome: Outcome,
    /// For the downstream.
    pub error: ProxyError,
}

impl Stream {
    /// Over `bytes`, a connection that has just been made to `endpoint`.
    pub fn http1(bytes: ByteStream, endpoint: &Arc<Endpoint>, born: Instant) -> Stream {
        Stream::Http1(Box::new(Http1 { conn: ClientConn::new(bytes), endpoint: Counted::new(endpoint), born }))
    }

    /// Where it goes.
    pub fn endpoint(&self) -> &Endpoint {
        let Stream::Http1(http1) = self;
        &http1.endpoint.0
    }

    /// When its connection was made.
    pub fn born(&self) -> Instant {
        let Stream::Http1(http1) = self;
        http1.born
    }

    /// Begins a request; nothing is sent before it is polled.
    pub fn begin(&mut self, request: OutgoingRequest<'_, Replay>) {
        let Stream::Http1(http1) = self;
        http1.conn.begin(request);
    }

    /// Whether the body is held back until the endpoint asks for it.
    pub fn is_held(&self) -> bool {
        let Stream::Http1(http1) = self;
        http1.conn.is_held()
    }

    /// Lets a held body go.
    pub fn release_body(&mut self) {
        let Stream::Http1(http1) = self;
        http1.conn.release_body();
    }

    /// Sends the request and polls for its response.
    ///
    /// # Errors
    /// There will be no response; what is proven about the request is in the outcome.
    pub fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseEvent, SendFailure>> {
        let Stream::Http1(http1) = self;
        http1.conn.poll_response(cx).map_err(SendFailure::from)
    }

    /// Polls for the next piece of the response's body, or its trailers; meanwhile the request goes on if it is not yet whole.
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

    /// Whether the request is still being sent, though its response may have come.
    pub fn is_sending(&self) -> bool {
        let Stream::Http1(http1) = self;
        http1.conn.is_sending()
    }

    /// Sends the rest of the request after its response has come; ready when it is sent or cannot be.
    pub fn poll_finish_sending(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stream::Http1(http1) = self;
        http1.conn.poll_finish_sending(cx)
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

    /// What has been read behind a head that begins a tunnel.
    pub fn take_early(&mut self) -> BytesMut {
        let Stream::Http1(http1) = self;
        http1.conn.take_early()
    }

    /// Lets bytes through between here and `downstream`.
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

    /// Its end is to be a reset, never a clean one.
    pub fn abort(&mut self) {
        let Stream::Http1(http1) = self;
        http1.conn.stream_mut().abort();
    }
}

impl From<SendError> for SendFailure {
    fn from(SendError { kind, wrote, read, reused }: SendError) -> SendFailure {
        let (outcome, error) = match kind {
            SendErrorKind::Malformed(Refusal::UnexpectedUpgrade) => {
                (Outcome::MalformedResponse, ProxyError::UnexpectedUpgrade)
            }
            SendErrorKind::Malformed(_) => (Outcome::MalformedResponse, ProxyError::MalformedResponse),
            // The downstream's fault first: it may well show before a byte was written.
            SendErrorKind::Body => (Outcome::DownstreamError, ProxyError::MalformedRequestBody),
            SendErrorKind::Closed if !wrote => (Outcome::Unsent, ProxyError::Reset),
            SendErrorKind::Closed if read => (Outcome::MalformedResponse, ProxyError::MalformedResponse),
            SendErrorKind::Closed => (Outcome::Reset { reused }, ProxyError::Reset),
        };
        SendFailure { outcome, error }
    }
}

/// One of an endpoint's open connections.
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
