//! Where a body ends, and its data on the way there (RFC 9112 §6.3).

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};

use super::Limits;
use super::chunks::Chunks;
use super::lines::Body;
use super::refusal::Refusal;

/// Pieces below this are copied out of the buffer, so that they hold no more memory than they need and it need not be given up for them.
pub const COPIED_BELOW: usize = 4 * 1024;

/// How far a body has been read.
#[derive(Debug)]
pub enum Decoder {
    /// To its end.
    Ended,
    /// So many bytes are to come.
    Length(u64),
    /// In chunks.
    Chunked(Box<Chunks>),
    /// The connection's end is its end.
    UntilClose,
}

impl Decoder {
    pub(super) fn new(body: Body) -> Decoder {
        match body {
            Body::None | Body::Length(0) => Decoder::Ended,
            Body::Length(length) => Decoder::Length(length),
            Body::Chunks => Decoder::Chunked(Box::new(Chunks::new())),
            Body::Rest => Decoder::UntilClose,
        }
    }

    /// The next frame in `buffer`; `None` if more bytes are needed, or none will come.
    ///
    /// # Errors
    /// The chunks are none; everything up to the first wrong byte has been taken.
    pub fn next(&mut self, buffer: &mut BytesMut, limits: &Limits) -> Result<Option<Frame<Bytes>>, Refusal> {
        let data = match self {
            Decoder::Ended => return Ok(None),
            Decoder::Length(rest) => {
                let data = take(buffer, *rest);
                *rest -= data.len() as u64;
                if *rest == 0 {
                    *self = Decoder::Ended;
                }
                data
            }
            Decoder::UntilClose => take(buffer, u64::MAX),
            Decoder::Chunked(chunks) => {
                let frame = chunks.next(buffer, limits)?;
                if chunks.has_ended() {
                    *self = Decoder::Ended;
                }
                return Ok(frame);
            }
        };
        Ok((!data.is_empty()).then(|| Frame::data(data)))
    }

    /// Whether nothing more is to come.
    pub fn has_ended(&self) -> bool {
        matches!(self, Decoder::Ended)
    }

    /// Whether the end of the connection ends the body.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self, Decoder::UntilClose)
    }

    /// Bytes to come, as far as known.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Decoder::Ended => SizeHint::with_exact(0),
            Decoder::Length(rest) => SizeHint::with_exact(*rest),
            Decoder::Chunked(_) | Decoder::UntilClose => SizeHint::default(),
        }
    }
}

/// Up to `most` bytes of the buffer.
pub(super) fn take(buffer: &mut BytesMut, most: u64) -> Bytes {
    let count = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
    if count == buffer.len() && buffer.capacity() <= 2 * count {
        return std::mem::take(buffer).freeze();
    }
    if count >= COPIED_BELOW {
        return buffer.split_to(count).freeze();
    }
    let data = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
    buffer.advance(count);
    data
}
