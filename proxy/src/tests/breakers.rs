//! Breakers on the way of a request: how the proxy responds while one is open, how it closes, and when a probe's permit goes back.

use outrigger_policy::breaker::State;

use super::*;

#[test]
fn an_open_breaker_refuses_at_once_and_spends_neither_budget_nor_attempt() {
    paused(async {
        let net = Net::default();
        let bench = Bench::new(&net, ONE).await; // no endpoint listens
        for _ in 0..3 {
            bench.get("/").await;
        }
        let dialed = net.dialed();
        let balance = bench.shared.live().table.all()[0].default.policies.budget.balance(clock::now());
        let started = clock::now();
        let seen = bench.get("/").await;
        assert_eq!((seen.status, clock::now()), (503, started), "no time passes");
        assert!(seen.head.contains("retry-after: 1") && seen.head.contains("error=destination_unavailable"));
        assert_eq!(net.dialed(), dialed);
        assert!(bench.shared.live().table.all()[0].default.policies.budget.balance(clock::now()) >= balance);
    });
}

#[test]
fn a_breaker_that_opens_between_attempts_leaves_the_client_the_upstreams_response() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[FAILED]);
        let config = ONE.replace("consecutive_failures = 4", "consecutive_failures = 1");
        let bench = Bench::new(&net, &config).await;
        let seen = bench.get("/").await;
        assert_eq!(
            (seen.status, seen.body.as_str()),
            (500, "oops"),
            "the endpoint's own response, not a refusal of ours"
        );
        assert_eq!(net.arrived().len(), 1);
    });
}

#[test]
fn the_breaker_closes_by_one_probe_after_the_return_of_the_endpoint() {
    paused(async {
        let net = Net::default();
        let bench = Bench::new(&net, ONE).await;
        for _ in 0..4 {
            assert!(bench.get("/").await.status >= 502);
        }
        net.responds(A, &[OK]);
        assert_eq!(bench.get("/").await.status, 503, "still open");
        pass(seconds(1)).await;
        assert_eq!(bench.get("/").await.status, 200);
        assert_eq!(bench.get("/").await.status, 200);
        for (from, to, reason) in [
            ("closed", "open", "consecutive_failures"),
            ("open", "half_open", "open_time_over"),
            ("half_open", "closed", "probes_succeeded"),
        ] {
            let labels = [format!("from=\"{from}\""), format!("to=\"{to}\""), format!("reason=\"{reason}\"")];
            let labels: Vec<_> = labels.iter().map(String::as_str).collect();
            assert_eq!(bench.metric("outrigger_breaker_transitions_total", &labels), 1.0, "{from} → {to}");
        }
    });
}

#[test]
fn a_probe_whose_client_disconnects_gives_its_place_to_the_next_request() {
    paused(async {
        let net = Net::default();
        let bench = Bench::new(&net, ONE).await;
        for _ in 0..3 {
            bench.get("/").await;
        }
        net.endpoint(A, |n, mut peer| async move {
            peer.request().await;
            if n > 0 {
                peer.say(OK).await;
            }
            peer.closed().await;
        });
        pass(seconds(1)).await;
        let mut leaving = bench.connect();
        leaving.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        settle().await;
        assert_eq!(bench.under_way(), (1, 1));
        assert_eq!(bench.get("/").await.status, 503, "one probe at a time");
        drop(leaving);
        settle().await;
        assert_eq!(bench.under_way(), (0, 0));
        assert_eq!(bench.get("/").await.status, 503, "the place was given back, for one spacing after the probe");
        pass(Duration::from_millis(500)).await;
        assert_eq!(bench.get("/").await.status, 200);
        assert_eq!(bench.metric("outrigger_requests_total", &["downstream_disconnect"]), 1.0);
        assert_eq!(bench.metric("outrigger_attempts_total", &["downstream_disconnect"]), 1.0);
    });
}

/// A response that breaks off in its body.
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";

/// State, results and failures of the breaker of calls and of the endpoint's.
fn counted(bench: &Bench) -> [(State, u32, u32); 2] {
    let live = bench.shared.live();
    let route = &live.table.all()[0].default;
    let endpoints = route.upstream.endpoints.load();
    let breakers = [route.policies.breaker.as_ref(), endpoints[0].breaker.as_ref()];
    breakers.map(|breaker| {
        let snapshot = breaker.expect("it is on").snapshot(clock::now());
        (snapshot.state, snapshot.results, snapshot.failures)
    })
}

/// A worker whose breakers were both opened by an outage. The open times are over, and nothing was sent since.
async fn after_an_outage(net: &Net, config: &str) -> Bench {
    let bench = Bench::new(net, config).await;
    net.endpoint(A, |_, peer| async move { drop(peer) });
    for _ in 0..4 {
        bench.post("/", "x").await;
    }
    assert!(counted(&bench).iter().all(|(state, ..)| *state == State::Open), "{:?}", counted(&bench));
    pass(seconds(1)).await;
    bench
}

/// `ONE` with as many failures for each breaker, so that one outage opens both.
fn both(failures: u32) -> String {
    let keys = format!("consecutive_failures = {failures}");
    ONE.replace("consecutive_failures = 4", &keys).replace("consecutive_failures = 3", &keys)
}

#[test]
fn behind_a_slow_upload_or_a_long_poll_others_are_served_after_one_spacing() {
    for slow in [
        "POST /upload HTTP/1.1\r\nhost: backend\r\ncontent-length: 1000\r\n\r\nx",
        "GET /poll HTTP/1.1\r\nhost: backend\r\n\r\n",
    ] {
        paused(async {
            let net = Net::default();
            let bench = after_an_outage(&net, &both(3)).await;
            net.endpoint(A, |_, mut peer| async move {
                while let Some(head) = peer.request().await {
                    if head.starts_with("GET /poll") {
                        clock::sleep(seconds(4)).await;
                    }
                    peer.say(OK).await;
                }
            });
            let mut first = bench.connect();
            first.say(slow).await;
            settle().await;
            assert_eq!(bench.get("/").await.status, 503, "the first has the upstream to itself for a while");
            pass(Duration::from_millis(500)).await;
            assert_eq!(bench.get("/").await.status, 200, "{slow}");
            assert_eq!(bench.metric("outrigger_breaker_transitions_total", &["probes_succeeded"]), 2.0);
        });
    }
}

#[test]
fn an_upload_that_takes_longer_than_a_lease_closes_the_breakers_when_it_succeeds() {
    paused(async {
        let net = Net::default();
        let bench = after_an_outage(&net, &both(3)).await;
        net.responds(A, &[OK]);
        let mut client = bench.connect();
        client.say("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 100000\r\n\r\n").await;
        for _ in 0..50 {
            pass(seconds(1)).await;
            client.say(&"x".repeat(2_000)).await;
            assert!(
                counted(&bench).iter().all(|(state, ..)| *state == State::HalfOpen),
                "an expired lease is no verdict"
            );
        }
        assert_eq!(client.response().await.expect("a response").status, 200);
        settle().await;
        assert!(counted(&bench).iter().all(|(state, ..)| *state == State::Closed), "{:?}", counted(&bench));
        assert_eq!(bench.metric("outrigger_breaker_transitions_total", &["probe_failed"]), 0.0);
    });
}

#[test]
fn an_endpoint_that_gives_up_on_a_body_that_does_not_come_is_not_to_blame() {
    // What the endpoint says first, how long it waits, the method; status, reason, attempts, and failures counted at the endpoint.
    for (first, wait_ms, method, status, reason, attempts, failures) in [
        ("", 2_000, "POST", 408, "ended_awaiting_body", 1, 0),
        ("HTTP/1.1 100 Continue\r\n\r\n", 2_000, "POST", 408, "ended_awaiting_body", 1, 0),
        ("", 2_000, "PUT", 408, "ended_awaiting_body", 3, 0),
        ("", 500, "POST", 502, "reset", 1, 1),
        ("HTTP/1.1 100 Continue\r\n\r\n", 500, "POST", 502, "malformed_response", 1, 1),
    ] {
        paused(async {
            let net = Net::default();
            net.endpoint(A, move |_, mut peer| async move {
                peer.head().await;
                peer.say(first).await;
                clock::sleep(Duration::from_millis(wait_ms)).await;
            });
            let bench = Bench::new(&net, ONE).await;
            let mut client = bench.connect();
            client.say(&format!("{method} / HTTP/1.1\r\nhost: backend\r\ncontent-length: 10\r\n\r\nhalf")).await;
            let seen = client.response().await.expect("a response");
            let what = format!("{first:?} {wait_ms} {method}");
            assert!(seen.status == status && seen.body.contains(reason), "{what}: {seen:?}");
            assert!(seen.body.contains(&format!("\"attempts\":{attempts},")), "{what}: {seen:?}");
            assert_eq!(counted(&bench), [(State::Closed, failures, failures); 2], "{what}");
        });
    }
}

#[test]
fn a_response_that_breaks_off_is_the_failure_of_the_side_that_was_awaited() {
    let upload = "POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 10\r\n\r\nhalf";
    let get = "GET / HTTP/1.1\r\nhost: backend\r\n\r\n";
    // The request, how long its sender does not read, what the endpoint sends before it gives up after three seconds, and the results and failures.
    for (request, unread, bytes, results, failures, why) in [
        (get, 0, 4, 1, 1, "everything was read, and the rest does not come"),
        (get, 4, 200_000, 1, 0, "nobody reads, so the endpoint gives up"),
        (get, 4, 4, 1, 1, "what came was taken, whether or not it was read further on"),
        (upload, 0, 4, 1, 0, "the endpoint waits for the rest of the request"),
    ] {
        paused(async {
            let net = Net::default();
            net.endpoint(A, move |_, mut peer| async move {
                peer.head().await;
                let until = clock::now() + seconds(3);
                let response = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{}", "x".repeat(bytes));
                clock::until(until, peer.say(&response)).await;
                clock::sleep_until(until).await;
            });
            let bench = Bench::new(&net, ONE).await;
            let mut client = bench.connect();
            client.say(request).await;
            pass(seconds(unread)).await;
            assert!(client.response().await.is_none(), "{why}");
            settle().await;
            assert_eq!(counted(&bench), [(State::Closed, results, failures); 2], "{why}");
        });
    }
}

#[test]
fn what_breaks_off_while_the_proxy_stands_still_is_not_the_endpoints_failure() {
    let upload = "POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 10\r\n\r\nhalf";
    let get = "GET / HTTP/1.1\r\nhost: backend\r\n\r\n";
    // The request, what the endpoint sends before it gives up, how long the proxy stands still, the results and the failures.
    for (request, response, stands_still_ms, results, failures) in [
        (upload, "", 900, 1, 1),
        (upload, "", 5_000, 0, 0),
        (upload, "HTTP/1.1 100 Continue\r\n\r\n", 5_000, 0, 0),
        (get, HALF, 900, 1, 1),
        (get, HALF, 5_000, 1, 0),
        // The request had come whole, so the endpoint had nothing to wait for.
        (get, "", 5_000, 1, 1),
    ] {
        paused(async {
            let net = Net::default();
            net.endpoint(A, move |_, mut peer| async move {
                peer.head().await;
                peer.say(response).await;
                clock::sleep(Duration::from_millis(800)).await;
            });
            let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.retry]\nmax_attempts = 1\n")).await;
            let mut client = bench.connect();
            client.say(request).await;
            settle().await;
            tokio::time::advance(Duration::from_millis(stands_still_ms)).await;
            let seen = client.response().await;
            settle().await;
            let what = format!("{request:?}, {response:?}, {stands_still_ms} ms: {seen:?}");
            assert_eq!(counted(&bench), [(State::Closed, results, failures); 2], "{what}");
        });
    }
}

#[test]
fn a_probe_whose_response_breaks_off_closes_nothing() {
    paused(async {
        let net = Net::default();
        let bench = after_an_outage(&net, &both(3)).await;
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            peer.say(HALF).await;
        });
        for _ in 0..12 {
            let mut client = bench.connect();
            client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
            assert!(client.response().await.is_none());
            pass(seconds(2)).await;
        }
        let transitions = |reason| bench.metric("outrigger_breaker_transitions_total", &[reason]);
        assert_eq!((transitions("probes_succeeded"), transitions("probe_failed")), (0.0, 24.0), "both breakers");
    });
}

#[test]
fn a_head_closes_nothing_if_its_body_breaks_off_late_or_its_caller_leaves_first() {
    // When each response breaks off, and of how many callers one leaves as soon as it has the head.
    for (breaks_off_ms, leaves) in [(300, 2), (300, 1), (700, usize::MAX), (3_000, 2)] {
        paused(async {
            let net = Net::default();
            let bench = after_an_outage(&net, &both(3)).await;
            net.endpoint(A, move |_, mut peer| async move {
                peer.request().await;
                peer.say(HALF).await;
                clock::sleep(Duration::from_millis(breaks_off_ms)).await;
            });
            for n in 1..=40 {
                let mut client = bench.connect();
                client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
                if n % leaves == 0 {
                    client.response_to_head().await;
                } else {
                    client.response().await;
                }
                drop(client);
                pass(Duration::from_millis(250)).await;
            }
            let closed = bench.metric("outrigger_breaker_transitions_total", &["probes_succeeded"]);
            assert_eq!(closed, 0.0, "{breaks_off_ms} ms, one of {leaves} leaves");
        });
    }
}

#[test]
fn callers_that_leave_a_hung_upstream_send_it_one_probe_for_each_spacing() {
    paused(async {
        let net = Net::default();
        let bench = after_an_outage(&net, &both(3)).await;
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            peer.closed().await;
        });
        let before = net.arrived().len();
        for _ in 0..200 {
            let mut leaving = bench.connect();
            leaving.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
            pass(Duration::from_millis(50)).await;
            drop(leaving);
            settle().await;
        }
        let probes = net.arrived().len() - before;
        assert!((18..=21).contains(&probes), "{probes} probes in 10 s");
    });
}

#[test]
fn a_closing_that_its_probes_body_belies_is_taken_back_at_once() {
    paused(async {
        let net = Net::default();
        let bench = after_an_outage(&net, &both(3)).await;
        net.endpoint(A, |n, mut peer| async move {
            peer.request().await;
            peer.say(if n == 0 { HALF } else { OK }).await;
            clock::sleep(seconds(2)).await;
        });
        let mut stream = bench.connect();
        stream.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        settle().await;
        pass(Duration::from_millis(500)).await;
        assert_eq!(bench.get("/").await.status, 200, "the next probe succeeds");
        assert!(counted(&bench).iter().all(|(state, ..)| *state == State::Closed));
        assert!(stream.response().await.is_none());
        settle().await;
        assert!(counted(&bench).iter().all(|(state, ..)| *state == State::Open), "{:?}", counted(&bench));
        let labels = ["from=\"closed\"", "to=\"open\"", "reason=\"probe_failed\""];
        assert_eq!(bench.metric("outrigger_breaker_transitions_total", &labels), 2.0);
    });
}

#[test]
fn a_probe_whose_response_stands_still_closes_nothing_and_is_no_failure() {
    paused(async {
        let net = Net::default();
        let config = format!("{}\n[upstreams.backend.timeouts]\nidle_body = \"1s\"\n", both(3));
        let bench = after_an_outage(&net, &config).await;
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            peer.say(HALF).await;
            peer.closed().await;
        });
        for _ in 0..6 {
            let mut client = bench.connect();
            client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
            assert!(client.response().await.is_none());
            settle().await;
            assert!(counted(&bench).iter().all(|(state, ..)| *state == State::HalfOpen), "{:?}", counted(&bench));
        }
        assert_eq!(bench.metric("outrigger_requests_total", &["body_idle_timeout"]), 6.0);
    });
}

#[test]
fn a_response_counts_once_by_its_head_and_a_break_turns_it_into_a_failure() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |n, mut peer| async move {
            peer.request().await;
            peer.say(HALF).await;
            clock::sleep(Duration::from_millis(100)).await;
            if n % 2 == 0 {
                peer.say("whole.").await;
            }
        });
        let bench = Bench::new(&net, ONE).await;
        for (results, failures) in [(1, 0), (2, 1), (3, 1), (4, 2)] {
            let mut client = bench.connect();
            client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
            client.response_to_head().await.expect("a head");
            let before = counted(&bench)[0].2;
            assert_eq!(counted(&bench), [(State::Closed, results, before); 2], "at the head");
            pass(Duration::from_millis(200)).await;
            settle().await;
            assert_eq!(counted(&bench), [(State::Closed, results, failures); 2], "at the end");
        }
    });
}

#[test]
fn an_endpoint_whose_every_body_breaks_off_is_out_although_its_heads_are_healthy() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            peer.say(HALF).await;
        });
        let bench = Bench::new(&net, &both(3)).await;
        for _ in 0..3 {
            assert!(counted(&bench).iter().all(|(state, ..)| *state == State::Closed), "{:?}", counted(&bench));
            let mut client = bench.connect();
            client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
            assert!(client.response().await.is_none());
            settle().await;
        }
        assert!(counted(&bench).iter().all(|(state, ..)| *state == State::Open), "{:?}", counted(&bench));
    });
}

#[test]
fn a_ratio_opens_no_breaker_of_a_lone_endpoint_and_that_of_one_of_two() {
    let keys = "volume_min = 10\nopen_jitter = 0\n";
    let tables = format!(
        "[upstreams.backend.endpoint_breaker]\n{keys}[upstreams.backend.breaker]\n{keys}[upstreams.backend.retry]\nmax_attempts = 1\n"
    );
    for (endpoints, opens) in [(1, 0.0), (2, 1.0)] {
        paused(async {
            let net = Net::default();
            for at in [A, B] {
                net.endpoint(at, |n, mut peer| async move {
                    peer.request().await;
                    peer.say(if n % 3 == 0 { OK } else { FAILED }).await;
                });
            }
            let listed = &["10.0.0.1:80", "10.0.0.2:80"][..endpoints];
            let bench = Bench::new(&net, &format!("[upstreams.backend]\nendpoints = {listed:?}\n{tables}")).await;
            let mut served = 0;
            for _ in 0..30 {
                served += u32::from(bench.get("/").await.status == 200);
            }
            let opened = bench.metric("outrigger_breaker_transitions_total", &["reason=\"failure_ratio\""]);
            assert_eq!(opened > 0.0, opens > 0.0, "{endpoints} endpoints: {opened} openings");
            assert!(endpoints > 1 || served == 10, "{served} were served");
        });
    }
}

#[test]
fn streams_that_their_callers_leave_at_once_or_that_are_quiet_end_a_streak_by_their_heads() {
    for leaves in [true, false] {
        paused(async {
            let net = Net::default();
            net.endpoint(A, |_, mut peer| async move {
                let Some(head) = peer.request().await else { return };
                if head.starts_with("POST") {
                    return peer.say(FAILED).await;
                }
                peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                peer.closed().await;
            });
            let bench = Bench::new(&net, &both(3)).await;
            let mut open = Vec::new();
            for _ in 0..10 {
                assert_eq!(bench.post("/", "x").await.status, 500);
                let mut stream = bench.connect();
                stream.say("GET /events HTTP/1.1\r\nhost: backend\r\n\r\n").await;
                assert_eq!(stream.response_to_head().await.expect("a head").status, 200);
                open.extend((!leaves).then_some(stream));
                settle().await;
            }
            assert_eq!(counted(&bench), [(State::Closed, 20, 10); 2], "leaves: {leaves}");
        });
    }
}

#[test]
fn a_stream_that_its_caller_leaves_ends_a_streak_of_failures() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            let Some(head) = peer.request().await else { return };
            if head.starts_with("POST") {
                return peer.say(FAILED).await;
            }
            peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for _ in 0..20 {
                peer.say("5\r\nevent\r\n").await;
                clock::sleep(seconds(1)).await;
            }
        });
        let bench = Bench::new(&net, &both(3)).await;
        for _ in 0..10 {
            assert_eq!(bench.post("/", "x").await.status, 500);
            let mut leaving = bench.connect();
            leaving.say("GET /events HTTP/1.1\r\nhost: backend\r\n\r\n").await;
            assert_eq!(leaving.response_to_head().await.expect("a head").status, 200);
            pass(Duration::from_millis(1_100)).await;
            drop(leaving);
            pass(seconds(2)).await; // the next event cannot be written
        }
        let is_healthy = |(state, results, failures)| state == State::Closed && results > failures;
        assert!(counted(&bench).into_iter().all(is_healthy), "{:?}", counted(&bench));
    });
}

#[test]
fn a_connect_succeeds_with_the_first_byte_of_the_endpoint_and_not_with_the_connection() {
    paused(async {
        let net = Net::default();
        let config = both(3).replace("[upstreams.backend.endpoint_", "connect = true\n[upstreams.backend.endpoint_");
        let bench = after_an_outage(&net, &config).await;
        net.endpoint(A, |n, mut peer| async move {
            if n > 0 {
                peer.piece().await;
                peer.say("hello").await;
            }
            peer.closed().await;
        });
        for (is_first, state) in [(true, State::HalfOpen), (false, State::Closed)] {
            pass(Duration::from_millis(500)).await;
            let mut client = bench.connect();
            client.say("CONNECT backend:80 HTTP/1.1\r\nhost: backend\r\n\r\nearly").await;
            assert_eq!(client.response_to_head().await.expect("a head").status, 200);
            if !is_first {
                assert_eq!(client.piece().await.as_deref(), Some("hello"));
            }
            drop(client);
            settle().await;
            assert!(counted(&bench).iter().all(|(now, ..)| *now == state), "{:?}", counted(&bench));
        }
    });
}
