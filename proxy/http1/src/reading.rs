//! Reading heads from a stream, the same on both sides of a connection.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use crate::parse::{Decoder, Parsed, Refusal};
use crate::transport::{Room, Transport};

/// Room for what is read when little is expected, in bytes; on the stack.
pub(crate) const READ_BYTES: usize = 8 * 1024;

/// How much to read at once of a body of which `rest` bytes are to come, if that is known, and where `most` are useful.
pub(crate) fn read_bytes(rest: u64, most: usize, room: Option<&Rc<dyn Room>>) -> usize {
    let wanted = usize::try_from(rest).unwrap_or(usize::MAX).clamp(1, most);
    match room {
        Some(room) if wanted > READ_BYTES => room.read_bytes(wanted).clamp(1, wanted),
        _ => wanted,
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Lends this many bytes.
    struct Lends(usize);

    impl Room for Lends {
        fn read_bytes(&self, _wanted: usize) -> usize {
            self.0
        }
    }

    #[test]
    fn room_is_asked_for_long_bodies_only_and_never_gives_more_than_is_wanted() {
        for (rest, lends, expected) in [
            (u64::MAX, None, 64 * 1024),
            (100_000, Some(usize::MAX), 64 * 1024),
            (100_000, Some(10_000), 10_000),
            (100_000, Some(0), 1),
            (20_000, Some(READ_BYTES), READ_BYTES),
            (READ_BYTES as u64, Some(1), READ_BYTES),
            (5, Some(1), 5),
            (0, None, 1),
        ] {
            let room = lends.map(|bytes| -> Rc<dyn Room> { Rc::new(Lends(bytes)) });
            assert_eq!(read_bytes(rest, 64 * 1024, room.as_ref()), expected, "{rest} bytes, {lends:?} lent");
        }
    }
}
