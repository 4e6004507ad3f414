//! A raw HTTP server on loopback: it reads heads, keeps them, and replies as the test says. Its threads end with the process.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";

/// What to do with a request whose head and body have been read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reply {
    Ok,
    OkAfter(Duration),
    OkAndClose,
    Unavailable,
    /// FIN before any byte.
    Close,
    /// RST before any byte.
    Reset,
    /// RST in the middle of the body.
    ResetDuring,
    /// FIN in the middle of the body.
    Truncate,
    /// FIN before the last chunk.
    TruncateChunks,
    Nonsense,
    /// No response, until the client closes.
    Hang,
}

/// A listening server and what it has seen.
pub(crate) struct Server {
    address: SocketAddr,
    /// Heads and the number of connections, written by the threads of the connections.
    seen: Arc<Mutex<Seen>>,
    /// Kept so that the port stays taken where nobody listens.
    _bound: Option<Socket>,
}

#[derive(Default)]
struct Seen {
    heads: Vec<String>,
    connections: usize,
}

/// A port that is taken and on which nobody listens.
pub(crate) fn refuses() -> Server {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("bound").as_socket().expect("an IP address");
    Server { address, seen: Arc::default(), _bound: Some(socket) }
}

impl Server {
    /// `reply` gets the number of the request, counted from 0 in order of arrival.
    pub(crate) fn start(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (seen, reply) = (Arc::<Mutex<Seen>>::default(), Arc::new(reply));
        let server = Self { address, seen: Arc::clone(&seen), _bound: None };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                seen.lock().expect("not poisoned").connections += 1;
                let (seen, reply) = (Arc::clone(&seen), Arc::clone(&reply));
                // The client may be gone at any time, which ends the connection and is no concern of the server's.
                thread::spawn(move || converse(stream, &seen, &*reply).unwrap_or_default());
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// All heads in order of arrival.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").heads.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().expect("not poisoned").connections
    }
}

/// The value of a header.
pub(crate) fn header(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}

fn converse(mut stream: TcpStream, seen: &Mutex<Seen>, reply: &dyn Fn(usize) -> Reply) -> io::Result<()> {
    while let Some(head) = read_request(&mut stream)? {
        let n = {
            let mut seen = seen.lock().expect("not poisoned");
            seen.heads.push(head);
            seen.heads.len() - 1
        };
        let then_close = |mut stream: TcpStream, text: &str| stream.write_all(text.as_bytes());
        match reply(n) {
            Reply::Ok => stream.write_all(OK.as_bytes())?,
            Reply::OkAfter(pause) => {
                thread::sleep(pause);
                stream.write_all(OK.as_bytes())?;
            }
            Reply::Unavailable => stream
                .write_all(b"HTTP/1.1 503 Service Unavailable\r\noutrigger-attempts: 3\r\ncontent-length: 0\r\n\r\n")?,
            Reply::OkAndClose => {
                return then_close(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nfine");
            }
            Reply::Close => return Ok(()),
            Reply::Truncate => return then_close(stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfi"),
            Reply::TruncateChunks => {
                return then_close(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n");
            }
            Reply::Nonsense => return then_close(stream, "SSH-2.0-OpenSSH_9.9\r\n\r\n"),
            Reply::Reset => return reset(stream),
            Reply::ResetDuring => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfi")?;
                return reset(stream);
            }
            Reply::Hang => return stream.read(&mut [0; 64]).map(drop),
        }
    }
    Ok(())
}

/// Closes with RST instead of FIN.
fn reset(stream: TcpStream) -> io::Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

/// The head of the next request, whose body has been read as well; `None` if the client has closed.
fn read_request(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
    stream.read_exact(&mut vec![0; length])?;
    Ok(Some(head))
}
