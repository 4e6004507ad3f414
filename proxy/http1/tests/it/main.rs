//! Connections over pipes in memory: which bytes they send, what is proven when a connection breaks, and that bodies arrive as they were sent. `delivery` needs sockets.

mod bodies;
mod client;
mod delivery;
mod server;

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body::{Body, Frame};
use outrigger_http1::client::OutgoingRequest;
use outrigger_http1::encode::BodyLength;
use outrigger_http1::head::RequestHead;
use outrigger_http1::parse::Limits;

/// A body of these frames, which may fail at its end.
#[derive(Default)]
struct Frames {
    frames: Vec<Frame<Bytes>>,
    fails: bool,
}

impl Frames {
    fn of(pieces: &[&str], trailers: Option<HeaderMap>) -> Frames {
        let data = pieces.iter().map(|piece| Frame::data(Bytes::copy_from_slice(piece.as_bytes())));
        let mut frames: Vec<_> = data.chain(trailers.map(Frame::trailers)).collect();
        frames.reverse();
        Frames { frames, fails: false }
    }
}

/// The source broke off.
#[derive(Debug)]
struct Broken;

impl Body for Frames {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.frames.pop() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if self.fails => Poll::Ready(Some(Err(Broken))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && !self.fails
    }
}

/// A head with one field.
fn head(method: Method, target: &str) -> RequestHead {
    let mut head = RequestHead::to(method, target).expect("a target");
    head.fields.append("Host", b"a");
    head
}

/// A plain request with `head`.
fn request(head: &RequestHead, length: BodyLength, body: Frames) -> OutgoingRequest<'_, Frames> {
    OutgoingRequest {
        head,
        host: None,
        length,
        body,
        expects_continue: false,
        accepts_trailers: false,
        upgrade: None,
        limits: Limits::default(),
    }
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("sum", http::HeaderValue::from_static("1"));
    trailers
}
