//! The chunked coding (RFC 9112 §7.1), byte by byte: what has been read is kept as one number and one state, so the pieces may end anywhere.
//!
//! It is stricter than the grammar in one thing: blanks are allowed around the `;` and `=` of extensions, where the grammar has them, but not before the end of
//! the line.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use super::class::{self, TOKEN};
use super::data::take;
use super::limits::{LENGTH_MAX, Limits};
use super::refusal::Refusal;

/// Digits of the largest size, leading zeros among them.
const SIZE_DIGITS_MAX: u8 = 16;
/// Fields that say how or to whom a message goes. Behind the body they come too late for one reader and in time for another.
const NOT_IN_TRAILERS: [&[u8]; 3] = [b"host", b"content-length", b"transfer-encoding"];
/// Bytes of the longest of them.
const NAME_KEPT: usize = 17;

/// A body in chunks, as far as it has been read.
#[derive(Debug)]
pub struct Chunks {
    state: State,
    size: u64,
    digits: u8,
    extension_bytes: u32,
    trailer_bytes: u32,
    trailer_fields: u32,
    name: [u8; NAME_KEPT],
    name_length: u32,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Size,
    /// Blanks after a size, a name or a value: an extension follows.
    BeforeSemicolon,
    BeforeName,
    Name,
    /// Blanks after a name: a value or another extension follows.
    AfterName,
    BeforeValue,
    Value,
    Quoted,
    Escaped,
    AfterQuoted,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Ended,
    /// The framing behind the last data was wrong. The next call returns the refusal.
    Refused(Refusal),
}

impl Chunks {
    pub(super) fn new() -> Chunks {
        Chunks {
            state: State::Size,
            size: 0,
            digits: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailer_fields: 0,
            name: [0; NAME_KEPT],
            name_length: 0,
            trailers: Vec::new(),
        }
    }

    /// Whether nothing more is to come, trailers neither.
    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended && self.trailers.is_empty()
    }

    /// Takes framing, data, and framing again: so the last data is known to be the last as soon as it can be. `None` if more bytes are needed, or none will come.
    pub(super) fn next(&mut self, buffer: &mut BytesMut, limits: &Limits) -> Result<Option<Frame<Bytes>>, Refusal> {
        self.skip(buffer, limits);
        match self.state {
            State::Refused(why) => return Err(why),
            State::Ended if !self.trailers.is_empty() => {
                let lines = std::mem::take(&mut self.trailers);
                return Ok(Some(Frame::trailers(read_trailers(&lines))));
            }
            State::Data if !buffer.is_empty() => {}
            _ => return Ok(None),
        }
        let data = take(buffer, self.size);
        self.size -= data.len() as u64;
        if self.size == 0 {
            self.state = State::DataCr;
            self.skip(buffer, limits);
        }
        Ok(Some(Frame::data(data)))
    }

    /// Takes framing up to the next data, the end, or what is wrong.
    fn skip(&mut self, buffer: &mut BytesMut, limits: &Limits) {
        let mut taken = 0;
        for byte in buffer.iter() {
            if matches!(self.state, State::Data | State::Ended | State::Refused(_)) {
                break;
            }
            match self.step(*byte, limits) {
                Ok(state) => self.state = state,
                Err(why) => {
                    self.state = State::Refused(why);
                    break;
                }
            }
            taken += 1;
        }
        buffer.advance(taken);
    }

    /// Where one byte of the framing leads.
    fn step(&mut self, byte: u8, limits: &Limits) -> Result<State, Refusal> {
        Ok(match self.state {
            State::Size => self.size_byte(byte)?,
            State::BeforeSemicolon
            | State::BeforeName
            | State::Name
            | State::AfterName
            | State::BeforeValue
            | State::Value
            | State::Quoted
            | State::Escaped
            | State::AfterQuoted => self.extension_byte(byte, limits)?,
            State::SizeLf if byte != b'\n' => return Err(Refusal::BadChunkSize),
            State::SizeLf if self.size == 0 => State::TrailerStart,
            State::SizeLf => State::Data,
            // Not framing; here so that no state is without its arm.
            State::Data | State::Ended | State::Refused(_) => self.state,
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => {
                (self.size, self.digits) = (0, 0);
                State::Size
            }
            State::DataCr | State::DataLf => return Err(Refusal::BadChunkEnd),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => {
                self.trailer_byte(byte, limits)?
            }
            State::EndLf if byte == b'\n' => State::Ended,
            State::EndLf => return Err(Refusal::BadTrailer),
        })
    }

    fn size_byte(&mut self, byte: u8) -> Result<State, Refusal> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            self.digits += 1;
            self.size = self.size << 4 | u64::from(digit);
            let fits = self.digits <= SIZE_DIGITS_MAX && self.size <= LENGTH_MAX;
            return if fits { Ok(State::Size) } else { Err(Refusal::ChunkTooLarge) };
        }
        match byte {
            _ if self.digits == 0 => Err(Refusal::BadChunkSize),
            b'\r' => Ok(State::SizeLf),
            b';' => Ok(State::BeforeName),
            b' ' | b'\t' => Ok(State::BeforeSemicolon),
            _ => Err(Refusal::BadChunkSize),
        }
    }

    fn extension_byte(&mut self, byte: u8, limits: &Limits) -> Result<State, Refusal> {
        self.extension_bytes += 1;
        if self.extension_bytes > limits.extension_bytes {
            return Err(Refusal::ChunkExtensionsTooLong);
        }
        let is_blank = matches!(byte, b' ' | b'\t');
        let is_token = class::is(byte, TOKEN);
        let next = match (self.state, byte) {
            (State::BeforeSemicolon | State::Name | State::AfterName | State::Value | State::AfterQuoted, b';') => {
                State::BeforeName
            }
            (State::Name | State::AfterName, b'=') => State::BeforeValue,
            (State::Name | State::Value | State::AfterQuoted, b'\r') => State::SizeLf,
            (State::BeforeName | State::Name, _) if is_token => State::Name,
            (State::BeforeValue | State::Value, _) if is_token => State::Value,
            (State::BeforeValue, b'"') => State::Quoted,
            (State::Quoted, b'"') => State::AfterQuoted,
            (State::Quoted, b'\\') => State::Escaped,
            (State::Quoted | State::Escaped, _) if byte == b'\t' || !byte.is_ascii_control() => State::Quoted,
            (State::Name | State::AfterName, _) if is_blank => State::AfterName,
            (State::BeforeSemicolon | State::Value | State::AfterQuoted, _) if is_blank => State::BeforeSemicolon,
            (State::BeforeName | State::BeforeValue, _) if is_blank => self.state,
            _ => return Err(Refusal::BadChunkExtension),
        };
        Ok(next)
    }

    fn trailer_byte(&mut self, byte: u8, limits: &Limits) -> Result<State, Refusal> {
        if self.state == State::TrailerStart && byte == b'\r' {
            return Ok(State::EndLf);
        }
        self.trailer_bytes += 1;
        self.trailers.push(byte);
        if self.state == State::TrailerStart {
            self.trailer_fields += 1;
            self.name_length = 0;
        }
        if self.trailer_bytes > limits.trailer_bytes || self.trailer_fields > limits.trailer_fields {
            return Err(Refusal::TrailersTooLarge);
        }
        match (self.state, byte) {
            (State::TrailerStart | State::TrailerName, _) if class::is(byte, TOKEN) => {
                if let Some(place) = self.name.get_mut(self.name_length as usize) {
                    *place = byte.to_ascii_lowercase();
                }
                self.name_length += 1;
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') if self.may_trail() => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if byte == b'\t' || !byte.is_ascii_control() => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            _ => Err(Refusal::BadTrailer),
        }
    }

    fn may_trail(&self) -> bool {
        let name = self.name.get(..self.name_length as usize).unwrap_or_default();
        !NOT_IN_TRAILERS.contains(&name)
    }
}

/// Reads trailer lines that have been found fine.
fn read_trailers(lines: &[u8]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at_checked(colon).unwrap_or_default();
        let value = class::trimmed(value.get(1..).unwrap_or_default().trim_ascii_end());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            trailers.append(name, value);
        }
    }
    trailers
}
