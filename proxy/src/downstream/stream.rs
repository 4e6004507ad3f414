//! The downstream side of one exchange, over any protocol.
//!
//! It is a closed set, matched without a `_` arm. HTTP/1 lends its connection to one exchange after the other. Over HTTP/2 each request will be a stream, with
//! others beside it on one connection; in test builds a double stands in for that case.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use outrigger_http1::encode::BodyLength;
use outrigger_http1::head::ResponseHead;
use outrigger_http1::parse::BodyError;
use outrigger_http1::server::ServerConn;
use outrigger_http1::traits::RequestTraits;
use outrigger_http1::transport::Transport;
use outrigger_http1::tunnel::Tunnel;

use super::progress::{Progress, Watched};
use crate::clock::Alarm;
#[cfg(test)]
use crate::tests::multiplexed;

/// The downstream as one exchange sees it.
pub struct Downstream {
    /// How far the exchange has come.
    pub progress: Rc<Progress>,
    /// The alarm for the exchange's deadlines. Only one attempt at a time may use it.
    pub alarm: Alarm,
    /// Where the request comes from and the response goes.
    pub stream: Stream,
}

/// Where a request comes from and its response goes.
#[derive(Clone)]
pub enum Stream {
    /// An HTTP/1 connection, which this exchange has to itself until it ends.
    Http1(Http1),
    /// A test double, one of several on a connection.
    #[cfg(test)]
    Double(Rc<multiplexed::Double>),
}

/// A downstream HTTP/1 connection. Its task, the bodies of its requests and its exchange share it. They all run in one task, and none keeps a borrow across a wait.
pub type Http1 = Rc<RefCell<ServerConn<Watched>>>;

impl Stream {
    /// What the request says about the connection and the form of its response.
    pub fn traits(&self) -> RequestTraits {
        match self {
            Stream::Http1(conn) => conn.borrow().traits(),
            #[cfg(test)]
            Stream::Double(_) => RequestTraits::default(),
        }
    }

    /// The length of the request's body, as far as its head says.
    pub fn body_length(&self) -> BodyLength {
        match self {
            Stream::Http1(conn) => conn.borrow().body_length(),
            #[cfg(test)]
            Stream::Double(double) => double.body_length(),
        }
    }

    /// Whether the request's body has been read to its end.
    pub fn has_body_ended(&self) -> bool {
        match self {
            Stream::Http1(conn) => conn.borrow().has_body_ended(),
            #[cfg(test)]
            Stream::Double(double) => double.has_body_ended(),
        }
    }

    /// Polls for the next piece of the request's body, or its trailers.
    pub fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Stream::Http1(conn) => conn.borrow_mut().poll_body(cx),
            #[cfg(test)]
            Stream::Double(double) => double.poll_body(cx),
        }
    }

    /// Ready when the downstream has sent some of a body that it holds back, or none can come any more.
    pub fn poll_unasked(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Stream::Http1(conn) => conn.borrow_mut().poll_unasked(cx),
            #[cfg(test)]
            Stream::Double(_) => Poll::Pending,
        }
    }

    /// Sends an informational response, unless the downstream speaks HTTP/1.0, which has none.
    pub fn send_informational(&self, head: &ResponseHead) {
        match self {
            Stream::Http1(conn) => conn.borrow_mut().send_informational(head),
            #[cfg(test)]
            Stream::Double(_) => {}
        }
    }

    /// Puts the head of a response that begins a tunnel into the write buffer.
    pub fn begin_tunnel(&self, head: &ResponseHead) {
        match self {
            Stream::Http1(conn) => conn.borrow_mut().begin_tunnel(head),
            #[cfg(test)]
            Stream::Double(_) => {}
        }
    }

    /// Writes out the write buffer.
    ///
    /// # Errors
    /// The downstream has closed or reset its connection.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Http1(conn) => conn.borrow_mut().poll_flush(cx),
            #[cfg(test)]
            Stream::Double(_) => Poll::Ready(Ok(())),
        }
    }

    /// The bytes that have arrived behind a request that begins a tunnel.
    pub fn take_early(&self) -> BytesMut {
        match self {
            Stream::Http1(conn) => conn.borrow_mut().take_early(),
            #[cfg(test)]
            Stream::Double(_) => BytesMut::new(),
        }
    }

    /// Passes bytes between the downstream and `endpoint`.
    ///
    /// # Errors
    /// One side broke.
    pub fn poll_tunnel<T: Transport>(
        &self,
        cx: &mut Context<'_>,
        tunnel: &mut Tunnel,
        endpoint: &mut T,
    ) -> Poll<io::Result<()>> {
        match self {
            Stream::Http1(conn) => tunnel.poll(cx, conn.borrow_mut().stream_mut(), endpoint),
            #[cfg(test)]
            Stream::Double(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Makes the connection end with a reset, never cleanly.
    pub fn abort(&self) {
        match self {
            Stream::Http1(conn) => conn.borrow().abort(),
            #[cfg(test)]
            Stream::Double(_) => {}
        }
    }
}
