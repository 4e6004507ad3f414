//! What follows a response that begins a tunnel (RFC 9110 §7.8, §9.3.6): bytes both ways, and no more HTTP.
//!
//! Each direction reads only when it has written what it read before. So a side that does not read stops the other one from writing, and nothing piles up.
//! Bytes that came from either side before the tunnel began go first. The end of one direction is passed on, and the other direction goes on. The tunnel holds
//! memory only for bytes that were not accepted at once. It has no time limit; its user has to add one.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Room for what is read; on the stack.
const READ_BYTES: usize = 8 * 1024;
/// After this many pieces one direction lets the other one go on.
const PIECES_MAX: u32 = 16;

/// A tunnel between two streams.
pub struct Tunnel {
    up: Way,
    down: Way,
}

struct Way {
    /// Bytes that were read and that the other side has not accepted yet.
    held: BytesMut,
    /// Whether a byte has come.
    has_come: bool,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// More may come.
    Open,
    /// The end was read, and is not passed on yet.
    Ending,
    /// The end was passed on.
    Ended,
}

impl Tunnel {
    /// A tunnel that begins with what has already been read from either side.
    pub fn new(from_downstream: BytesMut, from_upstream: BytesMut) -> Tunnel {
        let way = |held: BytesMut| Way { has_come: !held.is_empty(), held, stage: Stage::Open };
        Tunnel { up: way(from_downstream), down: way(from_upstream) }
    }

    /// Whether a byte has come from upstream.
    pub fn has_response(&self) -> bool {
        self.down.has_come
    }

    /// Passes bytes; ready when both directions have ended.
    ///
    /// # Errors
    /// One side failed. The other one must be aborted, so that its peer does not take the failure for an end.
    pub fn poll<D, U>(&mut self, cx: &mut Context<'_>, downstream: &mut D, upstream: &mut U) -> Poll<io::Result<()>>
    where
        D: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        let up = self.up.poll(cx, downstream, upstream)?;
        let down = self.down.poll(cx, upstream, downstream)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Way {
    fn poll<F, T>(&mut self, cx: &mut Context<'_>, from: &mut F, to: &mut T) -> Poll<io::Result<()>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        for _ in 0..PIECES_MAX {
            ready!(self.poll_give(cx, to))?;
            match self.stage {
                Stage::Open => {}
                Stage::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.stage = Stage::Ended;
                }
                Stage::Ended => return Poll::Ready(Ok(())),
            }
            if self.stage == Stage::Open {
                ready!(self.poll_take(cx, from, to))?;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what is held.
    fn poll_give(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
            if self.held.is_empty() {
                self.held = BytesMut::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads a piece and passes it on. What the other side does not accept at once is held.
    fn poll_take<F, T>(&mut self, cx: &mut Context<'_>, from: &mut F, to: &mut T) -> Poll<io::Result<()>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(from).poll_read(cx, &mut room))?;
        let piece = room.filled();
        if piece.is_empty() {
            self.stage = Stage::Ending;
            return Poll::Ready(Ok(()));
        }
        self.has_come = true;
        let written = match Pin::new(to).poll_write(cx, piece)? {
            Poll::Ready(written) => written,
            Poll::Pending => 0,
        };
        self.held.extend_from_slice(&piece[written..]);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    /// A tunnel under way, with small pipes on both sides: both ends, and how it ends.
    fn open(from_downstream: &str, from_upstream: &str) -> (DuplexStream, DuplexStream, JoinHandle<io::Result<()>>) {
        let (downstream, mut inner) = duplex(64);
        let (upstream, mut outer) = duplex(64);
        let mut tunnel = Tunnel::new(from_downstream.into(), from_upstream.into());
        let task = async move { std::future::poll_fn(|cx| tunnel.poll(cx, &mut inner, &mut outer)).await };
        (downstream, upstream, tokio::spawn(task))
    }

    /// All that comes; the clock is paused, so a timeout costs no time.
    async fn rest(mut pipe: impl AsyncRead + Unpin) -> String {
        let mut text = String::new();
        let ended = tokio::time::timeout(Duration::from_secs(60), pipe.read_to_string(&mut text)).await;
        ended.expect("an end").expect("an orderly one");
        text
    }

    #[tokio::test(start_paused = true)]
    async fn each_way_has_what_came_early_first_and_ends_for_itself() {
        let (mut downstream, mut upstream, task) = open("early up, ", "early down, ");
        downstream.write_all(b"late up").await.expect("taken");
        downstream.shutdown().await.expect("an end");
        let up = rest(&mut upstream).await;
        upstream.write_all(b"late down").await.expect("the other way goes on");
        upstream.shutdown().await.expect("an end");
        assert_eq!((up.as_str(), rest(downstream).await.as_str()), ("early up, late up", "early down, late down"));
        assert!(task.await.expect("no panic").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_does_not_read_stops_the_one_that_writes() {
        let (mut downstream, mut upstream, _passing) = open("", "");
        let much = "x".repeat(100_000);
        let writing = tokio::spawn(async move {
            let mut taken = 0;
            while taken < much.len() {
                let n = downstream.write(&much.as_bytes()[taken..]).await.expect("taken");
                taken += n;
            }
            (downstream, taken)
        });
        upstream.write_all(b"the other way is open").await.expect("taken");
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert!(!writing.is_finished(), "nobody reads");
        let mut got = vec![0; 100_000];
        upstream.read_exact(&mut got).await.expect("all of it");
        let (mut downstream, taken) = writing.await.expect("no panic");
        let mut other = [0; 21];
        downstream.read_exact(&mut other).await.expect("the other way");
        assert_eq!((taken, &other), (100_000, b"the other way is open"));
    }
}
