//! Clients that leave, and clients that only send no more: the first cost the upstream nothing further, the others get their response.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::stage::{Site, WAIT_MAX, wait_until};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: backend\r\n\r\n";

fn asking(site: &Site) -> TcpStream {
    let mut stream = TcpStream::connect(site.proxy.app).expect("a connection");
    stream.set_read_timeout(Some(WAIT_MAX)).expect("a socket");
    stream.write_all(GET).expect("somebody reads");
    wait_until("a request under way", || in_flight(site) == 1.0);
    stream
}

fn in_flight(site: &Site) -> f64 {
    site.proxy.metrics().expect("the admin port responds").sum("outrigger_in_flight", &[])
}

#[test]
fn who_closes_is_noticed_within_a_second_and_who_only_sends_no_more_is_answered() {
    let site = Site::new(&["--latency", "3s"], "");
    let left = asking(&site);
    drop(left);
    let started = Instant::now();
    wait_until("the request given up", || in_flight(&site) == 0.0);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    wait_until("it is counted", || {
        site.count("outrigger_requests_total", &[("outcome", "downstream_disconnect")]) == 1
    });

    let mut quiet = asking(&site);
    quiet.shutdown(Shutdown::Write).expect("it is open");
    let mut responses = String::new();
    quiet.read_to_string(&mut responses).expect("text until the end");
    assert!(responses.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{responses}");
    assert_eq!(site.count("outrigger_requests_total", &[("outcome", "downstream_disconnect")]), 1);
}
