//! Raw bytes in, a verdict out: each case whole, cut at every byte, and byte by byte.

use super::*;

mod answers;
mod laws;
mod requests;

/// What is asked of the endpoint in a case about an answer.
const GET: Asked = Asked { is_head: false, is_connect: false, is_upgrade: false };
const HEAD: Asked = Asked { is_head: true, ..GET };
const CONNECT: Asked = Asked { is_connect: true, ..GET };
const UPGRADE: Asked = Asked { is_upgrade: true, ..GET };

/// All that went on, and what was refused.
type Verdict = (Vec<u8>, Option<Refused>);

fn run<'p>(mut inspector: Inspector, pieces: impl IntoIterator<Item = &'p [u8]>) -> (Verdict, Inspector) {
    let mut passed = Vec::new();
    let mut refused = None;
    for piece in pieces {
        let passage = inspector.feed(piece);
        passed.extend_from_slice(&passage.before);
        passed.extend_from_slice(&piece[..passage.bytes]);
        assert!(refused.is_none() || (passage.refused == refused && passage.bytes == 0 && passage.before.is_empty()));
        refused = passage.refused;
    }
    ((passed, refused), inspector)
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

/// `bytes` of a caller go on whole and are `messages`, the last of them complete.
fn accepts(bytes: &[u8], messages: u64) {
    let (verdict, inspector) = verdict(|| Inspector::requests(Limits::default()), bytes);
    assert_eq!(verdict.1, None, "{}", bytes.escape_ascii());
    assert_eq!(verdict.0.as_slice().escape_ascii().to_string(), bytes.escape_ascii().to_string());
    assert_eq!((inspector.complete_heads(), inspector.is_idle()), (messages, true), "{}", bytes.escape_ascii());
}

/// Of `bytes` of a caller the first `passed` go on and the message `ordinal` is refused.
fn refuses(bytes: &[u8], why: Refusal, passed: usize, ordinal: u64, part: Part) {
    let (verdict, _) = verdict(|| Inspector::requests(Limits::default()), bytes);
    assert_eq!(verdict.1, Some(Refused { why, ordinal, part }), "{}", bytes.escape_ascii());
    assert_eq!(verdict.0.len(), passed, "{}", bytes.escape_ascii());
    assert!(bytes.starts_with(&verdict.0));
}
