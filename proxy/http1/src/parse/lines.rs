//! Heads, line by line: where each line ends, how long it may be, and what body follows.

use super::class::{self, TOKEN};
use super::head::{self, Head, Stop};
use super::limits::Limits;
use super::refusal::Refusal;

/// Bytes of a line with nothing in it.
const EMPTY_LINE: usize = 2;
/// Most heads have fewer.
const FIELDS_USUAL: usize = 16;

/// Reads the heads of one direction.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) side: Side,
    pub(super) limits: Limits,
    pub(super) head: Head,
    /// Bytes of the head's lines that have been judged.
    pub(super) judged: usize,
    /// Up to here there is no line feed after them.
    looked_at: usize,
    line: Line,
}

/// Whose heads they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Requests,
    Responses { expected: Option<RequestKind>, informational: u32 },
}

/// What a request is, as far as that decides where its response ends (RFC 9112 §6.3).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RequestKind {
    /// HEAD: its response has no body whatever the response's fields say.
    pub is_head: bool,
    /// CONNECT: a 2xx response begins a tunnel.
    pub is_connect: bool,
    /// It asks for an upgrade: a 101 response begins a tunnel.
    pub is_upgrade: bool,
}

/// What follows a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body {
    /// The next head.
    None,
    /// So many bytes.
    Length(u64),
    Chunks,
    /// Everything that still comes.
    Rest,
}

/// Which line of a head comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    First,
    /// The first one, after an empty line.
    FirstAfterEmpty,
    Field,
}

impl Lines {
    pub(super) fn new(side: Side, limits: Limits) -> Lines {
        Lines { side, limits, head: Head::default(), judged: 0, looked_at: 0, line: Line::First }
    }

    /// Reads on in the head at the beginning of `buffer`: what follows it, if it is there whole. What was read before is not read again.
    pub(super) fn read(&mut self, buffer: &[u8]) -> Result<Option<Body>, Refusal> {
        if self.looked_at > self.judged && !self.has_new_line(buffer)? {
            return Ok(None);
        }
        loop {
            self.good_fields(buffer);
            match self.judge(buffer.get(self.judged..).unwrap_or_default()) {
                Ok(None) => {}
                Ok(Some(body)) => return Ok(Some(body)),
                Err(Stop::Short) => {
                    self.looked_at = buffer.len();
                    return Ok(None);
                }
                Err(Stop::Bad(why) | Stop::Now(why)) => return Err(why),
            }
        }
    }

    /// Ready for the next head; what is known of this one, and its length.
    pub(super) fn next(&mut self) -> (Head, usize) {
        (self.line, self.looked_at) = (Line::First, 0);
        (std::mem::take(&mut self.head), std::mem::take(&mut self.judged))
    }

    /// Whether a line that was short may have come whole. A peer that sends its head in single bytes must not make us parse the line anew for each of them.
    fn has_new_line(&mut self, buffer: &[u8]) -> Result<bool, Refusal> {
        let room = self.room();
        let end = buffer.len().min(self.judged + room);
        let fresh = buffer.get(self.looked_at..end).unwrap_or_default();
        if memchr::memchr(b'\n', fresh).is_some() {
            return Ok(true);
        }
        if end == self.judged + room {
            return Err(self.too_long());
        }
        self.looked_at = buffer.len();
        Ok(false)
    }

    /// Takes the fields that have come whole and are fine, which is most of what ever comes. The first other line is left for [`Lines::judge`].
    fn good_fields(&mut self, buffer: &[u8]) {
        if self.line != Line::Field {
            return;
        }
        let within = buffer.get(..self.limits.head_bytes).unwrap_or(buffer);
        let mut at = self.judged;
        while self.head.fields.len() < self.limits.fields as usize {
            let rest = within.get(at..).unwrap_or_default();
            if rest.first() == Some(&b'\r') {
                break;
            }
            match self.head.field(rest, at) {
                Ok(n) if n <= self.limits.field_bytes => at += n,
                Ok(_) => {
                    self.head.fields.pop(); // it is looked at again, to be refused
                    break;
                }
                Err(_) => break,
            }
        }
        self.judged = at;
    }

    /// Judges the line at the beginning of `bytes`, and what follows if it ends the head.
    fn judge(&mut self, bytes: &[u8]) -> Result<Option<Body>, Stop> {
        let room = self.room();
        let within = bytes.get(..room).unwrap_or(bytes);
        match self.line_within(within) {
            Ok(n) => {
                self.judged += n;
                Ok(self.next_line(n == EMPTY_LINE)?)
            }
            // Without its line feed a line has no verdict yet, unless there is no room for one.
            Err(stop) => match (stop, memchr::memchr(b'\n', within)) {
                (Stop::Now(_), _) | (Stop::Bad(_), Some(_)) => Err(stop),
                (Stop::Short, Some(_)) => Err(self.bad_first_line().into()),
                (_, None) if within.len() == room => Err(self.too_long().into()),
                (_, None) => Err(Stop::Short),
            },
        }
    }

    fn line_within(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        if self.line != Line::Field {
            self.check_first_byte(bytes)?;
        }
        if bytes.first() == Some(&b'\r') {
            let wrong = if self.line == Line::Field { Refusal::BadFieldName } else { self.bad_first_line() };
            return head::line_end(bytes, 0).map(|()| EMPTY_LINE).map_err(|stop| stop.instead(wrong));
        }
        match (self.line, self.side) {
            (Line::Field, _) if self.head.fields.len() >= self.limits.fields as usize => {
                Err(Refusal::TooManyFields.into())
            }
            (Line::Field, _) => self.head.field(bytes, self.judged),
            (Line::First | Line::FirstAfterEmpty, Side::Requests) => self.head.request_line(bytes, self.judged),
            (Line::First | Line::FirstAfterEmpty, Side::Responses { .. }) => self.head.status_line(bytes, self.judged),
        }
    }

    /// Checks what is certain without the rest of the line.
    fn check_first_byte(&self, bytes: &[u8]) -> Result<(), Stop> {
        let wrong = match (self.side, bytes.first()) {
            (_, None) => return Ok(()),
            (Side::Requests, Some(b'\n')) => Refusal::BareLf,
            (Side::Requests, Some(first)) if *first == b'\r' || class::is(*first, TOKEN) => return Ok(()),
            (Side::Requests, Some(_)) => Refusal::BadMethod,
            (Side::Responses { expected: None, .. }, Some(_)) => Refusal::UnexpectedResponse,
            (Side::Responses { .. }, Some(b'H')) => return Ok(()),
            (Side::Responses { .. }, Some(_)) => Refusal::BadStatusLine,
        };
        Err(Stop::Now(wrong))
    }

    fn next_line(&mut self, was_empty: bool) -> Result<Option<Body>, Refusal> {
        match (self.line, was_empty) {
            (Line::First, true) => self.line = Line::FirstAfterEmpty,
            (Line::FirstAfterEmpty, true) => return Err(Refusal::EmptyLines),
            (Line::First | Line::FirstAfterEmpty, false) => {
                self.line = Line::Field;
                self.head.fields = Vec::with_capacity(FIELDS_USUAL);
            }
            (Line::Field, false) => {}
            (Line::Field, true) => return self.end_head().map(Some),
        }
        Ok(None)
    }

    /// What follows a head that is complete.
    fn end_head(&mut self) -> Result<Body, Refusal> {
        let head = &self.head;
        let Side::Responses { expected, informational } = &mut self.side else {
            head.check_request()?;
            return Ok(announced(head).unwrap_or(Body::None));
        };
        let request = expected.ok_or(Refusal::UnexpectedResponse)?;
        head.check_response()?;
        if head.status < 200 && head.status != 101 {
            *informational += 1;
            let is_one_of_few = *informational <= self.limits.informational_responses;
            return if is_one_of_few { Ok(Body::None) } else { Err(Refusal::BadInformational) };
        }
        *expected = None;
        let is_tunnel = request.is_connect && (200..300).contains(&head.status);
        match head.status {
            101 if request.is_upgrade => Ok(Body::Rest),
            101 => Err(Refusal::UnexpectedUpgrade),
            _ if is_tunnel => Ok(Body::Rest),
            204 | 304 => Ok(Body::None),
            _ if request.is_head => Ok(Body::None),
            _ => Ok(announced(head).unwrap_or(Body::Rest)),
        }
    }

    /// Bytes that the line may still have.
    fn room(&self) -> usize {
        self.line_bytes_max().min(self.limits.head_bytes - self.judged)
    }

    fn line_bytes_max(&self) -> usize {
        if self.line == Line::Field { self.limits.field_bytes } else { self.limits.first_line_bytes }
    }

    fn too_long(&self) -> Refusal {
        match (self.line, self.side) {
            _ if self.room() < self.line_bytes_max() => Refusal::HeadTooLarge,
            (Line::Field, _) => Refusal::FieldTooLong,
            (Line::First | Line::FirstAfterEmpty, Side::Requests) => Refusal::RequestLineTooLong,
            (Line::First | Line::FirstAfterEmpty, Side::Responses { .. }) => Refusal::BadStatusLine,
        }
    }

    fn bad_first_line(&self) -> Refusal {
        if self.side == Side::Requests { Refusal::BadRequestLine } else { Refusal::BadStatusLine }
    }
}

/// The body that a head announces.
fn announced(head: &Head) -> Option<Body> {
    match head.length {
        _ if head.is_chunked => Some(Body::Chunks),
        Some(0) => Some(Body::None),
        length => length.map(Body::Length),
    }
}
