//! What follows an answer that begins a tunnel: bytes both ways, and no more HTTP.
//!
//! Either way reads only when what it has read before was taken, so a side that does not read stops the one that writes, and nothing piles up. What came from
//! either side before the tunnel began goes first. The end of one way is handed on, and the other way goes on. Memory is held only for what was not taken at once.
//! How long nothing may pass is decided elsewhere ([`super::io::Progress`]).

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Room for what is read; on the stack.
const READ_BYTES: usize = 8 * 1024;
/// One way lets the other one go on after so many pieces.
const PIECES_MAX: u32 = 16;

/// Both ways.
pub struct Tunnel {
    up: Way,
    down: Way,
}

struct Way {
    /// Read and not yet taken by the other side.
    held: BytesMut,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// More may come.
    Open,
    /// Nothing more comes, which the other side has not been told.
    Ending,
    /// It has.
    Ended,
}

impl Tunnel {
    /// With what has already come from the app and from the endpoint.
    pub fn new(from_app: BytesMut, from_endpoint: BytesMut) -> Tunnel {
        let way = |held| Way { held, stage: Stage::Open };
        Tunnel { up: way(from_app), down: way(from_endpoint) }
    }

    /// Ready when both ways have ended.
    ///
    /// # Errors
    /// One side broke: the other one must not take that for an end.
    pub fn poll<A, E>(&mut self, cx: &mut Context<'_>, app: &mut A, endpoint: &mut E) -> Poll<io::Result<()>>
    where
        A: AsyncRead + AsyncWrite + Unpin,
        E: AsyncRead + AsyncWrite + Unpin,
    {
        let up = self.up.poll(cx, app, endpoint)?;
        let down = self.down.poll(cx, endpoint, app)?;
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

    /// Reads a piece and hands it on; what is not taken at once is held.
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

    /// A tunnel under way, with small pipes on both sides: the app, the endpoint, and how it ends.
    fn open(from_app: &str, from_endpoint: &str) -> (DuplexStream, DuplexStream, JoinHandle<io::Result<()>>) {
        let (app, mut inner) = duplex(64);
        let (endpoint, mut outer) = duplex(64);
        let mut tunnel = Tunnel::new(from_app.into(), from_endpoint.into());
        let passing = async move { std::future::poll_fn(|cx| tunnel.poll(cx, &mut inner, &mut outer)).await };
        (app, endpoint, tokio::spawn(passing))
    }

    /// All that comes; the clock is paused, so who waits for nothing does not wait.
    async fn rest(mut pipe: impl AsyncRead + Unpin) -> String {
        let mut text = String::new();
        let ended = tokio::time::timeout(Duration::from_secs(60), pipe.read_to_string(&mut text)).await;
        ended.expect("an end").expect("an orderly one");
        text
    }

    #[tokio::test(start_paused = true)]
    async fn each_way_has_what_came_early_first_and_ends_for_itself() {
        let (mut app, mut endpoint, passing) = open("early up, ", "early down, ");
        app.write_all(b"late up").await.expect("taken");
        app.shutdown().await.expect("an end");
        let up = rest(&mut endpoint).await;
        endpoint.write_all(b"late down").await.expect("the other way goes on");
        endpoint.shutdown().await.expect("an end");
        assert_eq!((up.as_str(), rest(app).await.as_str()), ("early up, late up", "early down, late down"));
        assert!(passing.await.expect("no panic").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_does_not_read_stops_the_one_that_writes() {
        let (mut app, mut endpoint, _passing) = open("", "");
        let much = "x".repeat(100_000);
        let writing = tokio::spawn(async move {
            let mut taken = 0;
            while taken < much.len() {
                let n = app.write(&much.as_bytes()[taken..]).await.expect("taken");
                taken += n;
            }
            (app, taken)
        });
        endpoint.write_all(b"the other way is open").await.expect("taken");
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert!(!writing.is_finished(), "nobody reads");
        let mut got = vec![0; 100_000];
        endpoint.read_exact(&mut got).await.expect("all of it");
        let (mut app, taken) = writing.await.expect("no panic");
        let mut other = [0; 21];
        app.read_exact(&mut other).await.expect("the other way");
        assert_eq!((taken, &other), (100_000, b"the other way is open"));
    }
}
