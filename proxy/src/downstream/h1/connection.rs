//! One downstream connection: what it sends, and whether it is still there.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context as Cx, Poll};

use outrigger_http1::server::{Next, ServerConn};

use crate::clock::Alarm;
use crate::downstream::progress::{Ending, Phase, Progress, Watched};
use crate::downstream::stream::{Downstream, Http1, Stream};
use crate::memory::{Level, Meter};
use crate::transport::ByteStream;
use crate::worker::connections::TICKS_PER_LOOK;
use crate::worker::context::{Context, SMALL_HEAD};

/// An open connection.
pub(super) struct Connection {
    pub(super) context: Rc<Context>,
    pub(super) conn: Http1,
    /// What each exchange gets, one after the other.
    pub(super) downstream: Rc<Downstream>,
}

impl Connection {
    pub(super) fn new(context: &Rc<Context>, stream: ByteStream, progress: Rc<Progress>) -> Connection {
        let limits = context.live().config.listen.limits;
        let watched = Watched::new(stream, Rc::clone(&progress));
        let mut conn = ServerConn::new(watched, limits);
        conn.set_room(Rc::<Meter>::clone(context.memory()));
        let conn = Rc::new(RefCell::new(conn));
        let stream = Stream::Http1(Rc::clone(&conn));
        let downstream = Rc::new(Downstream { progress, alarm: Alarm::default(), stream });
        Connection { context: Rc::clone(context), conn, downstream }
    }

    /// Polls for the next request. The time limit of a head starts with its first byte, which may have arrived with the request before.
    pub(super) fn poll_request(&self, cx: &mut Cx<'_>) -> Poll<Next> {
        let mut conn = self.conn.borrow_mut();
        let next = conn.poll_request(cx);
        let progress = &self.downstream.progress;
        if next.is_pending() && conn.has_partial_head() {
            if progress.phase() == Phase::Idle {
                progress.enter(Phase::Head);
            }
            progress.set_head_bytes(conn.buffered());
            let is_full = self.context.memory().level() >= Level::Full;
            let left = if is_full { self.context.relieve(Level::Full) } else { Level::Free };
            if left >= Level::Critical && conn.buffered() > SMALL_HEAD {
                // Others that end for it have not freed theirs yet, so this one ends as well, and frees its own at once.
                drop(conn.take_early());
                progress.end(Ending::MemoryLimit);
                cx.waker().wake_by_ref();
            }
        }
        next
    }

    /// Whether the client has disconnected during its exchange. Also writes informational responses that wait.
    pub(super) fn has_left(&self, cx: &mut Cx<'_>) -> bool {
        let is_broken = matches!(self.conn.borrow_mut().poll_flush(cx), Poll::Ready(Err(_)));
        is_broken || self.poll_disconnected(cx).is_ready()
    }

    /// Whether the client has disconnected in the middle of its request. While the endpoint does not read the body, nothing reads from the client, so this checks now
    /// and then.
    pub(super) fn has_left_body(&self, cx: &mut Cx<'_>) -> bool {
        let is_due = self.downstream.progress.ticks_still() >= TICKS_PER_LOOK;
        let mut conn = self.conn.borrow_mut();
        is_due && !conn.has_body_ended() && conn.is_disconnected(cx)
    }

    /// Ready when the client has disconnected, whatever it sent before. A client that only shuts down its sending side still gets its response.
    pub(super) fn poll_disconnected(&self, cx: &mut Cx<'_>) -> Poll<()> {
        let mut conn = self.conn.borrow_mut();
        let progress = &self.downstream.progress;
        let gone = conn.poll_disconnected(cx);
        // Nothing wakes this task when the client closes, so the worker's tick does, and this checks without reading.
        if conn.has_unread() || conn.has_shut_down() {
            progress.set_watched();
        }
        let is_due = progress.ticks_still() >= TICKS_PER_LOOK;
        if gone.is_pending() && is_due && conn.has_unread() && conn.is_disconnected(cx) {
            return Poll::Ready(());
        }
        gone
    }
}
