//! Byte streams to and from the proxy: sockets, and in tests the ends of in-memory pipes.
//!
//! The kinds of streams are a closed set. A TLS stream will be one more variant that implements [`Transport`].

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use outrigger_http1::transport::{Delivery, Transport};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

use crate::clock;

/// A byte stream in both directions.
pub enum ByteStream {
    /// A TCP socket.
    Tcp(TcpStream),
    /// An in-memory pipe, for tests without a network.
    Memory(MemoryPipe),
}

impl Transport for ByteStream {
    fn abort(&self) {
        match self {
            ByteStream::Tcp(tcp) => tcp.abort(),
            ByteStream::Memory(pipe) => pipe.abort(),
        }
    }

    fn is_read_closed(&self, cx: &mut Context<'_>) -> bool {
        match self {
            ByteStream::Tcp(tcp) => tcp.is_read_closed(cx),
            ByteStream::Memory(pipe) => pipe.is_read_closed(cx),
        }
    }

    fn has_failed(&self) -> bool {
        match self {
            ByteStream::Tcp(tcp) => tcp.has_failed(),
            ByteStream::Memory(pipe) => pipe.has_failed(),
        }
    }

    fn delivery(&self) -> Option<Delivery> {
        match self {
            ByteStream::Tcp(tcp) => tcp.delivery(),
            ByteStream::Memory(pipe) => pipe.delivery(),
        }
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ByteStream::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            ByteStream::Memory(pipe) => Pin::new(pipe).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ByteStream::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            ByteStream::Memory(pipe) => Pin::new(pipe).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ByteStream::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            ByteStream::Memory(pipe) => Pin::new(pipe).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            ByteStream::Tcp(tcp) => tcp.is_write_vectored(),
            ByteStream::Memory(pipe) => pipe.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ByteStream::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            ByteStream::Memory(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ByteStream::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            ByteStream::Memory(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}

/// An end of an in-memory pipe. Its buffer stands for the kernel's: what was written has left when the other end has read it, and after a writer has filled the
/// buffer it learns of room only when a third is free.
pub struct MemoryPipe {
    stream: DuplexStream,
    outgoing: Rc<Passing>,
    incoming: Rc<Passing>,
}

/// What passes through a pipe in one direction.
struct Passing {
    bytes_max: usize,
    written: Cell<usize>,
    read: Cell<usize>,
    read_at: Cell<Option<Instant>>,
    /// The writer that filled the buffer.
    blocked: Cell<Option<Waker>>,
}

impl Passing {
    fn new(bytes_max: usize) -> Rc<Passing> {
        let (written, read, read_at, blocked) = (Cell::new(0), Cell::new(0), Cell::default(), Cell::default());
        Rc::new(Passing { bytes_max, written, read, read_at, blocked })
    }

    fn has_room(&self) -> bool {
        3 * (self.written.get() - self.read.get()) <= 2 * self.bytes_max
    }
}

impl MemoryPipe {
    /// Both ends of a pipe that holds up to `bytes_max` in each direction.
    pub fn pair(bytes_max: usize) -> (MemoryPipe, MemoryPipe) {
        let (one, other) = tokio::io::duplex(bytes_max);
        let (to, fro) = (Passing::new(bytes_max), Passing::new(bytes_max));
        let other = MemoryPipe { stream: other, outgoing: Rc::clone(&fro), incoming: Rc::clone(&to) };
        (MemoryPipe { stream: one, outgoing: to, incoming: fro }, other)
    }

    /// Writes by `write`, unless the buffer was filled and less than a third of it is free.
    fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut DuplexStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Passing { written, blocked, .. } = &*self.outgoing;
        let is_open = Rc::strong_count(&self.outgoing) > 1;
        if blocked.take().is_some() && is_open && !self.outgoing.has_room() {
            blocked.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let polled = write(Pin::new(&mut self.stream), cx);
        match polled {
            Poll::Ready(Ok(n)) => written.set(written.get() + n),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => blocked.set(Some(cx.waker().clone())),
        }
        polled
    }
}

impl Drop for MemoryPipe {
    fn drop(&mut self) {
        // The writer at the other end has to learn that nobody reads any more.
        if let Some(writer) = self.incoming.blocked.take() {
            writer.wake();
        }
    }
}

impl Transport for MemoryPipe {
    fn abort(&self) {
        self.stream.abort();
    }

    fn is_read_closed(&self, cx: &mut Context<'_>) -> bool {
        self.stream.is_read_closed(cx)
    }

    fn has_failed(&self) -> bool {
        self.stream.has_failed()
    }

    fn delivery(&self) -> Option<Delivery> {
        let Passing { written, read, read_at, .. } = &*self.outgoing;
        if Rc::strong_count(&self.outgoing) == 1 {
            return None;
        }
        let still_for = clock::now().saturating_duration_since(read_at.get()?);
        Some(Delivery { is_complete: read.get() == written.get(), still_for })
    }
}

impl AsyncRead for MemoryPipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let passing = &self.incoming;
        if buf.filled().len() > before {
            passing.read.set(passing.read.get() + buf.filled().len() - before);
            passing.read_at.set(Some(clock::now()));
        }
        if passing.has_room()
            && let Some(writer) = passing.blocked.take()
        {
            writer.wake();
        }
        polled
    }
}

impl AsyncWrite for MemoryPipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_pass(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_pass(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
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
