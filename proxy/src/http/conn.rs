//! A connection to an endpoint: HTTP/1.1 as its client speaks it, one exchange at a time.
//!
//! Whoever waits for something of it drives it: it has no task, and between two exchanges nobody looks at it but the pool. It writes the request and reads the
//! answer at the same time, because an answer may come before its request is whole. It knows what hyper's client does not tell: whether a byte of
//! the request has left, and whether one of the answer has come.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, StatusCode, response};
use hyper::body::{Frame, SizeHint};
use outrigger_policy::outcome::Outcome;
use tokio::io::AsyncReadExt;

use super::answer::{self, Decoder, Garbled, HeadScan};
use super::io::Stream;
use super::outgoing::{Cut, Outbound, Outgoing};
use crate::error::ProxyError;
use crate::upstream::Endpoint;

/// Interim answers (1xx) before an answer.
const INTERIM_MAX: u32 = 8;
/// Room for what is read when little is expected, and when much is. A thousand requests at once have a thousand of these.
const READ_BYTES: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 32 * 1024;

/// A connection; dropped, it is closed at once.
pub struct Conn(Box<Parts>);

struct Parts {
    stream: Stream,
    endpoint: Counted,
    born: Instant,
    is_reused: bool,
    outgoing: Outgoing,
    /// Read and not yet taken.
    incoming: BytesMut,
    scan: HeadScan,
    body: Decoder,
    method: Method,
    interim: u32,
    has_read: bool,
    /// No further exchange may begin on it.
    is_last: bool,
}

/// How long an answer is waited for.
pub trait Patience {
    /// Ready once it is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<SendFailure>;
}

/// An attempt that got no answer's head.
pub struct SendFailure {
    /// For the policies.
    pub outcome: Outcome,
    /// For the caller.
    pub error: ProxyError,
}

/// The answer broke off, or went on in a way that means nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

impl Conn {
    /// Over a `stream` that has just been connected to `endpoint`.
    pub fn new(stream: Stream, endpoint: &Arc<Endpoint>, born: Instant) -> Conn {
        Conn(Box::new(Parts {
            stream,
            endpoint: Counted::new(endpoint),
            born,
            is_reused: false,
            outgoing: Outgoing::default(),
            incoming: BytesMut::new(),
            scan: HeadScan::default(),
            body: Decoder::Ended,
            method: Method::GET,
            interim: 0,
            has_read: false,
            is_last: false,
        }))
    }

    /// Where it goes.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint.0
    }

    /// When it was made.
    pub fn born(&self) -> Instant {
        self.0.born
    }

    /// Whether the last exchange on it has ended exactly, so that another may begin.
    pub fn is_ready(&self) -> bool {
        let parts = &*self.0;
        let is_sent = !parts.outgoing.is_cut && !parts.outgoing.is_unfinished();
        is_sent && !parts.is_last && parts.body.has_ended() && parts.incoming.is_empty()
    }

    /// Keeps no more memory than the next exchange needs at first.
    pub fn rest(&mut self) {
        if self.0.incoming.capacity() > READ_BYTES {
            self.0.incoming = BytesMut::new();
        }
    }

    /// Whether the endpoint has neither closed it nor said anything unasked. No system call unless something has happened.
    pub fn is_alive(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.0.poll_fill(&mut cx).is_pending()
    }

    /// Whether the request is still being sent.
    pub fn is_sending(&self) -> bool {
        self.0.is_sending()
    }

    /// Sends a request and waits for the answer's head as long as `patience` lasts. The connection is lost when this fails or is dropped.
    ///
    /// # Errors
    /// The outcome says what is proven about the request.
    pub async fn send(
        mut self,
        request: Outbound<'_>,
        patience: &mut impl Patience,
    ) -> Result<(response::Parts, Conn), SendFailure> {
        self.0.begin(request);
        let answered = std::future::poll_fn(|cx| match self.0.poll_head(cx) {
            Poll::Ready(answered) => Poll::Ready(answered),
            Poll::Pending => patience.poll_over(cx).map(Err),
        });
        // The answer goes first: one that is there is taken even at the last moment.
        answered.await.map(|head| (head, self))
    }

    /// Polls the answer's body; meanwhile the request goes on if it is not yet whole.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.0.poll_frame(cx)
    }

    /// Whether the answer's body has come whole.
    pub fn has_body_ended(&self) -> bool {
        self.0.body.has_ended()
    }

    /// Bytes of the answer's body to come, as far as known.
    pub fn body_size_hint(&self) -> SizeHint {
        self.0.body.size_hint()
    }

    /// Sends the rest of the request; the answer has already come.
    pub async fn finish_sending(mut self) {
        // How it ends is nobody's concern any more.
        let _ = std::future::poll_fn(|cx| self.0.outgoing.poll(cx, &mut self.0.stream)).await;
    }
}

impl Parts {
    fn begin(&mut self, request: Outbound<'_>) {
        self.is_reused = self.outgoing.has_begun;
        self.method.clone_from(&request.head.method);
        (self.scan, self.interim, self.has_read) = (HeadScan::default(), 0, false);
        self.outgoing.begin(request);
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<response::Parts, SendFailure>> {
        match self.outgoing.poll(cx, &mut self.stream) {
            Poll::Ready(Err(Cut::ByCaller)) => return Poll::Ready(Err(self.explain(Cut::ByCaller))),
            // An endpoint may answer and take no more.
            Poll::Ready(Ok(()) | Err(Cut::ByEndpoint)) | Poll::Pending => {}
        }
        loop {
            match self.take_head() {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(failure) => return Poll::Ready(Err(failure)),
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(self.explain(Cut::ByEndpoint))),
                Ok(_) => self.has_read = true,
            }
        }
    }

    /// The answer's head, if it has come whole; interim ones are passed over.
    fn take_head(&mut self) -> Result<Option<response::Parts>, SendFailure> {
        let garbled = |Garbled| SendFailure { outcome: Outcome::Garbled, error: ProxyError::Garbled };
        while let Some(end) = self.scan.end(&self.incoming).map_err(garbled)? {
            let head = answer::read_head(&self.incoming[..end], &self.method).map_err(garbled)?;
            self.incoming.advance(end);
            if head.parts.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(SendFailure { outcome: Outcome::Garbled, error: ProxyError::UnaskedUpgrade });
            }
            if !head.parts.status.is_informational() {
                (self.body, self.is_last) = (head.body, head.is_last);
                return Ok(Some(head.parts));
            }
            (self.scan, self.interim) = (HeadScan::default(), self.interim + 1);
            if self.interim > INTERIM_MAX {
                return Err(garbled(Garbled));
            }
        }
        Ok(None)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.is_sending() {
            // If the caller breaks its upload off, or the endpoint takes no more, the connection ends with this answer.
            let _ = self.outgoing.poll(cx, &mut self.stream);
        }
        loop {
            match self.body.next(&mut self.incoming) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.body.has_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(Garbled) => return Poll::Ready(Some(Err(Broken))),
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) if self.body.ends_with_connection() => {
                    self.body = Decoder::Ended;
                    return Poll::Ready(None);
                }
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(Broken))),
                Ok(_) => {}
            }
        }
    }

    fn is_sending(&self) -> bool {
        !self.outgoing.is_cut && self.outgoing.is_unfinished()
    }

    /// Reads what is there.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = match &self.body {
            Decoder::Length(rest) if *rest > READ_BYTES as u64 => READ_BYTES_MAX,
            Decoder::UntilClose => READ_BYTES_MAX,
            Decoder::Chunked(_) if self.incoming.capacity() == 0 => READ_BYTES_MAX,
            _ => READ_BYTES,
        };
        if self.incoming.capacity() == self.incoming.len() {
            self.incoming.reserve(room);
        }
        pin!(self.stream.read_buf(&mut self.incoming)).poll(cx)
    }

    /// Why there is no answer.
    fn explain(&self, cut: Cut) -> SendFailure {
        let (outcome, error) = if cut == Cut::ByCaller {
            // The caller's fault first: it may well show before a byte was written.
            (Outcome::CallerFault, ProxyError::CallerBodyBroken)
        } else if !self.outgoing.has_written {
            (Outcome::Unsent, ProxyError::Reset)
        } else if self.has_read {
            (Outcome::Garbled, ProxyError::Garbled)
        } else {
            (Outcome::Reset { reused: self.is_reused }, ProxyError::Reset)
        };
        SendFailure { outcome, error }
    }
}

/// One of an endpoint's open connections.
struct Counted(Arc<Endpoint>);

impl Counted {
    fn new(endpoint: &Arc<Endpoint>) -> Counted {
        endpoint.connections.fetch_add(1, Relaxed);
        Counted(Arc::clone(endpoint))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}
