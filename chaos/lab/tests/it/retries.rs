//! Retries.

use lab::results::number;

use crate::stage::Site;

/// Ten attempts at 20 % errors fail once in ten million.
const PATIENT: &str = "[upstreams.backend.retry]\nmax_attempts = 10\nbackoff_base = \"1ms\"\nbackoff_cap = \"2ms\"\n\
                       [upstreams.backend.budget]\nratio = 10\n";

#[test]
fn retries_hide_errors_and_each_is_counted_once_on_every_side() {
    let site = Site::new(&["--error-share", "0.2"], PATIENT);
    let report = site.run_client(&["--closed", "--requests", "300", "--connections", "8"]);
    assert_eq!((report.counts.requests, report.counts.succeeded), (300, 300), "{:?}", report.counts);

    let received = site.backend.received().expect("the control port responds").requests;
    let extra = received - 300;
    assert!((30..150).contains(&extra), "about 75 of 375 attempts fail at 20 %, not {extra}");
    assert_eq!(site.count("outrigger_attempts_total", &[]), received);
    assert_eq!(site.count("outrigger_retries_total", &[("reason", "status")]), extra);
    assert_eq!(site.count("outrigger_retry_results_total", &[]), extra);
    assert_eq!(site.count("outrigger_requests_total", &[("outcome", "success"), ("code", "2xx")]), 300);
    let told = report.attempts_by_proxy.iter().map(|(attempts, count)| (u64::from(*attempts) - 1) * count);
    assert_eq!(told.sum::<u64>(), extra, "outrigger-attempts: {:?}", report.attempts_by_proxy);
}

#[test]
fn a_budget_without_floor_gives_a_failing_backend_no_more_than_its_ratio() {
    let policies = "[upstreams.backend.budget]\nratio = 0.1\nfloor_per_second = 0\n\
                    [upstreams.backend.breaker]\nenabled = false\n[upstreams.backend.endpoint_breaker]\nenabled = false\n";
    let site = Site::new(&["--error-share", "1"], policies);
    site.run_client(&["--closed", "--requests", "300", "--connections", "8"]);
    let received = site.backend.received().expect("the control port responds").requests;
    assert!(number(received) <= 1.1 * 300.0, "{received}");
    assert!(site.count("outrigger_retries_refused_total", &[("reason", "budget")]) > 0);
    assert!(site.count("outrigger_budget_exhausted_total", &[]) > 0);
}
