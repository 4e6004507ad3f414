//! Where a body ends, and its data on the way there (RFC 9112 §6.3).

use std::fmt;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use super::chunks::Chunks;
use super::data::take;
use super::limits::Limits;
use super::lines::Body;
use super::refusal::Refusal;

/// Reads a body out of a buffer, and knows how far it has come.
#[derive(Debug)]
pub enum Decoder {
    /// All of it has been read, or there was none.
    Ended,
    /// It has a `Content-Length`; this many bytes are still to come.
    Length(u64),
    /// It comes in chunks.
    Chunked(Box<Chunks>),
    /// It ends where the connection ends.
    UntilClose,
}

/// Why a body cannot be read on. Nothing further can be read from its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyError {
    /// Its chunks have no single meaning, or exceed a limit.
    Malformed(Refusal),
    /// The connection ended or failed before the body did.
    Truncated,
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

    /// The next piece of data, or the trailers, from the beginning of `buffer`. `None` if more bytes are needed, or if the body [has ended](Decoder::has_ended).
    ///
    /// # Errors
    /// The chunked coding is malformed. Everything up to the first wrong byte has been taken from the buffer.
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

    /// Whether the whole body has been read, trailers included.
    pub fn has_ended(&self) -> bool {
        matches!(self, Decoder::Ended)
    }

    /// Whether only the end of the connection ends the body.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self, Decoder::UntilClose)
    }

    /// How many bytes of data are still to come, as far as the framing says.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Decoder::Ended => SizeHint::with_exact(0),
            Decoder::Length(rest) => SizeHint::with_exact(*rest),
            Decoder::Chunked(_) | Decoder::UntilClose => SizeHint::default(),
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Malformed(why) => why.fmt(f),
            BodyError::Truncated => f.write_str("the connection ended within the body"),
        }
    }
}

impl std::error::Error for BodyError {}
