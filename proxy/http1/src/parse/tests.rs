//! Raw bytes in, a verdict out: each case whole, cut at every byte, and byte by byte.

use bytes::BytesMut;

use super::*;

mod laws;
mod requests;
mod responses;

/// The request before the responses of a case.
const GET: RequestKind = RequestKind { is_head: false, is_connect: false, is_upgrade: false };
const HEAD: RequestKind = RequestKind { is_head: true, ..GET };
const CONNECT: RequestKind = RequestKind { is_connect: true, ..GET };
const UPGRADE: RequestKind = RequestKind { is_upgrade: true, ..GET };

/// All that was taken, and what was refused.
type Verdict = (Vec<u8>, Option<Refused>);

/// A message that is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Refused {
    why: Refusal,
    /// Which of the connection's requests, or of its final responses: 0 is the first.
    ordinal: u64,
    part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Head,
    Body,
}

/// Reads all that comes in one direction, as a connection does.
struct Inspector {
    heads: Heads,
    body: Decoder,
    buffer: BytesMut,
    is_of_requests: bool,
    complete_heads: u64,
    taken: usize,
    refused: Option<Refused>,
}

impl Inspector {
    fn requests(limits: Limits) -> Inspector {
        Inspector::new(Heads::requests(limits), true)
    }

    fn responses(limits: Limits) -> Inspector {
        Inspector::new(Heads::responses(limits), false)
    }

    fn new(heads: Heads, is_of_requests: bool) -> Inspector {
        let (body, buffer) = (Decoder::Ended, BytesMut::new());
        Inspector { heads, body, buffer, is_of_requests, complete_heads: 0, taken: 0, refused: None }
    }

    fn expect_response(&mut self, request: RequestKind) {
        self.heads.expect_response(request);
    }

    fn is_idle(&self) -> bool {
        self.body.has_ended() && self.buffer.is_empty()
    }

    fn feed(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        let before = self.buffer.len();
        while self.refused.is_none() {
            let part = if self.body.has_ended() { Part::Head } else { Part::Body };
            let is_short = match part {
                Part::Head => self.head(),
                Part::Body => self.body.next(&mut self.buffer, self.heads.limits()).map(|frame| frame.is_none()),
            };
            match is_short {
                Ok(true) if self.body.has_ended() && part == Part::Body => {}
                Ok(true) => break,
                Ok(false) => {}
                Err(why) => {
                    let ordinal = self.complete_heads - u64::from(part == Part::Body);
                    self.refused = Some(Refused { why, ordinal, part });
                }
            }
        }
        self.taken += before - self.buffer.len();
    }

    fn head(&mut self) -> Result<bool, Refusal> {
        let (bytes, body, is_informational) = if self.is_of_requests {
            let Some(Parsed { bytes, body, .. }) = self.heads.request(&self.buffer)? else { return Ok(true) };
            (bytes, body, false)
        } else {
            let Some(Parsed { bytes, body, head }) = self.heads.response(&self.buffer)? else { return Ok(true) };
            (bytes, body, head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS)
        };
        let _head = self.buffer.split_to(bytes);
        self.body = body;
        self.complete_heads += u64::from(!is_informational);
        Ok(self.buffer.is_empty() && self.body.has_ended())
    }
}

fn run<'p>(mut inspector: Inspector, pieces: impl IntoIterator<Item = &'p [u8]>) -> (Verdict, Inspector) {
    let mut all = Vec::new();
    for piece in pieces {
        all.extend_from_slice(piece);
        inspector.feed(piece);
    }
    all.truncate(inspector.taken);
    ((all, inspector.refused), inspector)
}

/// The verdict on `bytes`, which is the same however they are cut.
fn verdict(new: impl Fn() -> Inspector, bytes: &[u8]) -> (Verdict, Inspector) {
    let (whole, inspector) = run(new(), [bytes]);
    for at in 1..bytes.len() {
        let (left, right) = bytes.split_at(at);
        assert_eq!(run(new(), [left, right]).0, whole, "cut at {at}: {}", bytes.escape_ascii());
    }
    assert_eq!(run(new(), bytes.chunks(1)).0, whole, "byte by byte: {}", bytes.escape_ascii());
    (whole, inspector)
}

/// A client's `bytes` are accepted whole and are `messages`, the last of them complete.
fn accepts(bytes: &[u8], messages: u64) {
    let (verdict, inspector) = verdict(|| Inspector::requests(Limits::default()), bytes);
    assert_eq!(verdict.1, None, "{}", bytes.escape_ascii());
    assert_eq!(verdict.0.as_slice().escape_ascii().to_string(), bytes.escape_ascii().to_string());
    assert_eq!((inspector.complete_heads, inspector.is_idle()), (messages, true), "{}", bytes.escape_ascii());
}

/// Of a client's `bytes` the first `passed` are accepted and the message `ordinal` is refused.
fn refuses(bytes: &[u8], why: Refusal, passed: usize, ordinal: u64, part: Part) {
    let (verdict, _) = verdict(|| Inspector::requests(Limits::default()), bytes);
    assert_eq!(verdict.1, Some(Refused { why, ordinal, part }), "{}", bytes.escape_ascii());
    assert_eq!(verdict.0.len(), passed, "{}", bytes.escape_ascii());
    assert!(bytes.starts_with(&verdict.0));
}
