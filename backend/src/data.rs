//! The data port: one message for every method and path, unless the request's fate says otherwise.
//!
//! The order per request: count and draw when the head is there, read the body to its end, wait out the latency, then
//! show the fate. A request costs two short locks (generator, tally), a third if it carries an id, and no copy of the message.
//!
//! Requests are not looked at beyond method and `x-request-id`. There is no timeout here: a service that gave
//! up by itself would hide what its clients do.

use std::convert::Infallible;
use std::error::Error;
use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::cut::{Cut, Ending};
use crate::plan::Fate;
use crate::received::{InFlight, Received};
use crate::rng::Draws;

/// The body of every good response.
const MESSAGE: &[u8] = br#"{ "message": "Hello from Backend!" }"#;

/// A slow body comes in pieces of this size: about ten, each far smaller than any buffer on the way.
const PIECE_BYTES: usize = MESSAGE.len().div_ceil(10);

type DataResponse = Response<Either<Full<Bytes>, SlowMessage>>;

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) draws: Draws,
    pub(crate) received: Arc<Received>,
}

/// Serves one connection to its end, good or bad.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    shared.received.connection();
    // Small responses must not wait for the acknowledgement of the last one, and half a response not for its other half.
    if stream.set_nodelay(true).is_err() {
        return; // the client has gone already
    }
    let service = service_fn(|request| respond(request, Arc::clone(&shared)));
    let mut connection = http1::Builder::new()
        .keep_alive(true)
        .half_close(false) // a client that has gone is noticed even while its request hangs
        .header_read_timeout(None) // idle connections stay until the client leaves
        .serve_connection(TokioIo::new(stream), service);
    // Errors other than a cut are the client's: it left or spoke no HTTP.
    if let Err(error) = (&mut connection).await
        && let Some(cut) = cut_in(&error)
    {
        let stream = connection.into_parts().io.into_inner();
        // The client may have left before the cut. Then nothing is left to do.
        let _ = cut.carry_out(stream).await;
    }
}

/// hyper wraps the service's error once; this is the way back to ours.
fn cut_in(error: &hyper::Error) -> Option<Cut> {
    error.source()?.downcast_ref().copied()
}

async fn respond(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<DataResponse, Box<dyn Error + Send + Sync>> {
    let (seq, draw) = shared.draws.next();
    shared.received.request(request.method(), draw.fate.kind(), request.headers().get("x-request-id"));
    let in_flight = Received::enter(&shared.received);
    let is_head = request.method() == Method::HEAD;

    read_to_end(request.into_body()).await?;
    if !draw.delay.is_zero() {
        sleep(draw.delay).await;
    }

    let cut = |ending| Err(Cut { ending, seq, body: MESSAGE, is_head }.into());
    match draw.fate {
        Fate::Answered => Ok(message(seq, Either::Left(Full::new(Bytes::from_static(MESSAGE))))),
        Fate::Error { status, retry_after } => Ok(failure(seq, status, retry_after)),
        Fate::Hang => future::pending().await,
        Fate::ResetBefore => cut(Ending::ResetBefore),
        Fate::ResetDuring => cut(Ending::ResetDuring),
        Fate::Truncate => cut(Ending::Truncate),
        Fate::SlowBody { over } => Ok(message(seq, Either::Right(SlowMessage::new(over, in_flight)))),
    }
}

async fn read_to_end(mut body: Incoming) -> Result<(), hyper::Error> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

fn message(seq: u64, body: Either<Full<Bytes>, SlowMessage>) -> DataResponse {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("x-backend-seq", HeaderValue::from(seq));
    response
}

fn failure(seq: u64, status: StatusCode, retry_after: Option<HeaderValue>) -> DataResponse {
    let text = format!(r#"{{ "error": "fault: {}" }}"#, status.as_u16());
    let mut response = message(seq, Either::Left(Full::from(text)));
    *response.status_mut() = status;
    if let Some(value) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

/// The message in small pieces, evenly spread: the first comes one gap after the head, the last when the time is over.
struct SlowMessage {
    rest: Bytes,
    gap: Duration,
    next: Pin<Box<Sleep>>,
    _in_flight: InFlight,
}

impl SlowMessage {
    fn new(over: Duration, in_flight: InFlight) -> Self {
        let pieces = MESSAGE.len().div_ceil(PIECE_BYTES) as u32;
        let gap = over / pieces;
        Self { rest: Bytes::from_static(MESSAGE), gap, next: Box::pin(sleep(gap)), _in_flight: in_flight }
    }
}

impl Body for SlowMessage {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.next.as_mut().poll(cx));
        // Counted from when this piece was due and not from now, so that late wake-ups do not add up.
        let next_due: Instant = self.next.deadline() + self.gap;
        self.next.set(sleep_until(next_due));
        let piece_bytes = PIECE_BYTES.min(self.rest.len());
        let piece = self.rest.split_to(piece_bytes);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
