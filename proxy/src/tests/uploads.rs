//! Request bodies that come too slowly: the proxy ends them with a 408, and no breaker counts them against an endpoint.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;

/// Limits neither the rate nor the whole time of an upload.
pub(super) const AT_ANY_PACE: &str =
    "[upstreams.backend.timeouts]\nupload = \"24h\"\nupload_bytes_per_second_min = 0\n";

const CHUNKED: &str = "POST / HTTP/1.1\r\nhost: backend\r\ntransfer-encoding: chunked\r\n\r\n";

/// Sends `bytes` a second until a response comes, the proxy reads no more, or `most` has passed. Returns the response's status and after how long it came.
async fn drip(client: &mut net::Client, bytes: usize, most: Duration) -> (Option<u16>, Duration) {
    let started = clock::now();
    let chunk = format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes));
    while clock::now() - started < most {
        clock::until(clock::now() + seconds(1), client.say(&chunk)).await;
        if let Some(seen) = clock::until(clock::now() + seconds(1), client.response()).await {
            return (seen.map(|seen| seen.status), clock::now() - started);
        }
    }
    client.say("0\r\n\r\n").await;
    (client.response().await.map(|seen| seen.status), clock::now() - started)
}

/// Nothing is left of the uploads, and no breaker has counted them.
async fn check_nothing_is_left(bench: &Bench) {
    settle().await;
    assert_eq!((bench.under_way(), bench.shared.replay.kept()), ((0, 0), 0));
    assert_eq!(bench.metric("outrigger_breaker_transitions_total", &[]), 0.0);
}

#[test]
fn a_body_that_comes_too_slowly_is_a_downstream_error() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        // As many as would open a breaker if it counted them.
        for n in 1..=5 {
            let mut client = bench.connect();
            client.say(CHUNKED).await;
            let (status, after) = drip(&mut client, 1, seconds(60)).await;
            assert_eq!(status, Some(408));
            assert!((seconds(10)..=seconds(12)).contains(&after), "{after:?}");
            pass(seconds(1)).await;
            assert_eq!(bench.metric("outrigger_attempts_total", &["downstream_error"]), f64::from(n));
            assert_eq!(bench.metric("outrigger_requests_total", &["upload_timeout"]), f64::from(n));
        }
        check_nothing_is_left(&bench).await;
        assert_eq!(net.arrived(), Vec::<String>::new());
        assert_eq!(bench.get("/").await.status, 200);
    });
}

#[test]
fn the_least_rate_of_an_upload_is_the_configured_one() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench =
            Bench::new(&net, &format!("{ONE}\n[upstreams.backend.timeouts]\nupload_bytes_per_second_min = 100\n"))
                .await;
        for (bytes, status) in [(90, 408), (120, 200)] {
            let mut client = bench.connect();
            client.say(CHUNKED).await;
            assert_eq!(drip(&mut client, bytes, seconds(60)).await.0, Some(status), "{bytes} bytes a second");
        }
        check_nothing_is_left(&bench).await;
    });
}

#[test]
fn the_wait_before_a_retry_does_not_count_against_the_upload() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |n, mut peer| async move {
            if n > 0 {
                while peer.request().await.is_some() {
                    peer.say(OK).await;
                }
            } else {
                peer.head().await;
                pass(seconds(2)).await;
                peer.say("HTTP/1.1 503 Service Unavailable\r\nretry-after: 12\r\ncontent-length: 0\r\n\r\n").await;
            }
        });
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say("PUT / HTTP/1.1\r\nhost: backend\r\ncontent-length: 3\r\n\r\nh").await;
        // More than 10 s, and all but 2 of them in the wait, which is 12 to 18 s.
        pass(seconds(12)).await;
        client.say("i").await;
        pass(seconds(10)).await;
        assert_eq!(net.dialed(), 2, "the wait is over");
        client.say("!").await;
        assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
        assert_eq!(net.arrived(), [format!("{A} PUT / hi!")]);
    });
}

#[test]
fn time_for_which_the_worker_stood_still_does_not_count_against_the_upload() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.timeouts]\nupload = \"60s\"\n")).await;
        let mut client = bench.connect();
        client.say("PUT / HTTP/1.1\r\nhost: backend\r\ncontent-length: 3\r\n\r\nh").await;
        pass(seconds(5)).await;
        tokio::time::advance(seconds(100)).await;
        settle().await;
        pass(seconds(2)).await;
        client.say("i").await;
        pass(seconds(1)).await;
        client.say("!").await;
        assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
        check_nothing_is_left(&bench).await;
    });
}

#[test]
fn a_whole_upload_has_a_time_limit_however_fast_it_comes() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.timeouts]\nupload = \"20s\"\n")).await;
        let mut client = bench.connect();
        client.say(CHUNKED).await;
        let (status, after) = drip(&mut client, 2_000, seconds(60)).await;
        assert_eq!(status, Some(408));
        assert!((seconds(20)..=seconds(21)).contains(&after), "{after:?}");
        check_nothing_is_left(&bench).await;
    });
}

/// An endpoint that reads 4 KiB a second.
fn slow_endpoint(net: &Net) {
    net.endpoint(A, |_, mut peer| async move {
        let head = peer.head().await.expect("a head");
        let length: usize =
            head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok()).expect("a length");
        let mut taken = 0;
        while taken < length {
            pass(seconds(1)).await;
            match peer.take(4 * 1024).await {
                0 => return,
                n => taken += n,
            }
        }
        peer.say(OK).await;
    });
}

#[test]
fn time_in_which_the_endpoint_reads_slowly_does_not_count_against_the_upload() {
    paused(async {
        for (upload, expected) in [("5m", 200), ("15s", 504)] {
            let net = Net::default();
            slow_endpoint(&net);
            let limits = format!("upload = \"{upload}\"\nupload_bytes_per_second_min = \"64KiB\"\n");
            let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.timeouts]\n{limits}")).await;
            let mut client = bench.connect();
            let body = "x".repeat(100 * 1024);
            let head = format!("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: {}\r\n\r\n", body.len());
            // The client sends as fast as the proxy reads, and reads no response before that.
            clock::until(clock::now() + seconds(60), client.say(&(head + &body))).await;
            assert_eq!(client.response().await.map(|seen| seen.status), Some(expected), "{upload}");
            settle().await;
            let is_late = f64::from(u8::from(expected == 504));
            assert_eq!(bench.metric("outrigger_requests_total", &["upload_timeout"]), 0.0);
            assert_eq!(bench.metric("outrigger_requests_total", &["request_timeout"]), is_late);
            assert_eq!(bench.metric("outrigger_attempts_total", &["attempt_timeout"]), is_late, "it is not repeated");
            assert_eq!(bench.under_way(), (0, 0));
        }
    });
}

#[test]
fn the_rest_of_an_upload_after_an_early_response_has_a_time_limit() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.head().await;
            peer.say("HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        });
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say(CHUNKED).await;
        let started = clock::now();
        assert_eq!(client.response().await.map(|seen| seen.status), Some(413));
        let (status, _) = drip(&mut client, 1, seconds(300)).await;
        let after = clock::now() - started;
        assert!(status.is_none() && after < seconds(45), "{status:?} {after:?}");
        pass(seconds(1)).await;
        assert_eq!(bench.shared.connections(), 0);
    });
}

#[test]
fn an_endpoint_that_reads_on_after_its_response_gets_nothing_beyond_the_limit_of_the_whole_upload() {
    paused(async {
        for (upload, expected) in [("5m", "one two"), ("10s", "one")] {
            let net = Net::default();
            let text = net.raw_requests(A, "one", &[OK]);
            let limits = format!("upload = \"{upload}\"\nupload_bytes_per_second_min = 0\n");
            let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.timeouts]\n{limits}")).await;
            let mut client = bench.connect();
            client.say("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 11\r\n\r\none").await;
            assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
            pass(seconds(12)).await;
            client.say(" two").await;
            settle().await;
            assert!(text.borrow().ends_with(&format!("\r\n\r\n{expected}")), "{upload}: {}", text.borrow());
        }
    });
}

#[test]
fn a_response_goes_on_though_its_endpoint_takes_nothing_of_the_request() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.head().await;
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n").await;
            for _ in 0..40 {
                pass(seconds(5)).await;
                peer.say("x").await;
            }
        });
        let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.timeouts]\nupload = \"60s\"\n")).await;
        let mut client = bench.connect();
        let body = "x".repeat(1_000_000);
        let head = "POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 1000000\r\n\r\n";
        clock::until(clock::now() + seconds(1), client.say(&format!("{head}{body}"))).await;
        assert_eq!(client.response().await.map(|seen| seen.body.len()), Some(40));
        assert_eq!(bench.metric("outrigger_breaker_transitions_total", &[]), 0.0);
    });
}

#[test]
fn a_slow_upload_beside_its_response_does_not_keep_the_response_alive() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.head().await;
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
            peer.closed().await;
        });
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say(CHUNKED).await;
        let (status, after) = drip(&mut client, 1, seconds(300)).await;
        assert_eq!(status, None, "its response breaks off");
        assert!(after < seconds(14), "{after:?}");
        pass(seconds(1)).await;
        assert_eq!(
            bench
                .metric("outrigger_connections_closed_total", &["reason=\"body_idle_timeout\"", "side=\"downstream\""]),
            1.0
        );
        assert_eq!(bench.metric("outrigger_requests_total", &["downstream_disconnect"]), 1.0);
        check_nothing_is_left(&bench).await;
    });
}

#[test]
fn a_body_that_comes_although_it_may_wait_for_a_100_reaches_an_endpoint_that_responds_early() {
    for late in [false, true] {
        paused(async move {
            let net = Net::default();
            let bodies = Rc::new(RefCell::new(Vec::new()));
            let written = Rc::clone(&bodies);
            net.endpoint(A, move |_, mut peer| {
                let written = Rc::clone(&written);
                async move {
                    let head = peer.head().await.expect("a head");
                    assert!(head.contains("expect: 100-continue\r\n"), "{head}");
                    pass(Duration::from_millis(if late { 500 } else { 0 })).await;
                    peer.say(OK).await;
                    let body = peer.body(&head).await;
                    written.borrow_mut().push(body.unwrap_or_else(|| "broken off".to_owned()));
                }
            });
            let bench = Bench::new(&net, ONE).await;
            let mut client = bench.connect();
            let head = "POST / HTTP/1.1\r\nhost: backend\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
            if late {
                client.say(head).await;
                pass(Duration::from_millis(300)).await;
                client.say("hello").await;
            } else {
                client.say(&format!("{head}hello")).await;
            }
            assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
            settle().await;
            assert_eq!(*bodies.borrow(), ["hello"], "late: {late}");
            check_nothing_is_left(&bench).await;
        });
    }
}
