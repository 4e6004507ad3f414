//! A client that leaves in the middle of its upload, while its endpoint takes nothing: nobody reads from it then, and yet its going is noticed.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use lab::clock::Deadline;
use lab::programs::Proxy;

use crate::origin::{Origin, read_head, reset, wait_for_end};
use crate::stage::{Folder, check_none, config, programs, wait_until};

/// Nothing else ends a request before this test has given up.
const POLICIES: &str =
    "timeouts = { request = \"5m\", attempt = \"5m\", idle_body = \"5m\" }\nretry = { max_attempts = 1 }\n";
/// More than all buffers on its way hold.
const HEAD: &[u8] = b"POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 1000000000\r\n\r\n";
/// Little enough for the last piece to fit into what the proxy's system takes for it: else the client's end would wait behind bytes that nobody takes.
const PIECE: usize = 16 * 1024;
/// What has not been read for so long is not going to be.
const STUCK: Duration = Duration::from_millis(500);
/// Connections are looked at once a second, and one that has just moved a second later; the rest is for a busy machine.
const NOTICED: Duration = Duration::from_secs(3);

/// How a client leaves.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    Close,
    Reset,
}

/// Bytes that have arrived at the proxy over the connection of `client` and were not read.
fn unread(proxy: SocketAddr, client: SocketAddr) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/tcp").expect("the system's table of connections");
    let ends = |end: &str, address: SocketAddr| end.ends_with(&format!(":{:04X}", address.port()));
    table.lines().find_map(|line| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, _, queues, ..] = cells[..] else { return None };
        let is_it = ends(local, proxy) && ends(remote, client);
        let (_, unread) = queues.split_once(':').filter(|_| is_it)?;
        u64::from_str_radix(unread, 16).ok()
    })
}

/// A client whose upload stands still because nobody takes it.
fn blocked(proxy: &Proxy) -> TcpStream {
    let mut client = TcpStream::connect(proxy.app).expect("a connection");
    client.write_all(HEAD).expect("there is room for a head");
    let address = client.local_addr().expect("its address");
    loop {
        client.write_all(&[b'x'; PIECE]).expect("what came before has been taken");
        let taken = Deadline::after(STUCK).poll(|| (unread(proxy.app, address) == Some(0)).then_some(()));
        if taken.is_none() {
            return client;
        }
    }
}

fn under_way(proxy: &Proxy) -> (f64, f64) {
    let metrics = proxy.metrics().expect("the admin port responds");
    (metrics.sum("outrigger_in_flight", &[]), metrics.sum("outrigger_endpoint_connections", &[]))
}

#[test]
fn a_client_that_disconnects_while_its_upload_is_stuck_is_noticed_and_its_attempt_cancelled() {
    let (release, held) = mpsc::channel::<()>();
    let (held, ended) = (Mutex::new(held), Arc::new(AtomicUsize::new(0)));
    let endings = Arc::clone(&ended);
    let deaf = Origin::new(Arc::new(move |_, stream| {
        if read_head(stream).is_some() {
            // An error as soon as the other end is gone; until then it reads nothing.
            let _ = held.lock().expect("nobody panics with it").recv();
            wait_for_end(stream);
            endings.fetch_add(1, SeqCst);
        }
    }));
    let (programs, folder) = (programs(), Folder::new());
    let path = folder.write("config.toml", &config(&format!("\"{}\"", deaf.address), POLICIES));
    let proxy = programs.proxy(&path).unwrap_or_else(|error| panic!("{error}"));
    for (n, leaving) in [Leaving::Close, Leaving::Reset].into_iter().enumerate() {
        let client = blocked(&proxy);
        assert_eq!(under_way(&proxy), (1.0, 1.0), "{leaving:?}");
        if let Leaving::Reset = leaving {
            reset(&client);
        }
        let left = Instant::now();
        drop(client);
        wait_until("nothing under way", || under_way(&proxy) == (0.0, 0.0));
        assert!(left.elapsed() < NOTICED, "{leaving:?}: {:?}", left.elapsed());
        let metrics = proxy.metrics().expect("the admin port responds");
        for family in ["outrigger_requests_total", "outrigger_attempts_total"] {
            assert_eq!(
                metrics.count(family, &[("outcome", "downstream_disconnect")]),
                n as u64 + 1,
                "{leaving:?}: {family}"
            );
            assert_eq!(metrics.count(family, &[]), n as u64 + 1, "{leaving:?}: {family}");
        }
        check_none(&proxy, "outrigger_breaker_transitions_total", &[]);
    }
    drop(release);
    wait_until("the endpoint to see both ends", || ended.load(SeqCst) == 2);
}
