//! The whole proxy stands still for a while, as under a frozen container or a machine without memory.

use std::thread;
use std::time::Duration;

use lab::process::Signal;
use report::run::Report;

use crate::stage::{Site, WAIT_MAX, check_none, start_client, wait_until};

/// Longer than the attempt's time below, so that each attempt that was under way is found overdue.
const PAUSE: Duration = Duration::from_millis(1500);

#[test]
fn a_proxy_that_was_stopped_and_continued_blames_nobody_and_loses_nothing() {
    let policies = "timeouts = { attempt = \"1s\" }\n[upstreams.backend.endpoint_breaker]\nconsecutive_failures = 3\n";
    let mut site = Site::new(&["--latency", "30ms"], policies);
    let json = site.folder.file("client.json");
    let mut client = start_client(&site.programs, &site.proxy, &json, &["--rate", "100", "--duration", "5s"]);
    wait_until("load", || site.count("outrigger_requests_total", &[]) > 50);
    let descriptors = site.proxy.process.descriptors();
    for _ in 0..2 {
        site.proxy.process.signal(Signal::STOP);
        thread::sleep(PAUSE);
        site.proxy.process.signal(Signal::CONT);
        let before = site.count("outrigger_requests_total", &[]);
        wait_until("load again", || site.count("outrigger_requests_total", &[]) > before + 20);
    }
    assert!(client.wait(WAIT_MAX).expect("it ends").success());
    let counts = Report::read(&json).expect("a report").counts;
    assert_eq!((counts.requests, counts.succeeded), (500, 500), "{counts:?}");
    check_none(&site.proxy, "outrigger_breaker_transitions_total", &[]);
    check_none(&site.proxy, "outrigger_attempts_total", &[("outcome", "attempt_timeout")]);
    wait_until("as few descriptors as under load", || site.proxy.process.descriptors() <= descriptors);
}
