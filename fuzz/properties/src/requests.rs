//! Bytes from a client. How they are cut does not change how they are read; the parser accepts exactly what a plain strict reader takes for requests; and
//! through the whole proxy an origin receives those requests and nothing else.

use bytes::BytesMut;
use outrigger_http1::parse::{Decoder, Heads, Limits};

use crate::reference::{self, Message, Reading};
use crate::whole::{self, Origin};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Panics if the property does not hold for `bytes`.
pub fn check(bytes: &[u8]) {
    // Any size will do, as long as the same bytes give the same one.
    let size = 1 + bytes.iter().fold(0, |sum, byte| (sum + usize::from(*byte)) % 61);
    let (passed, refused) = inspected(bytes, bytes.len());
    assert_eq!(inspected(bytes, size), (passed.clone(), refused), "in pieces of {size}: {}", bytes.escape_ascii());
    assert!(bytes.starts_with(&passed));
    let requests = read(&passed);
    if refused == Some(Part::Body) {
        assert_ne!(requests.1, 0, "a refused body was whole: {}", bytes.escape_ascii());
    } else if refused == Some(Part::Head) {
        assert_eq!(requests.1, 0, "a part of a head went on: {}", bytes.escape_ascii());
    }
    let played = whole::play(bytes, size, Origin::Responds(OK));
    let mut expected = requests.0.iter();
    for connection in &played.to_origin {
        for arrived in &arrivals(connection) {
            assert!(
                expected.any(|sent| is_same(sent, arrived)),
                "the origin received what was not sent: {arrived:?}\nsent: {}",
                bytes.escape_ascii()
            );
        }
    }
}

/// Where something was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Head,
    Body,
}

/// What is taken of `bytes` in pieces, and what was refused.
fn inspected(bytes: &[u8], size: usize) -> (Vec<u8>, Option<Part>) {
    let (mut heads, mut body, mut buffer) = (Heads::requests(Limits::default()), Decoder::Ended, BytesMut::new());
    let (mut come, mut refused) = (0, None);
    for piece in bytes.chunks(size.max(1)) {
        come += piece.len();
        buffer.extend_from_slice(piece);
        while refused.is_none() {
            if !body.has_ended() {
                match body.next(&mut buffer, heads.limits()) {
                    Err(_) => refused = Some(Part::Body),
                    Ok(None) if !body.has_ended() => break,
                    Ok(_) => {}
                }
                continue;
            }
            match heads.request(&buffer) {
                Err(_) => refused = Some(Part::Head),
                Ok(None) => break,
                Ok(Some(taken)) => {
                    let _head = buffer.split_to(taken.bytes);
                    body = taken.body;
                }
            }
        }
    }
    (bytes[..come - buffer.len()].to_vec(), refused)
}

/// The requests in what has gone on, and how many bytes of an unfinished one follow. There is nothing else in it.
fn read(passed: &[u8]) -> (Vec<Message>, usize) {
    let (mut requests, mut rest) = (Vec::new(), passed);
    loop {
        // One empty line may stand before a request line.
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        match reference::request(rest) {
            Reading::Message(message) => {
                rest = &rest[message.length..];
                requests.push(message);
            }
            Reading::Part(None) => {
                assert!(rest.is_empty(), "a part of a head went on: {}", passed.escape_ascii());
                return (requests, 0);
            }
            Reading::Part(Some(_)) => return (requests, rest.len()),
            Reading::Malformed => panic!("no strict reader takes this: {}", passed.escape_ascii()),
        }
    }
}

/// The whole requests that arrived over one connection; each must be fit to travel.
fn arrivals(connection: &[u8]) -> Vec<Message> {
    let (mut arrived, mut rest) = (Vec::new(), connection);
    loop {
        match reference::request(rest) {
            Reading::Message(message) => {
                assert!(message.line[1].starts_with('/') || message.line[1] == "*", "{message:?}");
                assert_eq!((message.line[2].as_str(), message.values("host").count()), ("HTTP/1.1", 1), "{message:?}");
                for hop in ["keep-alive", "proxy-connection", "upgrade", "http2-settings"] {
                    assert_eq!(message.values(hop).count(), 0, "{message:?}");
                }
                rest = &rest[message.length..];
                arrived.push(message);
            }
            Reading::Part(_) => return arrived,
            Reading::Malformed => panic!("the origin received what is no request: {}", connection.escape_ascii()),
        }
    }
}

fn is_same(sent: &Message, arrived: &Message) -> bool {
    let target = &sent.line[1];
    let is_target = if target.starts_with('/') || target == "*" {
        *target == arrived.line[1]
    } else {
        // An absolute target arrives without its scheme and host; its path may have been left out.
        let path = arrived.line[1].strip_prefix('/').unwrap_or(&arrived.line[1]);
        target.ends_with(path)
    };
    is_target && sent.line[0] == arrived.line[0] && sent.body == arrived.body
}
