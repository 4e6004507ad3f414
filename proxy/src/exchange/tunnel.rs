//! An exchange that goes on as a tunnel: what it holds, until both sides have ended.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;

use outrigger_http1::head::ResponseHead;
use outrigger_http1::tunnel;
use outrigger_policy::balance::Lease;
use outrigger_policy::call::Admission;

use super::record::Record;
use crate::upstream::endpoint::Target;
use crate::upstream::stream::Stream;

/// A tunnel that its endpoint has agreed to. The connection to the endpoint ends with it, whatever comes of it: no exchange follows.
pub struct Tunnel {
    head: ResponseHead,
    stream: Stream,
    record: Box<Record>,
    /// Both sides have said that nothing more comes.
    is_whole: bool,
    _held: (Lease<Target>, Option<Admission>),
}

impl Tunnel {
    pub(super) fn new(
        head: ResponseHead,
        (stream, lease): (Stream, Lease<Target>),
        record: Box<Record>,
        admission: Option<Admission>,
    ) -> Tunnel {
        record.context.begin_tunnel();
        Tunnel { head, stream, record, is_whole: false, _held: (lease, admission) }
    }

    /// Hands the response down, and then bytes both ways.
    ///
    /// # Errors
    /// One side broke. So the other one is reset, as both are when this is dropped midway: neither may take it for an end.
    pub async fn run(mut self) -> io::Result<()> {
        let downstream = Rc::clone(&self.record.downstream);
        let downstream = &downstream.stream;
        downstream.begin_tunnel(&self.head);
        poll_fn(|cx| downstream.poll_flush(cx)).await?;
        let mut tunnel = tunnel::Tunnel::new(downstream.take_early(), self.stream.take_early());
        poll_fn(|cx| self.stream.poll_tunnel(cx, &mut tunnel, downstream)).await?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.record.context.end_tunnel();
        if !self.is_whole {
            self.stream.abort();
            self.record.downstream.stream.abort();
        }
    }
}
