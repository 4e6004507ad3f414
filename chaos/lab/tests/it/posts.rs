//! What is not idempotent is sent twice only if it is proven that the first was never processed.

use crate::stage::{Dead, Folder, Site, config, programs, run_client};

const POSTS: [&str; 8] = ["--closed", "--requests", "200", "--connections", "8", "--method", "POST", "--body"];

#[test]
fn a_post_that_reached_the_backend_never_goes_twice() {
    // The breakers would keep requests away from a backend that fails so often.
    let policies =
        "[upstreams.backend.breaker]\nenabled = false\n[upstreams.backend.endpoint_breaker]\nenabled = false\n";
    let site = Site::new(&["--error-share", "0.3", "--reset-before-share", "0.3"], policies);
    let report = site.run_client(&[&POSTS[..], &["one order"]].concat());

    let received = site.backend.received().expect("the control port responds");
    assert_eq!((received.requests, received.ids.len()), (200, 0), "{:?}", received.ids);
    let counts = &report.counts;
    assert!(counts.statuses[&502] > 20, "a reset is told as 502: {counts:?}");
    assert_eq!(counts.succeeded + counts.statuses[&500] + counts.statuses[&502] + counts.statuses[&503], 200);
    let refused = site.count("outrigger_retries_refused_total", &[("reason", "not_idempotent")]);
    assert_eq!(refused, 200 - counts.succeeded);
}

#[test]
fn a_get_that_was_reset_goes_again() {
    let policies = "[upstreams.backend.retry]\nmax_attempts = 10\nbackoff_base = \"1ms\"\nbackoff_cap = \"2ms\"\n\
                    [upstreams.backend.budget]\nratio = 10\n";
    let site = Site::new(&["--reset-before-share", "0.2"], policies);
    let report = site.run_client(&["--closed", "--requests", "200", "--connections", "8"]);
    assert_eq!(report.counts.succeeded, 200, "{:?}", report.counts);
    assert!(site.count("outrigger_retries_total", &[("reason", "reset")]) > 10);
}

#[test]
fn a_post_goes_again_where_the_connection_was_refused() {
    let (programs, folder) = (programs(), Folder::new());
    let backend = programs.backend(&[]).unwrap_or_else(|error| panic!("{error}"));
    let dead = Dead::new();
    let endpoints = format!("\"{}\", \"{}\"", dead.address(), backend.data);
    // The dead endpoint's breaker would soon spare us the refusals this is about.
    let policies = "[upstreams.backend.budget]\nratio = 10\n[upstreams.backend.endpoint_breaker]\nenabled = false\n";
    let path = folder.write("config.toml", &config(&endpoints, policies));
    let proxy = programs.proxy(&path).unwrap_or_else(|error| panic!("{error}"));

    let report = run_client(&programs, &proxy, &folder, &[&POSTS[..], &["one order"]].concat());
    assert_eq!(report.counts.succeeded, 200, "{:?}", report.counts);
    let received = backend.received().expect("the control port responds");
    assert_eq!((received.requests, received.ids.len()), (200, 0));
    let metrics = proxy.metrics().expect("the admin port responds");
    assert!(metrics.count("outrigger_retries_total", &[("reason", "connect_failure")]) > 20);
}
