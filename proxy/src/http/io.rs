//! Byte streams, and what is learnt by watching them.
//!
//! hyper does not say whether a failed request was written, or whether anything of an answer came; and it has no timer for a caller that
//! stops reading. Both are seen from the bytes: a [`Watched`] stream tells its [`Watch`] of every read and write. Two watch: [`Meter`] on the side of the endpoint,
//! [`Progress`] on the side of the app.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

/// A connection, or in tests the end of an in-memory pipe.
pub enum Stream {
    /// The real thing.
    Tcp(TcpStream),
    /// The same proxy without a network.
    Memory(DuplexStream),
}

/// Is told of every byte that passes.
pub trait Watch {
    /// `n` bytes came in; 0 is the end.
    fn on_read(&self, n: usize);
    /// `n` bytes were handed to the network.
    fn on_write(&self, n: usize);
    /// The network takes no more bytes for now.
    fn on_blocked(&self) {}
}

/// A stream and who watches it.
pub struct Watched<W> {
    stream: Stream,
    watch: W,
}

/// Bytes that passed since the connection was taken for an attempt. Atomic only because hyper wants `Send` for upgrades; one thread uses it.
#[derive(Default)]
pub struct Meter {
    read: AtomicU64,
    written: AtomicU64,
}

impl Meter {
    /// Begins a new attempt.
    pub fn reset(&self) {
        self.read.store(0, Relaxed);
        self.written.store(0, Relaxed);
    }

    /// Whether a byte of an answer came.
    pub fn has_read(&self) -> bool {
        self.read.load(Relaxed) > 0
    }

    /// Whether a byte of the request went out.
    pub fn has_written(&self) -> bool {
        self.written.load(Relaxed) > 0
    }
}

impl Watch for std::sync::Arc<Meter> {
    fn on_read(&self, n: usize) {
        self.read.store(self.read.load(Relaxed) + n as u64, Relaxed);
    }

    fn on_write(&self, n: usize) {
        self.written.store(self.written.load(Relaxed) + n as u64, Relaxed);
    }
}

/// What a connection of the app is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Between requests.
    Idle = 0,
    /// A part of a head has come.
    Head = 1,
    /// A request is being worked on; it has deadlines of its own.
    Exchange = 2,
    /// An answer's body is under way.
    Body = 3,
}

/// Why the proxy ends a connection of the app.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Ending {
    /// It is not to be ended.
    None = 0,
    /// No further request came.
    Idle = 1,
    /// A head took too long.
    SlowHead = 2,
    /// No byte of the body came from the endpoint.
    EndpointStalled = 3,
    /// The caller read no byte of the body.
    CallerStalled = 4,
    /// The endpoint broke its body off: the caller must not take it for whole.
    Truncated = 5,
    /// The drain is over.
    CutOff = 6,
}

/// How far a connection of the app has come. Written by its own task, read by the worker's tick on the same thread.
pub struct Progress {
    phase: AtomicU8,
    ending: AtomicU8,
    /// The worker's tick at the last step forward.
    moved_at: AtomicU32,
    /// Ticks that a body may stand still; set when its answer begins.
    body_limit: AtomicU32,
    /// The last look for a piece of the body found none.
    awaits_endpoint: AtomicBool,
    /// The network did not take all that was to be written: the caller is not reading.
    is_blocked: AtomicBool,
    /// An answer went down before its request had come whole: what still comes is no head.
    is_spoilt: AtomicBool,
    /// The worker's tick now, shared by all its connections: reading a clock for every packet would cost more than it tells.
    tick: std::sync::Arc<AtomicU32>,
}

impl Progress {
    /// For a connection that has just come in and may wait for its first request.
    pub fn new(tick: std::sync::Arc<AtomicU32>) -> Progress {
        let moved_at = AtomicU32::new(tick.load(Relaxed));
        Progress {
            phase: AtomicU8::new(Phase::Idle as u8),
            ending: AtomicU8::new(Ending::None as u8),
            moved_at,
            body_limit: AtomicU32::new(u32::MAX),
            awaits_endpoint: AtomicBool::new(false),
            is_blocked: AtomicBool::new(false),
            is_spoilt: AtomicBool::new(false),
            tick,
        }
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Exchange,
            _ => Phase::Body,
        }
    }

    /// Enters a phase; that is a step forward.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.moved();
    }

    /// A step forward.
    pub fn moved(&self) {
        self.moved_at.store(self.tick.load(Relaxed), Relaxed);
    }

    /// Ticks since the last step forward.
    pub fn ticks_still(&self) -> u32 {
        self.tick.load(Relaxed).wrapping_sub(self.moved_at.load(Relaxed))
    }

    /// An answer's body begins; it may stand still for `limit_ticks`.
    pub fn enter_body(&self, limit_ticks: u32) {
        self.body_limit.store(limit_ticks, Relaxed);
        self.awaits_endpoint.store(false, Relaxed);
        self.enter(Phase::Body);
    }

    /// Ticks that the body may stand still.
    pub fn body_limit_ticks(&self) -> u32 {
        self.body_limit.load(Relaxed)
    }

    /// Whether the endpoint had nothing when it was last asked for a piece of the body.
    pub fn set_awaits_endpoint(&self, awaits: bool) {
        self.awaits_endpoint.store(awaits, Relaxed);
    }

    /// Whether written bytes wait for the caller to read. Between two requests too: the end of an answer may still be in hyper's buffer.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked.load(Relaxed)
    }

    /// An answer has gone down before its request had come whole.
    pub fn spoil(&self) {
        self.is_spoilt.store(true, Relaxed);
    }

    /// Whose fault it is that a body stands still.
    pub fn stalled_side(&self) -> Ending {
        if self.awaits_endpoint.load(Relaxed) { Ending::EndpointStalled } else { Ending::CallerStalled }
    }

    /// The connection is to be ended; the first reason stays.
    pub fn end(&self, why: Ending) {
        if self.ending() == Ending::None {
            self.ending.store(why as u8, Relaxed);
        }
    }

    /// Why it is to be ended.
    pub fn ending(&self) -> Ending {
        match self.ending.load(Relaxed) {
            0 => Ending::None,
            1 => Ending::Idle,
            2 => Ending::SlowHead,
            3 => Ending::EndpointStalled,
            4 => Ending::CallerStalled,
            5 => Ending::Truncated,
            _ => Ending::CutOff,
        }
    }
}

impl Watch for std::sync::Arc<Progress> {
    fn on_read(&self, n: usize) {
        match self.phase() {
            // The clock of a head starts with its first byte and is not wound up by the next ones: dripping does not help.
            Phase::Idle if n > 0 && !self.is_spoilt.load(Relaxed) => self.enter(Phase::Head),
            // The caller is still uploading; after an early answer too.
            Phase::Body | Phase::Idle if n > 0 => self.moved(),
            Phase::Idle | Phase::Head | Phase::Exchange | Phase::Body => {}
        }
    }

    fn on_write(&self, n: usize) {
        if n > 0 && (self.is_blocked() || self.phase() == Phase::Body) {
            self.is_blocked.store(false, Relaxed);
            self.moved();
        }
    }

    fn on_blocked(&self) {
        self.is_blocked.store(true, Relaxed);
    }
}

impl<W> Watched<W> {
    /// Watches `stream`.
    pub fn new(stream: Stream, watch: W) -> Watched<W> {
        Watched { stream, watch }
    }

    /// Drops the connection so that the peer sees a reset and never a clean end.
    pub fn abort(self) {
        if let Stream::Tcp(tcp) = &self.stream {
            // If it fails the peer has already closed: there is nobody left to mislead.
            let _ = tcp.set_zero_linger();
        }
    }
}

impl<W: Watch + Unpin> AsyncRead for Watched<W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = match &mut self.stream {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Memory(pipe) => Pin::new(pipe).poll_read(cx, buf),
        };
        if let Poll::Ready(Ok(())) = polled {
            self.watch.on_read(buf.filled().len() - before);
        }
        polled
    }
}

impl<W: Watch + Unpin> AsyncWrite for Watched<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Memory(pipe) => Pin::new(pipe).poll_write(cx, buf),
        };
        self.noting(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Memory(pipe) => Pin::new(pipe).poll_write_vectored(cx, bufs),
        };
        self.noting(polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(tcp) => tcp.is_write_vectored(),
            Stream::Memory(pipe) => pipe.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Memory(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Memory(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}

impl<W: Watch> Watched<W> {
    fn noting(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Ready(Ok(n)) => self.watch.on_write(*n),
            Poll::Pending => self.watch.on_blocked(),
            Poll::Ready(Err(_)) => {}
        }
        polled
    }
}
