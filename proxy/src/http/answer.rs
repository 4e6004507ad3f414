//! Reading an endpoint's answer: bytes to a head and the frames of its body (RFC 9112).
//!
//! Pure: no connection, no clock. httparse reads heads; what is ours is what an intermediary owes: exactly one framing, lines that end in CR LF and in nothing
//! else, chunk sizes that are numbers. What has two meanings is [`Garbled`], and the connection it came over is not used again.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, response};
use hyper::body::{Frame, SizeHint};
use hyper::ext::ReasonPhrase;
use memchr::memchr_iter;

/// A head of an answer may be as large as a head of a request by default.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Fields in a head.
const FIELDS_MAX: usize = 100;
/// Chunk extensions of one body.
const EXTENSION_BYTES_MAX: usize = 4 * 1024;
/// Trailers of one body, and fields in them.
const TRAILER_BYTES_MAX: usize = 8 * 1024;
const TRAILERS_MAX: usize = 32;
/// Digits of a chunk's size: more than any body has.
const SIZE_DIGITS_MAX: u8 = 15;
/// Pieces below this are copied out of the connection's buffer, so that it need not be given up for them.
const COPIED_BELOW: usize = 4 * 1024;

/// The bytes are no HTTP answer, or one with more than one meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Garbled;

/// A head that has been read.
pub struct Head {
    /// As it came.
    pub parts: response::Parts,
    /// What follows it.
    pub body: Decoder,
    /// Nothing more may be asked over this connection.
    pub is_last: bool,
}

/// Finds the end of a head without looking at a byte twice.
#[derive(Default)]
pub struct HeadScan {
    scanned: usize,
    line_begins: usize,
}

impl HeadScan {
    /// The length of the head at the beginning of `buffer`, if it is there whole.
    ///
    /// # Errors
    /// A line that does not end in CR LF, no line at all, or too many bytes.
    pub fn end(&mut self, buffer: &[u8]) -> Result<Option<usize>, Garbled> {
        for at in memchr_iter(b'\n', &buffer[self.scanned..]) {
            let at = self.scanned + at;
            let line = buffer[self.line_begins..at].strip_suffix(b"\r").ok_or(Garbled)?;
            if line.is_empty() {
                return if self.line_begins == 0 || at >= HEAD_BYTES_MAX { Err(Garbled) } else { Ok(Some(at + 1)) };
            }
            self.line_begins = at + 1;
        }
        self.scanned = buffer.len();
        if self.scanned > HEAD_BYTES_MAX { Err(Garbled) } else { Ok(None) }
    }
}

/// Reads a whole head, as [`HeadScan`] has found it, of an answer to `method`.
///
/// # Errors
/// It is no head, or its framing has more than one meaning.
pub fn read_head(bytes: &[u8], method: &Method) -> Result<Head, Garbled> {
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields);
    if !matches!(status, Ok(httparse::Status::Complete(length)) if length == bytes.len()) {
        return Err(Garbled);
    }
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    parts.status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Garbled)?;
    if let Some(reason) = parsed.reason.filter(|reason| Some(*reason) != parts.status.canonical_reason()) {
        parts.extensions.insert(ReasonPhrase::try_from(reason.as_bytes()).map_err(|_| Garbled)?);
    }
    parts.headers = read_fields(bytes, parsed.headers)?;
    let framing = Framing::of(&parts.headers)?;
    let is_last = framing.is_closed || parts.version == Version::HTTP_10;
    let body = framing.body(method, &parts)?;
    Ok(Head { is_last: is_last || body == Decoder::UntilClose, body, parts })
}

/// The values are slices of one copy of the head, so that the connection's buffer stays its own.
fn read_fields(bytes: &[u8], fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Garbled> {
    let whole = Bytes::copy_from_slice(bytes);
    // What the way down adds, beside what came.
    let mut headers = HeaderMap::with_capacity(fields.len() + 2);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Garbled)?;
        let begins = field.value.as_ptr() as usize - bytes.as_ptr() as usize;
        let value = whole.slice(begins..begins + field.value.len());
        headers.append(name, HeaderValue::from_maybe_shared(value).map_err(|_| Garbled)?);
    }
    Ok(headers)
}

/// What a head says of the length of its body.
#[derive(Default)]
struct Framing {
    length: Option<u64>,
    is_chunked: bool,
    is_closed: bool,
}

impl Framing {
    fn of(headers: &HeaderMap) -> Result<Framing, Garbled> {
        let mut framing = Framing::default();
        for (name, value) in headers {
            match *name {
                header::CONTENT_LENGTH if framing.length.is_some() => return Err(Garbled),
                header::CONTENT_LENGTH => framing.length = Some(length(value.as_bytes())?),
                header::TRANSFER_ENCODING if framing.is_chunked => return Err(Garbled),
                header::TRANSFER_ENCODING if !value.as_bytes().eq_ignore_ascii_case(b"chunked") => return Err(Garbled),
                header::TRANSFER_ENCODING => framing.is_chunked = true,
                header::CONNECTION => {
                    let mut tokens = value.as_bytes().split(|b| *b == b',');
                    framing.is_closed |= tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"));
                }
                _ => {}
            }
        }
        // The worst trap of all: one of the two would be a lie, and a cut body could pass for a whole one.
        if framing.is_chunked && framing.length.is_some() { Err(Garbled) } else { Ok(framing) }
    }

    /// RFC 9112 §6.3.
    fn body(&self, method: &Method, head: &response::Parts) -> Result<Decoder, Garbled> {
        let is_bodiless = *method == Method::HEAD
            || head.status.is_informational()
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        match self.length {
            _ if self.is_chunked && head.version == Version::HTTP_10 => Err(Garbled),
            _ if is_bodiless => Ok(Decoder::Ended),
            Some(0) => Ok(Decoder::Ended),
            Some(length) => Ok(Decoder::Length(length)),
            None if self.is_chunked => Ok(Decoder::Chunked(Chunks::default())),
            None => Ok(Decoder::UntilClose),
        }
    }
}

fn length(value: &[u8]) -> Result<u64, Garbled> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_number).ok_or(Garbled)?;
    text.parse().map_err(|_| Garbled)
}

/// How far a body has been read.
#[derive(PartialEq, Eq, Debug)]
pub enum Decoder {
    /// To its end.
    Ended,
    /// So many bytes are to come.
    Length(u64),
    /// In chunks.
    Chunked(Chunks),
    /// The connection's end is its end.
    UntilClose,
}

impl Decoder {
    /// The next frame in `buffer`; `None` if more bytes are needed, or none will come.
    ///
    /// # Errors
    /// The chunks are none.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Garbled> {
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
                let frame = chunks.next(buffer)?;
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
        *self == Decoder::Ended
    }

    /// Whether the end of the connection ends the body.
    pub fn ends_with_connection(&self) -> bool {
        *self == Decoder::UntilClose
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
fn take(buffer: &mut BytesMut, most: u64) -> Bytes {
    let count = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
    if count >= COPIED_BELOW {
        return buffer.split_to(count).freeze();
    }
    let data = Bytes::copy_from_slice(&buffer[..count]);
    buffer.advance(count);
    data
}

/// How far a chunked body has been read (RFC 9112 §7.1).
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Chunks {
    at: At,
    extension_bytes: usize,
}

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// In a size, after so many digits.
    Size {
        size: u64,
        digits: u8,
    },
    /// In what follows a size.
    Extension {
        size: u64,
    },
    /// Behind the CR of a size's line.
    SizeEnd {
        size: u64,
    },
    /// In data, so many bytes before their end.
    Data(u64),
    /// Behind data.
    DataEnd,
    /// Behind data and CR.
    DataEndLine,
    /// Behind the last chunk.
    #[default]
    Begin,
    Trailers,
    Ended,
    /// What came was no chunk; told by the next call.
    Broken,
}

impl Chunks {
    fn has_ended(&self) -> bool {
        self.at == At::Ended
    }

    /// Skips framing, takes data, skips framing again: so the last data is known to be the last as soon as it can be.
    fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Garbled> {
        if let Some(trailers) = self.skip(buffer)? {
            return Ok(Some(Frame::trailers(trailers)));
        }
        let At::Data(rest) = self.at else { return Ok(None) };
        let data = take(buffer, rest);
        if data.is_empty() {
            return Ok(None);
        }
        let rest = rest - data.len() as u64;
        self.at = if rest == 0 { At::DataEnd } else { At::Data(rest) };
        // Trailers have a frame of their own, and wait for their turn.
        if self.skip_lines(buffer).is_err() {
            self.at = At::Broken;
        }
        if self.at == At::Trailers && buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            self.at = At::Ended;
        }
        Ok(Some(Frame::data(data)))
    }

    fn skip(&mut self, buffer: &mut BytesMut) -> Result<Option<HeaderMap>, Garbled> {
        self.skip_lines(buffer)?;
        if self.at != At::Trailers {
            return Ok(None);
        }
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            self.at = At::Ended;
            return Ok(None);
        }
        let mut scan = HeadScan::default();
        let end = if buffer.len() < 2 { None } else { scan.end(buffer)? };
        match end {
            Some(end) if end <= TRAILER_BYTES_MAX => {
                let trailers = read_trailers(&buffer[..end])?;
                buffer.advance(end);
                self.at = At::Ended;
                Ok((!trailers.is_empty()).then_some(trailers))
            }
            None if buffer.len() <= TRAILER_BYTES_MAX => Ok(None),
            _ => Err(Garbled),
        }
    }

    /// Up to data, trailers, or the end of the buffer.
    fn skip_lines(&mut self, buffer: &mut BytesMut) -> Result<(), Garbled> {
        let mut read = 0;
        for byte in buffer.iter() {
            if matches!(self.at, At::Data(_) | At::Trailers | At::Ended) {
                break;
            }
            self.at = self.step(*byte)?;
            read += 1;
        }
        buffer.advance(read);
        if self.at == At::Broken { Err(Garbled) } else { Ok(()) }
    }

    fn step(&mut self, byte: u8) -> Result<At, Garbled> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        Ok(match (self.at, byte, digit) {
            (At::Begin, _, Some(digit)) => At::Size { size: digit, digits: 1 },
            (At::Size { size, digits }, _, Some(digit)) if digits < SIZE_DIGITS_MAX => {
                At::Size { size: size << 4 | digit, digits: digits + 1 }
            }
            (At::Size { size, .. } | At::Extension { size }, b'\r', _) => At::SizeEnd { size },
            (At::Size { size, .. }, b';', _) => At::Extension { size },
            (At::Extension { size }, b'\t' | b' '..=b'~' | 0x80..=0xff, _)
                if self.extension_bytes < EXTENSION_BYTES_MAX =>
            {
                self.extension_bytes += 1;
                At::Extension { size }
            }
            (At::SizeEnd { size: 0 }, b'\n', _) => At::Trailers,
            (At::SizeEnd { size }, b'\n', _) => At::Data(size),
            (At::DataEnd, b'\r', _) => At::DataEndLine,
            (At::DataEndLine, b'\n', _) => At::Begin,
            _ => return Err(Garbled),
        })
    }
}

fn read_trailers(bytes: &[u8]) -> Result<HeaderMap, Garbled> {
    let mut fields = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    match httparse::parse_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) if length == bytes.len() => {
            let mut trailers = read_fields(bytes, fields)?;
            // Framing and routing are over; whoever merges trailers into a head must not find them there (RFC 9110 §6.5.1).
            for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::HOST] {
                trailers.remove(name);
            }
            Ok(trailers)
        }
        _ => Err(Garbled),
    }
}

#[cfg(test)]
mod tests;
