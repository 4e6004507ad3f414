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

/// A head up to this many bytes is small: its rest is read whatever the [`Room`] says.
const SMALL_HEAD: usize = 4 * 1024;

/// What has come of a head.
pub(crate) enum Read<H> {
    /// All of it.
    Whole(H, Decoder),
    /// The stream has ended, or failed.
    End,
    /// A part that is no longer small, and there is no memory for more. Nothing wakes the task.
    NoRoom,
}

/// How much to read at once of a body of which `rest` bytes are to come, if that is known, and where `most` are useful.
pub(crate) fn read_bytes(rest: u64, most: usize, room: Option<&Rc<dyn Room>>) -> usize {
    let wanted = usize::try_from(rest).unwrap_or(usize::MAX).clamp(1, most);
    match room {
        Some(room) if wanted > READ_BYTES => room.read_bytes(wanted).clamp(1, wanted),
        _ => wanted,
    }
}

/// Polls for the next head; `buffer` holds what has been read and not yet taken. `room` is asked before a long head becomes longer.
///
/// # Errors
/// As `parse`, which is given all that has come of the head.
pub(crate) fn poll_head<S: Transport, H>(
    stream: &mut S,
    buffer: &mut BytesMut,
    room: Option<&Rc<dyn Room>>,
    mut parse: impl FnMut(&[u8]) -> Result<Option<Parsed<H>>, Refusal>,
    cx: &mut Context<'_>,
) -> Poll<Result<Read<H>, Refusal>> {
    loop {
        if !buffer.is_empty() {
            if let Some(parsed) = parse(buffer)? {
                take(buffer, parsed.bytes);
                return Poll::Ready(Ok(Read::Whole(parsed.head, parsed.body)));
            }
            if buffer.len() > SMALL_HEAD && room.is_some_and(|room| !room.has_room()) {
                return Poll::Ready(Ok(Read::NoRoom));
            }
        }
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut space = ReadBuf::uninit(&mut space);
        let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut space));
        let bytes = space.filled();
        if read.is_err() || bytes.is_empty() {
            return Poll::Ready(Ok(Read::End));
        }
        // Most heads come whole, and are never copied into a buffer of the connection.
        if buffer.is_empty()
            && let Some(parsed) = parse(bytes)?
        {
            buffer.extend_from_slice(&bytes[parsed.bytes..]);
            return Poll::Ready(Ok(Read::Whole(parsed.head, parsed.body)));
        }
        buffer.extend_from_slice(bytes);
    }
}

/// Takes a head of so many `bytes` out of `buffer`. The memory of a long head does not stay with its connection, which may be idle from now on.
fn take(buffer: &mut BytesMut, bytes: usize) {
    if bytes == buffer.len() || buffer.capacity() > READ_BYTES {
        *buffer = BytesMut::from(buffer.get(bytes..).unwrap_or_default());
    } else {
        buffer.advance(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;

    /// Lends this many bytes.
    struct Lends(usize);

    impl Room for Lends {
        fn read_bytes(&self, _wanted: usize) -> usize {
            self.0
        }

        fn has_room(&self) -> bool {
            self.0 > 0
        }
    }

    /// Polls for a head of two bytes `\n\n` over `stream`, without memory for a long one.
    fn poll_lines(stream: &mut DuplexStream, buffer: &mut BytesMut) -> Poll<Result<Read<()>, Refusal>> {
        let parse = |bytes: &[u8]| {
            let end = bytes.windows(2).position(|pair| pair == b"\n\n");
            Ok(end.map(|end| Parsed { head: (), body: Decoder::Ended, bytes: end + 2 }))
        };
        let room: Rc<dyn Room> = Rc::new(Lends(0));
        poll_head(stream, buffer, Some(&room), parse, &mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn the_memory_of_a_long_head_does_not_stay_with_its_connection() {
        for (rest, kept) in [(0, 0), (10, 10), (3_000, 3_000)] {
            let (mut near, _far) = tokio::io::duplex(16);
            let mut buffer = BytesMut::with_capacity(40_000);
            buffer.resize(30_000, b'x');
            buffer.extend_from_slice(b"\n\n");
            buffer.resize(30_002 + rest, b'y');
            assert!(matches!(poll_lines(&mut near, &mut buffer), Poll::Ready(Ok(Read::Whole(..)))));
            assert_eq!((buffer.len(), buffer.capacity()), (rest, kept));
        }
    }

    #[tokio::test]
    async fn without_room_no_more_is_read_of_a_head_that_is_not_small() {
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        let mut buffer = BytesMut::new();
        far.write_all(&[b'x'; SMALL_HEAD]).await.expect("the pipe is open");
        assert!(poll_lines(&mut near, &mut buffer).is_pending(), "a small one may go on");
        far.write_all(&[b'x'; 3 * READ_BYTES]).await.expect("the pipe is open");
        assert!(matches!(poll_lines(&mut near, &mut buffer), Poll::Ready(Ok(Read::NoRoom))));
        let read = buffer.len();
        assert!(read <= SMALL_HEAD + READ_BYTES, "{read}");
        assert!(matches!(poll_lines(&mut near, &mut buffer), Poll::Ready(Ok(Read::NoRoom))));
        assert_eq!(buffer.len(), read);
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
