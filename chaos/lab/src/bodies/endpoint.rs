//! The endpoint: a server that does what each exchange's script says, and notes every byte that arrives.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use socket2::{Domain, Socket, Type};

use super::script::{Body, Responds, Script};
use super::wire::{self, Head, Wire};

/// Carries the number of the exchange.
pub(super) const NUMBER: &str = "x-exchange";
/// Small, so that a proxy soon holds bytes that it cannot pass on.
const BUFFER_BYTES: usize = 16 * 1024;
/// What an endpoint that stops reading has read.
const STOPS_AFTER: u64 = 20_000;

/// A server on a free port of loopback. It runs until the process ends.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
}

/// What has arrived, at all endpoints that share this.
#[derive(Debug, Default)]
pub struct Ledger {
    received: Mutex<BTreeMap<u64, Received>>,
    open: AtomicU64,
}

/// What has arrived of one exchange.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    /// How often its head came.
    pub(super) times: u32,
    /// The most bytes of its body that came at once.
    pub(super) bytes: u64,
    /// Whether its body came to its end.
    pub(super) is_whole: bool,
    /// The first byte that is not its own.
    pub(super) wrong: Option<u64>,
}

impl Ledger {
    /// Requests of which an endpoint still reads.
    pub(super) fn open(&self) -> u64 {
        self.open.load(SeqCst)
    }

    pub(super) fn received(&self) -> BTreeMap<u64, Received> {
        self.entries().clone()
    }

    fn note(&self, number: u64, note: impl FnOnce(&mut Received)) {
        note(self.entries().entry(number).or_default());
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, Received>> {
        // Each entry is whole after each note.
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint {
    /// Starts one that notes in `ledger`.
    ///
    /// # Errors
    /// No port or no thread is to be had.
    pub fn start(ledger: &Arc<Ledger>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Before it listens, for the connections to inherit it.
        socket.set_recv_buffer_size(BUFFER_BYTES)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(128)?;
        let listener = TcpListener::from(socket);
        let (address, ledger) = (listener.local_addr()?, Arc::clone(ledger));
        thread::Builder::new().spawn(move || {
            for stream in listener.incoming().flatten() {
                let ledger = Arc::clone(&ledger);
                thread::spawn(move || serve(stream, &ledger));
            }
        })?;
        Ok(Self { address })
    }
}

/// Serves a connection to its end, whoever ends it: what was noted until then is what counts.
fn serve(stream: TcpStream, ledger: &Ledger) {
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(stream);
    while let Ok(Some(head)) = wire.head() {
        let number = head.field(NUMBER).and_then(|number| number.parse().ok());
        let Some(number) = number else { return };
        ledger.open.fetch_add(1, SeqCst);
        let goes_on = exchange(&mut wire, &head, number, ledger);
        ledger.open.fetch_sub(1, SeqCst);
        if !matches!(goes_on, Ok(true)) {
            return;
        }
    }
}

/// One exchange; whether another one may follow.
fn exchange(wire: &mut Wire, head: &Head, number: u64, ledger: &Ledger) -> io::Result<bool> {
    let (script, mut times) = (Script::of(number), 0);
    ledger.note(number, |received| {
        received.times += 1;
        times = received.times;
    });
    match script.responds {
        Responds::RefusesAtFirst if times == 1 => {
            respond(wire, "503 Service Unavailable", &Body { length: 0, ..script.response })?;
            receive(wire, head, number, ledger, u64::MAX)?;
        }
        Responds::AtEnd | Responds::RefusesAtFirst => {
            receive(wire, head, number, ledger, u64::MAX)?;
            respond(wire, "200 OK", &script.response)?;
        }
        Responds::AtHead => {
            respond(wire, "200 OK", &script.response)?;
            receive(wire, head, number, ledger, u64::MAX)?;
        }
        Responds::AtHeadAndStops => {
            respond(wire, "200 OK", &script.response)?;
            receive(wire, head, number, ledger, STOPS_AFTER)?;
            return Ok(false);
        }
    }
    Ok(true)
}

fn respond(wire: &Wire, status: &str, body: &Body) -> io::Result<()> {
    wire::write(wire.stream(), &format!("HTTP/1.1 {status}\r\n"), body)
}

/// Reads the body to its end, or up to `most` bytes of it.
fn receive(wire: &mut Wire, head: &Head, number: u64, ledger: &Ledger, most: u64) -> io::Result<()> {
    let script = Script::of(number);
    wire.body(head, |at, piece| {
        wire::pause(script.reading_pause);
        let end = at + piece.len() as u64;
        ledger.note(number, |received| {
            received.bytes = received.bytes.max(end);
            received.wrong = received.wrong.or_else(|| script.request.difference(at, piece));
        });
        if end > most { Err(io::Error::other("enough")) } else { Ok(()) }
    })?;
    ledger.note(number, |received| received.is_whole |= received.bytes == script.request.length);
    Ok(())
}
