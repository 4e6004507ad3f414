//! How far an exchange of the downstream has come, as the worker's tick sees it: what stands still for too long is ended.
//!
//! Over HTTP/1 an exchange has its connection to itself, so one [`Progress`] serves the connection and its exchanges, one after the other, and a [`Watched`] stream tells it of
//! every read and write. Where many exchanges share a connection, each has its own.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use outrigger_http1::transport::Transport;
use outrigger_policy::upload::Side;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::ByteStream;

/// What it is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Between requests.
    Idle,
    /// A part of a head has come.
    Head,
    /// A request is being worked on; it has deadlines of its own.
    Exchange,
    /// A response's body is under way.
    Body,
    /// Bytes pass both ways, and are no HTTP.
    Tunnel,
}

/// Why the proxy ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// No further request came.
    Idle,
    /// A head took too long.
    HeaderTimeout,
    /// A body stood still for too long, because of this side.
    BodyIdleTimeout(Side),
    /// The endpoint broke its body off: the downstream must not take it for whole.
    Truncated,
    /// The drain is over.
    CutOff,
    /// Nothing has passed through a tunnel.
    TunnelIdle,
}

/// How far it has come. It belongs to one thread: its own task writes it, the worker's tick reads it.
pub struct Progress {
    phase: Cell<Phase>,
    ending: Cell<Option<Ending>>,
    /// The worker's tick at the last step forward.
    moved_at: Cell<u32>,
    /// Ticks that a body or a tunnel may stand still; set when it begins.
    body_limit: Cell<u32>,
    /// The last look for a piece of the body found none.
    awaits_endpoint: Cell<bool>,
    /// The network did not take all that was to be written: the downstream is not reading.
    is_blocked: Cell<bool>,
    /// A request has not come whole.
    is_uploading: Cell<bool>,
    /// The downstream sends no more, and nothing wakes the task when it goes.
    is_watched: Cell<bool>,
    /// The worker's tick now, shared by all that it looks at: reading a clock for every packet would cost more than it tells.
    tick: Rc<Cell<u32>>,
}

impl Progress {
    /// For a connection that has just come in and may wait for its first request.
    pub fn new(tick: Rc<Cell<u32>>) -> Progress {
        Progress {
            phase: Cell::new(Phase::Idle),
            ending: Cell::new(None),
            moved_at: Cell::new(tick.get()),
            body_limit: Cell::new(u32::MAX),
            awaits_endpoint: Cell::new(false),
            is_blocked: Cell::new(false),
            is_uploading: Cell::new(false),
            is_watched: Cell::new(false),
            tick,
        }
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Enters a phase; that is a step forward.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.moved();
    }

    /// A request begins; its body may still be under way.
    pub fn enter_exchange(&self, is_uploading: bool) {
        self.is_uploading.set(is_uploading);
        self.enter(Phase::Exchange);
    }

    /// An exchange has ended; if its request has not come whole, what still comes is no head.
    pub fn leave(&self, is_uploading: bool) {
        self.is_uploading.set(is_uploading);
        self.enter(Phase::Idle);
    }

    /// Nothing wakes its task when the downstream goes.
    pub fn set_watched(&self) {
        self.is_watched.set(true);
    }

    /// Whether its task has to look for itself now and then whether the downstream is still there.
    pub fn is_watched(&self) -> bool {
        self.is_watched.get() || self.is_uploading.get()
    }

    /// A step forward.
    pub fn moved(&self) {
        self.moved_at.set(self.tick.get());
    }

    /// Ticks since the last step forward.
    pub fn ticks_still(&self) -> u32 {
        self.tick.get().wrapping_sub(self.moved_at.get())
    }

    /// A response's body begins; it may stand still for `limit_ticks`.
    pub fn enter_body(&self, limit_ticks: u32) {
        self.body_limit.set(limit_ticks);
        self.awaits_endpoint.set(false);
        self.enter(Phase::Body);
    }

    /// A tunnel begins; it may stand still for `limit_ticks`.
    pub fn enter_tunnel(&self, limit_ticks: u32) {
        self.body_limit.set(limit_ticks);
        self.enter(Phase::Tunnel);
    }

    /// Ticks that the body or the tunnel may stand still.
    pub fn body_limit_ticks(&self) -> u32 {
        self.body_limit.get()
    }

    /// Whether the endpoint had nothing when it was last asked for a piece of the body.
    pub fn set_awaits_endpoint(&self, awaits: bool) {
        self.awaits_endpoint.set(awaits);
    }

    /// Whether written bytes wait for the downstream to read. Between two requests too: the end of a response may still be staged.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// Because of whom a body stands still.
    pub fn awaited_side(&self) -> Side {
        if self.awaits_endpoint.get() { Side::Endpoint } else { Side::Downstream }
    }

    /// It is to be ended; the first reason stays.
    pub fn end(&self, why: Ending) {
        if self.ending.get().is_none() {
            self.ending.set(Some(why));
        }
    }

    /// Why it is to be ended, if it is.
    pub fn ending(&self) -> Option<Ending> {
        self.ending.get()
    }

    /// `n` bytes came in; 0 is the end.
    fn on_read(&self, n: usize) {
        match self.phase() {
            // The time for a head starts with its first byte and is not extended by the next ones: a client that sends single bytes gains nothing.
            Phase::Idle if n > 0 && !self.is_uploading.get() => self.enter(Phase::Head),
            // The downstream is still uploading; after an early response too.
            Phase::Body | Phase::Idle | Phase::Tunnel if n > 0 => self.moved(),
            Phase::Idle | Phase::Head | Phase::Exchange | Phase::Body | Phase::Tunnel => {}
        }
    }

    /// `n` bytes were handed to the network.
    fn on_write(&self, n: usize) {
        if n > 0 && (self.is_blocked() || matches!(self.phase(), Phase::Body | Phase::Tunnel)) {
            self.is_blocked.set(false);
            self.moved();
        }
    }
}

/// A connection of the downstream whose [`Progress`] is told of every byte that passes.
pub struct Watched {
    stream: ByteStream,
    progress: Rc<Progress>,
}

impl Watched {
    /// Watches `stream`.
    pub fn new(stream: ByteStream, progress: Rc<Progress>) -> Watched {
        Watched { stream, progress }
    }

    fn noting(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Ready(Ok(n)) => self.progress.on_write(*n),
            // The network takes no more bytes for now.
            Poll::Pending => self.progress.is_blocked.set(true),
            Poll::Ready(Err(_)) => {}
        }
        polled
    }
}

impl Transport for Watched {
    fn abort(&self) {
        self.stream.abort();
    }

    fn is_read_closed(&self, cx: &mut Context<'_>) -> bool {
        self.stream.is_read_closed(cx)
    }

    fn has_failed(&self) -> bool {
        self.stream.has_failed()
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            self.progress.on_read(buf.filled().len() - before);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noting(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.noting(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
