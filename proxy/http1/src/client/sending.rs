//! A request that is being sent: its head, its framing, and a body that is read from its source only as fast as the server reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body;
use tokio::io::AsyncWrite;

use super::request::OutgoingRequest;
use crate::encode::{BodyLength, Framing, WriteBuf, write_request};

/// The current request.
pub(super) struct Sending<B> {
    outgoing: WriteBuf,
    /// The source of the body, until all of it has been read.
    body: Option<(B, Framing)>,
    /// Whether the body waits for its release.
    is_held: bool,
    /// Whether there has been a request.
    pub(super) has_begun: bool,
    /// How many bytes of it were written.
    pub(super) written: u64,
    /// Whether the rest cannot be sent. The response may still come.
    pub(super) is_cut: bool,
    /// Whether a write took a failure of the connection from the stream. A socket reports it once, and reads after that show a clean end.
    pub(super) has_failed: bool,
}

/// Which side broke the request off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The source of its body.
    ByBody,
    /// The server, or the way to it.
    ByPeer,
}

impl<B> Default for Sending<B> {
    fn default() -> Sending<B> {
        let outgoing = WriteBuf::default();
        Sending { outgoing, body: None, is_held: false, has_begun: false, written: 0, is_cut: false, has_failed: false }
    }
}

impl<B> Sending<B> {
    /// Whether some of the request is still to be read from its source or to be written.
    pub(super) fn is_unfinished(&self) -> bool {
        self.body.is_some() || !self.outgoing.is_empty()
    }

    /// Puts the head into the buffer; nothing is written yet.
    pub(super) fn begin(&mut self, request: OutgoingRequest<'_, B>) {
        (self.has_begun, self.written) = (true, 0);
        self.outgoing = WriteBuf::default();
        write_request(self.outgoing.buffer(), request.head, &request.lines());
        self.is_held = request.expects_continue && request.length != BodyLength::None;
        self.body = match request.length {
            BodyLength::None => None,
            BodyLength::Known(length) => Some((request.body, Framing::Length(length))),
            BodyLength::Unknown => Some((request.body, Framing::Chunked)),
        };
    }

    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Whether polling can still send some of the request.
    pub(super) fn is_under_way(&self) -> bool {
        !self.is_cut && (!self.outgoing.is_empty() || (self.body.is_some() && !self.is_held))
    }

    pub(super) fn release(&mut self) {
        self.is_held = false;
    }
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    /// Reads from the source and writes until everything is written.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Cut>> {
        loop {
            // First reads what the source has, so that a head and a small body are written together.
            while self.body.is_some() && !self.is_held && self.outgoing.has_room() {
                match self.poll_draw(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(cut)) => return self.cut(cut),
                }
            }
            if self.outgoing.is_empty() {
                return if self.body.is_some() { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            // Once any byte is written, it is unknown what has arrived.
            let before = self.outgoing.left();
            let written = self.outgoing.poll_write(cx, stream);
            self.written += (before - self.outgoing.left()) as u64;
            if let Err(error) = ready!(written) {
                // A pipe is broken where the server ended its side before it stopped reading, so its end was a clean one.
                self.has_failed = error.kind() != io::ErrorKind::BrokenPipe;
                return self.cut(Cut::ByPeer);
            }
        }
    }

    /// Lets go of the body, because nobody will read it any further.
    fn cut(&mut self, cut: Cut) -> Poll<Result<(), Cut>> {
        (self.is_cut, self.body) = (true, None);
        Poll::Ready(Err(cut))
    }

    /// Puts the next piece of the body into the buffer.
    fn poll_draw(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let Some((body, framing)) = &mut self.body else { return Poll::Ready(Ok(())) };
        let wrong_length = |_| Cut::ByBody;
        let is_last = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Err(_)) => return Poll::Ready(Err(Cut::ByBody)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.outgoing.push(data, framing).map_err(wrong_length)?;
                    // If the last piece shows the end, the end is written together with it.
                    *framing == Framing::Length(0) && body.is_end_stream()
                }
                Err(frame) => {
                    self.outgoing.end(*framing, frame.trailers_ref()).map_err(wrong_length)?;
                    true
                }
            },
            None => {
                self.outgoing.end(*framing, None).map_err(wrong_length)?;
                true
            }
        };
        if is_last {
            self.body = None;
        }
        Poll::Ready(Ok(()))
    }
}
