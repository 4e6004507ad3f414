//! The chunked coding (RFC 9112 §7.1), byte by byte: what is read so far is one number and one state, so that pieces may end anywhere.
//!
//! Stricter than the grammar in one thing: blanks are allowed around the `;` and `=` of extensions, where it has them, but not before the end of the line.

use super::Limits;
use super::class::{self, TOKEN};
use super::refusal::Refusal;

/// Sizes are summed up elsewhere in signed numbers too; nobody sends eight exbibytes.
pub(super) const LENGTH_MAX: u64 = i64::MAX as u64;
/// Digits of the largest size, leading zeros among them.
const SIZE_DIGITS_MAX: u8 = 16;
/// Fields that say how or to whom a message goes; after its body that comes too late for one reader and not for another.
const NOT_IN_TRAILERS: [&[u8]; 3] = [b"host", b"content-length", b"transfer-encoding"];
/// Bytes of the longest of them.
const NAME_KEPT: usize = 17;

/// A body in chunks, as far as it has come.
#[derive(Clone, Debug)]
pub(super) struct Chunks {
    state: State,
    size: u64,
    digits: u8,
    extension_bytes: u32,
    trailer_bytes: u32,
    trailer_fields: u32,
    name: [u8; NAME_KEPT],
    name_length: u32,
}

/// How far it is after a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// All of the piece belongs to it, and there is more to come.
    More,
    /// It ended after this many bytes of the piece.
    Ended(usize),
    /// The byte after this many is wrong.
    Refused(usize, Refusal),
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
        }
    }

    /// Reads on in the next piece.
    pub(super) fn feed(&mut self, bytes: &[u8], limits: &Limits) -> Progress {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            if self.state == State::Data {
                let n = usize::try_from(self.size).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                self.size -= n as u64;
                at += n;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            match self.step(byte, limits) {
                Ok(true) => return Progress::Ended(at + 1),
                Ok(false) => at += 1,
                Err(refusal) => return Progress::Refused(at, refusal),
            }
        }
        Progress::More
    }

    /// Takes one byte of the framing; whether it was the last.
    fn step(&mut self, byte: u8, limits: &Limits) -> Result<bool, Refusal> {
        self.state = match self.state {
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
            // Taken whole in `feed`; here so that no state is without its arm.
            State::Data => State::Data,
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => {
                (self.size, self.digits) = (0, 0);
                State::Size
            }
            State::DataCr | State::DataLf => return Err(Refusal::BadChunkEnd),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => {
                self.trailer_byte(byte, limits)?
            }
            State::EndLf if byte == b'\n' => return Ok(true),
            State::EndLf => return Err(Refusal::BadTrailer),
        };
        Ok(false)
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
