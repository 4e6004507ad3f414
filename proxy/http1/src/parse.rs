//! Reading messages by the letter: one meaning, or a refusal.
//!
//! Most parsers read what they can make sense of, and the next hop may make another sense of it: that is request smuggling. [`Heads`] and [`Decoder`] follow
//! RFC 9112 (heads, lengths, chunks, where the next head begins) and accept only what every reader takes for the same. They are pure: no I/O, no time. A head
//! is parsed in one pass; if it comes in pieces, parsing goes on from the line that was short.
//!
//! A line is judged when its line feed has come, or when it is longer than it may be. So the verdict does not depend on how the bytes were cut into pieces. Two
//! things are refused at the first byte: what cannot begin a request line, and what cannot begin a status line. A peer that speaks TLS would otherwise wait for
//! ever.

mod body;
mod chunks;
mod class;
mod data;
mod head;
mod limits;
mod lines;
mod refusal;
mod target;
#[cfg(test)]
mod tests;

use http::{Method, StatusCode};

pub use self::body::{BodyError, Decoder};
pub(crate) use self::data::COPIED_BELOW;
pub use self::limits::Limits;
pub use self::lines::RequestKind;
use self::lines::{Lines, Side};
pub use self::refusal::Refusal;
use crate::head::{Fields, RequestHead, ResponseHead};

/// A head that has been parsed.
#[derive(Debug)]
pub struct Parsed<H> {
    /// The head.
    pub head: H,
    /// How many bytes of the buffer it is; the body begins behind them.
    pub bytes: usize,
    /// Reads the body that follows it.
    pub body: Decoder,
}

/// Parses the heads of one direction of one connection.
#[derive(Debug)]
pub struct Heads {
    lines: Lines,
}

impl Heads {
    /// For what a client sends.
    pub fn requests(limits: Limits) -> Heads {
        Heads { lines: Lines::new(Side::Requests, limits) }
    }

    /// For what a server sends. Each response has to be announced with [`Heads::expect_response`].
    pub fn responses(limits: Limits) -> Heads {
        Heads { lines: Lines::new(Side::Responses { expected: None, informational: 0 }, limits) }
    }

    /// How much is accepted.
    pub fn limits(&self) -> &Limits {
        &self.lines.limits
    }

    /// Changes how much is accepted, from the next head on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.lines.limits = limits;
    }

    /// A request goes out: from now on one final response may come. What kind of request it is decides where that response ends (RFC 9112 §6.3).
    pub fn expect_response(&mut self, request: RequestKind) {
        if let Side::Responses { expected, informational } = &mut self.lines.side {
            (*expected, *informational) = (Some(request), 0);
        }
    }

    /// The request at the beginning of `buffer`; `None` if its head is not whole. Until it is, the caller may only append to the buffer.
    ///
    /// # Errors
    /// It has no single meaning, or exceeds a limit. The connection can carry no further request.
    pub fn request(&mut self, buffer: &[u8]) -> Result<Option<Parsed<RequestHead>>, Refusal> {
        let Some(body) = self.lines.read(buffer)? else { return Ok(None) };
        let (head, bytes) = self.lines.next();
        let text = buffer.get(..bytes).unwrap_or_default();
        let method = text.get(head.method.clone()).unwrap_or_default();
        let method = Method::from_bytes(method).map_err(|_| Refusal::BadMethod)?;
        let fields = Fields::new(text, head.fields);
        let head = RequestHead::new(method, head.is_http10, head.target, fields);
        Ok(Some(Parsed { head, bytes, body: Decoder::new(body) }))
    }

    /// The response at the beginning of `buffer`, informational or final; `None` if its head is not whole. Until it is, the caller may only append to the buffer.
    ///
    /// # Errors
    /// As [`Heads::request`]. A response that nobody expects is refused too.
    pub fn response(&mut self, buffer: &[u8]) -> Result<Option<Parsed<ResponseHead>>, Refusal> {
        let Some(body) = self.lines.read(buffer)? else { return Ok(None) };
        let (head, bytes) = self.lines.next();
        let status = StatusCode::from_u16(head.status).map_err(|_| Refusal::BadStatusLine)?;
        let fields = Fields::new(buffer.get(..bytes).unwrap_or_default(), head.fields);
        let head = ResponseHead::new(status, head.is_http10, head.phrase, fields);
        Ok(Some(Parsed { head, bytes, body: Decoder::new(body) }))
    }
}
