//! A connection to an endpoint: HTTP/1.1 as its client speaks it, one exchange at a time.
//!
//! Whoever waits for something of it drives it: it has no task, and between two exchanges nobody looks at it but the pool, and it holds no buffer. It writes the request
//! and reads the answer at the same time, because an answer may come before its request is whole. It knows whether a byte of the request has
//! left, and whether one of the answer has come.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use hyper::body::{Frame, SizeHint};
use outrigger_http1::head::ResponseHead;
use outrigger_http1::parse::{Decoder, Heads, Limits, Refusal, RequestKind};
use outrigger_http1::traits::says_close;
use outrigger_policy::outcome::Outcome;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::io::Stream;
use super::outgoing::{Cut, Outbound, Outgoing};
use crate::clock::{self, Alarm};
use crate::error::ProxyError;
use crate::upstream::Endpoint;

/// Room for what is read when little is expected; on the stack.
const READ_BYTES: usize = 8 * 1024;
/// And when much is.
const READ_BYTES_MAX: usize = 32 * 1024;
/// How long an endpoint is waited for that does not say 100 before the body is sent all the same (RFC 9110 §10.1.1 leaves it to us; as curl does).
const CONTINUE_MAX: Duration = Duration::from_secs(1);

/// A connection; dropped, it is closed at once.
pub struct Conn(Box<Parts>);

struct Parts {
    stream: Stream,
    endpoint: Counted,
    born: Instant,
    is_reused: bool,
    outgoing: Outgoing,
    /// When a body that is held goes out all the same.
    let_go_at: Instant,
    let_go: Alarm,
    /// Read and not yet taken.
    incoming: BytesMut,
    heads: Heads,
    body: Decoder,
    has_read: bool,
    /// No further exchange may begin on it.
    is_last: bool,
}

/// How long an answer is waited for.
pub trait Patience {
    /// Ready once it is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<SendFailure>;

    /// An interim answer has come, which is neither 100 nor 101.
    fn on_interim(&mut self, head: ResponseHead);
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
            let_go_at: born,
            let_go: Alarm::default(),
            incoming: BytesMut::new(),
            heads: Heads::responses(Limits::default()), // each request brings its own
            body: Decoder::Ended,
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

    /// Keeps no buffer until the next exchange.
    pub fn rest(&mut self) {
        self.0.incoming = BytesMut::new();
    }

    /// Whether the endpoint has neither closed it nor said anything unasked. No system call unless something has happened.
    pub fn is_alive(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut unasked = [0];
        Pin::new(&mut self.0.stream).poll_read(&mut cx, &mut ReadBuf::new(&mut unasked)).is_pending()
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
    ) -> Result<(ResponseHead, Conn), SendFailure> {
        self.0.begin(request);
        let answered = std::future::poll_fn(|cx| match self.0.poll_head(cx, patience) {
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

    /// What has come behind the head that begins a tunnel.
    pub fn take_early(&mut self) -> BytesMut {
        std::mem::take(&mut self.0.incoming)
    }

    /// For a tunnel, which no exchange follows.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.0.stream
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
        let method = &request.head.method;
        let is_upgrade = request.upgrade.is_some();
        self.heads.set_limits(request.limits);
        self.heads.expect_response(RequestKind { is_head: *method == Method::HEAD, is_connect: false, is_upgrade });
        self.has_read = false;
        self.outgoing.begin(request);
        if self.outgoing.is_held() {
            self.let_go_at = clock::now() + CONTINUE_MAX;
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        patience: &mut impl Patience,
    ) -> Poll<Result<ResponseHead, SendFailure>> {
        loop {
            if self.outgoing.is_held() && self.let_go.poll_until(self.let_go_at, cx).is_ready() {
                self.outgoing.let_go();
            }
            match self.outgoing.poll(cx, &mut self.stream) {
                Poll::Ready(Err(Cut::ByCaller)) => return Poll::Ready(Err(self.explain(Cut::ByCaller))),
                // An endpoint may answer and take no more.
                Poll::Ready(Ok(()) | Err(Cut::ByEndpoint)) | Poll::Pending => {}
            }
            match ready!(self.poll_next_head(cx)) {
                Err(failure) => return Poll::Ready(Err(failure)),
                Ok(head) if head.status.is_informational() && head.status != 101 => {
                    self.outgoing.let_go();
                    if head.status != 100 {
                        patience.on_interim(head);
                    }
                }
                Ok(head) => {
                    self.is_last = head.is_http10 || self.body.ends_with_connection() || says_close(&head.fields);
                    return Poll::Ready(Ok(head));
                }
            }
        }
    }

    /// The next head, interim or not.
    fn poll_next_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, SendFailure>> {
        let garbled = |why| SendFailure {
            outcome: Outcome::Garbled,
            error: match why {
                Refusal::UnexpectedUpgrade => ProxyError::UnaskedUpgrade,
                _ => ProxyError::Garbled,
            },
        };
        loop {
            if !self.incoming.is_empty()
                && let Some(taken) = self.heads.response(&self.incoming).map_err(garbled)?
            {
                self.incoming.advance(taken.bytes);
                self.body = taken.body;
                return Poll::Ready(Ok(taken.head));
            }
            let mut room = [MaybeUninit::uninit(); READ_BYTES];
            let mut room = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room));
            let bytes = room.filled();
            if read.is_err() || bytes.is_empty() {
                return Poll::Ready(Err(self.explain(Cut::ByEndpoint)));
            }
            self.has_read = true;
            // Most heads come whole, and are never copied into a buffer of the connection.
            let mut taken_bytes = 0;
            let mut head = None;
            if self.incoming.is_empty()
                && let Some(taken) = self.heads.response(bytes).map_err(garbled)?
            {
                (self.body, taken_bytes) = (taken.body, taken.bytes);
                head = Some(taken.head);
            }
            self.incoming.extend_from_slice(&bytes[taken_bytes..]);
            if let Some(head) = head {
                return Poll::Ready(Ok(head));
            }
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.is_sending() {
            // If the caller breaks its upload off, or the endpoint takes no more, the connection ends with this answer.
            let _ = self.outgoing.poll(cx, &mut self.stream);
        }
        loop {
            match self.body.next(&mut self.incoming, self.heads.limits()) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.body.has_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Some(Err(Broken))),
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

    /// Reads what is there of a body.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let most = self.body.size_hint().exact().and_then(|rest| usize::try_from(rest).ok());
        if self.incoming.capacity() == self.incoming.len() {
            self.incoming.reserve(most.unwrap_or(READ_BYTES_MAX).clamp(1, READ_BYTES_MAX));
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
