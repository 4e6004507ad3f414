//! Byte streams to and from the proxy: sockets, and in tests the ends of in-memory pipes.
//!
//! The kinds of streams are a closed set. A TLS stream will be one more variant that implements [`Transport`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use outrigger_http1::transport::Transport;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

/// A byte stream in both directions.
pub enum ByteStream {
    /// A TCP socket.
    Tcp(TcpStream),
    /// An in-memory pipe, for tests without a network.
    Memory(DuplexStream),
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
