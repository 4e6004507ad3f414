//! The strict check of every byte before hyper reads it: one interpretation of a message, or a refusal.
//!
//! hyper parses what it can make sense of; a next hop may make another sense of it. So each connection has an [`Inspector`] that follows the same bytes by the
//! letter of RFC 9112 (heads, lengths, chunks, where the next head begins) and lets through only what every reader takes for the same. It is
//! pure: no I/O, no time. It does not change a byte, and nothing of a head goes on before the head is complete and fine, so that a
//! refused one can be answered in its place; a head that comes in one piece costs one pass and no allocation.
//!
//! A line is judged when its line feed has come, or when it is longer than it may be; hence the verdict does not depend on how the bytes were cut into pieces.
//! Two things are told at the first byte: what cannot begin a request line, and what cannot begin a status line. Who speaks TLS to us would otherwise wait for ever.

mod chunks;
mod class;
mod head;
mod lines;
mod refusal;
mod target;
#[cfg(test)]
mod tests;

use self::chunks::{Chunks, Progress};
use self::head::Stop;
use self::lines::{Body, Lines, Side};
pub use self::refusal::Refusal;

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

/// What may go on after a piece.
#[derive(PartialEq, Eq, Debug)]
#[must_use]
pub struct Passage {
    /// What was kept back of earlier pieces, the beginning of a head, and now goes on before this piece. Empty in most cases.
    pub before: Vec<u8>,
    /// Leading bytes of this piece that go on. The inspector keeps the rest as the beginning of a head, or it is refused.
    pub bytes: usize,
    /// The first message that is refused; from then on nothing goes on.
    pub refused: Option<Refused>,
}

/// A message that is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Why.
    pub why: Refusal,
    /// Which of the connection's requests, or of its answers after interim ones: 0 is the first.
    pub ordinal: u64,
    /// What of it is wrong.
    pub part: Part,
}

/// A part of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Nothing of the message has gone on.
    Head,
    /// Its head has, and what came of its body before the fault.
    Body,
}

/// Follows the bytes of one direction of one connection.
#[derive(Debug)]
pub struct Inspector {
    lines: Lines,
    state: State,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum State {
    Head,
    Length(u64),
    Chunks(Chunks),
    /// The body ends with the connection, or there are no messages any more.
    Rest,
    Refused(Refused),
}

impl Inspector {
    /// For the bytes of a caller.
    pub fn requests(limits: Limits) -> Inspector {
        Inspector::new(Side::Requests, limits)
    }

    /// For the bytes of an endpoint; each answer must be asked for.
    pub fn answers(limits: Limits) -> Inspector {
        Inspector::new(Side::Answers { asked: None, interim: 0 }, limits)
    }

    fn new(side: Side, limits: Limits) -> Inspector {
        Inspector { lines: Lines::new(side, limits), state: State::Head }
    }

    /// A request goes out: from now on, one answer may come.
    pub fn ask(&mut self, what: Asked) {
        if let Side::Answers { asked, interim } = &mut self.lines.side {
            (*asked, *interim) = (Some(what), 0);
        }
    }

    /// Both sides have agreed on a tunnel: what comes is no HTTP any more. Returns what was kept back of it.
    pub fn tunnel(&mut self) -> Vec<u8> {
        self.state = State::Rest;
        std::mem::take(&mut self.lines.kept)
    }

    /// Whether it is between two messages: nothing of a next one has come.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.lines.is_between_heads()
    }

    /// Heads that have gone on, interim answers apart: the ordinal of the next message.
    pub fn complete_heads(&self) -> u64 {
        self.lines.complete_heads
    }

    /// Follows the next piece of what comes.
    pub fn feed(&mut self, bytes: &[u8]) -> Passage {
        let mut passage = Passage { before: Vec::new(), bytes: 0, refused: None };
        while let Some(rest) = bytes.get(passage.bytes..).filter(|rest| !rest.is_empty()) {
            let n = match &mut self.state {
                State::Head => match self.lines.head(rest) {
                    Ok((n, body)) => {
                        if !self.lines.kept.is_empty() {
                            passage.before = std::mem::take(&mut self.lines.kept);
                        }
                        match body {
                            Body::None => {}
                            Body::Length(length) => self.state = State::Length(length),
                            Body::Chunks => self.state = State::Chunks(Chunks::new()),
                            Body::Rest => self.state = State::Rest,
                        }
                        n
                    }
                    Err(Stop::Short) => break,
                    Err(Stop::Bad(why) | Stop::Now(why)) => {
                        self.refuse(why, Part::Head);
                        break;
                    }
                },
                State::Length(left) => {
                    let n = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= n as u64;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                    n
                }
                State::Chunks(chunks) => match chunks.feed(rest, &self.lines.limits) {
                    Progress::More => rest.len(),
                    Progress::Ended(n) => {
                        self.state = State::Head;
                        n
                    }
                    Progress::Refused(n, why) => {
                        self.refuse(why, Part::Body);
                        n
                    }
                },
                State::Rest => rest.len(),
                State::Refused(_) => break,
            };
            passage.bytes += n;
        }
        if let State::Refused(refused) = self.state {
            passage.refused = Some(refused);
        }
        passage
    }

    fn refuse(&mut self, why: Refusal, part: Part) {
        let ordinal = match part {
            Part::Head => self.lines.complete_heads,
            Part::Body => self.lines.complete_heads - 1,
        };
        self.lines.kept = Vec::new();
        self.state = State::Refused(Refused { why, ordinal, part });
    }
}
