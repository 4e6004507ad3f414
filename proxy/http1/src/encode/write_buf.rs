//! The bytes that are still to be written to a connection: small ones are joined, large ones are passed on without a copy.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use tokio::io::AsyncWrite;

use super::framing::{Framing, WrongLength};
use crate::head::write_field;
use crate::parse::COPIED_BELOW;

/// Pieces of a body below this are joined with what is before them, in bytes.
const JOINED_BELOW: usize = 2 * COPIED_BELOW;

/// What follows a chunk's data.
const CHUNK_END: &[u8] = b"\r\n";
/// What follows the data of the last chunk.
const LAST_CHUNK_END: &[u8] = b"\r\n0\r\n\r\n";

/// Bytes that wait to be written. It holds no memory while it is empty.
#[derive(Default)]
pub struct WriteBuf {
    /// Heads, chunk framing and small pieces, from `sent` on still to be written.
    bytes: Vec<u8>,
    sent: usize,
    /// A large piece that comes behind them.
    piece: Bytes,
    /// What comes behind the piece.
    tail: &'static [u8],
}

impl WriteBuf {
    /// Whether everything has been written.
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len() && self.piece.is_empty() && self.tail.is_empty()
    }

    /// Whether there is room for another piece of a body. While the peer reads nothing there is none.
    pub fn has_room(&self) -> bool {
        self.piece.is_empty() && self.tail.is_empty() && self.bytes.len() - self.sent < JOINED_BELOW
    }

    /// How many bytes are still to be written.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.sent + self.piece.len() + self.tail.len()
    }

    /// The buffer, to append a head to. There must be no large piece waiting behind it, as is the case between two messages.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.piece.is_empty() && self.tail.is_empty(), "it would overtake the piece");
        &mut self.bytes
    }

    /// Puts a piece of a body here, framed. There must be [room](WriteBuf::has_room).
    ///
    /// # Errors
    /// The body is longer than its head announced.
    pub fn push(&mut self, data: Bytes, framing: &mut Framing) -> Result<(), WrongLength> {
        let tail: &'static [u8] = match framing {
            Framing::Length(rest) => {
                *rest = rest.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                b""
            }
            Framing::UntilClose => b"",
            Framing::Chunked if data.is_empty() => return Ok(()), // it would be the end
            Framing::Chunked => {
                // A vector takes whatever is written to it.
                let _ = write!(self.bytes, "{:x}\r\n", data.len());
                CHUNK_END
            }
        };
        if data.len() < JOINED_BELOW {
            self.bytes.extend_from_slice(&data);
            self.bytes.extend_from_slice(tail);
        } else {
            (self.piece, self.tail) = (data, tail);
        }
        Ok(())
    }

    /// Puts the end of a body here: right behind its last piece, or when there is [room](WriteBuf::has_room). Only the chunked coding carries trailers.
    ///
    /// # Errors
    /// The body is shorter than its head announced.
    pub fn end(&mut self, framing: Framing, trailers: Option<&HeaderMap>) -> Result<(), WrongLength> {
        match framing {
            Framing::Length(0) | Framing::UntilClose => Ok(()),
            Framing::Length(_) => Err(WrongLength),
            // What is joined would overtake the piece.
            Framing::Chunked if self.tail == CHUNK_END => {
                self.tail = LAST_CHUNK_END;
                Ok(())
            }
            Framing::Chunked => {
                self.bytes.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    write_field(&mut self.bytes, name.as_str().as_bytes(), value.as_bytes());
                }
                self.bytes.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }

    /// Writes to `stream`; ready when everything has been written.
    ///
    /// # Errors
    /// The stream accepts no more bytes.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, stream: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let buffered = &self.bytes[self.sent..];
            let written = if self.piece.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *stream).poll_write(cx, buffered))?
            } else {
                let slices = [buffered, &self.piece[..], self.tail].map(io::IoSlice::new);
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        let buffered = written.min(self.bytes.len() - self.sent);
        self.sent += buffered;
        written -= buffered;
        let piece = written.min(self.piece.len());
        self.piece.advance(piece);
        self.tail = &self.tail[written - piece..];
        if self.sent == self.bytes.len() {
            (self.bytes, self.sent) = (Vec::new(), 0);
            if self.piece.is_empty() {
                self.piece = Bytes::new();
            }
        } else if self.sent > JOINED_BELOW {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Pieces of these sizes, through a pipe that takes few bytes at a time.
    async fn written(sizes: &[usize], mut framing: Framing) -> String {
        let (mut near, mut far) = tokio::io::duplex(7);
        let write = async move {
            let mut out = WriteBuf::default();
            out.buffer().extend_from_slice(b"head ");
            for (n, size) in sizes.iter().enumerate() {
                std::future::poll_fn(|cx| out.poll_write(cx, &mut near)).await.expect("it is read");
                out.push(Bytes::from("x".repeat(*size)), &mut framing).expect("as announced");
                if n + 1 == sizes.len() {
                    out.end(framing, None).expect("as announced");
                }
            }
            std::future::poll_fn(|cx| out.poll_write(cx, &mut near)).await.expect("it is read");
            assert!(out.is_empty() && out.left() == 0);
        };
        let mut all = String::new();
        let (_, read) = tokio::join!(write, far.read_to_string(&mut all));
        read.expect("text");
        all
    }

    #[tokio::test]
    async fn pieces_go_out_in_their_order_and_the_end_behind_the_last() {
        for (first, last) in [(3, 5), (3, JOINED_BELOW), (JOINED_BELOW, 5), (JOINED_BELOW, JOINED_BELOW + 1)] {
            let data = [first, last].map(|size| "x".repeat(size));
            let expected = format!("head {first:x}\r\n{}\r\n{last:x}\r\n{}\r\n0\r\n\r\n", data[0], data[1]);
            assert_eq!(written(&[first, last], Framing::Chunked).await, expected);
            let length = Framing::Length((first + last) as u64);
            assert_eq!(written(&[first, last], length).await, format!("head {}", data.concat()));
        }
    }

    #[test]
    fn a_body_that_is_not_as_long_as_announced_is_seen() {
        let mut out = WriteBuf::default();
        let mut framing = Framing::Length(2);
        assert_eq!(out.push(Bytes::from_static(b"abc"), &mut framing), Err(WrongLength));
        assert_eq!(out.push(Bytes::from_static(b"a"), &mut framing), Ok(()));
        assert_eq!(out.end(framing, None), Err(WrongLength));
    }
}
