//! What a scrape gets: a text in pieces, which all its readers share.
//!
//! A text can be large: 3 000 routes make 5 MiB of metrics. It is in memory once, however many read it. A connection holds a reference to the text, and the
//! pieces that it is writing.
//!
//! A reader that is slow, or does not read at all, keeps its text in memory. [`Texts`] bounds what all readers keep together: when newer texts need the memory,
//! it takes the oldest one back, and the connections that still read that one break off. Everything but [`Pieces`] belongs to the admin thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// How much of a text hyper takes at a time. A reader whose text was taken back still holds a piece or two.
const PIECE_BYTES: usize = 16 * 1024;
/// How much the texts that are being read may take together. The newest one may take more by itself, because a scrape must get a response whatever its size.
const TEXTS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A text that is being written.
#[derive(Default)]
pub(super) struct Pieces {
    full: Vec<Bytes>,
    last: Vec<u8>,
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.last.len() == PIECE_BYTES {
            self.full.push(std::mem::take(&mut self.last).into());
        }
        if self.last.is_empty() {
            self.last.reserve_exact(PIECE_BYTES);
        }
        let taken = bytes.len().min(PIECE_BYTES - self.last.len());
        self.last.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A text that is being read.
pub(super) struct Text {
    /// `None` once it has been taken back.
    pieces: RefCell<Option<Vec<Bytes>>>,
    bytes: usize,
}

/// The texts that are being read, the oldest first.
#[derive(Default)]
pub(super) struct Texts(VecDeque<Weak<Text>>);

impl Texts {
    /// Shares a text, and takes back the oldest ones if all together take too much.
    pub(super) fn share(&mut self, written: Pieces) -> Rc<Text> {
        let Pieces { full: mut pieces, last } = written;
        pieces.push(last.into());
        let bytes = pieces.iter().map(Bytes::len).sum();
        let text = Rc::new(Text { pieces: RefCell::new(Some(pieces)), bytes });
        let mut kept = bytes;
        // From the newest to the oldest.
        for older in self.0.iter().rev().filter_map(Weak::upgrade) {
            kept += older.bytes;
            if kept > TEXTS_BYTES_MAX {
                older.pieces.take();
            }
        }
        self.0.retain(|older| older.upgrade().is_some_and(|older| older.pieces.borrow().is_some()));
        self.0.push_back(Rc::downgrade(&text));
        text
    }
}

/// A response's body that reads a text.
pub(super) struct Reader {
    text: Rc<Text>,
    next: usize,
    bytes_left: usize,
}

/// Ends a body without its end, so that hyper breaks the connection off and nobody takes a part of a text for the whole.
#[derive(Debug, thiserror::Error)]
#[error("newer texts needed the memory")]
pub(super) struct TakenBack;

impl Reader {
    /// Reads `text` from its beginning.
    pub(super) fn new(text: Rc<Text>) -> Reader {
        Reader { next: 0, bytes_left: text.bytes, text }
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = TakenBack;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TakenBack>>> {
        let reader = self.get_mut();
        if reader.bytes_left == 0 {
            return Poll::Ready(None);
        }
        let pieces = reader.text.pieces.borrow();
        let Some(piece) = pieces.as_ref().and_then(|pieces| pieces.get(reader.next)) else {
            return Poll::Ready(Some(Err(TakenBack)));
        };
        reader.next += 1;
        reader.bytes_left -= piece.len();
        Poll::Ready(Some(Ok(Frame::data(piece.clone()))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes_left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes_left as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http_body_util::BodyExt as _;

    use super::*;

    fn written(bytes: usize) -> Pieces {
        let mut pieces = Pieces::default();
        // Not a divisor of a piece, so that some writes are split.
        let part = [b'x'; 1000];
        for at in (0..bytes).step_by(part.len()) {
            pieces.write_all(&part[..part.len().min(bytes - at)]).expect("memory");
        }
        pieces
    }

    async fn read(text: &Rc<Text>) -> Result<usize, TakenBack> {
        Ok(Reader::new(Rc::clone(text)).collect().await?.to_bytes().len())
    }

    #[tokio::test]
    async fn what_is_read_is_what_was_written_in_pieces_of_bounded_size() {
        for bytes in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 5] {
            let text = Texts::default().share(written(bytes));
            let reader = Reader::new(Rc::clone(&text));
            assert_eq!(reader.size_hint().exact(), Some(bytes as u64));
            assert_eq!(reader.is_end_stream(), bytes == 0);
            assert_eq!(read(&text).await.ok(), Some(bytes));
            assert!(text.pieces.borrow().iter().flatten().all(|piece| piece.len() <= PIECE_BYTES));
        }
    }

    #[tokio::test]
    async fn readers_of_one_text_hold_the_same_memory() {
        let text = Texts::default().share(written(PIECE_BYTES));
        let first = async || Reader::new(Rc::clone(&text)).frame().await.and_then(Result::ok).expect("a piece");
        let piece = async || first().await.into_data().expect("data").as_ptr();
        assert_eq!(piece().await, piece().await);
    }

    #[tokio::test]
    async fn the_oldest_texts_are_taken_back_when_all_together_take_too_much() {
        let mut texts = Texts::default();
        let third = TEXTS_BYTES_MAX / 3;
        let first = texts.share(written(third));
        let mut begun = Reader::new(Rc::clone(&first));
        assert!(begun.frame().await.is_some_and(|piece| piece.is_ok()));
        let others = [texts.share(written(third)), texts.share(written(third))];
        assert_eq!(read(&first).await.ok(), Some(third), "exactly as much as may be");
        let newest = texts.share(written(PIECE_BYTES));
        assert!(begun.frame().await.is_some_and(|piece| piece.is_err()), "a part must not look like the whole");
        assert!(read(&first).await.is_err());
        for text in others.iter().chain([&newest]) {
            assert!(read(text).await.is_ok(), "only the oldest had to go");
        }
        let huge = texts.share(written(TEXTS_BYTES_MAX + 1));
        assert!(read(&huge).await.is_ok(), "a single text may take more than all");
        for text in others.iter().chain([&newest]) {
            assert!(read(text).await.is_err());
        }
    }

    #[test]
    fn a_text_that_nobody_reads_any_more_is_let_go_and_not_counted() {
        let mut texts = Texts::default();
        let read = texts.share(written(TEXTS_BYTES_MAX));
        let (weak, last) = (Rc::downgrade(&read), Rc::clone(&read));
        drop((read, last));
        assert!(weak.upgrade().is_none());
        let one = texts.share(written(TEXTS_BYTES_MAX / 2));
        let _another = texts.share(written(TEXTS_BYTES_MAX / 2));
        assert!(one.pieces.borrow().is_some());
    }
}
