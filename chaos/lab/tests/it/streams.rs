//! Bodies far larger than any buffer, both ways: they arrive whole, and the proxy keeps no more of them than its buffers hold.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use lab::programs::Proxy;

use crate::origin::{Origin, read_head};
use crate::stage::{Folder, WAIT_MAX, config, programs};

/// Each way, ten gibibytes in all: what grows with a body shows long before.
const BYTES: u64 = 5 << 30;
const PIECE: usize = 1 << 16;
/// Two buffers each way, what allocators keep, and the noise of a process: two orders of magnitude below a body.
const GROWTH_MAX: u64 = 8 << 20;

/// A body from any place on: each byte is its place modulo a prime, so that what is lost, doubled or moved is seen.
struct Body(Vec<u8>);

impl Body {
    const PERIOD: usize = 251;

    fn new() -> Self {
        Self((0..PIECE + Self::PERIOD).map(|at| (at % Self::PERIOD) as u8).collect())
    }

    fn piece(&self, from: u64, bytes: usize) -> &[u8] {
        let begin = (from % Self::PERIOD as u64) as usize;
        &self.0[begin..begin + bytes]
    }
}

fn send(stream: &mut TcpStream) {
    let (body, mut sent) = (Body::new(), 0);
    while sent < BYTES {
        stream.write_all(body.piece(sent, PIECE)).expect("somebody reads");
        sent += PIECE as u64;
    }
}

fn receive(stream: &mut TcpStream) {
    let (body, mut received, mut piece) = (Body::new(), 0, vec![0; PIECE]);
    while received < BYTES {
        let n = stream.read(&mut piece).expect("somebody sends");
        assert_ne!(n, 0, "it ends after {received} bytes");
        assert!(piece[..n] == *body.piece(received, n), "it is not as it was sent, from {received} on");
        received += n as u64;
    }
}

fn connected(proxy: &Proxy, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.app).expect("a connection");
    stream.set_read_timeout(Some(WAIT_MAX)).expect("a socket");
    stream.write_all(head.as_bytes()).expect("somebody reads");
    stream
}

#[test]
fn ten_gibibytes_take_no_more_memory_than_the_buffers() {
    let origin = Origin::new(Arc::new(|_, stream| {
        while let Some(head) = read_head(stream) {
            if head.starts_with("POST") {
                receive(stream);
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("somebody reads");
            } else {
                stream
                    .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n").as_bytes())
                    .expect("somebody reads");
                send(stream);
            }
        }
    }));
    let (programs, folder) = (programs(), Folder::new());
    let text = config(&format!("\"{}\"", origin.address), "");
    let proxy = programs.proxy(&folder.write("config.toml", &text)).unwrap_or_else(|error| panic!("{error}"));
    let before = proxy.process.resident_bytes();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = connected(&proxy, "GET / HTTP/1.1\r\nhost: backend\r\n\r\n");
            read_head(&mut stream).expect("a response");
            receive(&mut stream);
        });
        scope.spawn(|| {
            let head = format!("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: {BYTES}\r\n\r\n");
            let mut stream = connected(&proxy, &head);
            send(&mut stream);
            assert!(read_head(&mut stream).expect("a response").starts_with("HTTP/1.1 204 "));
        });
    });
    let grown = proxy.process.peak_resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes");
}
