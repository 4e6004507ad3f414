//! The door: a connection of the app, from its first byte to its last.
//!
//! hyper parses and frames; this file owns the connection's life. It ends when the app closes it, when a limit is passed (the worker's tick says so through
//! [`Progress`]), when the worker finishes, or when an answer broke off: then the connection is reset, so that no reader can take half an answer for
//! a whole one.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use super::inspected::{Inspected, Verdict};
use super::io::{Ending, Phase, Progress, Stream, Watched};
use super::strict::Limits;
use crate::clock::{self, Alarm};
use crate::config;
use crate::events::Event;
use crate::exchange;
use crate::worker::{Connection, TICK, Worker};

/// hyper's own limit, for which it parses on the stack; any other costs an allocation a request.
const HYPER_HEADERS_MAX: usize = 100;
/// At the end of a drain a connection without a request is closed when it has been still for so long: one that was just accepted is about to bring its first.
const LAST_CHANCE_TICKS: u32 = 2;
/// hyper allows no smaller buffer.
const HYPER_BUFFER_MIN: usize = 8 * 1024;
/// Said to a caller whose head did not come in time; then the connection ends.
const SLOW_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\nproxy-status: outrigger; error=http_request_error; details=\"slow_head\"\r\n\r\n";
/// Said to a caller beyond the last place; by the acceptor, which has no worker to hand it to.
pub const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\nproxy-status: outrigger; error=connection_limit_reached; details=\"connections_max\"\r\n\r\n";

/// A connection of the app, as its requests see it.
pub struct Caller {
    /// Where it is served.
    pub worker: Rc<Worker>,
    /// How far it has come.
    pub progress: Arc<Progress>,
    /// For the deadlines of its requests; it has one at a time.
    pub alarm: Alarm,
    /// Which of its requests is refused.
    pub verdict: Rc<Verdict>,
}

/// Serves `stream` to its end.
pub async fn serve(worker: Rc<Worker>, stream: Stream) {
    let progress = Arc::new(Progress::new(worker.tick()));
    let mut enlisted = Enlisted::new(&worker, Arc::clone(&progress));
    let listen = worker.live().config.listen.clone();
    let verdict = Rc::new(Verdict::default());
    let watched = Watched::new(stream, Arc::clone(&progress));
    let io = TokioIo::new(Inspected::new(watched, limits(&listen), Rc::clone(&verdict)));
    let caller = Rc::new(Caller {
        worker: Rc::clone(&worker),
        progress: Arc::clone(&progress),
        alarm: Alarm::default(),
        verdict: Rc::clone(&verdict),
    });
    let door = service_fn(move |request| exchange::run(Rc::clone(&caller), request));
    let mut builder = http1::Builder::new();
    // A head that came this far is within the limits; hyper needs room for a byte more.
    builder.max_buf_size((2 * listen.head_bytes_max).max(HYPER_BUFFER_MIN));
    if listen.headers_max != HYPER_HEADERS_MAX {
        builder.max_headers(listen.headers_max);
    }
    let mut connection = builder.serve_connection(io, door);
    let mut is_told_to_finish = false;
    let result = std::future::poll_fn(|cx| {
        enlisted.connection.waker.replace(Some(cx.waker().clone()));
        if progress.ending() != Ending::None && progress.ending() != Ending::Truncated {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut connection).poll(cx);
        let may_begin = progress.phase() == Phase::Idle && progress.ticks_still() < LAST_CHANCE_TICKS;
        if polled.is_ready() || !worker.is_finishing() || is_told_to_finish || may_begin {
            return polled;
        }
        is_told_to_finish = true;
        Pin::new(&mut connection).graceful_shutdown();
        Pin::new(&mut connection).poll(cx)
    })
    .await;
    enlisted.reason = if verdict.is_refused() { "refused" } else { reason(progress.ending(), &result) };
    // Read before the connection is taken apart, which ends whatever is under way on it.
    let is_midway = matches!(progress.phase(), Phase::Exchange | Phase::Body) || progress.is_blocked();
    let mut io = connection.into_parts().io.into_inner().into_inner();
    if verdict.is_refused() && !is_midway {
        // Closing with unread bytes would take our answer back before it is read.
        let _ = clock::until(clock::now() + TICK, tokio::io::copy(&mut io, &mut tokio::io::sink())).await;
    }
    match progress.ending() {
        Ending::SlowHead if !is_midway => {
            // One try: the caller may be gone, or not read; then there is nobody to tell.
            let _ = clock::until(clock::now() + TICK, io.write_all(SLOW_HEAD)).await;
        }
        // A reader must not take a part of an answer for the whole.
        _ if is_midway => io.abort(),
        Ending::EndpointStalled | Ending::CallerStalled | Ending::Truncated | Ending::CutOff => io.abort(),
        Ending::None | Ending::Idle | Ending::SlowHead => {}
    }
}

fn limits(listen: &config::Listen) -> Limits {
    let head_bytes = listen.head_bytes_max;
    let line = Limits::default().first_line_bytes.min(head_bytes);
    let fields = u32::try_from(listen.headers_max).unwrap_or(u32::MAX);
    Limits { first_line_bytes: line, field_bytes: line, head_bytes, fields, ..Limits::default() }
}

/// The word for how a connection ended.
fn reason(ending: Ending, result: &hyper::Result<()>) -> &'static str {
    match ending {
        Ending::None => result.as_ref().map_or("broken", |()| "done"),
        Ending::Idle => "idle",
        Ending::SlowHead => "slow_head",
        Ending::EndpointStalled => "endpoint_stalled",
        Ending::CallerStalled => "caller_stalled",
        Ending::Truncated => "truncated",
        Ending::CutOff => "cut_off",
    }
}

/// A connection's place in its worker's list; given up however its task ends.
struct Enlisted {
    worker: Rc<Worker>,
    number: u64,
    connection: Rc<Connection>,
    reason: &'static str,
}

impl Enlisted {
    fn new(worker: &Rc<Worker>, progress: Arc<Progress>) -> Enlisted {
        let (number, connection) = worker.enlist(progress);
        Enlisted { worker: Rc::clone(worker), number, connection, reason: "aborted" }
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        self.worker.delist(self.number);
        if std::thread::panicking() {
            self.reason = "panic";
        }
        self.worker.shared.tell(&Event::ConnectionClosed(self.reason));
    }
}
