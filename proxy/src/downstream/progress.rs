//! How far a downstream connection or exchange has come. The worker's tick reads it and ends what has stood still for too long.
//!
//! Over HTTP/1 an exchange has its connection to itself, so one [`Progress`] serves the connection and its exchanges, one after the other, and a [`Watched`] stream
//! reports every read and write to it. Where many exchanges share a connection, each has its own.

use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use outrigger_http1::transport::{Delivery, Transport};
use outrigger_policy::upload::Side;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::ByteStream;

/// A second, in ticks of the worker. Less is the pace of a network.
const HELD_UP_TICKS: u32 = 10;

/// What the connection or exchange is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Between requests.
    Idle,
    /// A part of a head has arrived.
    Head,
    /// An exchange waits for a response; it has deadlines of its own.
    Exchange,
    /// A response's body is under way.
    Body,
    /// A tunnel: bytes pass in both directions and are not HTTP.
    Tunnel,
}

/// Why the proxy ends the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// No further request came.
    Idle,
    /// A head took too long.
    HeaderTimeout,
    /// A body stood still for too long, because of this side.
    BodyIdleTimeout(Side),
    /// The endpoint broke its body off, and the downstream must not take it for whole.
    Truncated,
    /// The drain is over.
    CutOff,
    /// Nothing has passed through a tunnel for too long.
    TunnelIdle,
    /// The proxy uses as much memory as it may, and others deserve theirs more.
    MemoryLimit,
}

impl Ending {
    /// The labels of the reason, and of the side that stopped in the middle of a body.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Ending::Idle => ("idle", ""),
            Ending::HeaderTimeout => ("header_timeout", ""),
            Ending::BodyIdleTimeout(Side::Endpoint) => ("body_idle_timeout", "upstream"),
            Ending::BodyIdleTimeout(Side::Downstream) => ("body_idle_timeout", "downstream"),
            Ending::Truncated => ("truncated", ""),
            Ending::CutOff => ("cut_off", ""),
            Ending::TunnelIdle => ("tunnel_idle", ""),
            Ending::MemoryLimit => ("memory_limit", ""),
        }
    }
}

/// The progress of a connection or exchange. It belongs to one thread: its own task writes it, and the worker's tick reads it.
pub struct Progress {
    phase: Cell<Phase>,
    ending: Cell<Option<Ending>>,
    /// The worker's tick at the last step forward.
    moved_at: Cell<u32>,
    /// Ticks that a body or a tunnel may stand still; set when it begins.
    body_limit: Cell<u32>,
    /// Memory of a head that has not come whole, in bytes.
    head_bytes: Cell<usize>,
    /// Whether the endpoint had no more of the body at the last poll.
    awaits_endpoint: Cell<bool>,
    /// The worker's tick at which `awaits_endpoint` last changed.
    turned_at: Cell<u32>,
    /// Which side had last kept the other waiting for [`HELD_UP_TICKS`]: whether it was the downstream.
    was_held_up: Cell<bool>,
    /// Whether the network did not accept everything that was to be written, because the downstream does not read.
    is_blocked: Cell<bool>,
    /// Whether a request has not arrived whole yet.
    is_uploading: Cell<bool>,
    /// Whether the downstream has shut down its sending side. Then nothing wakes the task when it disconnects.
    is_watched: Cell<bool>,
    /// Set while the task is to find out how far the bytes for its endpoint have come: the last step forward that was known then.
    asked_at: Cell<Option<u32>>,
    /// The stream of a connection that one exchange has to itself. Its [`Watched`] puts it here and takes it away; the worker's tick only looks at it.
    stream: RefCell<Option<ByteStream>>,
    /// The worker's current tick, shared with the worker. Reading a clock for every packet would cost too much for this accuracy.
    tick: Rc<Cell<u32>>,
}

impl Progress {
    /// For a connection that was just accepted and may wait for its first request.
    pub fn new(tick: Rc<Cell<u32>>) -> Progress {
        Progress {
            phase: Cell::new(Phase::Idle),
            ending: Cell::new(None),
            moved_at: Cell::new(tick.get()),
            body_limit: Cell::new(u32::MAX),
            head_bytes: Cell::new(0),
            awaits_endpoint: Cell::new(false),
            turned_at: Cell::new(tick.get()),
            was_held_up: Cell::new(false),
            is_blocked: Cell::new(false),
            is_uploading: Cell::new(false),
            is_watched: Cell::new(false),
            asked_at: Cell::new(None),
            stream: RefCell::new(None),
            tick,
        }
    }

    /// What the connection or exchange is doing.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Enters a phase, which counts as a step forward.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.moved();
    }

    /// Enters an exchange. `is_uploading`: the request's body is still arriving.
    pub fn enter_exchange(&self, is_uploading: bool) {
        self.is_uploading.set(is_uploading);
        self.enter(Phase::Exchange);
    }

    /// Leaves an exchange. `is_uploading`: the request's body has not arrived whole, so the next bytes are not a head.
    pub fn leave(&self, is_uploading: bool) {
        self.is_uploading.set(is_uploading);
        self.is_watched.set(false);
        self.enter(Phase::Idle);
    }

    /// Makes the worker's tick wake the task until the exchange ends, because nothing else does when the downstream disconnects.
    pub fn set_watched(&self) {
        self.is_watched.set(true);
    }

    /// Whether the worker's tick has to wake the task, so that it checks whether the downstream is still there.
    pub fn is_watched(&self) -> bool {
        self.is_watched.get() || self.is_uploading.get() || self.is_asked()
    }

    /// Notes a step forward.
    pub fn moved(&self) {
        self.moved_at.set(self.tick.get());
    }

    /// Notes a step forward `ticks` ago, unless a later one is known.
    pub fn moved_before(&self, ticks: u32) {
        if ticks < self.ticks_still() {
            self.moved_at.set(self.tick.get().wrapping_sub(ticks));
        }
    }

    /// Ticks since the last step forward.
    pub fn ticks_still(&self) -> u32 {
        self.tick.get().wrapping_sub(self.moved_at.get())
    }

    /// How far what was written to the downstream has come. It costs a system call.
    pub fn delivery(&self) -> Option<Delivery> {
        self.stream.borrow().as_ref()?.delivery()
    }

    /// Sets whether the task is to find out how far the bytes for its endpoint have come. Returns whether that was set before and there was no step forward since.
    pub fn ask(&self, is_asked: bool) -> bool {
        let asked_at = is_asked.then(|| self.moved_at.get());
        self.asked_at.replace(asked_at) == asked_at && is_asked
    }

    /// Whether the task is to find out how far the bytes for its endpoint have come.
    pub fn is_asked(&self) -> bool {
        self.asked_at.get().is_some()
    }

    /// Enters a response's body, which may stand still for `limit_ticks`.
    pub fn enter_body(&self, limit_ticks: u32) {
        self.body_limit.set(limit_ticks);
        self.awaits_endpoint.set(false);
        self.turned_at.set(self.tick.get());
        self.was_held_up.set(false);
        self.enter(Phase::Body);
    }

    /// Enters a tunnel, which may stand still for `limit_ticks`.
    pub fn enter_tunnel(&self, limit_ticks: u32) {
        self.body_limit.set(limit_ticks);
        self.enter(Phase::Tunnel);
    }

    /// Ticks that the body or the tunnel may stand still.
    pub fn body_limit_ticks(&self) -> u32 {
        self.body_limit.get()
    }

    /// Memory of a head that has not come whole, in bytes; it counts in [`Phase::Head`].
    pub fn head_bytes(&self) -> usize {
        self.head_bytes.get()
    }

    /// Notes the memory of a head that has not come whole.
    pub fn set_head_bytes(&self, bytes: usize) {
        self.head_bytes.set(bytes);
    }

    /// Notes whether the endpoint had no more of the body at the last poll.
    pub fn set_awaits_endpoint(&self, awaits: bool) {
        if self.awaits_endpoint.get() != awaits {
            self.was_held_up.set(self.is_held_up());
            self.awaits_endpoint.set(awaits);
            self.turned_at.set(self.tick.get());
        }
    }

    /// Whether the downstream holds the body up, so that the endpoint may have tired of sending it. It does from a second on in which the endpoint had more than was
    /// read. It no longer does when the endpoint was awaited for as long: a shorter wait comes and goes while the buffers of the system are read out, in
    /// which the endpoint's close may stand behind the data.
    pub fn is_held_up(&self) -> bool {
        let ticks = self.tick.get().wrapping_sub(self.turned_at.get());
        if ticks < HELD_UP_TICKS { self.was_held_up.get() } else { !self.awaits_endpoint.get() }
    }

    /// Whether written bytes wait for the downstream to read. This may be so between two requests too, when the end of a response is still in the write buffer.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// The side for which a body that stands still is waiting.
    pub fn awaited_side(&self) -> Side {
        if self.awaits_endpoint.get() { Side::Endpoint } else { Side::Downstream }
    }

    /// Asks for the end of the connection. The first reason stays.
    pub fn end(&self, why: Ending) {
        if self.ending.get().is_none() {
            self.ending.set(Some(why));
        }
    }

    /// Why the connection has to end, if it has to.
    pub fn ending(&self) -> Option<Ending> {
        self.ending.get()
    }

    /// `n` bytes were read; 0 is the end of the stream.
    fn on_read(&self, n: usize) {
        match self.phase() {
            // The time for a head starts with its first byte. Later bytes do not extend it, so a client that sends single bytes gains nothing.
            Phase::Idle if n > 0 && !self.is_uploading.get() => self.enter(Phase::Head),
            // The downstream is still uploading; after an early response too.
            Phase::Body | Phase::Idle | Phase::Tunnel if n > 0 => self.moved(),
            Phase::Idle | Phase::Head | Phase::Exchange | Phase::Body | Phase::Tunnel => {}
        }
    }

    /// `n` bytes were written to the network.
    fn on_write(&self, n: usize) {
        if n > 0 && (self.is_blocked() || matches!(self.phase(), Phase::Body | Phase::Tunnel)) {
            self.is_blocked.set(false);
            self.moved();
        }
    }
}

/// A downstream connection that reports every read and write to its [`Progress`]. Dropping it closes the stream.
pub struct Watched {
    progress: Rc<Progress>,
}

impl Watched {
    /// Wraps `stream`.
    pub fn new(stream: ByteStream, progress: Rc<Progress>) -> Watched {
        progress.stream.replace(Some(stream));
        Watched { progress }
    }

    fn stream(&self) -> RefMut<'_, ByteStream> {
        RefMut::map(self.progress.stream.borrow_mut(), |stream| stream.as_mut().expect("only the drop takes it"))
    }

    fn noting(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Ready(Ok(n)) => self.progress.on_write(*n),
            // The network takes no more bytes for now.
            Poll::Pending => self.progress.is_blocked.set(true),
            Poll::Ready(Err(_)) => {}
        }
        polled
    }
}

impl Transport for Watched {
    fn abort(&self) {
        self.stream().abort();
    }

    fn is_read_closed(&self, cx: &mut Context<'_>) -> bool {
        self.stream().is_read_closed(cx)
    }

    fn has_failed(&self) -> bool {
        self.stream().has_failed()
    }

    fn delivery(&self) -> Option<Delivery> {
        self.progress.delivery()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.progress.stream.take();
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut *self.stream()).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            self.progress.on_read(buf.filled().len() - before);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream()).poll_write(cx, buf);
        self.noting(polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream()).poll_write_vectored(cx, bufs);
        self.noting(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_held_up_from_a_second_unread_until_a_second_of_waiting_for_the_endpoint() {
        let tick = Rc::new(Cell::new(7));
        let progress = Progress::new(Rc::clone(&tick));
        progress.enter_body(u32::MAX);
        // Whether the endpoint was awaited, for how many ticks, and whether the body is held up at the end of them.
        for (awaits, ticks, is_held_up) in [
            (false, 9, false),
            (true, 30, false),
            (false, 9, false),
            (true, 1, false),
            (false, 10, true),
            (true, 9, true),
            (false, 1, true),
            (true, 10, false),
            (false, 9, false),
        ] {
            progress.set_awaits_endpoint(awaits);
            tick.set(tick.get() + ticks);
            assert_eq!(progress.is_held_up(), is_held_up, "awaits {awaits} for {ticks}, at tick {}", tick.get());
            progress.set_awaits_endpoint(awaits); // a further poll changes nothing
        }
        tick.set(tick.get() + 10);
        assert!(progress.is_held_up());
        progress.enter_body(u32::MAX);
        assert!(!progress.is_held_up(), "another body");
    }
}
