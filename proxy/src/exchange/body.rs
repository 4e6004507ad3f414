//! The answer's way down: the endpoint's body, or one of our own, with everything that ends when it ends.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::response;
use hyper::body::{Body, Frame, SizeHint};
use outrigger_policy::outcome::Class;

use super::attempt::Busy;
use super::record::Record;
use crate::clock;
use crate::http::conn::Conn;

/// An endpoint's answer on its way to the caller.
pub(super) struct Passing {
    pub(super) head: response::Parts,
    pub(super) body: Source,
    pub(super) class: Class,
}

/// Where the bytes come from.
pub(super) enum Source {
    /// They are here.
    Whole(Bytes),
    /// They come in from an endpoint.
    Streaming(Box<Streaming>),
}

pub(super) struct Streaming {
    /// Given back to the pool when the body has ended exactly; dropped, and with it closed, in any other case.
    lease: Option<(Conn, Busy)>,
    keep_alive: Option<Duration>,
}

/// The body broke off on the endpoint's side: hyper must end the caller's connection without ending the message.
#[derive(Debug)]
pub struct BrokenOff;

impl Source {
    /// The rest of an answer whose head has been read; a body that is already at its end gives its connection back at once.
    pub(super) fn streaming(conn: Conn, busy: Busy, keep_alive: Option<Duration>) -> Source {
        let mut streaming = Streaming { lease: Some((conn, busy)), keep_alive };
        if streaming.has_ended() {
            streaming.end();
            return Source::Whole(Bytes::new());
        }
        Source::Streaming(Box::new(streaming))
    }
}

impl Streaming {
    fn has_ended(&self) -> bool {
        self.lease.as_ref().is_none_or(|(conn, _)| conn.has_body_ended())
    }

    /// The body has ended exactly.
    fn end(&mut self) {
        if let Some((conn, busy)) = self.lease.take() {
            let now = clock::now();
            busy.put_back(conn, self.keep_alive, now);
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
            Source::Whole(bytes) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Streaming(streaming) => streaming,
        };
        let Some((conn, _)) = &mut streaming.lease else {
            return Poll::Ready(None); // it has ended
        };
        match conn.poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                streaming.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                // hyper does not poll past the last frame of a body of known length.
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
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Streaming(streaming) => {
                streaming.lease.as_ref().map_or_else(|| SizeHint::with_exact(0), |(conn, _)| conn.body_size_hint())
            }
        }
    }
}

/// What hyper sends to the caller. The [`Record`] in it is told how the body ended, and tells the rest when it is dropped.
pub struct Down {
    source: Source,
    record: Record,
    /// It broke off; what has come before goes out before hyper is told.
    is_broken: bool,
}

impl Down {
    pub(super) fn new(source: Source, mut record: Record) -> Down {
        if source.is_end_stream() {
            record.body_ended();
        }
        Down { source, record, is_broken: false }
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

impl Body for Down {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.is_broken {
            // The task runs again when the caller has read on; a caller that never does has a limit of its own.
            if self.record.is_caller_blocked() {
                return Poll::Pending;
            }
            self.record.body_broke_off();
            return Poll::Ready(Some(Err(BrokenOff)));
        }
        let polled = Pin::new(&mut self.source).poll_frame(cx);
        match &polled {
            Poll::Pending => self.record.body_awaited(),
            Poll::Ready(Some(Ok(_))) if self.source.is_end_stream() => self.record.body_ended(),
            Poll::Ready(Some(Ok(_))) => self.record.body_moved(),
            Poll::Ready(None) => self.record.body_ended(),
            Poll::Ready(Some(Err(_))) => {
                self.is_broken = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the endpoint broke its answer off")
    }
}

impl std::error::Error for BrokenOff {}
