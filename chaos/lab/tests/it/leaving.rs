//! Clients that leave, and clients that only send no more: the first cost the upstream nothing further, the others get their response.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::stage::{Site, WAIT_MAX, wait_until};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: backend\r\n\r\n";

/// Sends a request and `behind` it.
fn asking(site: &Site, behind: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(site.proxy.app).expect("a connection");
    stream.set_read_timeout(Some(WAIT_MAX)).expect("a socket");
    stream.write_all(&[GET, behind].concat()).expect("somebody reads");
    wait_until("a request under way", || in_flight(site) == 1.0);
    stream
}

fn in_flight(site: &Site) -> f64 {
    site.proxy.metrics().expect("the admin port responds").sum("outrigger_in_flight", &[])
}

#[test]
fn who_closes_is_noticed_within_two_seconds_whatever_was_sent_behind_the_request() {
    let site = Site::new(&["--latency", "5s"], "");
    for (number, behind) in [&b""[..], b"\r\n", GET, b"GET / HT"].into_iter().enumerate() {
        let left = asking(&site, behind);
        drop(left);
        let started = Instant::now();
        wait_until("the request given up", || in_flight(&site) == 0.0);
        let behind = String::from_utf8_lossy(behind);
        assert!(started.elapsed() < Duration::from_secs(4), "{behind:?}: {:?}", started.elapsed());
        wait_until("it is counted", || {
            site.count("outrigger_requests_total", &[("outcome", "downstream_disconnect")]) == number as u64 + 1
        });
    }
}

#[test]
fn who_only_sends_no_more_is_answered_whatever_was_sent_behind_the_request() {
    let site = Site::new(&["--latency", "3s"], "");
    for (behind, answers) in [(&b""[..], 1), (b"\r\n", 1), (GET, 2)] {
        let mut quiet = asking(&site, behind);
        quiet.shutdown(Shutdown::Write).expect("it is open");
        let mut responses = String::new();
        quiet.read_to_string(&mut responses).expect("text until the end");
        let behind = String::from_utf8_lossy(behind);
        assert!(responses.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{behind:?}: {responses}");
        assert_eq!(responses.matches("HTTP/1.1 200 OK").count(), answers, "{behind:?}: {responses}");
    }
    assert_eq!(site.count("outrigger_requests_total", &[("outcome", "downstream_disconnect")]), 0);
}
