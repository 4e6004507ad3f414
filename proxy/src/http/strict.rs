//! Reading messages by the letter: one interpretation, or a refusal.
//!
//! Most parsers read what they can make sense of; a next hop may make another sense of it. So both sides of this proxy read with [`Heads`] and [`Decoder`], which follow
//! RFC 9112 (heads, lengths, chunks, where the next head begins) and take only what every reader takes for the same. They are pure: no I/O, no time. A head
//! is read in one pass, and again from where it was short if it comes in pieces.
//!
//! A line is judged when its line feed has come, or when it is longer than it may be; hence the verdict does not depend on how the bytes were cut into pieces.
//! Two things are told at the first byte: what cannot begin a request line, and what cannot begin a status line. Who speaks TLS to us would otherwise wait for ever.

mod body;
mod chunks;
mod class;
mod head;
mod lines;
mod refusal;
mod target;
#[cfg(test)]
mod tests;

use http::{Method, StatusCode};

pub use self::body::{COPIED_BELOW, Decoder};
use self::lines::{Lines, Side};
pub use self::refusal::Refusal;
use super::head::{AnswerHead, Fields, RequestHead};

/// How much of what is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a request line or status line, its end included.
    pub first_line_bytes: usize,
    /// Bytes of one field, its end included.
    pub field_bytes: usize,
    /// Bytes of a head, its ends included.
    pub head_bytes: usize,
    /// Fields of a head.
    pub fields: u32,
    /// Bytes of all trailer fields of a message.
    pub trailer_bytes: u32,
    /// Trailer fields of a message.
    pub trailer_fields: u32,
    /// Bytes of all chunk extensions of a message.
    pub extension_bytes: u32,
    /// Interim answers before the answer.
    pub interim_answers: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            first_line_bytes: 16 * 1024,
            field_bytes: 16 * 1024,
            head_bytes: 32 * 1024,
            fields: 100,
            trailer_bytes: 8 * 1024,
            trailer_fields: 32,
            extension_bytes: 4 * 1024,
            interim_answers: 8,
        }
    }
}

/// What a request asked for, as far as it decides how its answer is framed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Asked {
    /// HEAD: the answer has no body whatever it says.
    pub is_head: bool,
    /// CONNECT: an answer 2xx begins a tunnel.
    pub is_connect: bool,
    /// An upgrade was asked for: an answer 101 begins a tunnel.
    pub is_upgrade: bool,
}

/// A head that has been read.
#[derive(Debug)]
pub struct Taken<H> {
    /// The head.
    pub head: H,
    /// Its bytes in the buffer.
    pub bytes: usize,
    /// What follows it.
    pub body: Decoder,
}

/// Reads the heads of one direction of one connection.
#[derive(Debug)]
pub struct Heads {
    lines: Lines,
}

impl Heads {
    /// For the bytes of a caller.
    pub fn requests(limits: Limits) -> Heads {
        Heads { lines: Lines::new(Side::Requests, limits) }
    }

    /// For the bytes of an endpoint; each answer must be asked for.
    pub fn answers(limits: Limits) -> Heads {
        Heads { lines: Lines::new(Side::Answers { asked: None, interim: 0 }, limits) }
    }

    /// How much is taken.
    pub fn limits(&self) -> &Limits {
        &self.lines.limits
    }

    /// From the next head on, so much is taken.
    pub fn limit(&mut self, limits: Limits) {
        self.lines.limits = limits;
    }

    /// A request goes out: from now on, one answer may come.
    pub fn ask(&mut self, what: Asked) {
        if let Side::Answers { asked, interim } = &mut self.lines.side {
            (*asked, *interim) = (Some(what), 0);
        }
    }

    /// The request at the beginning of `buffer`, if its head is there whole. Until then the buffer must only grow.
    ///
    /// # Errors
    /// It has no single meaning, or is more than is taken. Nothing may be read after it.
    pub fn request(&mut self, buffer: &[u8]) -> Result<Option<Taken<RequestHead>>, Refusal> {
        let Some(body) = self.lines.read(buffer)? else { return Ok(None) };
        let (head, bytes) = self.lines.next();
        let text = buffer.get(..bytes).unwrap_or_default();
        let method = text.get(head.method.clone()).unwrap_or_default();
        let method = Method::from_bytes(method).map_err(|_| Refusal::BadMethod)?;
        let fields = Fields::new(text, head.fields);
        let head = RequestHead::new(method, head.is_old_version, head.target, fields);
        Ok(Some(Taken { head, bytes, body: Decoder::new(body) }))
    }

    /// The answer at the beginning of `buffer`, if its head is there whole; an interim one too. Until then the buffer must only grow.
    ///
    /// # Errors
    /// As [`Heads::request`].
    pub fn answer(&mut self, buffer: &[u8]) -> Result<Option<Taken<AnswerHead>>, Refusal> {
        let Some(body) = self.lines.read(buffer)? else { return Ok(None) };
        let (head, bytes) = self.lines.next();
        let status = StatusCode::from_u16(head.status).map_err(|_| Refusal::BadStatusLine)?;
        let fields = Fields::new(buffer.get(..bytes).unwrap_or_default(), head.fields);
        let head = AnswerHead::new(status, head.is_old_version, head.phrase, fields);
        Ok(Some(Taken { head, bytes, body: Decoder::new(body) }))
    }
}
