//! A request on its way to an endpoint: head, framing, and a body that is drawn as fast as it is taken.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Method, header, request};
use hyper::body::Body;
use tokio::io::AsyncWrite;

use super::body::Replay;
use super::headers::BodyLength;
use super::io::Stream;

/// Pieces of a body below this go out in one piece with what is before them.
const JOINED_BELOW: usize = 8 * 1024;
/// What is kept of the buffer for the next request.
const KEPT_BYTES: usize = 8 * 1024;

/// What is to be sent.
pub struct Outbound<'a> {
    /// Method, target and fields; framing is made here.
    pub head: &'a request::Parts,
    /// Goes out in place of the head's own `Host`.
    pub host: Option<&'a HeaderValue>,
    /// What is known of the body's length.
    pub length: BodyLength,
    /// The body.
    pub body: Replay,
}

/// The request on its way.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Head, chunk framing and small pieces, from `sent` on still to be written.
    staged: Vec<u8>,
    sent: usize,
    /// A large piece that comes behind what is staged.
    piece: Bytes,
    /// What comes behind the piece.
    tail: &'static [u8],
    /// Still to be drawn from.
    upload: Option<(Replay, Framing)>,
    /// Whether there was ever one.
    pub(super) has_begun: bool,
    /// Whether a byte of it has left.
    pub(super) has_written: bool,
    /// The endpoint takes no more; its answer may still come.
    pub(super) is_cut: bool,
}

#[derive(Clone, Copy)]
enum Framing {
    /// So many bytes are to come.
    Length(u64),
    Chunked,
}

/// Who broke the request off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The caller: its body broke off, or is not as long as it said.
    ByCaller,
    /// The endpoint.
    ByEndpoint,
}

impl Outgoing {
    /// Whether something of it is still to be written or drawn.
    pub(super) fn is_unfinished(&self) -> bool {
        self.upload.is_some() || self.is_staged()
    }

    /// Whether there is room for another piece: what the endpoint does not take is not drawn from the caller.
    fn has_room(&self) -> bool {
        self.piece.is_empty() && self.tail.is_empty() && self.staged.len() - self.sent < JOINED_BELOW
    }

    fn is_staged(&self) -> bool {
        self.sent < self.staged.len() || !self.piece.is_empty() || !self.tail.is_empty()
    }

    /// Makes the head; nothing is written yet.
    pub(super) fn begin(&mut self, Outbound { head, host, length, body }: Outbound<'_>) {
        self.staged.clear();
        (self.sent, self.has_begun, self.has_written) = (0, true, false);
        write_head(&mut self.staged, head, host, length);
        self.upload = match length {
            BodyLength::None => None,
            BodyLength::Known(length) => Some((body, Framing::Length(length))),
            BodyLength::Unknown => Some((body, Framing::Chunked)),
        };
    }

    /// Draws and writes until all is written.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<Result<(), Cut>> {
        loop {
            // First what can be drawn at once, so that a head and a small body go out together.
            while self.upload.is_some() && self.has_room() {
                match self.poll_draw(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(cut)) => {
                        self.is_cut = true;
                        return Poll::Ready(Err(cut));
                    }
                }
            }
            if !self.is_staged() {
                return if self.upload.is_some() { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            match ready!(self.poll_write(cx, stream)) {
                Ok(n) if n > 0 => self.advance(n),
                _ => {
                    self.is_cut = true;
                    return Poll::Ready(Err(Cut::ByEndpoint));
                }
            }
        }
    }

    /// Stages the next piece of the body.
    fn poll_draw(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let Some((body, framing)) = &mut self.upload else { return Poll::Ready(Ok(())) };
        let framing = *framing;
        match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Err(_)) => return Poll::Ready(Err(Cut::ByCaller)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.stage(data, framing)?,
                Err(frame) => self.end(framing, frame.trailers_ref())?,
            },
            None => self.end(framing, None)?,
        }
        // The end is known with the last piece: it goes out with it.
        if let Some((body, Framing::Length(0))) = &self.upload
            && body.is_end_stream()
        {
            self.upload = None;
        }
        Poll::Ready(Ok(()))
    }

    fn stage(&mut self, data: Bytes, framing: Framing) -> Result<(), Cut> {
        match framing {
            Framing::Length(rest) => {
                let rest = rest.checked_sub(data.len() as u64).ok_or(Cut::ByCaller)?;
                self.upload.iter_mut().for_each(|(_, framing)| *framing = Framing::Length(rest));
            }
            Framing::Chunked if data.is_empty() => return Ok(()), // it would be the end
            Framing::Chunked => self.staged.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes()),
        }
        let tail: &'static [u8] = if matches!(framing, Framing::Chunked) { b"\r\n" } else { b"" };
        if data.len() < JOINED_BELOW {
            self.staged.extend_from_slice(&data);
            self.staged.extend_from_slice(tail);
        } else {
            (self.piece, self.tail) = (data, tail);
        }
        Ok(())
    }

    fn end(&mut self, framing: Framing, trailers: Option<&HeaderMap>) -> Result<(), Cut> {
        self.upload = None;
        match framing {
            Framing::Length(0) => Ok(()),
            Framing::Length(_) => Err(Cut::ByCaller),
            Framing::Chunked => {
                self.staged.extend_from_slice(b"0\r\n");
                trailers.into_iter().flatten().for_each(|(name, value)| write_field(&mut self.staged, name, value));
                self.staged.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<usize>> {
        let staged = &self.staged[self.sent..];
        if self.piece.is_empty() && self.tail.is_empty() {
            return Pin::new(stream).poll_write(cx, staged);
        }
        let slices = [staged, &self.piece[..], self.tail].map(io::IoSlice::new);
        Pin::new(stream).poll_write_vectored(cx, &slices)
    }

    fn advance(&mut self, mut n: usize) {
        self.has_written = true;
        let staged = n.min(self.staged.len() - self.sent);
        self.sent += staged;
        n -= staged;
        let piece = n.min(self.piece.len());
        self.piece.advance(piece);
        self.tail = &self.tail[n - piece..];
        if self.sent == self.staged.len() {
            self.staged.clear();
            self.staged.shrink_to(KEPT_BYTES);
            self.sent = 0;
        } else if self.sent > KEPT_BYTES {
            self.staged.drain(..self.sent);
            self.sent = 0;
        }
    }
}

/// The head as it goes out; framing comes from what is known of the body, and from nothing else.
fn write_head(out: &mut Vec<u8>, head: &request::Parts, host: Option<&HeaderValue>, length: BodyLength) {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    for part in [head.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(host) = host {
        write_field(out, &header::HOST, host);
    }
    for (name, value) in &head.headers {
        if host.is_none() || *name != header::HOST {
            write_field(out, name, value);
        }
    }
    match length {
        BodyLength::None if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        BodyLength::None => {}
        BodyLength::Known(length) => out.extend_from_slice(format!("content-length: {length}\r\n").as_bytes()),
        BodyLength::Unknown => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &http::HeaderName, value: &HeaderValue) {
    for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
        out.extend_from_slice(part);
    }
}
