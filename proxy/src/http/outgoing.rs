//! A request on its way to an endpoint: head, framing, and a body that is drawn as fast as it is taken.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::Body;
use outrigger_http1::encode::{BodyLength, Framing, RequestLines, WriteBuf, write_request};
use outrigger_http1::head::RequestHead;
use outrigger_http1::parse::Limits;

use super::body::Replay;
use super::io::Stream;

/// What is to be sent.
pub struct Outbound<'a> {
    /// Method, target and fields; framing is made here.
    pub head: &'a RequestHead,
    /// Goes out in place of the head's own `Host`.
    pub host: Option<&'a [u8]>,
    /// What is known of the body's length.
    pub length: BodyLength,
    /// The body.
    pub body: Replay,
    /// The caller waits with its body until it is told to go on.
    pub expects_continue: bool,
    /// The caller can do with trailers behind the answer.
    pub accepts_trailers: bool,
    /// How much of the answer is taken.
    pub limits: Limits,
    /// The protocol that the caller wants to go on with.
    pub upgrade: Option<&'a [u8]>,
}

/// The request on its way.
#[derive(Default)]
pub(super) struct Outgoing {
    staged: WriteBuf,
    /// Still to be drawn from.
    upload: Option<(Replay, Framing)>,
    /// Nothing is drawn until the endpoint has said 100, or has been silent for long enough.
    is_held: bool,
    /// Whether there was ever one.
    pub(super) has_begun: bool,
    /// Whether a byte of it has left.
    pub(super) has_written: bool,
    /// The endpoint takes no more; its answer may still come.
    pub(super) is_cut: bool,
}

/// Who broke the request off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The caller: its body broke off, or is not as long as it said.
    ByCaller,
    /// The endpoint.
    ByEndpoint,
}

impl Outgoing {
    /// Whether something of it is still to be written or drawn.
    pub(super) fn is_unfinished(&self) -> bool {
        self.upload.is_some() || !self.staged.is_empty()
    }

    /// Makes the head; nothing is written yet.
    pub(super) fn begin(&mut self, request: Outbound<'_>) {
        (self.has_begun, self.has_written) = (true, false);
        self.staged = WriteBuf::default();
        let Outbound { host, length, expects_continue, accepts_trailers, upgrade, .. } = request;
        let lines = RequestLines { host, length, expects_continue, accepts_trailers, upgrade };
        write_request(self.staged.buffer(), request.head, &lines);
        self.is_held = request.expects_continue && request.length != BodyLength::None;
        self.upload = match request.length {
            BodyLength::None => None,
            BodyLength::Known(length) => Some((request.body, Framing::Length(length))),
            BodyLength::Unknown => Some((request.body, Framing::Chunked)),
        };
    }

    /// Whether the body waits for the endpoint's 100.
    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// The endpoint wants the body, or has said nothing about it.
    pub(super) fn let_go(&mut self) {
        self.is_held = false;
    }

    /// Draws and writes until all is written.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<Result<(), Cut>> {
        loop {
            // First what can be drawn at once, so that a head and a small body go out together.
            while self.upload.is_some() && !self.is_held && self.staged.has_room() {
                match self.poll_draw(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(cut)) => {
                        self.is_cut = true;
                        return Poll::Ready(Err(cut));
                    }
                }
            }
            if self.staged.is_empty() {
                return if self.upload.is_some() { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            // Once anything is written of it, nobody can say what has arrived.
            let before = self.staged.left();
            let written = self.staged.poll_write(cx, stream);
            self.has_written |= self.staged.left() < before;
            if ready!(written).is_err() {
                self.is_cut = true;
                return Poll::Ready(Err(Cut::ByEndpoint));
            }
        }
    }

    /// Stages the next piece of the body.
    fn poll_draw(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let Some((body, framing)) = &mut self.upload else { return Poll::Ready(Ok(())) };
        let by_caller = |_| Cut::ByCaller;
        let is_last = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Err(_)) => return Poll::Ready(Err(Cut::ByCaller)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.staged.push(data, framing).map_err(by_caller)?;
                    // The end is known with the last piece: it goes out with it.
                    *framing == Framing::Length(0) && body.is_end_stream()
                }
                Err(frame) => {
                    self.staged.end(*framing, frame.trailers_ref()).map_err(by_caller)?;
                    true
                }
            },
            None => {
                self.staged.end(*framing, None).map_err(by_caller)?;
                true
            }
        };
        if is_last {
            self.upload = None;
        }
        Poll::Ready(Ok(()))
    }
}
