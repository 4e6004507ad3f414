//! An HTTP/1 connection of the app, from its first byte to its last.
//!
//! One request after the other is read, exchanged and answered. The connection ends when the app closes it, when a limit is passed (the worker's tick says so through
//! [`Progress`]), when the worker finishes, or when a response broke off: then the connection is reset, so that no reader can take half a response for
//! a whole one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context as Cx, Poll, ready};
use std::time::Duration;

use outrigger_http1::encode::{Framing, WrongLength};
use outrigger_http1::head::{Name, ResponseHead};
use outrigger_http1::server::{Next, OutgoingResponse, ServerConn};
use outrigger_policy::upload::Side;

use super::progress::{Ending, Phase, Progress, Watched};
use super::stream::{Downstream, Http1, Stream};
use crate::clock::{self, Alarm};
use crate::exchange;
use crate::exchange::response::{BrokenOff, Reply, Response, ResponseBody, Unfinished};
use crate::telemetry::events::Event;
use crate::transport::ByteStream;
use crate::worker::connections::{Entry, TICK, TICKS_PER_LOOK};
use crate::worker::context::Context;

/// At the end of a drain a connection without a request is closed when it has been still for so long: one that was just accepted is about to bring its first.
const LAST_CHANCE_TICKS: u32 = 2;
/// For a client whose head did not come in time; then the connection ends.
const HEADER_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\nproxy-status: outrigger; error=http_request_error; details=\"header_timeout\"\r\n\r\n";
/// For a client beyond `listen.connections_max`; the acceptor sends it, which has no worker to hand the connection to.
pub const CONNECTIONS_MAX: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\nproxy-status: outrigger; error=connection_limit_reached; details=\"connections_max\"\r\n\r\n";
/// How long a client may take to read its last response while it is still sending.
const LINGER: Duration = TICK.saturating_mul(5);
/// What is left of a request's body after its response is read up to this, so that the connection lives on; more is not worth it.
const DISCARDED_BYTES_MAX: u64 = 256 * 1024;
/// And for so long.
const DISCARDING_MAX: Duration = Duration::from_secs(10);

/// A connection under way.
struct Connection {
    context: Rc<Context>,
    conn: Http1,
    /// What each of its exchanges is given, one after the other.
    downstream: Rc<Downstream>,
}

impl Connection {
    fn new(context: &Rc<Context>, stream: ByteStream, progress: Rc<Progress>) -> Connection {
        let limits = context.live().config.listen.limits;
        let watched = Watched::new(stream, Rc::clone(&progress));
        let conn = Rc::new(RefCell::new(ServerConn::new(watched, limits)));
        let stream = Stream::Http1(Rc::clone(&conn));
        let downstream = Rc::new(Downstream { progress, alarm: Alarm::default(), stream });
        Connection { context: Rc::clone(context), conn, downstream }
    }

    /// The next request. The time for a head begins with its first byte, which may have come behind the request before.
    fn poll_request(&self, cx: &mut Cx<'_>) -> Poll<Next> {
        let mut conn = self.conn.borrow_mut();
        let next = conn.poll_request(cx);
        let progress = &self.downstream.progress;
        if next.is_pending() && conn.has_partial_head() && progress.phase() == Phase::Idle {
            progress.enter(Phase::Head);
        }
        next
    }

    /// Whether the client has gone, while its request is worked on. Meanwhile informational responses go down.
    fn has_left(&self, cx: &mut Cx<'_>) -> bool {
        let mut conn = self.conn.borrow_mut();
        if matches!(conn.poll_flush(cx), Poll::Ready(Err(_))) {
            return true;
        }
        // Nobody reads from a client while the endpoint takes nothing of its body; so it is looked at now and then.
        let is_due = self.downstream.progress.ticks_still() >= TICKS_PER_LOOK;
        let is_gone = is_due && !conn.has_body_ended() && conn.is_disconnected(cx);
        drop(conn);
        is_gone || self.poll_disconnected(cx).is_ready()
    }

    /// Ready when the client has gone while it had nothing more to say. One that only sends no more still gets its response.
    fn poll_disconnected(&self, cx: &mut Cx<'_>) -> Poll<()> {
        let mut conn = self.conn.borrow_mut();
        let gone = conn.poll_disconnected(cx);
        // Nothing wakes the task when a client goes that sends no more.
        if conn.has_shut_down() {
            self.downstream.progress.set_watched();
        }
        gone
    }
}

/// How a connection's requests came to their end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Between two of them.
    Done,
    /// What came is no request, and was refused.
    Refused,
    /// The last response has gone out, and more may still come: of its request, or another one.
    Unread,
    /// In the middle of something.
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
        Poll::Ready(Some(End::Done))
    })
    .await;
    (listed.reason, listed.side) = reason(progress.ending(), end);
    // Read before the task's work is dropped, which ends whatever is under way.
    let is_midway = matches!(progress.phase(), Phase::Exchange | Phase::Body | Phase::Tunnel) || progress.is_blocked();
    drop(serving);
    match progress.ending() {
        Some(Ending::HeaderTimeout) if !is_midway => {
            // One try: the client may be gone, or not read; then there is nobody to tell.
            conn.borrow_mut().put_raw(HEADER_TIMEOUT);
            let _ = clock::until(clock::now() + TICK, poll_fn(|cx| conn.borrow_mut().poll_flush(cx))).await;
        }
        // A reader must not take a part of a response for the whole.
        _ if is_midway => conn.borrow().abort(),
        Some(Ending::BodyIdleTimeout(_) | Ending::Truncated | Ending::CutOff | Ending::TunnelIdle) => {
            conn.borrow().abort();
        }
        None if matches!(end, Some(End::Refused | End::Unread)) => {
            let _ = clock::until(clock::now() + LINGER, poll_fn(|cx| conn.borrow_mut().poll_linger(cx))).await;
        }
        None | Some(Ending::Idle | Ending::HeaderTimeout) => {}
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
        // Whether its body still comes, nobody can know (RFC 9110 §10.1.1); so nothing can come behind it.
        let is_unwanted = conn.borrow().owes_continue();
        let is_last = closes || response.is_last || is_worn_out || is_unwanted;
        let Ok(Sent { unfinished, is_open_ended }) = respond(&connection, response, is_last).await else {
            return End::Broken;
        };
        let is_last = is_last || is_open_ended;
        if !conn.borrow().has_body_ended() {
            if let Some(unfinished) = unfinished.filter(|_| !is_unwanted) {
                unfinished.finish().await;
            }
            let until = clock::now() + DISCARDING_MAX;
            if is_last || clock::until(until, discard(conn)).await != Some(true) {
                return End::Unread;
            }
            downstream.progress.leave(false);
        }
        if is_last {
            // Further requests may be on their way already: a close that meets them would take the response back.
            return if is_worn_out { End::Unread } else { End::Done };
        }
    }
}

/// A response that has gone out whole.
struct Sent {
    /// What is left of its request's way up.
    unfinished: Option<Unfinished>,
    /// Its end is the connection's.
    is_open_ended: bool,
}

/// Sends a response. An error if it did not go out whole.
async fn respond(connection: &Connection, response: Response, is_last: bool) -> Result<Sent, Cut> {
    let Response { head, body, .. } = response;
    let conn = &connection.conn;
    let date = missing_date(&head);
    let date = date.as_ref().map(String::as_bytes);
    let outgoing = OutgoingResponse { head: &head, length: body.length(), date, closes: is_last };
    let framing = conn.borrow_mut().begin_response(&outgoing);
    drop(head);
    let mut sending = Sending::new(body, framing.is_some());
    poll_fn(|cx| {
        loop {
            let drawn = sending.poll_draw(conn, cx);
            let flushed = conn.borrow_mut().poll_flush(cx);
            match (flushed, drawn) {
                (Poll::Ready(Err(_)), _) => return Poll::Ready(Err(Cut)),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
                // What had come before has gone out.
                (Poll::Ready(Ok(())), Poll::Ready(Err(Cut))) => return Poll::Ready(Err(sending.broke_off())),
                (Poll::Ready(Ok(())), Poll::Pending) if sending.wants_room => {}
                (Poll::Ready(Ok(())) | Poll::Pending, _) => {
                    return connection.poll_disconnected(cx).map(|()| Err(Cut));
                }
            }
        }
    })
    .await?;
    Ok(Sent { unfinished: sending.unfinished, is_open_ended: framing == Some(Framing::UntilClose) })
}

/// The `Date` of a response that has none (RFC 9110 §6.6.1).
fn missing_date(head: &ResponseHead) -> Option<String> {
    (!head.fields.has(Name::Date)).then(|| httpdate::fmt_http_date(clock::wall()))
}

/// The response does not go down whole.
struct Cut;

/// A response's body on its way down.
struct Sending {
    body: Option<ResponseBody>,
    unfinished: Option<Unfinished>,
    /// It was not drawn further because there was no room for more.
    wants_room: bool,
}

impl Sending {
    fn new(body: ResponseBody, is_wanted: bool) -> Sending {
        if is_wanted {
            return Sending { body: Some(body), unfinished: None, wants_room: false };
        }
        Sending { body: None, unfinished: body.into_unfinished(), wants_room: false }
    }

    /// Stages what there is and room for. Ready when all is staged; with it the exchange is over, and counted.
    fn poll_draw(&mut self, conn: &Http1, cx: &mut Cx<'_>) -> Poll<Result<(), Cut>> {
        while let Some(body) = &mut self.body {
            self.wants_room = !conn.borrow().has_room();
            if self.wants_room {
                return Poll::Pending;
            }
            let is_whole = match ready!(body.poll_frame(cx)) {
                Some(Err(BrokenOff)) => return Poll::Ready(Err(Cut)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        conn.borrow_mut().push(data)?;
                        body.has_ended() && conn.borrow_mut().end(None).map(|()| true)?
                    }
                    Err(frame) => conn.borrow_mut().end(frame.trailers_ref()).map(|()| true)?,
                },
                None => conn.borrow_mut().end(None).map(|()| true)?,
            };
            if is_whole {
                self.unfinished = self.body.take().and_then(ResponseBody::into_unfinished);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The endpoint broke the response off: the connection must not end cleanly.
    fn broke_off(&mut self) -> Cut {
        if let Some(body) = &mut self.body {
            body.broke_off();
        }
        Cut
    }
}

impl From<WrongLength> for Cut {
    fn from(WrongLength: WrongLength) -> Cut {
        Cut
    }
}

/// Reads the rest of a request's body and forgets it; whether that was worth it.
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

/// The words for how a connection ended, and for the side that stopped in the middle of a body, if one did.
fn reason(ending: Option<Ending>, end: Option<End>) -> (&'static str, &'static str) {
    match ending {
        None => match end {
            Some(End::Done | End::Unread) => ("done", ""),
            Some(End::Refused) => ("refused", ""),
            Some(End::Broken) | None => ("broken", ""),
        },
        Some(Ending::Idle) => ("idle", ""),
        Some(Ending::HeaderTimeout) => ("header_timeout", ""),
        Some(Ending::BodyIdleTimeout(Side::Endpoint)) => ("body_idle_timeout", "upstream"),
        Some(Ending::BodyIdleTimeout(Side::Downstream)) => ("body_idle_timeout", "downstream"),
        Some(Ending::Truncated) => ("truncated", ""),
        Some(Ending::CutOff) => ("cut_off", ""),
        Some(Ending::TunnelIdle) => ("tunnel_idle", ""),
    }
}

/// A connection's place in its worker's list; given up however its task ends.
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
        self.context.connections.leave(&self.entry);
        self.context.load().connections.fetch_sub(1, Relaxed);
        if std::thread::panicking() {
            self.reason = "panic";
        }
        self.context.shared.emit(&Event::ConnectionClosed { reason: self.reason, side: self.side });
    }
}
