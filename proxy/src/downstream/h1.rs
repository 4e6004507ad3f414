//! A downstream HTTP/1 connection, from its first byte to its last.
//!
//! It serves one request after the other. The connection ends when the client closes it, when it passes a time limit (the worker's tick sets that in its
//! [`Progress`]), when the worker finishes, or when a response breaks off. In the last case the connection is reset, so that no reader takes a part of a
//! response for the whole.

mod connection;
mod sending;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use outrigger_http1::server::Next;

use self::connection::Connection;
use self::sending::{Sent, finish_upload, respond};
use super::progress::{Ending, Phase, Progress};
use super::stream::Http1;
use crate::clock;
use crate::exchange;
use crate::exchange::response::Reply;
use crate::telemetry::events::Event;
use crate::transport::ByteStream;
use crate::worker::connections::{Entry, TICK};
use crate::worker::context::Context;

/// How long an idle connection stays open at the end of a drain. One that was just accepted is about to bring its first request.
const LAST_CHANCE_TICKS: u32 = 2;
/// The response to a head that did not arrive in time. The connection ends with it.
const HEADER_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\nproxy-status: outrigger; error=http_request_error; details=\"header_timeout\"\r\n\r\n";
/// The response to a head that has not come whole when memory is needed for others. The connection ends with it.
const MEMORY_LIMIT: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\nproxy-status: outrigger; error=proxy_internal_error; details=\"memory_limit\"\r\n\r\n";
/// The response to a connection beyond `listen.connections_max`. The acceptor sends it, because the connection never reaches a worker.
pub const CONNECTIONS_MAX: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\nproxy-status: outrigger; error=connection_limit_reached; details=\"connections_max\"\r\n\r\n";
/// How long a client may take to read its last response while it is still sending.
const LINGER: Duration = TICK.saturating_mul(5);
/// How long such a client may read nothing while its response is still in the kernel's send buffer.
const LINGER_STILL_MAX: Duration = Duration::from_secs(10);
/// The rest of a request's body after its response is read up to this, so that the connection can be reused. Beyond it a new connection is cheaper.
const DISCARDED_BYTES_MAX: u64 = 256 * 1024;
/// How long that reading may take.
const DISCARDING_MAX: Duration = Duration::from_secs(10);

/// How serving a connection ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Between two requests.
    Done,
    /// After a head that was no valid request and was refused.
    Refused,
    /// After the last response, while the client may still be sending: the rest of its request, or another one.
    Unread,
    /// In the middle of a request or a response.
    Broken,
}

/// Serves `stream` to its end.
pub async fn serve(context: Rc<Context>, stream: ByteStream) {
    let progress = Rc::new(Progress::new(context.tick()));
    let mut listed = Listed::new(&context, Rc::clone(&progress));
    let connection = Connection::new(&context, stream, Rc::clone(&progress));
    let conn = Rc::clone(&connection.conn);
    let mut serving = Box::pin(serve_requests(connection));
    let end = poll_fn(|cx| {
        listed.entry.remember(cx.waker());
        if !matches!(progress.ending(), None | Some(Ending::Truncated)) {
            return Poll::Ready(None);
        }
        let polled = serving.as_mut().poll(cx);
        let may_begin = progress.phase() == Phase::Idle && progress.ticks_still() < LAST_CHANCE_TICKS;
        if polled.is_ready() || !context.is_finishing() || may_begin || progress.phase() != Phase::Idle {
            return polled.map(Some);
        }
        // Closing while a request or the rest of one arrives would reset the connection, and the client could lose the response.
        Poll::Ready(Some(End::Unread))
    })
    .await;
    (listed.reason, listed.side) = reason(progress.ending(), end);
    // Read before the drop of the exchange changes the phase.
    let is_midway = matches!(progress.phase(), Phase::Exchange | Phase::Body | Phase::Tunnel) || progress.is_blocked();
    drop(serving);
    match progress.ending() {
        Some(Ending::HeaderTimeout) if !is_midway => {
            // Written once, without waiting: the client may be gone or not reading.
            conn.borrow_mut().put_raw(HEADER_TIMEOUT);
            let _ = clock::until(clock::now() + TICK, poll_fn(|cx| conn.borrow_mut().poll_flush(cx))).await;
        }
        Some(Ending::MemoryLimit) if !is_midway => {
            drop(conn.borrow_mut().take_early());
            conn.borrow_mut().put_raw(MEMORY_LIMIT);
            let _ = clock::until(clock::now() + TICK, poll_fn(|cx| conn.borrow_mut().poll_flush(cx))).await;
        }
        // A reader must not take a part of a response for the whole.
        _ if is_midway => conn.borrow().abort(),
        Some(Ending::BodyIdleTimeout(_) | Ending::Truncated | Ending::CutOff | Ending::TunnelIdle) => {
            conn.borrow().abort();
        }
        None if matches!(end, Some(End::Refused | End::Unread)) => {
            linger(&conn, &progress).await;
        }
        None | Some(Ending::Idle | Ending::HeaderTimeout | Ending::MemoryLimit) => {}
    }
}

/// Ends the sending side, and reads until the client ends its own, or has had its time after the last byte of its response: a close before that would reset the
/// connection and take the rest of the response back.
async fn linger(conn: &Http1, progress: &Progress) {
    let is_reading = || {
        let delivery = progress.delivery().filter(|delivery| !delivery.is_complete);
        delivery.is_some_and(|delivery| delivery.still_for < LINGER_STILL_MAX)
    };
    loop {
        let ended = clock::until(clock::now() + LINGER, poll_fn(|cx| conn.borrow_mut().poll_linger(cx))).await;
        if ended.is_some() || progress.ending().is_some() || !is_reading() {
            return;
        }
    }
}

/// Serves the requests of a connection, one after the other.
async fn serve_requests(connection: Connection) -> End {
    let Connection { context, conn, downstream } = &connection;
    let requests_max = context.live().config.listen.requests_max;
    let mut requests = 0;
    loop {
        let head = match poll_fn(|cx| connection.poll_request(cx)).await {
            Next::Request(head) => head,
            Next::End => return End::Done,
            Next::Broken => return End::Broken,
            Next::Refused(why) => {
                let response = exchange::refuse(context, downstream, why);
                return if respond(&connection, response, true).await.is_ok() { End::Refused } else { End::Broken };
            }
        };
        let closes = conn.borrow().traits().closes;
        let reply = {
            let mut exchange = pin!(exchange::run(context, downstream, head));
            poll_fn(|cx| match exchange.as_mut().poll(cx) {
                Poll::Ready(reply) => Poll::Ready(Some(reply)),
                Poll::Pending if connection.has_left(cx) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await
        };
        let response = match reply {
            Some(Reply::Response(response)) => response,
            Some(Reply::Tunnel(tunnel)) => {
                return if tunnel.run().await.is_ok() { End::Done } else { End::Broken };
            }
            None => return End::Broken,
        };
        requests = u32::saturating_add(requests, 1);
        let is_worn_out = requests == requests_max;
        // The client may send its body or not (RFC 9110 §10.1.1). So the bytes that follow are ambiguous, and the connection ends.
        let is_unwanted = conn.borrow().owes_continue();
        let is_last = closes || response.is_last || is_worn_out || is_unwanted;
        let Ok(Sent { uploading, is_open_ended }) = respond(&connection, response, is_last).await else {
            return End::Broken;
        };
        if let Some(uploading) = uploading.filter(|_| !is_unwanted)
            && finish_upload(&connection, uploading).await.is_err()
        {
            return End::Broken;
        }
        let is_last = is_last || is_open_ended;
        if !conn.borrow().has_body_ended() {
            let until = clock::now() + DISCARDING_MAX;
            if is_last || clock::until(until, discard(conn)).await != Some(true) {
                return End::Unread;
            }
            downstream.progress.leave(false);
        }
        if is_last {
            // A client that did not ask for the end may have sent more requests. Closing while they arrive would reset the connection, and it could lose the response.
            return if closes { End::Done } else { End::Unread };
        }
    }
}

/// Reads the rest of a request's body and discards it; whether its end came within the limits.
async fn discard(conn: &Http1) -> bool {
    let mut left = DISCARDED_BYTES_MAX;
    while let Some(frame) = poll_fn(|cx| conn.borrow_mut().poll_body(cx)).await {
        let Ok(frame) = frame else { return false };
        let read = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(rest) = left.checked_sub(read) else { return false };
        left = rest;
    }
    true
}

/// The labels for how a connection ended, and for the side that stopped in the middle of a body, if one did.
fn reason(ending: Option<Ending>, end: Option<End>) -> (&'static str, &'static str) {
    match ending {
        None => match end {
            Some(End::Done | End::Unread) => ("done", ""),
            Some(End::Refused) => ("refused", ""),
            Some(End::Broken) | None => ("broken", ""),
        },
        Some(ending) => ending.words(),
    }
}

/// A connection's entry in its worker's list. Its drop removes the entry, however the task ends.
struct Listed {
    context: Rc<Context>,
    entry: Rc<Entry>,
    reason: &'static str,
    side: &'static str,
}

impl Listed {
    fn new(context: &Rc<Context>, progress: Rc<Progress>) -> Listed {
        let entry = context.connections.enter(progress);
        Listed { context: Rc::clone(context), entry, reason: "aborted", side: "" }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.context.connections.leave(&self.entry, self.context.memory());
        self.context.load().connections.fetch_sub(1, Relaxed);
        if std::thread::panicking() {
            self.reason = "panic";
        }
        self.context.shared.emit(&Event::ConnectionClosed { reason: self.reason, side: self.side });
    }
}
