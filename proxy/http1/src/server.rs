//! A server's side of a connection: requests in, responses out, one after the other.
//!
//! It has no task and no timer: every method that waits is a `poll_` method. It holds a buffer only while there is something in
//! it, so between requests an open connection costs little more than its stream.
//!
//! The order of a request: [`ServerConn::poll_request`], then its body by [`ServerConn::poll_body`] and its response by [`ServerConn::begin_response`],
//! [`ServerConn::push`] and [`ServerConn::end`], side by side as one likes; [`ServerConn::poll_flush`] writes. The next request may be read when the body has
//! been read to its end.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use tokio::io::{AsyncReadExt, ReadBuf};

use crate::encode::{BodyLength, Framing, WriteBuf, WrongLength, write_framing, write_response};
use crate::head::{RequestHead, ResponseHead, write_field};
use crate::parse::{BodyError, Decoder, Heads, Limits, Refusal};
use crate::reading::{READ_BYTES, Read, poll_head, read_bytes};
use crate::traits::RequestTraits;
use crate::transport::{Room, Transport};

/// Room for what is read of a long body, in bytes.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Asks a client for the body that it holds back.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A connection that requests come over.
pub struct ServerConn<S> {
    stream: S,
    /// Says how much of a body may be read at once.
    room: Option<Rc<dyn Room>>,
    /// Read and not yet taken.
    incoming: BytesMut,
    heads: Heads,
    /// The body of the request under way.
    body: Decoder,
    traits: RequestTraits,
    /// Whether the client waits for a 100 before it sends its body.
    owes_continue: bool,
    /// The head of the response has been put into the buffer.
    is_responding: bool,
    /// The client sends no more; it may still read.
    has_shut_down: bool,
    outgoing: WriteBuf,
    /// How the rest of the response's body is framed.
    framing: Framing,
}

/// What comes next over a connection.
#[derive(Debug)]
pub enum Next {
    /// A request.
    Request(RequestHead),
    /// Bytes that are no request, or no acceptable one. A last response may be sent; nothing can be read any more.
    Refused(Refusal),
    /// The end, between two requests.
    End,
    /// The end, or a failure, within a head.
    Broken,
}

/// The head of a response and what its fields do not say.
pub struct OutgoingResponse<'a> {
    /// Status and fields. Its own framing fields are not sent, but for a `Content-Length` that describes the body which a HEAD or a 304 leaves out.
    pub head: &'a ResponseHead,
    /// What is known of the body.
    pub length: BodyLength,
    /// Goes out as `Date` (RFC 9110 §6.6.1); to be given when the head has none. The crate reads no clock.
    pub date: Option<&'a [u8]>,
    /// Whether the connection ends with this response. The client gets a `Connection: close`.
    pub closes: bool,
}

impl<S: Transport> ServerConn<S> {
    /// A connection over `stream` that accepts requests up to `limits`.
    pub fn new(stream: S, limits: Limits) -> ServerConn<S> {
        ServerConn {
            stream,
            room: None,
            incoming: BytesMut::new(),
            heads: Heads::requests(limits),
            body: Decoder::Ended,
            traits: RequestTraits::default(),
            owes_continue: false,
            is_responding: false,
            has_shut_down: false,
            outgoing: WriteBuf::default(),
            framing: Framing::Length(0),
        }
    }

    /// From now on `room` says how much may be read at once. Its user has to end a [partial head](ServerConn::has_partial_head) for which there is no room.
    pub fn set_room(&mut self, room: Rc<dyn Room>) {
        self.room = Some(room);
    }

    /// Polls for the next request. The body of the one before must have been read to its end.
    pub fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let next = ready!(self.poll_head(cx));
        Poll::Ready(next.unwrap_or_else(|why| {
            // Its traits cannot be known, and those of the request before it are not its own.
            self.traits = RequestTraits::default();
            Next::Refused(why)
        }))
    }

    /// Whether a part of the next request has come, after [`ServerConn::poll_request`] was pending. This is when the time for a head begins.
    pub fn has_partial_head(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// The memory for what has been read and not taken, in bytes.
    pub fn buffered(&self) -> usize {
        self.incoming.capacity()
    }

    /// What the request under way says about the connection and the response.
    pub fn traits(&self) -> RequestTraits {
        self.traits
    }

    /// What is known of the rest of the body of the request under way.
    pub fn body_length(&self) -> BodyLength {
        match &self.body {
            Decoder::Ended => BodyLength::None,
            Decoder::Length(length) => BodyLength::Known(*length),
            Decoder::Chunked(_) | Decoder::UntilClose => BodyLength::Unknown,
        }
    }

    /// Whether the client holds the body back and has not been asked for it. After a final response nobody can know whether it still comes (RFC 9110 §10.1.1):
    /// the connection has to end.
    pub fn owes_continue(&self) -> bool {
        self.owes_continue
    }

    /// Whether the body of the request under way has been read to its end.
    pub fn has_body_ended(&self) -> bool {
        self.body.has_ended()
    }

    /// Polls for the next piece of the body of the request under way, or its trailers. A client that holds its body back gets a 100.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.body.next(&mut self.incoming, self.heads.limits()) {
                Ok(Some(frame)) => {
                    // A client that has begun to send its body needs no 100.
                    self.owes_continue = false;
                    if self.incoming.is_empty() && self.body.has_ended() {
                        // The memory of a long piece does not stay with an idle connection.
                        self.incoming = BytesMut::new();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(None) if self.body.has_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(why) => return Poll::Ready(Some(Err(BodyError::Malformed(why)))),
            }
            if std::mem::take(&mut self.owes_continue) {
                self.outgoing.buffer().extend_from_slice(CONTINUE);
                // The rest goes out with the next write, which also reports a failure.
                let _ = self.outgoing.poll_write(cx, &mut self.stream);
            }
            if self.incoming.capacity() == self.incoming.len() {
                let rest = self.body.size_hint().exact().unwrap_or(READ_BYTES as u64);
                self.incoming.reserve(read_bytes(rest, READ_BYTES_MAX, self.room.as_ref()));
            }
            match ready!(pin!(self.stream.read_buf(&mut self.incoming)).poll(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(BodyError::Truncated))),
                Ok(_) => {}
            }
        }
    }

    /// Ready when a client that holds its body back has sent some of it all the same, or has ended. It is not asked for it.
    pub fn poll_unasked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.owes_continue {
            let mut room = [MaybeUninit::uninit(); READ_BYTES];
            let mut room = ReadBuf::uninit(&mut room);
            // The reading of the body reports a failure.
            let _ = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room));
            self.incoming.extend_from_slice(room.filled());
            self.owes_continue = room.filled().is_empty();
        }
        Poll::Ready(())
    }

    /// Whether bytes of the client lie before the end of what it sends: a part of the body, or the beginning of the next request. Nobody reads past them while a
    /// response is made, so [`ServerConn::poll_disconnected`] cannot see the end. Call [`ServerConn::is_disconnected`] now and then instead.
    pub fn has_unread(&self) -> bool {
        !self.body.has_ended() || !self.incoming.is_empty()
    }

    /// Ready when the client has disconnected. Poll it while a response is made.
    ///
    /// A client that only ends its sending side still gets its response. [`ServerConn::has_shut_down`] shows that. From then on call
    /// [`ServerConn::is_disconnected`] now and then, because nothing wakes the task any more.
    pub fn poll_disconnected(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Behind the body this reads once and no more.
        if self.has_unread() {
            return Poll::Pending;
        }
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut room = ReadBuf::uninit(&mut room);
        if ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room)).is_err() {
            return Poll::Ready(());
        }
        if room.filled().is_empty() && self.is_deaf(cx) {
            return Poll::Ready(());
        }
        self.incoming.extend_from_slice(room.filled());
        Poll::Pending
    }

    /// Whether the client has disconnected, even if not all that it sent has been read. It registers no waker.
    pub fn is_disconnected(&mut self, cx: &mut Context<'_>) -> bool {
        (self.has_shut_down || self.stream.is_read_closed(cx)) && self.is_deaf(cx)
    }

    /// Whether the client has been seen to end its sending side.
    pub fn has_shut_down(&self) -> bool {
        self.has_shut_down
    }

    /// Puts an informational response (1xx) into the buffer. HTTP/1.0 has none, so such a client does not get it.
    pub fn send_informational(&mut self, head: &ResponseHead) {
        // A large piece of a body cannot be waiting here: informational responses come before the final one.
        if !self.traits.is_http10 && self.outgoing.has_room() {
            self.put_bodiless(head);
        }
    }

    /// Puts the head of the final response into the buffer. Returns how its body is framed; `None` means that no body may be [pushed](ServerConn::push). With
    /// [`Framing::UntilClose`] the connection ends with the response whatever was asked for.
    pub fn begin_response(&mut self, response: &OutgoingResponse<'_>) -> Option<Framing> {
        // No 100 may follow the final response, because the client would take it for the next response.
        (self.is_responding, self.owes_continue) = (true, false);
        let out = self.outgoing.buffer();
        write_response(out, response.head);
        if let Some(date) = response.date {
            write_field(out, b"date", date);
        }
        let framing = write_framing(out, response.head, response.length, self.traits);
        let closes = response.closes || framing == Some(Framing::UntilClose);
        match (self.traits.is_http10, closes) {
            (_, true) => out.extend_from_slice(b"connection: close\r\n"),
            (true, false) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (false, false) => {}
        }
        out.extend_from_slice(b"\r\n");
        self.framing = framing.unwrap_or(Framing::Length(0));
        framing
    }

    /// Puts the head of a response that begins a tunnel into the buffer: a 101, or a 2xx to a CONNECT. Nothing says where it ends.
    pub fn begin_tunnel(&mut self, head: &ResponseHead) {
        self.put_bodiless(head);
    }

    /// Puts a piece of the response's body into the buffer. There must be [room](ServerConn::has_room).
    ///
    /// # Errors
    /// The body is longer than announced. The connection must be [aborted](ServerConn::abort).
    pub fn push(&mut self, data: Bytes) -> Result<(), WrongLength> {
        self.outgoing.push(data, &mut self.framing)
    }

    /// Puts the end of the response's body into the buffer. There must be [room](ServerConn::has_room), or the last thing pushed was a piece of it. Trailers go
    /// only to a client that accepts them, and only in chunks.
    ///
    /// # Errors
    /// The body is shorter than announced. The connection must be [aborted](ServerConn::abort).
    pub fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), WrongLength> {
        let wanted = self.traits.accepts_trailers;
        self.outgoing.end(self.framing, trailers.filter(|_| wanted))
    }

    /// Whether there is room for another piece of the body.
    pub fn has_room(&self) -> bool {
        self.outgoing.has_room()
    }

    /// Puts `bytes` into the buffer as they are: a whole response that was written beforehand.
    pub fn put_raw(&mut self, bytes: &[u8]) {
        self.outgoing.buffer().extend_from_slice(bytes);
    }

    /// Writes the buffer; ready when it is empty.
    ///
    /// # Errors
    /// The client has closed or reset the connection.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_write(cx, &mut self.stream)
    }

    /// Ends the sending side, and reads until the client ends its own. Closing with unread bytes would reset the connection, and so take the last response back
    /// before it is read (RFC 9112 §9.6).
    pub fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if ready!(Pin::new(&mut self.stream).poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        loop {
            let mut room = [MaybeUninit::uninit(); READ_BYTES];
            let mut room = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room));
            if read.is_err() || room.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    /// Makes the drop end the connection with a failure, never cleanly. For a response that broke off.
    pub fn abort(&self) {
        self.stream.abort();
    }

    /// The bytes that were read behind the current request, for a tunnel.
    pub fn take_early(&mut self) -> BytesMut {
        std::mem::take(&mut self.incoming)
    }

    /// The stream, for a tunnel. No request may follow.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Refusal>> {
        let room = self.room.as_ref();
        let read = poll_head(&mut self.stream, &mut self.incoming, room, |bytes| self.heads.request(bytes), cx);
        Poll::Ready(Ok(match ready!(read)? {
            Read::Whole(head, body) => self.begin(head, body),
            Read::End if self.incoming.is_empty() => Next::End,
            Read::End => Next::Broken,
            Read::NoRoom => {
                // Its turn comes again behind all others, and those that have to end free their memory first.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }))
    }

    fn begin(&mut self, head: RequestHead, body: Decoder) -> Next {
        self.traits = RequestTraits::of(&head);
        // A client whose body has come behind the head does not wait.
        self.owes_continue = self.traits.expects_continue && !body.has_ended() && self.incoming.is_empty();
        (self.body, self.is_responding) = (body, false);
        Next::Request(head)
    }

    fn put_bodiless(&mut self, head: &ResponseHead) {
        let out = self.outgoing.buffer();
        write_response(out, head);
        out.extend_from_slice(b"\r\n");
    }

    /// Whether a client that has shut down its sending side has also stopped reading. Only a write can show that, because a client that has closed responds
    /// with a reset. Before the final response only an informational response may be written, and not to HTTP/1.0.
    fn is_deaf(&mut self, cx: &mut Context<'_>) -> bool {
        if self.traits.is_http10 && !self.is_responding {
            return true;
        }
        let is_new = !std::mem::replace(&mut self.has_shut_down, true);
        if is_new && !self.is_responding && self.outgoing.is_empty() {
            self.outgoing.buffer().extend_from_slice(CONTINUE);
        }
        matches!(self.outgoing.poll_write(cx, &mut self.stream), Poll::Ready(Err(_))) || self.stream.has_failed()
    }
}
