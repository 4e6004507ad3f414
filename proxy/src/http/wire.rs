//! A connection of the app, as its task, its requests' bodies and the exchange see it: bytes in, bytes out.
//!
//! All of them run in one task, one after the other, so the connection needs neither lock nor channel. It holds a buffer only while there is something in
//! it: between requests an open connection costs little more than its socket.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::Frame;
use outrigger_http1::encode::{BodyLength, Framing, WriteBuf, WrongLength, write_framing, write_response};
use outrigger_http1::head::{RequestHead, ResponseHead};
use outrigger_http1::parse::{Decoder, Heads, Limits, Refusal};
use outrigger_http1::traits::RequestTraits;
use outrigger_http1::tunnel::Tunnel;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::headers;
use super::io::{Phase, Progress, Stream, Watched};

/// Room for what is read when little is expected; on the stack.
const READ_BYTES: usize = 8 * 1024;
/// And when much is.
const READ_BYTES_MAX: usize = 64 * 1024;
/// What a caller that waits with its body is told when the body is wanted.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A connection of the app.
pub struct Wire {
    progress: Arc<Progress>,
    ends: RefCell<Ends>,
}

struct Ends {
    stream: Watched,
    /// Read and not yet taken.
    incoming: BytesMut,
    heads: Heads,
    /// The body of the request under way.
    body: Decoder,
    manner: RequestTraits,
    /// The caller waits to be told that its body is wanted.
    owes_continue: bool,
    /// An answer's head has been staged.
    is_answering: bool,
    /// The caller sends no more; it may still read.
    has_shut_down: bool,
    staged: WriteBuf,
}

/// What comes next over a connection.
pub enum Next {
    /// A request.
    Request(RequestHead),
    /// Bytes that are no request; nothing is read after them.
    Refused(Refusal),
    /// The end, between two requests.
    End,
    /// The end within a head.
    Broken,
}

/// The caller's body broke off or is malformed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

impl Wire {
    /// Over a connection that has just come in.
    pub fn new(stream: Stream, progress: Arc<Progress>, limits: Limits) -> Wire {
        let ends = Ends {
            stream: Watched::new(stream, Arc::clone(&progress)),
            incoming: BytesMut::new(),
            heads: Heads::requests(limits),
            body: Decoder::Ended,
            manner: RequestTraits::default(),
            owes_continue: false,
            is_answering: false,
            has_shut_down: false,
            staged: WriteBuf::default(),
        };
        Wire { progress, ends: RefCell::new(ends) }
    }

    /// The next request; its body has to be read before.
    pub fn poll_request(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut ends = self.ends.borrow_mut();
        let next = ready!(ends.poll_head(cx, &self.progress));
        Poll::Ready(next.unwrap_or_else(|why| {
            // It has none that could be known; the one before it had another.
            ends.manner = RequestTraits::default();
            Next::Refused(why)
        }))
    }

    /// How the request under way wants to be answered.
    pub fn manner(&self) -> RequestTraits {
        self.ends.borrow().manner
    }

    /// What is known of the body of the request under way before it is read.
    pub fn body_length(&self) -> BodyLength {
        match &self.ends.borrow().body {
            Decoder::Ended => BodyLength::None,
            Decoder::Length(length) => BodyLength::Known(*length),
            Decoder::Chunked(_) | Decoder::UntilClose => BodyLength::Unknown,
        }
    }

    /// Whether the caller still waits to be told that its body is wanted.
    pub fn owes_continue(&self) -> bool {
        self.ends.borrow().owes_continue
    }

    /// Whether the body of the request under way has been read whole.
    pub fn has_body_ended(&self) -> bool {
        self.ends.borrow().body.has_ended()
    }

    /// Polls the body of the request under way. Who waits with it is told to go on.
    pub fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.ends.borrow_mut().poll_body(cx)
    }

    /// Ready when the caller has gone while it had nothing more to say. One that only sends no more still gets its answer.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.ends.borrow_mut().poll_gone(cx, &self.progress)
    }

    /// Whether the caller has gone though not all that it had sent was read. To be asked now and then: nobody is woken by it.
    pub fn has_gone_unread(&self, cx: &mut Context<'_>) -> bool {
        let mut ends = self.ends.borrow_mut();
        (ends.has_shut_down || ends.stream.is_read_closed(cx)) && ends.is_deaf(cx, &self.progress)
    }

    /// Hands an interim answer (1xx) down, if the caller knows what that is.
    pub fn interim(&self, head: &ResponseHead) {
        let mut ends = self.ends.borrow_mut();
        // Before a piece of an answer's body there is none: interim answers come before answers.
        if !ends.manner.is_http10 && ends.staged.has_room() {
            write_response(ends.staged.buffer(), head);
            ends.staged.buffer().extend_from_slice(b"\r\n");
        }
    }

    /// Stages an answer's head. `length` is what is known of its body, and `is_last` whether the connection ends with it; returns how the body is to be
    /// framed, or `None` if there is none.
    pub fn begin_answer(&self, head: &ResponseHead, length: BodyLength, is_last: bool) -> Option<Framing> {
        let mut ends = self.ends.borrow_mut();
        let manner = ends.manner;
        // Who was not told until now is not told any more: behind an answer it would be taken for the next one.
        (ends.is_answering, ends.owes_continue) = (true, false);
        let out = ends.staged.buffer();
        write_response(out, head);
        headers::write_date(out, head);
        let framing = write_framing(out, head, length, manner);
        let is_last = is_last || framing == Some(Framing::UntilClose);
        match (manner.is_http10, is_last) {
            (_, true) => out.extend_from_slice(b"connection: close\r\n"),
            (true, false) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (false, false) => {}
        }
        out.extend_from_slice(b"\r\n");
        framing
    }

    /// Stages the head of an answer that begins a tunnel: nothing says where it ends.
    pub fn begin_tunnel(&self, head: &ResponseHead) {
        let mut ends = self.ends.borrow_mut();
        let out = ends.staged.buffer();
        write_response(out, head);
        out.extend_from_slice(b"\r\n");
    }

    /// What has come behind the request under way.
    pub fn take_early(&self) -> BytesMut {
        std::mem::take(&mut self.ends.borrow_mut().incoming)
    }

    /// Lets bytes through between here and `endpoint`.
    ///
    /// # Errors
    /// As [`Tunnel::poll`].
    pub fn poll_tunnel(
        &self,
        cx: &mut Context<'_>,
        tunnel: &mut Tunnel,
        endpoint: &mut Stream,
    ) -> Poll<io::Result<()>> {
        tunnel.poll(cx, &mut self.ends.borrow_mut().stream, endpoint)
    }

    /// Stages a piece of an answer's body. There must be room.
    ///
    /// # Errors
    /// It is more than was announced.
    pub fn push(&self, data: Bytes, framing: &mut Framing) -> Result<(), WrongLength> {
        self.ends.borrow_mut().staged.push(data, framing)
    }

    /// Stages the end of an answer's body. There must be room.
    ///
    /// # Errors
    /// It is less than was announced.
    pub fn end(&self, framing: Framing, trailers: Option<&http::HeaderMap>) -> Result<(), WrongLength> {
        let mut ends = self.ends.borrow_mut();
        let wanted = ends.manner.accepts_trailers;
        ends.staged.end(framing, trailers.filter(|_| wanted))
    }

    /// Whether there is room for another piece.
    pub fn has_room(&self) -> bool {
        self.ends.borrow().staged.has_room()
    }

    /// Writes what is staged.
    ///
    /// # Errors
    /// The caller takes no more.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Ends { staged, stream, .. } = &mut *self.ends.borrow_mut();
        staged.poll_write(cx, stream)
    }

    /// Says `bytes` and no more.
    ///
    /// # Errors
    /// The caller takes no more.
    pub fn poll_say(&self, cx: &mut Context<'_>, bytes: &mut &'static [u8]) -> Poll<io::Result<()>> {
        self.ends.borrow_mut().staged.buffer().extend_from_slice(std::mem::take(bytes));
        self.poll_flush(cx)
    }

    /// Says that nothing more comes, and reads until nothing more comes from the other side: closing with unread bytes would take an answer back before it is read.
    pub fn poll_linger(&self, cx: &mut Context<'_>) -> Poll<()> {
        let stream = &mut self.ends.borrow_mut().stream;
        if ready!(Pin::new(&mut *stream).poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        loop {
            let mut room = [MaybeUninit::uninit(); READ_BYTES];
            let mut room = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut room));
            if read.is_err() || room.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    /// Its end is to be a reset, never a clean one.
    pub fn abort(&self) {
        self.ends.borrow().stream.abort();
    }
}

impl Ends {
    fn poll_head(&mut self, cx: &mut Context<'_>, progress: &Progress) -> Poll<Result<Next, Refusal>> {
        loop {
            if !self.incoming.is_empty() {
                if let Some(taken) = self.heads.request(&self.incoming)? {
                    self.incoming.advance(taken.bytes);
                    return Poll::Ready(Ok(self.begin(taken.head, taken.body)));
                }
                // It may have come behind the request before.
                if progress.phase() == Phase::Idle {
                    progress.enter(Phase::Head);
                }
            }
            let mut room = [MaybeUninit::uninit(); READ_BYTES];
            let mut room = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room));
            let bytes = room.filled();
            if read.is_err() || bytes.is_empty() {
                let is_between = self.incoming.is_empty();
                return Poll::Ready(Ok(if is_between { Next::End } else { Next::Broken }));
            }
            // Most heads come whole, and are never copied into a buffer of the connection.
            if self.incoming.is_empty()
                && let Some(taken) = self.heads.request(bytes)?
            {
                self.incoming.extend_from_slice(&bytes[taken.bytes..]);
                return Poll::Ready(Ok(self.begin(taken.head, taken.body)));
            }
            self.incoming.extend_from_slice(bytes);
        }
    }

    fn begin(&mut self, head: RequestHead, body: Decoder) -> Next {
        self.manner = RequestTraits::of(&head);
        self.owes_continue = self.manner.expects_continue && !body.has_ended();
        (self.body, self.is_answering) = (body, false);
        Next::Request(head)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            match self.body.next(&mut self.incoming, self.heads.limits()) {
                Ok(Some(frame)) => {
                    // Who has begun to send needs not be told.
                    self.owes_continue = false;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(None) if self.body.has_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Some(Err(Broken))),
            }
            if std::mem::take(&mut self.owes_continue) {
                self.staged.buffer().extend_from_slice(CONTINUE);
                // What is not taken now goes with what is written next; a connection that takes nothing has an end of its own.
                let _ = self.staged.poll_write(cx, &mut self.stream);
            }
            let rest = self.body.size_hint().exact().and_then(|rest| usize::try_from(rest).ok());
            if self.incoming.capacity() == self.incoming.len() {
                self.incoming.reserve(rest.unwrap_or(READ_BYTES).clamp(1, READ_BYTES_MAX));
            }
            match ready!(pin!(self.stream.read_buf(&mut self.incoming)).poll(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(Broken))),
                Ok(_) => {}
            }
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>, progress: &Progress) -> Poll<()> {
        // What comes of a body is looked at by who reads it; and one request that came too early is read, not two.
        if !self.body.has_ended() || !self.incoming.is_empty() {
            return Poll::Pending;
        }
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut room = ReadBuf::uninit(&mut room);
        if ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room)).is_err() {
            return Poll::Ready(());
        }
        if room.filled().is_empty() && self.is_deaf(cx, progress) {
            return Poll::Ready(());
        }
        self.incoming.extend_from_slice(room.filled());
        Poll::Pending
    }

    /// The caller sends no more. Whether it still reads, only writing can tell: who has closed answers that with a reset. Before an answer there is one thing
    /// that may be written to everybody but HTTP/1.0: an interim answer. The look once a second sees a reset that takes longer.
    fn is_deaf(&mut self, cx: &mut Context<'_>, progress: &Progress) -> bool {
        if self.manner.is_http10 && !self.is_answering {
            return true;
        }
        if !std::mem::replace(&mut self.has_shut_down, true) {
            progress.set_watched(true);
            if !self.is_answering && self.staged.is_empty() {
                self.staged.buffer().extend_from_slice(CONTINUE);
            }
        }
        matches!(self.staged.poll_write(cx, &mut self.stream), Poll::Ready(Err(_))) || self.stream.has_failed()
    }
}
