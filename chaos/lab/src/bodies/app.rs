//! A client: one exchange after the other, over one connection as long as it lasts. It writes and reads at the same time, so that an early response is seen
//! while the body is still being sent.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use super::endpoint::NUMBER;
use super::script::{Responds, Script};
use super::wire::{self, Wire};

/// Nothing here takes a fraction of it, so whoever waits for so long was forgotten.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// After a connection was refused, as it is while a proxy drains.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// What a client has seen of an exchange.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) number: u64,
    /// `None` if there was no response.
    pub(super) status: Option<u16>,
    /// Whether the response came whole.
    pub(super) is_whole: bool,
    /// The first byte of a response of 2xx that is not its own.
    pub(super) wrong: Option<u64>,
    /// Whether the whole request was taken from the client.
    pub(super) was_taken: bool,
    /// Bytes of the response's body.
    pub(super) got: u64,
    /// Whether it waited in vain.
    pub(super) hung: bool,
}

/// Carries out the exchanges with these numbers.
pub(super) fn run(
    proxy: SocketAddr,
    host: &str,
    numbers: impl Iterator<Item = u64>,
    under_way: &AtomicU64,
) -> Vec<Seen> {
    let (mut seen, mut idle) = (Vec::new(), None);
    for number in numbers {
        let Some(mut wire) = idle.take().or_else(|| connect(proxy)) else {
            thread::sleep(REFUSED_PAUSE);
            continue;
        };
        under_way.fetch_add(1, SeqCst);
        let (exchange, is_reusable) = exchange(&mut wire, host, number);
        under_way.fetch_sub(1, SeqCst);
        seen.push(exchange);
        idle = is_reusable.then_some(wire);
    }
    seen
}

fn connect(proxy: SocketAddr) -> Option<Wire> {
    let stream = TcpStream::connect(proxy).ok()?;
    stream.set_read_timeout(Some(WAIT_MAX)).ok()?;
    stream.set_write_timeout(Some(WAIT_MAX)).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(Wire::new(stream))
}

/// One exchange, and whether its connection can carry another one.
fn exchange(wire: &mut Wire, host: &str, number: u64) -> (Seen, bool) {
    let script = Script::of(number);
    let method = if script.is_post { "POST" } else { "PUT" };
    let start = format!("{method} /{number} HTTP/1.1\r\nhost: {host}\r\n{NUMBER}: {number}\r\n");
    let mut seen = Seen { number, status: None, is_whole: false, wrong: None, was_taken: false, got: 0, hung: false };
    let Ok(writing) = wire.stream().try_clone() else { return (seen, false) };
    let mut closes = true;
    thread::scope(|scope| {
        let writer = scope.spawn(|| wire::write(&writing, &start, &script.request));
        let read = read_response(wire, &script, &mut seen);
        closes = !matches!(read, Ok(false));
        let written = writer.join().expect("a writer does not panic");
        seen.was_taken = written.is_ok();
        let is_late = |error: &std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        seen.hung = written.err().as_ref().is_some_and(is_late) || read.err().as_ref().is_some_and(is_late);
    });
    // After an early response, the proxy's own included, a connection may be closed without having been announced.
    let is_timely = script.responds == Responds::AtEnd && seen.status == Some(200);
    let is_reusable = is_timely && !closes && seen.is_whole && seen.was_taken;
    (seen, is_reusable)
}

/// Reads the response; whether the connection ends with it.
fn read_response(wire: &mut Wire, script: &Script, seen: &mut Seen) -> std::io::Result<bool> {
    let Some(head) = wire.head()? else { return Ok(true) };
    let status = head.status();
    seen.status = Some(status);
    let is_checked = (200..300).contains(&status);
    wire.body(&head, |at, piece| {
        if is_checked && seen.wrong.is_none() {
            seen.wrong = script.response.difference(at, piece);
        }
        seen.got = at + piece.len() as u64;
        Ok(())
    })?;
    seen.is_whole = true;
    Ok(head.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")))
}
