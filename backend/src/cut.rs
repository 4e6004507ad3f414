//! Responses that break off, written on the bare socket.
//!
//! hyper keeps what it promises: it will neither send half of an announced body on purpose nor reset a connection. So
//! for these fates the service fails with a [`Cut`], hyper gives up on the connection without writing anything, and the
//! task that owns the connection takes the socket back and carries the cut out here. The rest of the connection's life
//! (keep-alive, pipelining, `100 Continue`) stays with hyper.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the client may take to close its side after a truncated response. Closing with unread bytes in the socket
/// would turn the clean end into a reset.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// How the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A reset, with nothing sent.
    ResetBefore,
    /// Half of the body, then a reset.
    ResetDuring,
    /// Half of the body, then a clean end.
    Truncate,
}

/// The order to end a connection; the service's error.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection is to end by {ending:?}")]
pub(crate) struct Cut {
    pub(crate) ending: Ending,
    /// Arrival number of the request.
    pub(crate) seq: u64,
    /// What a whole response would carry.
    pub(crate) body: &'static [u8],
    /// A response to HEAD has no body that could be cut: its head is sent whole.
    pub(crate) is_head: bool,
}

impl Cut {
    /// Ends the connection. Every request before this one has been answered and flushed.
    pub(crate) async fn carry_out(self, mut stream: TcpStream) -> io::Result<()> {
        match self.ending {
            Ending::ResetBefore => reset(stream),
            Ending::ResetDuring => {
                stream.write_all(&self.half_response()).await?;
                reset(stream)
            }
            Ending::Truncate => {
                stream.write_all(&self.half_response()).await?;
                close(stream).await
            }
        }
    }

    fn half_response(self) -> Vec<u8> {
        let body_bytes = self.body.len();
        let sent = if self.is_head { 0 } else { body_bytes / 2 };
        let mut response = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-backend-seq: {}\r\ncontent-length: {body_bytes}\r\n\r\n",
            self.seq
        )
        .into_bytes();
        response.extend_from_slice(&self.body[..sent]);
        response
    }
}

/// A socket that lingers for no time is closed by RST. What was written before is on the wire already, since the socket
/// has no Nagle delay, and a receiver reads it before it learns of the reset.
fn reset(stream: TcpStream) -> io::Result<()> {
    stream.set_zero_linger()
}

async fn close(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    let drain = async {
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    // A client that keeps its side open any longer gets the reset it risks.
    timeout(LINGER_MAX, drain).await.unwrap_or(Ok(()))
}
