//! An exchange that goes on as a tunnel. It keeps its lease and its slot until both sides have ended.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;

use outrigger_http1::head::ResponseHead;
use outrigger_http1::tunnel;
use outrigger_policy::balance::Lease;
use outrigger_policy::call::Admission;
use outrigger_policy::outcome::Class;

use super::record::Record;
use crate::clock;
use crate::upstream::endpoint::Target;
use crate::upstream::stream::Stream;
use crate::worker::connections::note_delivery;

/// A tunnel that the endpoint has agreed to. Its connection to the endpoint ends with it and never goes back to the pool.
pub struct Tunnel {
    head: ResponseHead,
    stream: Stream,
    record: Box<Record>,
    /// Both sides have shut down their sending side.
    is_whole: bool,
    /// Whether the breakers have their results.
    is_settled: bool,
    held: (Lease<Target>, Option<Admission>),
}

impl Tunnel {
    pub(super) fn new(
        head: ResponseHead,
        (stream, lease): (Stream, Lease<Target>),
        record: Box<Record>,
        admission: Option<Admission>,
    ) -> Tunnel {
        record.context.begin_tunnel();
        Tunnel { head, stream, record, is_whole: false, is_settled: false, held: (lease, admission) }
    }

    /// Sends the response downstream, and then bytes in both directions.
    ///
    /// # Errors
    /// One side broke. The other one is then reset, so that it does not take the break for a clean end. Both are reset when this is dropped midway.
    pub async fn run(mut self) -> io::Result<()> {
        let downstream = Rc::clone(&self.record.downstream);
        let (progress, downstream) = (&downstream.progress, &downstream.stream);
        downstream.begin_tunnel(&self.head);
        poll_fn(|cx| downstream.poll_flush(cx)).await?;
        let mut tunnel = tunnel::Tunnel::new(downstream.take_early(), self.stream.take_early());
        poll_fn(|cx| {
            // The endpoint may go on reading from the kernel's buffer although nothing passes here.
            if progress.is_asked() {
                note_delivery(progress, self.stream.delivery());
            }
            let polled = self.stream.poll_tunnel(cx, &mut tunnel, downstream);
            if tunnel.has_response() {
                self.settle_once();
            }
            polled
        })
        .await?;
        self.is_whole = true;
        Ok(())
    }
}

impl Tunnel {
    /// The endpoint's program has sent a byte. To a CONNECT that is its first sign of life, since the kernel accepts connections for a program that hangs. After
    /// an upgrade the head was one, and this changes nothing.
    fn settle_once(&mut self) {
        let Tunnel { record, held: (lease, admission), .. } = self;
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let Some(handle) = record.handle().cloned() else { return };
        record.decide(clock::now(), |cx| {
            lease.settle_breaker(Class::Success, cx);
            if let Some(admission) = admission {
                admission.settle(Class::Success, &handle.policies, cx);
            }
        });
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
