//! An exchange that goes on as a tunnel. It keeps its lease and its slot until both sides have ended.

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

/// A tunnel that the endpoint has agreed to. Its connection to the endpoint ends with it and never goes back to the pool.
pub struct Tunnel {
    head: ResponseHead,
    stream: Stream,
    record: Box<Record>,
    /// Both sides have shut down their sending side.
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

    /// Sends the response downstream, and then bytes in both directions.
    ///
    /// # Errors
    /// One side broke. The other one is then reset, so that it does not take the break for a clean end. Both are reset when this is dropped midway.
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
