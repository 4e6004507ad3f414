//! The end: an egress sidecar is still needed while its app winds down.

use lab::http;
use lab::process::Signal;
use report::run::Report;

use crate::stage::{Site, WAIT_MAX, start_client, wait_until};

#[test]
fn sigterm_under_load_fails_no_request_and_ends_with_zero() {
    let mut site = Site::new(&["--latency", "20ms"], "");
    let json = site.folder.file("client.json");
    let mut client = start_client(&site.programs, &site.proxy, &json, &["--rate", "100", "--duration", "2s"]);
    wait_until("load", || site.count("outrigger_requests_total", &[]) > 20);
    assert_eq!(http::get(site.proxy.admin, "/readyz").expect("a response").status, 200);

    site.proxy.process.signal(Signal::TERM);
    wait_until("readiness 503", || http::get(site.proxy.admin, "/readyz").expect("a response").status == 503);
    assert_eq!(http::get(site.proxy.admin, "/livez").expect("a response").status, 200);
    assert!(client.wait(WAIT_MAX).expect("it ends").success());
    let counts = Report::read(&json).expect("a report").counts;
    assert_eq!((counts.requests, counts.succeeded), (200, 200), "{counts:?}");

    assert_eq!(site.proxy.process.wait(WAIT_MAX).expect("it ends").code(), Some(0));
    let log = site.proxy.log();
    let drained = log.iter().find(|line| line.message == "drained").expect("it says so");
    assert_eq!(drained.number("cut_off"), Some(0.0));
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let mut site = Site::new(&["--hang-share", "1"], "");
    // A request without a response keeps the drain waiting.
    let json = site.folder.file("client.json");
    let _client = start_client(&site.programs, &site.proxy, &json, &["--requests", "1"]);
    wait_until("the request", || site.backend.received().expect("the control port responds").requests == 1);
    site.proxy.process.signal(Signal::TERM);
    wait_until("the drain", || site.proxy.log().iter().any(|line| line.message == "draining"));
    assert_eq!(site.proxy.process.ended(), None);
    site.proxy.process.signal(Signal::TERM);
    // Far sooner than the attempt's 10 s, for which a drain would wait.
    let status = site.proxy.process.wait(std::time::Duration::from_secs(5)).expect("it ends");
    assert_eq!(status.code(), Some(0));
}
