//! The downstream side of one exchange, whatever carries it.
//!
//! A closed set, matched without a `_` arm: HTTP/1 lends its connection to one exchange after the other. Over HTTP/2 each request will be a stream of its own, with others beside
//! it on one connection; in test builds a double stands for that case.

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

/// Who asks, as one exchange sees it.
pub struct Downstream {
    /// How far the exchange has come.
    pub progress: Rc<Progress>,
    /// For its deadlines; one attempt at a time may use it.
    pub alarm: Alarm,
    /// Its bytes.
    pub stream: Stream,
}

/// Where a request comes from and its response goes.
#[derive(Clone)]
pub enum Stream {
    /// A connection that is this exchange's alone for as long as it lasts.
    Http1(Http1),
    /// One of several on a connection of a test.
    #[cfg(test)]
    Double(Rc<multiplexed::Double>),
}

/// A connection of the app. Its task, its requests' bodies and the exchange share it; they run in one task, and nobody keeps a borrow while it waits.
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

    /// What is known of the request's body before it is read.
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

    /// Sends an informational response, if the downstream knows what that is.
    pub fn send_informational(&self, head: &ResponseHead) {
        match self {
            Stream::Http1(conn) => conn.borrow_mut().send_informational(head),
            #[cfg(test)]
            Stream::Double(_) => {}
        }
    }

    /// Stages the head of a response that begins a tunnel.
    pub fn begin_tunnel(&self, head: &ResponseHead) {
        match self {
            Stream::Http1(conn) => conn.borrow_mut().begin_tunnel(head),
            #[cfg(test)]
            Stream::Double(_) => {}
        }
    }

    /// Writes what is staged.
    ///
    /// # Errors
    /// The downstream takes no more.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Http1(conn) => conn.borrow_mut().poll_flush(cx),
            #[cfg(test)]
            Stream::Double(_) => Poll::Ready(Ok(())),
        }
    }

    /// What has come behind a request that begins a tunnel.
    pub fn take_early(&self) -> BytesMut {
        match self {
            Stream::Http1(conn) => conn.borrow_mut().take_early(),
            #[cfg(test)]
            Stream::Double(_) => BytesMut::new(),
        }
    }

    /// Lets bytes through between here and `endpoint`.
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

    /// Its end is to be a reset, never a clean one.
    pub fn abort(&self) {
        match self {
            Stream::Http1(conn) => conn.borrow().abort(),
            #[cfg(test)]
            Stream::Double(_) => {}
        }
    }
}
