//! Reading heads from a stream, the same on both sides of a connection.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use crate::parse::{Decoder, Parsed, Refusal};
use crate::transport::Transport;

/// Room for what is read when little is expected, in bytes; on the stack.
pub(crate) const READ_BYTES: usize = 8 * 1024;

/// Polls for the next head; `buffer` holds what has been read and not yet taken. `None` is the end of the stream, or its failure.
///
/// # Errors
/// As `parse`, which is given all that has come of the head.
pub(crate) fn poll_head<S: Transport, H>(
    stream: &mut S,
    buffer: &mut BytesMut,
    mut parse: impl FnMut(&[u8]) -> Result<Option<Parsed<H>>, Refusal>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<(H, Decoder)>, Refusal>> {
    loop {
        if !buffer.is_empty()
            && let Some(parsed) = parse(buffer)?
        {
            buffer.advance(parsed.bytes);
            return Poll::Ready(Ok(Some((parsed.head, parsed.body))));
        }
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut room = ReadBuf::uninit(&mut room);
        let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut room));
        let bytes = room.filled();
        if read.is_err() || bytes.is_empty() {
            return Poll::Ready(Ok(None));
        }
        // Most heads come whole, and are never copied into a buffer of the connection.
        if buffer.is_empty()
            && let Some(parsed) = parse(bytes)?
        {
            buffer.extend_from_slice(&bytes[parsed.bytes..]);
            return Poll::Ready(Ok(Some((parsed.head, parsed.body))));
        }
        buffer.extend_from_slice(bytes);
    }
}
