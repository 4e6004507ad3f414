//! Retries: of which requests, at which endpoint, after which wait, and how many.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;

#[test]
fn a_failed_attempt_goes_to_the_other_endpoint_and_the_response_says_how_many_it_took() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[FAILED]);
        net.responds(B, &[OK]);
        let bench = Bench::new(&net, TWO).await;
        for _ in 0..20 {
            let seen = bench.get("/").await;
            assert_eq!((seen.status, seen.body.as_str()), (200, "ok"));
        }
        let failed = net.arrived().iter().filter(|line| line.starts_with(A)).count();
        assert_eq!(bench.metric("outrigger_retries_total", &["reason=\"status\""]), failed as f64);
        assert_eq!(
            net.arrived().len(),
            20 + failed,
            "each failure was followed by one retry, never on the same endpoint"
        );
        assert_eq!(net.dialed(), 2, "a superseded response is read to its end and its connection lives on");
    });
}

#[test]
fn the_waits_before_retries_spread_evenly_over_their_backoffs() {
    const SEEDS: u32 = 200;
    // The backoffs double from 25 ms.
    let intervals = [Duration::from_millis(25), Duration::from_millis(50)];
    // How many waits fall into each quarter of their interval.
    let mut quarters = [[0; 4]; 2];
    for seed in 0..SEEDS {
        for (retry, wait) in waits(seed.into()).into_iter().enumerate() {
            // tokio's timers round up to the next millisecond.
            assert!(wait <= intervals[retry] + Duration::from_millis(1), "seed {seed}: retry {retry} after {wait:?}");
            let quarter = (wait.as_micros() * 4 / intervals[retry].as_micros()).min(3);
            quarters[retry][quarter as usize] += 1;
        }
    }
    let evenly = SEEDS / 8..=SEEDS * 3 / 8;
    assert!(quarters.iter().flatten().all(|waits| evenly.contains(waits)), "{quarters:?}");
}

/// The waits before the second and before the third attempt.
fn waits(seed: u64) -> Vec<Duration> {
    let arrivals = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&arrivals);
    paused(async move {
        let net = Net::default();
        net.endpoint(A, move |_, mut peer| {
            let arrivals = Rc::clone(&arrivals);
            async move {
                while peer.request().await.is_some() {
                    arrivals.borrow_mut().push(clock::now());
                    peer.say(if arrivals.borrow().len() < 3 { FAILED } else { OK }).await;
                }
            }
        });
        let bench = Bench::new(&net, ONE).await;
        bench.reseed(seed);
        let response = bench.get("/").await;
        assert_eq!(response.status, 200);
        assert!(response.head.contains("outrigger-attempts: 3"), "{}", response.head);
    });
    seen.borrow().windows(2).map(|two| two[1] - two[0]).collect()
}

#[test]
fn a_retry_goes_to_an_endpoint_that_is_there_after_its_wait() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[FAILED]);
        net.responds(B, &[OK]);
        let bench =
            Bench::new(&net, &format!("{ONE}[upstreams.backend.retry]\nbackoff_base = \"1s\"\nbackoff_cap = \"1s\"\n"))
                .await;
        let mut caller = bench.connect();
        caller.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        settle().await;
        assert_eq!(net.arrived(), [format!("{A} GET /")], "it waits");
        bench.replace_endpoints(&[B]);
        assert_eq!(caller.response().await.expect("an answer").status, 200);
        assert_eq!(net.arrived(), [format!("{A} GET /"), format!("{B} GET /")]);
    });
}

#[test]
fn a_post_that_may_have_been_acted_on_is_sent_once_and_one_that_never_left_goes_again() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[FAILED]);
        let bench = Bench::new(&net, ONE).await;
        let seen = bench.post("/orders", "7").await;
        assert_eq!(seen.status, 500);
        assert!(
            seen.head.contains("proxy-status: outrigger; received-status=500; details=\"no retry: not_idempotent\"")
        );
        assert_eq!(net.arrived(), [format!("{A} POST /orders 7")]);

        let net = Net::default();
        net.responds(B, &[OK]);
        let bench = Bench::new(&net, TWO).await; // no endpoint listens on A
        for n in 1..=10 {
            assert_eq!(bench.post("/orders", "7").await.status, 200);
            assert_eq!(net.arrived().len(), n, "refused on one endpoint, sent to the other, once");
        }
    });
}

#[test]
fn an_attempt_that_is_not_answered_in_time_is_repeated_only_where_it_is_safe() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            peer.closed().await;
        });
        // Three attempts would take 30 s.
        let config = format!("{ONE}\n[upstreams.backend.timeouts]\nrequest = \"25s\"\nattempt = \"10s\"\n");
        let bench = Bench::new(&net, &config).await;
        let started = clock::now();
        let seen = bench.get("/").await;
        assert_eq!((seen.status, net.arrived().len()), (504, 3));
        let took = clock::now() - started;
        assert!(
            (seconds(25)..seconds(25) + Duration::from_millis(10)).contains(&took),
            "the request's deadline holds over all attempts: {took:?}"
        );
        let requests = |outcome: &str| bench.metric("outrigger_requests_total", &[outcome]);
        assert_eq!((requests("request_timeout"), requests("attempt_timeout")), (1.0, 0.0));
        let seen = bench.post("/", "x").await;
        assert_eq!((seen.status, net.arrived().len()), (504, 4));
        settle().await;
        assert_eq!(requests("attempt_timeout"), 1.0);
        assert_eq!(bench.under_way(), (0, 0));
    });
}

#[test]
fn an_idle_connection_that_died_costs_neither_attempt_nor_budget_and_a_post_goes_again() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            peer.say(OK).await; // and closes
        });
        let bench = Bench::new(&net, ONE).await;
        for n in 1..=5 {
            let seen = bench.post("/", "x").await;
            assert_eq!(seen.status, 200);
            assert!(!seen.head.contains("outrigger-attempts"));
            assert_eq!(net.arrived().len(), n);
        }
        assert_eq!(
            bench.metric("outrigger_attempts_total", &["failure"])
                + bench.metric("outrigger_attempts_total", &["reset"]),
            0.0
        );
    });
}

#[test]
fn a_request_that_cannot_be_repeated_takes_no_connection_that_has_been_idle_for_long() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let after = async |pause: u64, method: &str| {
            pass(Duration::from_millis(pause)).await;
            let status = if method == "POST" { bench.post("/", "x").await.status } else { bench.get("/").await.status };
            (status, net.dialed())
        };
        assert_eq!(after(0, "POST").await, (200, 1));
        assert_eq!(after(900, "POST").await, (200, 1), "the connection was in use a moment ago");
        assert_eq!(after(1_500, "GET").await, (200, 1), "a GET could be repeated");
        assert_eq!(after(1_500, "POST").await, (200, 2));
        assert_eq!(after(5_000, "GET").await, (200, 3), "beyond pool.idle_timeout nothing is reused");
    });
}

#[test]
fn a_connection_that_idles_too_long_is_closed_though_no_request_comes() {
    paused(async {
        let net = Net::default();
        let closed = Rc::new(Cell::new(false));
        let is_closed = Rc::clone(&closed);
        net.endpoint(A, move |_, mut peer| {
            let is_closed = Rc::clone(&is_closed);
            async move {
                peer.request().await;
                peer.say(OK).await;
                peer.closed().await;
                is_closed.set(true);
            }
        });
        let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.pool]\nidle_timeout = \"3s\"\n")).await;
        assert_eq!(bench.get("/").await.status, 200);
        pass(Duration::from_millis(2_900)).await;
        assert!(!closed.get());
        pass(seconds(2)).await;
        assert!(closed.get());
    });
}

#[test]
fn retry_after_is_waited_for_and_one_beyond_the_deadline_ends_the_request_at_once() {
    paused(async {
        let net = Net::default();
        let unavailable = |after: u32| {
            format!("HTTP/1.1 503 Service Unavailable\r\nretry-after: {after}\r\ncontent-length: 0\r\n\r\n")
        };
        net.responds(A, &[&unavailable(2), OK, &unavailable(60)]);
        let bench = Bench::new(&net, ONE).await;
        let started = clock::now();
        assert_eq!(bench.get("/").await.status, 200);
        let waited = clock::now() - started;
        assert!((seconds(2)..=seconds(3) + Duration::from_millis(2)).contains(&waited), "{waited:?}");
        let started = clock::now();
        let seen = bench.get("/").await;
        assert_eq!((seen.status, clock::now()), (503, started));
        assert!(seen.head.contains("no retry: deadline"));
    });
}

#[test]
fn the_budget_bounds_what_a_dead_endpoint_sees() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[FAILED]);
        let config = format!("{ONE}\n[upstreams.backend.budget]\nratio = 0.2\nfloor_per_second = 0\n")
            .replace("consecutive_failures = 4", "enabled = false\nconsecutive_failures = 4")
            .replace("consecutive_failures = 3", "enabled = false\nconsecutive_failures = 3");
        let bench = Bench::new(&net, &config).await;
        for _ in 0..500 {
            assert_eq!(bench.get("/").await.status, 500);
        }
        assert_eq!(net.arrived().len(), 600, "500 requests and 20 % of them again");
        assert_eq!(bench.metric("outrigger_retries_total", &[]), 100.0);
        assert_eq!(
            bench.metric("outrigger_budget_exhausted_total", &[]),
            bench.metric("outrigger_retries_refused_total", &["budget"])
        );
    });
}

#[test]
fn a_response_that_a_retry_without_a_wait_supersedes_gives_its_connection_back() {
    paused(async {
        let net = Net::default();
        let busy = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 4\r\n\r\nbusy";
        net.responds(A, &[busy, OK]);
        let bench = Bench::new(&net, ONE).await;
        assert_eq!(bench.get("/").await.status, 200);
        assert_eq!((net.arrived().len(), net.dialed()), (2, 1));
    });
}

#[test]
fn a_superseded_response_with_trailers_gives_its_connection_back() {
    paused(async {
        let net = Net::default();
        let busy =
            "HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\nx-t: 1\r\n\r\n";
        net.responds(A, &[busy, OK]);
        let bench = Bench::new(&net, ONE).await;
        assert_eq!(bench.get("/").await.status, 200);
        assert_eq!((net.arrived().len(), net.dialed()), (2, 1));
    });
}
