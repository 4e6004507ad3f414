//! What hyper is given of the app's bytes: those that the [`Inspector`] lets through.
//!
//! In place of a head that is refused hyper gets another one, by which the connection ends. So the refusal is a request like any other: answered in its
//! turn, after those before it, by a row of the table, counted and logged. The exchange asks the [`Verdict`] whether its request is that one.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::Watched;
use super::strict::{Inspector, Limits, Part, Refusal, Refused};

/// Stands where the refused head was.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// A connection of the app behind its inspector.
pub struct Inspected {
    inner: Watched,
    inspector: Inspector,
    /// Inspected bytes that hyper has not taken yet, from `taken` on.
    passed: Vec<u8>,
    taken: usize,
    verdict: Rc<Verdict>,
}

/// What a connection's inspector has refused.
#[derive(Default)]
pub struct Verdict {
    refused: Cell<Option<Refused>>,
    requests: Cell<u64>,
}

impl Verdict {
    /// To be asked once for each request, in their order: why it is refused, if it is.
    pub fn of_next_request(&self) -> Option<Refusal> {
        let ordinal = self.requests.replace(self.requests.get() + 1);
        self.refused.get().filter(|it| it.part == Part::Head && it.ordinal == ordinal).map(|it| it.why)
    }

    /// Whether anything was refused; what still comes is not looked at.
    pub fn is_refused(&self) -> bool {
        self.refused.get().is_some()
    }
}

impl Inspected {
    /// Lets through what is within `limits`.
    pub fn new(inner: Watched, limits: Limits, verdict: Rc<Verdict>) -> Inspected {
        Inspected { inner, inspector: Inspector::requests(limits), passed: Vec::new(), taken: 0, verdict }
    }

    /// The bare connection.
    pub fn into_inner(self) -> Watched {
        self.inner
    }

    /// Hands over inspected bytes; whether there were any.
    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.passed[self.taken..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.taken += count;
        if self.taken == self.passed.len() {
            (self.passed, self.taken) = (Vec::new(), 0);
        }
        count > 0
    }

    /// Judges what was read into `buf` behind `before`, and leaves in it what may go on; whether that is anything.
    fn inspect(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> bool {
        let passage = self.inspector.feed(&buf.filled()[before..]);
        if !passage.before.is_empty() {
            // The beginning of this head came in an earlier piece.
            self.passed = passage.before;
            self.passed.extend_from_slice(&buf.filled()[before..before + passage.bytes]);
            buf.set_filled(before);
        } else {
            buf.set_filled(before + passage.bytes);
        }
        if let Some(refused) = passage.refused {
            self.verdict.refused.set(Some(refused));
            if refused.part == Part::Head {
                self.passed.extend_from_slice(STAND_IN);
            }
        }
        buf.filled().len() > before
    }
}

impl AsyncRead for Inspected {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.hand_over(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.verdict.refused.get().map(|refused| refused.part) {
                None => {}
                // hyper has what it answers, and the connection ends with that.
                Some(Part::Head) => return Poll::Pending,
                Some(Part::Body) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            if buf.filled().len() == before || this.inspect(buf, before) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Inspected {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
