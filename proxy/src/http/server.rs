//! The door: a connection of the app, from its first byte to its last.
//!
//! One request after the other is read, exchanged and answered. The connection ends when the app closes it, when a limit is passed (the worker's tick says so through
//! [`Progress`]), when the worker finishes, or when an answer broke off: then the connection is reset, so that no reader can take half an answer for
//! a whole one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use outrigger_http1::encode::{Framing, WrongLength};
use outrigger_http1::server::{Next, OutgoingResponse, ServerConn};

use super::headers;
use super::io::{AppConn, Ending, Phase, Progress, Stream, Watched};
use crate::clock::{self, Alarm};
use crate::events::Event;
use crate::exchange::{self, Answer, BrokenOff, Down, Reply, Unfinished};
use crate::worker::{Connection, TICK, TICKS_PER_LOOK, Worker};

/// At the end of a drain a connection without a request is closed when it has been still for so long: one that was just accepted is about to bring its first.
const LAST_CHANCE_TICKS: u32 = 2;
/// Said to a caller whose head did not come in time; then the connection ends.
const SLOW_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\nproxy-status: outrigger; error=http_request_error; details=\"slow_head\"\r\n\r\n";
/// Said to a caller beyond the last place; by the acceptor, which has no worker to hand it to.
pub const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\nproxy-status: outrigger; error=connection_limit_reached; details=\"connections_max\"\r\n\r\n";
/// How long a caller may take to read its last answer while it is still sending.
const LINGER: Duration = TICK.saturating_mul(5);
/// What is left of a request's body after its answer is read up to this, so that the connection lives on; more is not worth it.
const DISCARDED_BYTES_MAX: u64 = 256 * 1024;
/// And for so long.
const DISCARDING_MAX: Duration = Duration::from_secs(10);

/// A connection of the app, as its requests see it.
pub struct Caller {
    /// Where it is served.
    pub worker: Rc<Worker>,
    /// How far it has come.
    pub progress: Arc<Progress>,
    /// For the deadlines of its requests; it has one at a time.
    pub alarm: Alarm,
    /// Its requests and answers.
    pub conn: Rc<AppConn>,
}

impl Caller {
    /// The next request. The time for a head begins with its first byte, which may have come behind the request before.
    fn poll_request(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut conn = self.conn.borrow_mut();
        let next = conn.poll_request(cx);
        if next.is_pending() && conn.has_partial_head() && self.progress.phase() == Phase::Idle {
            self.progress.enter(Phase::Head);
        }
        next
    }

    /// Whether the caller has gone, while its request is worked on. Meanwhile interim answers go down.
    fn has_left(&self, cx: &mut Context<'_>) -> bool {
        let mut conn = self.conn.borrow_mut();
        if matches!(conn.poll_flush(cx), Poll::Ready(Err(_))) {
            return true;
        }
        // Nobody reads from a caller while the endpoint takes nothing of its body; so it is looked at now and then.
        let is_due = self.progress.ticks_still() >= TICKS_PER_LOOK;
        let is_gone = is_due && !conn.has_body_ended() && conn.is_disconnected(cx);
        drop(conn);
        is_gone || self.poll_gone(cx).is_ready()
    }

    /// Ready when the caller has gone while it had nothing more to say. One that only sends no more still gets its answer.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut conn = self.conn.borrow_mut();
        let gone = conn.poll_disconnected(cx);
        // Nothing wakes the task when a caller goes that sends no more.
        if conn.has_shut_down() {
            self.progress.set_watched();
        }
        gone
    }
}

/// How a connection's requests came to their end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Between two of them.
    Done,
    /// What came is no request; it was answered.
    Refused,
    /// The last answer has gone out, and more may still come: of its request, or another one.
    Unread,
    /// In the middle of something.
    Broken,
}

/// Serves `stream` to its end.
pub async fn serve(worker: Rc<Worker>, stream: Stream) {
    let progress = Arc::new(Progress::new(worker.tick()));
    let mut enlisted = Enlisted::new(&worker, Arc::clone(&progress));
    let limits = worker.live().config.listen.limits;
    let watched = Watched::new(stream, Arc::clone(&progress));
    let conn = Rc::new(RefCell::new(ServerConn::new(watched, limits)));
    let caller = Rc::new(Caller {
        worker: Rc::clone(&worker),
        progress: Arc::clone(&progress),
        alarm: Alarm::default(),
        conn: Rc::clone(&conn),
    });
    let mut talk = Box::pin(converse(caller));
    let end = poll_fn(|cx| {
        enlisted.connection.remember(cx.waker());
        if !matches!(progress.ending(), Ending::None | Ending::Truncated) {
            return Poll::Ready(None);
        }
        let polled = talk.as_mut().poll(cx);
        let may_begin = progress.phase() == Phase::Idle && progress.ticks_still() < LAST_CHANCE_TICKS;
        if polled.is_ready() || !worker.is_finishing() || may_begin || progress.phase() != Phase::Idle {
            return polled.map(Some);
        }
        Poll::Ready(Some(End::Done))
    })
    .await;
    enlisted.reason = reason(progress.ending(), end);
    // Read before the talk is dropped, which ends whatever is under way.
    let is_midway = matches!(progress.phase(), Phase::Exchange | Phase::Body | Phase::Tunnel) || progress.is_blocked();
    drop(talk);
    match progress.ending() {
        Ending::SlowHead if !is_midway => {
            // One try: the caller may be gone, or not read; then there is nobody to tell.
            conn.borrow_mut().put_raw(SLOW_HEAD);
            let _ = clock::until(clock::now() + TICK, poll_fn(|cx| conn.borrow_mut().poll_flush(cx))).await;
        }
        // A reader must not take a part of an answer for the whole.
        _ if is_midway => conn.borrow().abort(),
        Ending::EndpointStalled | Ending::CallerStalled | Ending::Truncated | Ending::CutOff | Ending::TunnelIdle => {
            conn.borrow().abort();
        }
        Ending::None if matches!(end, Some(End::Refused | End::Unread)) => {
            let _ = clock::until(clock::now() + LINGER, poll_fn(|cx| conn.borrow_mut().poll_linger(cx))).await;
        }
        Ending::None | Ending::Idle | Ending::SlowHead => {}
    }
}

/// Answers the requests of `caller`, one after the other.
async fn converse(caller: Rc<Caller>) -> End {
    let conn = &caller.conn;
    let requests_max = caller.worker.live().config.listen.requests_max;
    let mut requests = 0;
    loop {
        let head = match poll_fn(|cx| caller.poll_request(cx)).await {
            Next::Request(head) => head,
            Next::End => return End::Done,
            Next::Broken => return End::Broken,
            Next::Refused(why) => {
                let answer = exchange::refuse(Rc::clone(&caller), why);
                return if reply(&caller, answer, true).await.is_ok() { End::Refused } else { End::Broken };
            }
        };
        let closes = conn.borrow().traits().closes;
        let answer = match unless_gone(&caller, exchange::run(Rc::clone(&caller), head)).await {
            Some(Reply::Answer(answer)) => answer,
            Some(Reply::Tunnel(passage)) => {
                return if passage.run().await.is_ok() { End::Done } else { End::Broken };
            }
            None => return End::Broken,
        };
        requests = u32::saturating_add(requests, 1);
        let is_worn_out = requests == requests_max;
        // Whether its body still comes, nobody can know (RFC 9110 §10.1.1); so nothing can come behind it.
        let is_unwanted = conn.borrow().owes_continue();
        let is_last = closes || answer.is_last || is_worn_out || is_unwanted;
        let Ok(Sent { unfinished, is_open_ended }) = reply(&caller, answer, is_last).await else {
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
            caller.progress.leave(false);
        }
        if is_last {
            // Further requests may be on their way already: a close that meets them would take the answer back.
            return if is_worn_out { End::Unread } else { End::Done };
        }
    }
}

/// The output of `work`, unless the caller leaves before. Meanwhile interim answers go down.
async fn unless_gone<F: Future>(caller: &Caller, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if caller.has_left(cx) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// An answer that has gone out whole.
struct Sent {
    /// What is left of its request's way up.
    unfinished: Option<Unfinished>,
    /// Its end is the connection's.
    is_open_ended: bool,
}

/// Sends an answer. An error if it did not go out whole.
async fn reply(caller: &Caller, answer: Answer, is_last: bool) -> Result<Sent, Cut> {
    let Answer { head, body, .. } = answer;
    let conn = &caller.conn;
    let date = headers::missing_date(&head);
    let date = date.as_ref().map(String::as_bytes);
    let response = OutgoingResponse { head: &head, length: body.length(), date, closes: is_last };
    let framing = conn.borrow_mut().begin_response(&response);
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
                (Poll::Ready(Ok(())) | Poll::Pending, _) => return caller.poll_gone(cx).map(|()| Err(Cut)),
            }
        }
    })
    .await?;
    Ok(Sent { unfinished: sending.unfinished, is_open_ended: framing == Some(Framing::UntilClose) })
}

/// The answer does not go down whole.
struct Cut;

/// An answer's body on its way down.
struct Sending {
    body: Option<Down>,
    unfinished: Option<Unfinished>,
    /// It was not drawn further because there was no room for more.
    wants_room: bool,
}

impl Sending {
    fn new(body: Down, is_wanted: bool) -> Sending {
        if is_wanted {
            return Sending { body: Some(body), unfinished: None, wants_room: false };
        }
        Sending { body: None, unfinished: body.into_unfinished(), wants_room: false }
    }

    /// Stages what there is and room for. Ready when all is staged; with it the exchange is over, and counted.
    fn poll_draw(&mut self, conn: &AppConn, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
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
                self.unfinished = self.body.take().and_then(Down::into_unfinished);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The endpoint broke the answer off: the connection must not end cleanly.
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
async fn discard(conn: &AppConn) -> bool {
    let mut left = DISCARDED_BYTES_MAX;
    while let Some(frame) = poll_fn(|cx| conn.borrow_mut().poll_body(cx)).await {
        let Ok(frame) = frame else { return false };
        let read = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(rest) = left.checked_sub(read) else { return false };
        left = rest;
    }
    true
}

/// The word for how a connection ended.
fn reason(ending: Ending, end: Option<End>) -> &'static str {
    match ending {
        Ending::None => match end {
            Some(End::Done | End::Unread) => "done",
            Some(End::Refused) => "refused",
            Some(End::Broken) | None => "broken",
        },
        Ending::Idle => "idle",
        Ending::SlowHead => "slow_head",
        Ending::EndpointStalled => "endpoint_stalled",
        Ending::CallerStalled => "caller_stalled",
        Ending::Truncated => "truncated",
        Ending::CutOff => "cut_off",
        Ending::TunnelIdle => "tunnel_idle",
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
