//! How far the bytes that were written to a stream have come.
//!
//! A write shows only that a send buffer had room, and a send buffer may hold megabytes. So a peer that reads slowly and one that reads nothing look the same
//! until the kernel is asked. For TCP the answer comes from `TCP_INFO`, one system call of a quarter of a microsecond.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, sockopt_impl};

/// How far the bytes that were written to a stream have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Whether the peer has acknowledged everything that was written.
    pub is_complete: bool,
    /// For how long no byte has left for the peer.
    pub still_for: Duration,
}

sockopt_impl!(
    /// The beginning of the kernel's `struct tcp_info`, up to `tcpi_min_rtt`. Linux has had these fields since 4.6, and later versions only append to them.
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    [u32; 38]
);

/// The kernel's `TCP_CLOSE`, the state of a connection after a reset.
const CLOSED: u8 = 7;

impl Delivery {
    /// By the kernel's account of a TCP socket. `None` if no byte is known to have reached the peer, or if none can reach it any more.
    pub(crate) fn over_tcp(socket: &impl AsFd) -> Option<Delivery> {
        let info = getsockopt(socket, TcpInfo).ok()?;
        let [state, ..] = info[0].to_ne_bytes();
        if state == CLOSED {
            return None;
        }
        let [backoff, _options, _scale, _flags] = info[1].to_ne_bytes();
        let (retransmit_micros, unacknowledged_segments, unsent_bytes) = (info[2], info[6], info[36]);
        let since_sent = Duration::from_millis(info[11].into());
        let has_acknowledged = info[30] != 0 || info[31] != 0;
        // What is sent again is no progress. The kernel doubles its timeout each time, so their sum is the time since these bytes were first sent.
        let backoff = if unacknowledged_segments > 0 { backoff.into() } else { 0 };
        let repeating_micros = retransmit_micros - retransmit_micros.checked_shr(backoff).unwrap_or(0);
        // Without the first condition, a sandbox that counts nothing (gVisor) would show progress all the time.
        has_acknowledged.then(|| Delivery {
            is_complete: unacknowledged_segments == 0 && unsent_bytes == 0,
            still_for: since_sent + Duration::from_micros(repeating_micros.into()),
        })
    }
}
