//! The answer's way down: the endpoint's body, or one of our own, with everything that ends when it ends.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use outrigger_http1::encode::BodyLength;
use outrigger_http1::head::ResponseHead;
use outrigger_policy::outcome::Class;

use super::attempt::Busy;
use super::record::Record;
use crate::clock;
use crate::http::conn::Conn;

/// An endpoint's answer on its way to the caller.
pub(super) struct Passing {
    pub(super) head: ResponseHead,
    pub(super) body: Source,
    pub(super) class: Class,
}

/// Where the bytes come from.
pub(super) enum Source {
    /// They are here.
    Whole(Bytes),
    /// They come in from an endpoint.
    Streaming(Box<Streaming>),
    /// There are none: a tunnel to an endpoint begins.
    Tunnel(Box<(Conn, Busy)>),
}

pub(super) struct Streaming {
    /// Given back to the pool when the body has ended exactly; dropped, and with it closed, in any other case.
    lease: Option<(Conn, Busy)>,
    keep_alive: Option<Duration>,
    unfinished: Option<Unfinished>,
}

/// The body broke off on the endpoint's side: the caller's connection must end without ending the message.
#[derive(Clone, Copy, Debug)]
pub struct BrokenOff;

/// A request whose answer has come and gone before it was whole: the endpoint still takes it.
pub struct Unfinished {
    conn: Conn,
    at_most: Duration,
}

impl Unfinished {
    /// Lets it go on, but not for ever.
    pub async fn finish(mut self) {
        // How it ends is nobody's concern any more.
        let _ = clock::until(clock::now() + self.at_most, std::future::poll_fn(|cx| self.conn.poll_finish_sending(cx)))
            .await;
    }
}

impl Source {
    /// The rest of an answer whose head has been read; a body that is already at its end gives its connection back at once.
    pub(super) fn streaming(conn: Conn, busy: Busy, keep_alive: Option<Duration>) -> Source {
        let mut streaming = Streaming { lease: Some((conn, busy)), keep_alive, unfinished: None };
        if streaming.has_ended() {
            streaming.end();
        }
        match streaming {
            Streaming { lease: None, unfinished: None, .. } => Source::Whole(Bytes::new()),
            _ => Source::Streaming(Box::new(streaming)),
        }
    }

    /// Whether its request is still on its way up.
    fn is_sending(&self) -> bool {
        match self {
            Source::Whole(_) | Source::Tunnel(_) => false,
            Source::Streaming(streaming) => streaming.is_sending(),
        }
    }
}

impl Streaming {
    fn is_sending(&self) -> bool {
        self.lease.as_ref().is_some_and(|(conn, _)| conn.is_sending())
    }

    fn has_ended(&self) -> bool {
        self.lease.as_ref().is_none_or(|(conn, _)| conn.has_body_ended())
    }

    /// The body has ended exactly.
    fn end(&mut self) {
        if let Some((conn, busy)) = self.lease.take() {
            let now = clock::now();
            if conn.is_sending() {
                self.unfinished = Some(Unfinished { conn, at_most: busy.idle_body() });
            } else {
                busy.put_back(conn, self.keep_alive, now);
            }
            busy.settle(Class::Success, now);
        }
    }

    /// The body broke off.
    fn break_off(&mut self) {
        if let Some((_closed, busy)) = self.lease.take() {
            busy.settle(Class::Failure, clock::now());
        }
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let streaming = match &mut *self {
            Source::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Source::Tunnel(_) => return Poll::Ready(None),
            Source::Whole(bytes) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Streaming(streaming) => streaming,
        };
        let Some((conn, _)) = &mut streaming.lease else {
            return Poll::Ready(None); // it has ended
        };
        match conn.poll_body(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                streaming.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                // Nobody polls past the last frame of a body of known length.
                if streaming.has_ended() {
                    streaming.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => {
                streaming.break_off();
                Poll::Ready(Some(Err(BrokenOff)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Streaming(streaming) => streaming.has_ended(),
            Source::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Tunnel(_) => SizeHint::with_exact(0),
            Source::Streaming(streaming) => {
                streaming.lease.as_ref().map_or_else(|| SizeHint::with_exact(0), |(conn, _)| conn.body_size_hint())
            }
        }
    }
}

/// What is sent to the caller. The [`Record`] in it is told how the body ended, and tells the rest when it is dropped.
pub struct Down {
    source: Source,
    record: Record,
}

impl Down {
    pub(super) fn new(source: Source, mut record: Record) -> Down {
        if source.is_end_stream() {
            record.body_ended();
        }
        Down { source, record }
    }

    /// The next frame.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let polled = Pin::new(&mut self.source).poll_frame(cx);
        match &polled {
            Poll::Pending => {
                self.record.body_awaited();
                if self.source.is_sending() {
                    self.record.request_awaited();
                }
            }
            Poll::Ready(Some(Ok(_))) if self.source.is_end_stream() => self.record.body_ended(),
            Poll::Ready(Some(Ok(_))) => self.record.body_moved(),
            Poll::Ready(None) => self.record.body_ended(),
            Poll::Ready(Some(Err(_))) => {}
        }
        polled
    }

    /// Whether nothing more is to come.
    pub fn has_ended(&self) -> bool {
        self.source.is_end_stream()
    }

    /// What is known of its length before it is read.
    pub fn length(&self) -> BodyLength {
        match self.source.size_hint().exact() {
            Some(0) => BodyLength::None,
            Some(length) => BodyLength::Known(length),
            None => BodyLength::Unknown,
        }
    }

    /// The endpoint broke it off, and what had come before has gone out.
    pub fn broke_off(&mut self) {
        self.record.body_broke_off();
    }

    /// It has been read as far as the caller wants it; what is left of the request's way up.
    pub fn into_unfinished(mut self) -> Option<Unfinished> {
        let Source::Streaming(streaming) = &mut self.source else { return None };
        let mut unfinished = streaming.unfinished.take()?;
        unfinished.at_most = unfinished.at_most.min(self.record.upload_left());
        Some(unfinished)
    }
}

impl Drop for Down {
    fn drop(&mut self) {
        // An endpoint that stops in the middle has failed, though it was we who ended the connection.
        if let (Source::Streaming(streaming), true) = (&mut self.source, self.record.is_endpoint_stalled()) {
            streaming.break_off();
        }
    }
}

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the endpoint broke its answer off")
    }
}

impl std::error::Error for BrokenOff {}
