//! An upstream that does to each connection what a test says, byte by byte, until it is healed: what no well-behaved server can be made to do.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

/// What is done with the n-th connection (from 0); it is closed afterwards.
pub(crate) type Script = Arc<dyn Fn(usize, &mut TcpStream) + Send + Sync>;

/// What a healthy one sends.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// Runs until the test's process ends; a thread that waits in `accept` cannot be ended otherwise.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    is_healthy: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    /// `None` as soon as somebody accepts.
    absent: Arc<Mutex<Option<Absent>>>,
    script: Script,
}

/// Why nobody accepts.
enum Absent {
    /// Nobody listens at what this has bound.
    Nobody(Socket),
    /// The listener's queue is full of these.
    Full(TcpListener, Vec<TcpStream>),
}

impl Origin {
    /// On any free port.
    pub(crate) fn new(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let origin = Self::at(listener.local_addr().expect("its address"), None, script);
        origin.listen(listener);
        origin
    }

    /// It has a port and does not listen there until it is healed.
    pub(crate) fn refusing() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("its address");
        Self::at(address, Some(Absent::Nobody(socket)), Arc::new(|_, _| {}))
    }

    /// A listener that nobody accepts from, behind a queue that has no room.
    pub(crate) fn full(listener: TcpListener, queue: Vec<TcpStream>) -> Self {
        let address = listener.local_addr().expect("its address");
        Self::at(address, Some(Absent::Full(listener, queue)), Arc::new(|_, _| {}))
    }

    fn at(address: SocketAddr, absent: Option<Absent>, script: Script) -> Self {
        let absent = Arc::new(Mutex::new(absent));
        Self { address, is_healthy: Arc::default(), connections: Arc::default(), absent, script }
    }

    fn listen(&self, listener: TcpListener) {
        let origin = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let origin = origin.clone();
                thread::spawn(move || origin.serve(stream));
            }
        });
    }

    fn serve(&self, mut stream: TcpStream) {
        let n = self.connections.fetch_add(1, SeqCst);
        if !self.is_healthy.load(SeqCst) {
            return (self.script)(n, &mut stream);
        }
        while read_head(&mut stream).is_some() && stream.write_all(OK.as_bytes()).is_ok() {}
    }

    /// From the next connection on it responds as it should.
    pub(crate) fn heal(&self) {
        self.is_healthy.store(true, SeqCst);
        match self.absent.lock().expect("nobody panics with it").take() {
            None => {}
            Some(Absent::Nobody(socket)) => {
                socket.listen(64).expect("it is bound");
                self.listen(socket.into());
            }
            Some(Absent::Full(listener, queue)) => {
                drop(queue);
                self.listen(listener);
            }
        }
    }

    /// How many there have been.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

/// Reads one head, byte by byte, so that nothing behind it is taken; `None` at the end.
pub(crate) fn read_head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Writes what the proxy may no longer be there to read.
pub(crate) fn say(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}

/// Reads until the proxy closes, however that is.
pub(crate) fn wait_for_end(stream: &mut TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let mut piece = [0; 16 * 1024];
    while matches!(stream.read(&mut piece), Ok(1..)) {}
}

/// The close that follows will be a reset.
pub(crate) fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a socket");
}
