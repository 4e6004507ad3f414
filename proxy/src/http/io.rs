//! Byte streams, and what is learnt by watching them.
//!
//! A caller that stops sending or reading is seen from the bytes: a [`Watched`] stream tells its [`Progress`] of every read and write.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};
use std::task::{Context, Poll};

use outrigger_http1::server::ServerConn;
use outrigger_http1::transport::Transport;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

/// A connection, or in tests the end of an in-memory pipe.
pub enum Stream {
    /// The real thing.
    Tcp(TcpStream),
    /// The same proxy without a network.
    Memory(DuplexStream),
}

/// A connection of the app, whose [`Progress`] is told of every byte that passes.
pub struct Watched {
    stream: Stream,
    progress: Arc<Progress>,
}

/// A connection of the app. Its task, its request's body and the exchange use it one after the other in one task; no borrow outlives a call.
pub type AppConn = RefCell<ServerConn<Watched>>;

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
    /// Bytes pass both ways, and are no HTTP.
    Tunnel = 4,
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
    /// Nothing has passed through a tunnel.
    TunnelIdle = 7,
}

/// How far a connection of the app has come. Written by its own task, read by the worker's tick on the same thread.
pub struct Progress {
    phase: AtomicU8,
    ending: AtomicU8,
    /// The worker's tick at the last step forward.
    moved_at: AtomicU32,
    /// Ticks that a body or a tunnel may stand still; set when it begins.
    body_limit: AtomicU32,
    /// The last look for a piece of the body found none.
    awaits_endpoint: AtomicBool,
    /// The network did not take all that was to be written: the caller is not reading.
    is_blocked: AtomicBool,
    /// A request has not come whole.
    is_uploading: AtomicBool,
    /// The caller sends no more.
    is_watched: AtomicBool,
    /// The worker's tick now, shared by all its connections: reading a clock for every packet would cost more than it tells.
    tick: Arc<AtomicU32>,
}

impl Progress {
    /// For a connection that has just come in and may wait for its first request.
    pub fn new(tick: Arc<AtomicU32>) -> Progress {
        let moved_at = AtomicU32::new(tick.load(Relaxed));
        Progress {
            phase: AtomicU8::new(Phase::Idle as u8),
            ending: AtomicU8::new(Ending::None as u8),
            moved_at,
            body_limit: AtomicU32::new(u32::MAX),
            awaits_endpoint: AtomicBool::new(false),
            is_blocked: AtomicBool::new(false),
            is_uploading: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            tick,
        }
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Exchange,
            3 => Phase::Body,
            _ => Phase::Tunnel,
        }
    }

    /// Enters a phase; that is a step forward.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.moved();
    }

    /// A request begins; its body may still be under way.
    pub fn enter_exchange(&self, is_uploading: bool) {
        self.is_uploading.store(is_uploading, Relaxed);
        self.enter(Phase::Exchange);
    }

    /// An exchange has ended; if its request has not come whole, what still comes is no head.
    pub fn leave(&self, is_uploading: bool) {
        self.is_uploading.store(is_uploading, Relaxed);
        self.enter(Phase::Idle);
    }

    /// Whether the body of the request under way has not come whole, as far as is known.
    pub fn is_uploading(&self) -> bool {
        self.is_uploading.load(Relaxed)
    }

    /// Nothing wakes its task when the caller goes.
    pub fn set_watched(&self) {
        self.is_watched.store(true, Relaxed);
    }

    /// Whether its task has to look for itself now and then whether the caller is still there.
    pub fn is_watched(&self) -> bool {
        self.is_watched.load(Relaxed) || self.is_uploading()
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

    /// A tunnel begins; it may stand still for `limit_ticks`.
    pub fn enter_tunnel(&self, limit_ticks: u32) {
        self.body_limit.store(limit_ticks, Relaxed);
        self.enter(Phase::Tunnel);
    }

    /// Ticks that the body or the tunnel may stand still.
    pub fn body_limit_ticks(&self) -> u32 {
        self.body_limit.load(Relaxed)
    }

    /// Whether the endpoint had nothing when it was last asked for a piece of the body.
    pub fn set_awaits_endpoint(&self, awaits: bool) {
        self.awaits_endpoint.store(awaits, Relaxed);
    }

    /// Whether written bytes wait for the caller to read. Between two requests too: the end of an answer may still be staged.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked.load(Relaxed)
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
            6 => Ending::CutOff,
            _ => Ending::TunnelIdle,
        }
    }
}

impl Progress {
    /// `n` bytes came in; 0 is the end.
    fn on_read(&self, n: usize) {
        match self.phase() {
            // The clock of a head starts with its first byte and is not wound up by the next ones: dripping does not help.
            Phase::Idle if n > 0 && !self.is_uploading() => self.enter(Phase::Head),
            // The caller is still uploading; after an early answer too.
            Phase::Body | Phase::Idle | Phase::Tunnel if n > 0 => self.moved(),
            Phase::Idle | Phase::Head | Phase::Exchange | Phase::Body | Phase::Tunnel => {}
        }
    }

    /// `n` bytes were handed to the network.
    fn on_write(&self, n: usize) {
        if n > 0 && (self.is_blocked() || matches!(self.phase(), Phase::Body | Phase::Tunnel)) {
            self.is_blocked.store(false, Relaxed);
            self.moved();
        }
    }

    /// The network takes no more bytes for now.
    fn on_blocked(&self) {
        self.is_blocked.store(true, Relaxed);
    }
}

impl Watched {
    /// Watches `stream`.
    pub fn new(stream: Stream, progress: Arc<Progress>) -> Watched {
        Watched { stream, progress }
    }

    fn noting(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Ready(Ok(n)) => self.progress.on_write(*n),
            Poll::Pending => self.progress.on_blocked(),
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

impl Transport for Stream {
    fn abort(&self) {
        match self {
            Stream::Tcp(tcp) => tcp.abort(),
            Stream::Memory(pipe) => pipe.abort(),
        }
    }

    fn is_read_closed(&self, cx: &mut Context<'_>) -> bool {
        match self {
            Stream::Tcp(tcp) => tcp.is_read_closed(cx),
            Stream::Memory(pipe) => pipe.is_read_closed(cx),
        }
    }

    fn has_failed(&self) -> bool {
        match self {
            Stream::Tcp(tcp) => tcp.has_failed(),
            Stream::Memory(pipe) => pipe.has_failed(),
        }
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

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Memory(pipe) => Pin::new(pipe).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Memory(pipe) => Pin::new(pipe).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Memory(pipe) => Pin::new(pipe).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Tcp(tcp) => tcp.is_write_vectored(),
            Stream::Memory(pipe) => pipe.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Memory(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Memory(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}
