//! What a connection needs of its byte stream beyond reading and writing.
//!
//! A reset, a half-closed connection, a pending error and a send buffer exist for TCP and not for every stream. Each implementor says explicitly what it supports,
//! so that a new kind of stream does not silently leave something out.

use std::pin::pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, Interest};
use tokio::net::TcpStream;

pub use crate::delivery::Delivery;

/// Says how much of a long body may be read at once, and whether a long head may become longer. Its user can lend less memory when many connections want some.
pub trait Room {
    /// How many bytes may be read at once where `wanted` would be useful; never none. Asked only for more than a few KiB.
    fn read_bytes(&self, wanted: usize) -> usize;

    /// Whether more may be read of a head that has not come whole and is no longer small. Asked before each such read.
    fn has_room(&self) -> bool;
}

/// A byte stream that can carry HTTP/1.1.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// From now on, dropping the stream must look like a failure to the peer, never like a clean end. A stream without such an end does nothing.
    fn abort(&self);

    /// Whether the peer has said that it will send no more, even if bytes of it are still unread. False where that cannot be known without reading.
    ///
    /// It need not wake the task when that changes; callers poll again.
    fn is_read_closed(&self, cx: &mut Context<'_>) -> bool;

    /// Whether the stream has failed since the last call, although no read or write has reported it. False where only a read or a write can find out.
    fn has_failed(&self) -> bool;

    /// How far the bytes that were written have come. `None` if that cannot be known, or if nothing is known to reach the peer or can reach it any more.
    ///
    /// A write shows only that a send buffer had room, and a send buffer may hold megabytes. This may cost a system call; ask only when a decision depends on it.
    fn delivery(&self) -> Option<Delivery>;
}

impl Transport for TcpStream {
    /// The peer will see a reset.
    fn abort(&self) {
        // If this fails, the peer has already closed and cannot be misled.
        let _ = self.set_zero_linger();
    }

    fn is_read_closed(&self, cx: &mut Context<'_>) -> bool {
        let ready = pin!(self.ready(Interest::READABLE)).poll(cx);
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    fn has_failed(&self) -> bool {
        !matches!(self.take_error(), Ok(None))
    }

    fn delivery(&self) -> Option<Delivery> {
        Delivery::over_tcp(self)
    }
}

/// A pipe in memory knows no reset: its peer always reads a clean end.
impl Transport for DuplexStream {
    fn abort(&self) {}

    fn is_read_closed(&self, _: &mut Context<'_>) -> bool {
        false
    }

    fn has_failed(&self) -> bool {
        false
    }

    fn delivery(&self) -> Option<Delivery> {
        None
    }
}
