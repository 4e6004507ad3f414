//! Whatever the bytes: the verdict does not depend on the cuts, and what goes on means to hyper what it means here.

use std::convert::Infallible;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use super::*;

/// Parts that messages, and what is nearly one, are made of.
const PARTS: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a?b HTTP/1.1\r\n",
    "PUT http://a:80/ HTTP/1.1\r\n",
    "GET / HTTP/1.0\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "Host: a\r\n",
    "Host: a\r\n",
    "Host: b:1\r\n",
    "X: y\r\n",
    "x-y:\t z \r\n",
    "\u{e4}: \u{e4}\r\n",
    "Z: \u{e4}\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\n",
    "\r\n",
    "\r\n",
    "\r\n",
    "\r",
    "\n",
    " ",
    "\t",
    ":",
    ";",
    "\0",
    "abc",
    "0\r\n\r\n",
    "3\r\nabc\r\n",
    "3;a=\"b\"\r\nabc\r\n",
    "0\r\nt: v\r\n\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 103 Early\r\n",
    "HTTP/1.1 204 No\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
];

/// Parts in a row, with some bytes changed, doubled or left out.
fn messy() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::collection::vec(select(PARTS), 1..14).prop_map(|parts| parts.concat().into_bytes());
    let change = (any::<prop::sample::Index>(), 0..3u8, select(b"\0\t\r\n !#,:;@0a\x7f\x80\xff".to_vec()));
    (parts, prop::collection::vec(change, 0..3)).prop_map(|(mut bytes, changes)| {
        for (at, how, byte) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        bytes
    })
}

fn pieces<'b>(bytes: &'b [u8], sizes: &[usize]) -> Vec<&'b [u8]> {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// A request as its reader understood it.
#[derive(PartialEq, Eq, Debug)]
struct Meaning {
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    is_http10: bool,
}

/// The meaning of the forwarded bytes by the parser's own bounds: fed one byte at a time, it shows where each head and each message ends.
fn meanings(bytes: &[u8], limits: Limits) -> Vec<Meaning> {
    let mut inspector = Inspector::requests(limits);
    let (mut found, mut start, mut body_start) = (Vec::new(), 0, None);
    for at in 0..bytes.len() {
        let heads = inspector.complete_heads;
        inspector.feed(&bytes[at..=at]);
        if inspector.complete_heads > heads {
            body_start = Some(at + 1);
        }
        if let Some(body) = body_start.filter(|_| inspector.is_idle()) {
            found.push(meaning(&bytes[start..body], &bytes[body..=at]));
            (start, body_start) = (at + 1, None);
        }
    }
    found
}

fn meaning(head: &[u8], body: &[u8]) -> Meaning {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Request::new(&mut fields);
    assert_eq!(parsed.parse(head), Ok(httparse::Status::Complete(head.len())), "{}", head.escape_ascii());
    let named: Vec<(String, Vec<u8>)> =
        parsed.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect();
    let is_chunked = named.iter().any(|(name, _)| name == "transfer-encoding");
    Meaning {
        method: parsed.method.expect("parsed").to_owned(),
        target: parsed.path.expect("parsed").to_owned(),
        fields: named,
        body: if is_chunked { joined(body) } else { body.to_vec() },
        is_http10: parsed.version == Some(0),
    }
}

fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((data, size))) = httparse::parse_chunk_size(chunks) else {
            panic!("no chunk: {}", chunks.escape_ascii());
        };
        if size == 0 {
            return body;
        }
        let end = data + size as usize;
        body.extend_from_slice(&chunks[data..end]);
        assert_eq!(&chunks[end..end + 2], b"\r\n");
        chunks = &chunks[end + 2..];
    }
}

/// What hyper's server makes of the same bytes.
fn meanings_to_hyper(bytes: &[u8]) -> Vec<Meaning> {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(bytes.len() + 1);
        let (sender, mut received) = mpsc::unbounded_channel();
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let sender = sender.clone();
            async move {
                let (head, body) = request.into_parts();
                let fields = head.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
                let meaning = Meaning {
                    method: head.method.to_string(),
                    target: head.uri.to_string(),
                    fields: fields.collect(),
                    is_http10: head.version == hyper::Version::HTTP_10,
                    body: body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default(),
                };
                let _ = sender.send(meaning);
                Ok::<_, Infallible>(hyper::Response::new(String::new()))
            }
        });
        client.write_all(bytes).await.expect("room for all of it");
        client.shutdown().await.expect("a pipe");
        let serve = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service);
        let mut responses = Vec::new();
        let _ = tokio::join!(serve, client.read_to_end(&mut responses));
        std::iter::from_fn(|| received.try_recv().ok()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_verdict_does_not_depend_on_the_cuts(bytes in messy(), sizes in prop::collection::vec(1..30usize, 1..6), is_small: bool) {
        let small = Limits { first_line_bytes: 24, field_bytes: 20, head_bytes: 60, fields: 3, trailer_bytes: 8, extension_bytes: 5, ..Limits::default() };
        let limits = if is_small { small } else { Limits::default() };
        let responses = || {
            let mut inspector = Inspector::responses(limits);
            inspector.expect_response(GET);
            inspector
        };
        for new in [&(|| Inspector::requests(limits)) as &dyn Fn() -> Inspector, &responses] {
            let whole = run(new(), [bytes.as_slice()]).0;
            prop_assert_eq!(&run(new(), pieces(&bytes, &sizes)).0, &whole);
            prop_assert_eq!(&run(new(), bytes.chunks(1)).0, &whole);
            prop_assert!(bytes.starts_with(&whole.0));
        }
    }

    #[test]
    fn what_goes_on_means_the_same_to_hyper(bytes in messy()) {
        let limits = Limits::default();
        let ((passed, _), _) = run(Inspector::requests(limits), [bytes.as_slice()]);
        let here = meanings(&passed, limits);
        let mut there = meanings_to_hyper(&passed);
        // After HTTP/1.0 hyper ends the connection; what breaks off it hands over in part.
        let last = here.iter().position(|meaning| meaning.is_http10).map_or(here.len(), |at| at + 1);
        there.truncate(last);
        for (here, there) in here.iter().zip(&there) {
            prop_assert_eq!((&here.method, &here.body, here.is_http10), (&there.method, &there.body, there.is_http10));
            prop_assert_eq!(sorted(&here.fields), sorted(&there.fields));
            // In hyper's way of writing it an absolute target has a path.
            let target = here.target.parse::<hyper::Uri>().expect("hyper took it").to_string();
            prop_assert_eq!(&target, &there.target);
        }
        prop_assert_eq!(there.len(), last, "{}", passed.as_slice().escape_ascii());
    }
}

/// Their order within a name counts, that between names does not.
fn sorted(fields: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let mut fields = fields.to_vec();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields
}
