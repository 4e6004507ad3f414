//! An upstream that sends every connection the same bytes and then ends it: what no well-behaved server can be made to send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Runs until the test's process ends; a thread that waits in `accept` cannot be ended otherwise.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    pub(crate) fn responding(response: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // Recorded before the response goes out, so that a test that has the response sees the head.
                let head = read_head(&mut stream);
                seen.lock().expect("nobody panics with it").push(head);
                // The proxy may have disconnected already.
                let _ = stream.write_all(response.as_bytes());
            }
        });
        Self { address, heads }
    }

    /// The heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("nobody panics with it").clone()
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}
