//! Heads, line by line: where each line ends, how long it may be, what is kept of one that has not come whole, and what body follows.

use super::class::{self, TOKEN};
use super::head::{self, Head, Stop};
use super::refusal::Refusal;
use super::{Asked, Limits};

/// Bytes of a line with nothing in it.
const EMPTY_LINE: usize = 2;

/// Reads the heads of one direction.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) side: Side,
    pub(super) limits: Limits,
    /// Messages whose heads have ended, interim answers apart.
    pub(super) complete_heads: u64,
    /// The beginning of a head that has not come whole.
    pub(super) kept: Vec<u8>,
    /// Where in `kept` the line begins that has not come whole.
    line_at: usize,
    head: Head,
    /// Bytes of the head's lines that have been judged.
    head_bytes: usize,
    line: Line,
}

/// Whose heads they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Requests,
    Answers { asked: Option<Asked>, interim: u32 },
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
        Lines {
            side,
            limits,
            complete_heads: 0,
            kept: Vec::new(),
            line_at: 0,
            head: Head::default(),
            head_bytes: 0,
            line: Line::First,
        }
    }

    /// Whether nothing of a head has come.
    pub(super) fn is_between_heads(&self) -> bool {
        self.line == Line::First && self.kept.is_empty()
    }

    /// Reads on in a head: where in `bytes` it ends, and what follows. What is short is kept.
    pub(super) fn head(&mut self, bytes: &[u8]) -> Result<(usize, Body), Stop> {
        let mut at = 0;
        if self.line_at < self.kept.len() {
            let (end, body) = self.line_across(bytes)?;
            if let Some(body) = body {
                return Ok((end, body));
            }
            at = end;
        }
        loop {
            at += self.good_fields(bytes.get(at..).unwrap_or_default());
            match self.judge(bytes.get(at..).unwrap_or_default()) {
                Ok((n, None)) => at += n,
                Ok((n, Some(body))) => return Ok((at + n, body)),
                Err(Stop::Short) => {
                    self.line_at = self.kept.len() + at;
                    self.kept.extend_from_slice(bytes);
                    return Err(Stop::Short);
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Takes the fields at the beginning of `bytes` that have come whole and are fine, which is most of what ever comes; how long they are. The first other
    /// line is left for [`Lines::judge`].
    fn good_fields(&mut self, bytes: &[u8]) -> usize {
        if self.line != Line::Field {
            return 0;
        }
        let within = bytes.get(..self.limits.head_bytes - self.head_bytes).unwrap_or(bytes);
        let (mut at, mut fields) = (0, self.head.fields);
        while fields < self.limits.fields {
            let rest = within.get(at..).unwrap_or_default();
            if rest.first() == Some(&b'\r') {
                break;
            }
            match self.head.field(rest) {
                Ok(n) if n <= self.limits.field_bytes => at += n,
                _ => break,
            }
            fields += 1;
        }
        self.head.fields = fields;
        self.head_bytes += at;
        at
    }

    /// Reads the rest of a line whose beginning is kept: where in `bytes` it ends, and what follows if it ended the head.
    fn line_across(&mut self, bytes: &[u8]) -> Result<(usize, Option<Body>), Stop> {
        let kept = self.kept.len();
        let room = self.room() - (kept - self.line_at);
        let within = bytes.get(..room).unwrap_or(bytes);
        let Some(end) = memchr::memchr(b'\n', within).map(|lf| lf + 1) else {
            if within.len() == room {
                return Err(self.too_long().into());
            }
            self.kept.extend_from_slice(bytes);
            return Err(Stop::Short);
        };
        let mut lines = std::mem::take(&mut self.kept);
        lines.extend_from_slice(bytes.get(..end).unwrap_or_default());
        let judged = self.judge(lines.get(self.line_at..).unwrap_or_default());
        lines.truncate(kept);
        self.kept = lines;
        judged.map(|(_, body)| (end, body))
    }

    /// Judges the line at the beginning of `bytes`: how long it is, and what follows if it ended the head.
    fn judge(&mut self, bytes: &[u8]) -> Result<(usize, Option<Body>), Stop> {
        let room = self.room();
        let within = bytes.get(..room).unwrap_or(bytes);
        match self.line_within(within) {
            Ok(n) => {
                self.head_bytes += n;
                Ok((n, self.next_line(n == EMPTY_LINE)?))
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
            (Line::Field, _) if self.head.fields == self.limits.fields => Err(Refusal::TooManyFields.into()),
            (Line::Field, _) => self.head.field(bytes),
            (Line::First | Line::FirstAfterEmpty, Side::Requests) => self.head.request_line(bytes),
            (Line::First | Line::FirstAfterEmpty, Side::Answers { .. }) => self.head.status_line(bytes),
        }
    }

    /// What can be told without the rest of the line.
    fn check_first_byte(&self, bytes: &[u8]) -> Result<(), Stop> {
        let wrong = match (self.side, bytes.first()) {
            (_, None) => return Ok(()),
            (Side::Requests, Some(b'\n')) => Refusal::BareLf,
            (Side::Requests, Some(first)) if *first == b'\r' || class::is(*first, TOKEN) => return Ok(()),
            (Side::Requests, Some(_)) => Refusal::BadMethod,
            (Side::Answers { asked: None, .. }, Some(_)) => Refusal::Unasked,
            (Side::Answers { .. }, Some(b'H')) => return Ok(()),
            (Side::Answers { .. }, Some(_)) => Refusal::BadStatusLine,
        };
        Err(Stop::Now(wrong))
    }

    fn next_line(&mut self, was_empty: bool) -> Result<Option<Body>, Refusal> {
        match (self.line, was_empty) {
            (Line::First, true) => self.line = Line::FirstAfterEmpty,
            (Line::FirstAfterEmpty, true) => return Err(Refusal::EmptyLines),
            (Line::First | Line::FirstAfterEmpty, false) => self.line = Line::Field,
            (Line::Field, false) => self.head.fields += 1,
            (Line::Field, true) => {
                let body = self.end_head()?;
                (self.line, self.line_at, self.head_bytes) = (Line::First, 0, 0);
                self.head = Head::default();
                return Ok(Some(body));
            }
        }
        Ok(None)
    }

    /// What follows a head that is complete.
    fn end_head(&mut self) -> Result<Body, Refusal> {
        let head = &self.head;
        match &mut self.side {
            Side::Requests => head.check_request()?,
            Side::Answers { asked, interim } => {
                let what = asked.ok_or(Refusal::Unasked)?;
                head.check_answer()?;
                if head.status < 200 && head.status != 101 {
                    *interim += 1;
                    let is_one_of_few = *interim <= self.limits.interim_answers;
                    return if is_one_of_few { Ok(Body::None) } else { Err(Refusal::BadInterim) };
                }
                *asked = None;
                self.complete_heads += 1;
                let is_tunnel = what.is_connect && (200..300).contains(&head.status);
                return match head.status {
                    101 if what.is_upgrade => Ok(Body::Rest),
                    101 => Err(Refusal::UnaskedUpgrade),
                    _ if is_tunnel => Ok(Body::Rest),
                    204 | 304 => Ok(Body::None),
                    _ if what.is_head => Ok(Body::None),
                    _ => Ok(announced(head).unwrap_or(Body::Rest)),
                };
            }
        }
        self.complete_heads += 1;
        Ok(announced(&self.head).unwrap_or(Body::None))
    }

    /// Bytes that the line may still have.
    fn room(&self) -> usize {
        self.line_bytes_max().min(self.limits.head_bytes - self.head_bytes)
    }

    fn line_bytes_max(&self) -> usize {
        if self.line == Line::Field { self.limits.field_bytes } else { self.limits.first_line_bytes }
    }

    fn too_long(&self) -> Refusal {
        match (self.line, self.side) {
            _ if self.room() < self.line_bytes_max() => Refusal::HeadTooLarge,
            (Line::Field, _) => Refusal::FieldTooLong,
            (Line::First | Line::FirstAfterEmpty, Side::Requests) => Refusal::RequestLineTooLong,
            (Line::First | Line::FirstAfterEmpty, Side::Answers { .. }) => Refusal::BadStatusLine,
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
