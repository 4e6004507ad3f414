//! The circuit breaker, seen from the app.

use lab::process::Signal;
use lab::proxy_log::Line;
use serde_json::Value;

use crate::stage::{Site, WAIT_MAX, wait_until};

/// Quick to open, and open for a second at a time.
const QUICK: &str = "[upstreams.backend.retry]\nmax_attempts = 1\n\
                     [upstreams.backend.endpoint_breaker]\nconsecutive_failures = 3\nopen_base = \"1s\"\nopen_cap = \"1s\"\nopen_jitter = 0\n";

#[test]
fn a_dead_backend_opens_the_breaker_which_says_why_and_closes_after_the_return() {
    let mut site = Site::new(&[], QUICK);
    assert_eq!(site.get().status, 200);

    site.backend.process.signal(Signal::KILL);
    site.backend.process.wait(WAIT_MAX).expect("it is dead");
    // Three failures in a row reach the client as they are. The fourth request is not sent.
    for _ in 0..3 {
        assert_eq!(site.get().status, 502);
    }
    let refused = site.get();
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let status = refused.header("proxy-status").unwrap_or_default();
    assert!(status.starts_with("outrigger; error=destination_unavailable"), "{status}");
    let problem: Value = serde_json::from_slice(&refused.body).expect("a JSON body");
    assert_eq!((&problem["reason"], &problem["status"]), (&"all_endpoints_open".into(), &503.into()), "{problem}");
    assert_eq!(problem["breaker"]["rule"], "consecutive_failures", "{problem}");
    let connects = site.count("outrigger_connects_total", &[("result", "connect_refused")]);
    assert_eq!(connects, 3, "an open breaker leaves the address alone");

    site.backend = site.programs.backend_at(site.backend.data, &[]).expect("the port is free again");
    wait_until("success after the return", || site.get().status == 200);
    // Log lines are written a moment after their events.
    wait_until("the log to say so", || moves(&site).last().is_some_and(|line| line.text("to") == "closed"));
    let moves = moves(&site);
    assert_eq!(moves[0].text("to"), "open");
    assert_eq!(moves[0].number("open_ms"), Some(1_000.0));
    assert_eq!(site.count("outrigger_breaker_transitions_total", &[]), u64::try_from(moves.len()).expect("few"));
}

fn moves(site: &Site) -> Vec<Line> {
    site.proxy.log().into_iter().filter(|line| line.message.starts_with("breaker ")).collect()
}
