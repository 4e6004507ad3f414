//! An exchange that goes on as a tunnel: what it holds, until both sides have ended.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;

use outrigger_http1::head::ResponseHead;
use outrigger_http1::tunnel::Tunnel;

use super::attempt::Busy;
use super::record::Record;
use crate::http::conn::Conn;

/// A tunnel that its endpoint has agreed to. The connection to the endpoint ends with it, whatever comes of it: no exchange follows.
pub struct Passage {
    head: ResponseHead,
    conn: Conn,
    record: Record,
    /// Both sides have said that nothing more comes.
    is_whole: bool,
    _busy: Busy,
}

impl Passage {
    pub(super) fn new(head: ResponseHead, conn: Conn, busy: Busy, record: Record) -> Passage {
        record.caller.worker.begin_tunnel();
        Passage { head, conn, record, is_whole: false, _busy: busy }
    }

    /// Hands the answer down, and then bytes both ways.
    ///
    /// # Errors
    /// One side broke. So the other one is reset, as both are when this is dropped midway: neither may take it for an end.
    pub async fn run(mut self) -> io::Result<()> {
        let caller = Rc::clone(&self.record.caller);
        let app = &caller.conn;
        app.borrow_mut().begin_tunnel(&self.head);
        poll_fn(|cx| app.borrow_mut().poll_flush(cx)).await?;
        let mut tunnel = Tunnel::new(app.borrow_mut().take_early(), self.conn.take_early());
        poll_fn(|cx| tunnel.poll(cx, app.borrow_mut().stream_mut(), self.conn.stream_mut())).await?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let caller = &self.record.caller;
        caller.worker.end_tunnel();
        if !self.is_whole {
            self.conn.abort();
            caller.conn.borrow().abort();
        }
    }
}
