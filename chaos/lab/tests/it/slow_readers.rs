//! Peers that read slowly and steadily. The kernel's send buffer takes what the proxy writes at once, or tells of room late; neither may look as if the peer stood
//! still, or as if it had all.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use lab::clock::{Stopwatch, pause};
use socket2::{Domain, Socket, Type};

use crate::origin::{OK, Origin, read_head, say};
use crate::stage::{Folder, WAIT_MAX, check_none, config, programs};

/// Much shorter than a transfer takes; bodies are looked at once a second.
const POLICIES: &str = "retry = { max_attempts = 1 }\n\
     timeouts = { request = \"1s\", attempt = \"800ms\", idle_body = \"1s\" }\n";
/// Less than the send buffer of an upload holds, and more than that of a download with a window as small as below.
const BYTES: usize = 2 << 20;
/// A transfer takes at least this long.
const TRANSFER: Duration = Duration::from_secs(4);
const PIECE: usize = 32 * 1024;

/// Reads a body of [`BYTES`] evenly within [`TRANSFER`]; how much came.
fn read_steadily(stream: &mut TcpStream) -> usize {
    let (begun, mut piece, mut read) = (Stopwatch::start(), vec![0; PIECE], 0);
    while read < BYTES {
        match stream.read(&mut piece) {
            Ok(n @ 1..) => read += n,
            _ => break,
        }
        let due = TRANSFER.mul_f64(read as f64 / BYTES as f64);
        pause(due.saturating_sub(begun.elapsed()));
    }
    read
}

#[test]
fn an_endpoint_that_takes_an_upload_steadily_is_waited_for() {
    let origin = Origin::new(Arc::new(|_, stream| {
        if read_head(stream).is_some() && read_steadily(stream) == BYTES {
            say(stream, OK);
        }
    }));
    let (programs, folder) = (programs(), Folder::new());
    let path = folder.write("config.toml", &config(&format!("\"{}\"", origin.address), POLICIES));
    let proxy = programs.proxy(&path).unwrap_or_else(|error| panic!("{error}"));
    let mut app = TcpStream::connect(proxy.app).expect("a connection");
    app.set_read_timeout(Some(WAIT_MAX)).expect("a socket");
    let begun = Stopwatch::start();
    write!(app, "POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: {BYTES}\r\n\r\n").expect("there is room");
    app.write_all(&vec![b'x'; BYTES]).expect("the proxy reads");
    let head = read_head(&mut app).expect("a response");
    assert!(head.starts_with("HTTP/1.1 200 "), "after {:?}: {head}", begun.elapsed());
    check_none(&proxy, "outrigger_breaker_transitions_total", &[]);
}

#[test]
fn an_app_that_reads_a_response_steadily_gets_all_of_it() {
    let origin = Origin::new(Arc::new(|_, stream| {
        if read_head(stream).is_some() {
            say(stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 4 * BYTES));
            say(stream, &"x".repeat(4 * BYTES));
        }
    }));
    let (programs, folder) = (programs(), Folder::new());
    let path = folder.write("config.toml", &config(&format!("\"{}\"", origin.address), POLICIES));
    let proxy = programs.proxy(&path).unwrap_or_else(|error| panic!("{error}"));
    let app = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // A kernel asks for more when a share of its buffer is free, so a large one makes a steady reader look like one that reads now and then.
    app.set_recv_buffer_size(64 * 1024).expect("a socket");
    app.connect(&proxy.app.into()).expect("a connection");
    let mut app = TcpStream::from(app);
    app.set_read_timeout(Some(WAIT_MAX)).expect("a socket");
    write!(app, "GET / HTTP/1.1\r\nhost: backend\r\nconnection: close\r\n\r\n").expect("there is room");
    read_head(&mut app).expect("a response");
    let (mut read, mut rest) = (read_steadily(&mut app), Vec::new());
    // The rest at once: by then the proxy has long had to judge.
    read += app.read_to_end(&mut rest).expect("a clean end");
    assert_eq!(read, 4 * BYTES);
    check_none(&proxy, "outrigger_connections_closed_total", &[("reason", "body_idle_timeout")]);
}
