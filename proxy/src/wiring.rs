//! The fourth ring: the whole way of a request over in-memory pipes, on paused time. What the policies decide is proved below; here it is proved that they are asked
//! in the right order and told the truth, and that whoever leaves halfway undoes what was done.

mod net;

use std::time::Duration;

use self::net::{Bench, Net, pass, paused, settle};
use crate::clock;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops";
const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

/// One endpoint, no jitter in the open time, the rest as `config.toml` has it.
const ONE: &str = r#"
[upstreams.backend]
endpoints = ["10.0.0.1:80"]
[upstreams.backend.endpoint_breaker]
consecutive_failures = 4
open_jitter = 0
[upstreams.backend.breaker]
consecutive_failures = 3
open_jitter = 0
"#;

const TWO: &str = r#"
[upstreams.backend]
endpoints = ["10.0.0.1:80", "10.0.0.2:80"]
"#;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_failed_attempt_goes_to_the_other_endpoint_and_the_caller_is_told_how_many_it_took() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[FAILED]);
        net.answers(B, &[OK]);
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
        assert_eq!(net.dialed(), 2, "a superseded answer is read to its end and its connection lives on");
    });
}

#[test]
fn the_wait_before_a_retry_stays_within_the_backoff() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[FAILED, FAILED, OK]);
        let bench = Bench::new(&net, ONE).await;
        let started = clock::now();
        let seen = bench.get("/").await;
        assert_eq!(seen.status, 200);
        assert!(seen.head.contains("outrigger-attempts: 3"));
        // Two draws, from 0 to 25 ms and from 0 to 50 ms; tokio's timers round up to the next millisecond.
        assert!(clock::now() - started <= Duration::from_millis(75 + 2));
    });
}

#[test]
fn a_post_that_may_have_been_acted_on_is_sent_once_and_one_that_never_left_goes_again() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[FAILED]);
        let bench = Bench::new(&net, ONE).await;
        let seen = bench.post("/orders", "7").await;
        assert_eq!(seen.status, 500);
        assert!(
            seen.head.contains("proxy-status: outrigger; received-status=500; details=\"no retry: not_repeatable\"")
        );
        assert_eq!(net.arrived(), [format!("{A} POST /orders 7")]);

        let net = Net::default();
        net.answers(B, &[OK]);
        let bench = Bench::new(&net, TWO).await; // nobody listens on A
        for n in 1..=10 {
            assert_eq!(bench.post("/orders", "7").await.status, 200);
            assert_eq!(net.arrived().len(), n, "refused on one endpoint, sent to the other, once");
        }
    });
}

#[test]
fn a_route_may_declare_a_post_repeatable_and_its_body_is_sent_again_whole() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[FAILED, OK]);
        let config = format!("{ONE}\n[upstreams.backend.retry]\nidempotency_key = true\n");
        let bench = Bench::new(&net, &config).await;
        let mut caller = bench.connect();
        caller.say("POST / HTTP/1.1\r\nhost: backend\r\nidempotency-key: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        settle().await;
        caller.say("3\r\ndef\r\n0\r\n\r\n").await;
        assert_eq!(caller.answer().await.expect("an answer").status, 200);
        assert_eq!(net.arrived(), [format!("{A} POST / abcdef"), format!("{A} POST / abcdef")]);
        settle().await;
        assert_eq!(bench.shared.replay.kept(), 0, "what was kept is given back");
    });
}

#[test]
fn every_method_keeps_its_body_whatever_its_framing() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        for method in ["GET", "DELETE", "POST", "PUT"] {
            for framed in
                ["content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
            {
                let mut caller = bench.connect();
                caller.say(&format!("{method} / HTTP/1.1\r\nhost: backend\r\n{framed}")).await;
                assert_eq!(caller.answer().await.expect("an answer").status, 200);
                assert_eq!(net.arrived().pop(), Some(format!("{A} {method} / hello")), "{framed:?}");
            }
        }
    });
}

#[test]
fn a_body_that_is_no_body_is_refused_and_never_sent_as_an_empty_one() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        for _ in 0..2 {
            let mut caller = bench.connect();
            caller
                .say("POST / HTTP/1.1\r\nhost: backend\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n")
                .await;
            assert_eq!(caller.answer().await.map(|seen| seen.status), Some(400));
            assert_eq!(net.arrived(), Vec::<String>::new());
            assert_eq!(bench.get("/").await.status, 200, "now there is an idle connection to the endpoint");
            assert_eq!(net.arrived().len(), 1);
            net.forget();
        }
    });
}

#[test]
fn a_body_that_was_drawn_for_a_dead_connection_is_sent_again_whole() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |n, mut peer| async move {
            peer.request().await;
            peer.say(OK).await;
            if n > 0 {
                peer.closed().await;
            }
        });
        let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.retry]\nmax_attempts = 1\n")).await;
        assert_eq!(bench.get("/").await.status, 200); // its connection dies at once
        let seen = bench.post("/", "whole").await;
        assert!(
            seen.status == 200 && net.arrived().contains(&format!("{A} POST / whole")),
            "{seen:?} {:?}",
            net.arrived()
        );
    });
}

#[test]
fn trailers_go_out_with_every_attempt() {
    paused(async {
        let net = Net::default();
        let heads = net.raw_requests(A, "x-sum: 7\r\n\r\n", &[FAILED, OK]);
        let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.retry]\nidempotent = true\n")).await;
        let mut caller = bench.connect();
        caller.say("POST / HTTP/1.1\r\nhost: backend\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n").await;
        assert_eq!(caller.answer().await.expect("an answer").status, 200);
        let sums = heads.borrow().matches("x-sum: 7").count();
        assert_eq!(sums, 2, "{}", heads.borrow());
    });
}

#[test]
fn an_upload_goes_on_after_an_answer_that_came_early() {
    paused(async {
        let net = Net::default();
        let text = net.raw_requests(A, "one", &["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]);
        let bench = Bench::new(&net, &format!("listen.idle_timeout = \"20s\"\n{ONE}")).await;
        let mut caller = bench.connect();
        caller.say("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 11\r\n\r\none").await;
        assert_eq!(caller.answer().await.expect("an early answer").status, 200);
        settle().await;
        assert_eq!(bench.under_way(), (0, 0));
        for piece in [" two", " six"] {
            pass(seconds(12)).await;
            caller.say(piece).await;
        }
        settle().await;
        assert!(text.borrow().ends_with("one two six"), "{}", text.borrow());
        assert_eq!(bench.metric("outrigger_connections_closed_total", &["slow_head"]), 0.0);
    });
}

#[test]
fn an_answer_in_an_unknown_coding_is_no_answer() {
    paused(async {
        let net = Net::default();
        net.answers(A, &["HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nxxxx"]);
        let bench = Bench::new(&net, ONE).await;
        assert_eq!(bench.post("/", "x").await.status, 502);
    });
}

#[test]
fn a_body_beyond_the_replay_buffer_streams_through_and_is_not_repeated() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[FAILED]);
        let config = format!("{ONE}\n[upstreams.backend.retry]\nidempotent = true\nreplay_bytes_max = 4\n");
        let bench = Bench::new(&net, &config).await;
        let seen = bench.post("/", "12345").await;
        assert_eq!(seen.status, 500);
        assert!(seen.head.contains("no retry: body_too_large"));
        assert_eq!(bench.metric("outrigger_retries_refused_total", &["body_too_large"]), 1.0);
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
        let bench = Bench::new(&net, ONE).await;
        let started = clock::now();
        let seen = bench.get("/").await;
        assert_eq!((seen.status, net.arrived().len()), (504, 3));
        let took = clock::now() - started;
        assert!(
            took <= seconds(30) + Duration::from_millis(100),
            "the request's deadline holds over all attempts: {took:?}"
        );
        let seen = bench.post("/", "x").await;
        assert_eq!((seen.status, net.arrived().len()), (504, 4));
        settle().await;
        assert_eq!(bench.under_way(), (0, 0));
    });
}

#[test]
fn an_upload_may_take_longer_than_the_timeouts_because_they_measure_the_upstream() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        caller.say("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 6\r\n\r\n").await;
        for _ in 0..6 {
            pass(seconds(20)).await;
            caller.say("x").await;
        }
        assert_eq!(caller.answer().await.expect("an answer").status, 200);
        assert_eq!(net.arrived(), [format!("{A} POST / xxxxxx")]);
    });
}

#[test]
fn a_caller_that_stops_uploading_is_told_so() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        caller.say("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 6\r\n\r\nxx").await;
        let started = clock::now();
        assert_eq!(caller.answer().await.expect("an answer").status, 408);
        assert!(clock::now() - started >= seconds(30));
        settle().await;
        assert_eq!(bench.under_way(), (0, 0));
        assert_eq!(bench.metric("outrigger_breaker_transitions_total", &[]), 0.0);
    });
}

#[test]
fn an_open_breaker_answers_at_once_and_spends_neither_budget_nor_attempt() {
    paused(async {
        let net = Net::default();
        let bench = Bench::new(&net, ONE).await; // nobody listens
        for _ in 0..3 {
            bench.get("/").await;
        }
        let dialed = net.dialed();
        let balance = bench.shared.live().table.all()[0].default.budget.balance(clock::now());
        let started = clock::now();
        let seen = bench.get("/").await;
        assert_eq!((seen.status, clock::now()), (503, started), "no time passes");
        assert!(seen.head.contains("retry-after: 1") && seen.head.contains("error=destination_unavailable"));
        assert_eq!(net.dialed(), dialed);
        assert!(bench.shared.live().table.all()[0].default.budget.balance(clock::now()) >= balance);
    });
}

#[test]
fn a_breaker_that_opens_between_attempts_leaves_the_caller_the_real_answer() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[FAILED]);
        let config = ONE.replace("consecutive_failures = 4", "consecutive_failures = 1");
        let bench = Bench::new(&net, &config).await;
        let seen = bench.get("/").await;
        assert_eq!(
            (seen.status, seen.body.as_str()),
            (500, "oops"),
            "the endpoint's own answer, not a refusal of ours"
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
        net.answers(A, &[OK]);
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
fn a_probe_whose_caller_leaves_gives_its_place_to_the_next_request() {
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
        assert_eq!(bench.get("/").await.status, 200, "the place was given back");
        assert_eq!(bench.metric("outrigger_requests_total", &["caller_gone"]), 1.0);
        assert_eq!(bench.metric("outrigger_attempts_total", &["caller_gone"]), 1.0);
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
        net.answers(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let after = async |pause: u64, method: &str| {
            pass(Duration::from_millis(pause)).await;
            let status = if method == "POST" { bench.post("/", "x").await.status } else { bench.get("/").await.status };
            (status, net.dialed())
        };
        assert_eq!(after(0, "POST").await, (200, 1));
        assert_eq!(after(900, "POST").await, (200, 1), "busy a moment ago");
        assert_eq!(after(1_500, "GET").await, (200, 1), "a GET could be repeated");
        assert_eq!(after(1_500, "POST").await, (200, 2));
        assert_eq!(after(5_000, "GET").await, (200, 3), "beyond pool.idle_timeout nothing is reused");
    });
}

#[test]
fn retry_after_is_waited_for_and_one_beyond_the_deadline_ends_the_request_at_once() {
    paused(async {
        let net = Net::default();
        let busy = |after: u32| {
            format!("HTTP/1.1 503 Service Unavailable\r\nretry-after: {after}\r\ncontent-length: 0\r\n\r\n")
        };
        net.answers(A, &[&busy(2), OK, &busy(60)]);
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
fn a_body_streams_as_it_comes_and_its_place_is_free_when_it_has_ended() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
            pass(seconds(20)).await;
            peer.say("6\r\nsecond\r\n0\r\n\r\n").await;
            peer.closed().await;
        });
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        caller.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        let started = clock::now();
        let first = caller.piece().await.expect("the head and the first piece");
        let first = if first.contains("first") { first } else { caller.piece().await.expect("the first piece") };
        assert!(first.contains("first") && clock::now() == started);
        assert_eq!(bench.under_way(), (1, 1));
        assert!(caller.piece().await.expect("the second piece").contains("second"));
        settle().await;
        assert_eq!(bench.under_way(), (0, 0));
    });
}

#[test]
fn a_truncated_answer_is_never_ended_cleanly() {
    for head in ["content-length: 10\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        paused(async move {
            let net = Net::default();
            net.endpoint(A, move |_, mut peer| async move {
                peer.request().await;
                peer.say(&format!("HTTP/1.1 200 OK\r\n{head}")).await;
            });
            let bench = Bench::new(&net, ONE).await;
            let mut caller = bench.connect();
            caller.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
            assert!(caller.answer().await.is_none(), "{head:?} must not look whole");
            settle().await;
            assert_eq!(bench.metric("outrigger_requests_total", &["truncated"]), 1.0);
            assert_eq!(net.arrived().len(), 1, "nothing is retried once the head has gone down");
        });
    }
}

#[test]
fn a_body_that_stands_still_is_ended_whoever_is_to_blame() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
            peer.closed().await;
        });
        net.endpoint(B, |_, mut peer| async move {
            peer.request().await;
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await;
            peer.say(&"x".repeat(1_000_000)).await;
        });
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        caller.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        let started = clock::now();
        assert!(caller.answer().await.is_none());
        let waited = clock::now() - started;
        assert!((seconds(30)..seconds(32)).contains(&waited), "{waited:?}");
        assert_eq!(bench.metric("outrigger_connections_closed_total", &["endpoint_stalled"]), 1.0);
        let live = bench.shared.live();
        let upstream = live.upstreams().next().expect("one upstream");
        let failures = upstream.endpoints.load()[0].breaker.as_ref().map(|b| b.snapshot(clock::now()).failures);
        assert_eq!(failures, Some(1), "the endpoint has failed, though it was we who ended the connection");

        let bench = Bench::new(&net, &ONE.replace(A, B)).await;
        let mut caller = bench.connect();
        caller.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        pass(seconds(32)).await; // and reads nothing
        settle().await;
        assert_eq!(bench.metric("outrigger_connections_closed_total", &["caller_stalled"]), 1.0);
        assert_eq!(bench.under_way(), (0, 0));
    });
}

#[test]
fn the_end_of_an_answer_waits_for_a_slow_reader_longer_than_an_idle_connection_may() {
    paused(async {
        let net = Net::default();
        let body = "x".repeat(40_000); // more than the pipe holds: the rest stays in hyper's buffer
        net.answers(A, &[&format!("HTTP/1.1 200 OK\r\ncontent-length: 40000\r\n\r\n{body}")]);
        let bench = Bench::new(&net, &format!("listen.idle_timeout = \"5s\"\n{ONE}")).await;
        let mut caller = bench.connect();
        caller.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        pass(seconds(20)).await;
        assert_eq!(caller.answer().await.expect("a whole answer").body.len(), 40_000);
    });
}

#[test]
fn a_head_that_drips_and_a_connection_that_idles_are_ended() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let mut dripping = bench.connect();
        for byte in "GET / HTTP/1.1".chars() {
            dripping.say(&byte.to_string()).await;
            pass(Duration::from_millis(900)).await;
        }
        assert_eq!(dripping.answer().await.expect("an answer").status, 408);
        let mut idling = bench.connect();
        idling.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        assert_eq!(idling.answer().await.expect("an answer").status, 200);
        let started = clock::now();
        assert!(idling.piece().await.is_none());
        let waited = clock::now() - started;
        assert!((seconds(60)..seconds(62)).contains(&waited), "{waited:?}");
    });
}

#[test]
fn a_reload_keeps_what_did_not_change_and_a_request_keeps_its_generation() {
    paused(async {
        let net = Net::default();
        let bench = Bench::new(&net, ONE).await;
        for _ in 0..3 {
            bench.get("/").await;
        }
        assert_eq!(bench.get("/").await.status, 503);
        bench.reload(&format!(
            "{ONE}\n[upstreams.backend.timeouts]\nconnect = \"2s\"\n[upstreams.other]\nendpoints = [\"10.0.0.9:80\"]\n"
        )).await;
        assert_eq!(bench.get("/").await.status, 503, "an open breaker stays open over an unrelated change");
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            pass(seconds(5)).await;
            peer.say(OK).await;
        });
        bench
            .reload(
                &ONE.replace("consecutive_failures = 3", "consecutive_failures = 7")
                    .replace("consecutive_failures = 4", "consecutive_failures = 9"),
            )
            .await;
        let mut caller = bench.connect();
        caller.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        settle().await;
        bench.reload(&ONE.replace(A, B)).await;
        assert_eq!(
            caller.answer().await.expect("an answer").status,
            200,
            "changed numbers make a new breaker; the request goes on with what it began with"
        );
        assert_eq!(bench.get("/").await.status, 502, "the next one goes where the new file says");
        settle().await;
        assert_eq!(bench.under_way(), (0, 0));
    });
}

#[test]
fn a_route_that_gets_numbers_of_its_own_by_a_reload_gets_a_budget_and_a_breaker_of_its_own() {
    paused(async {
        let route = "\n[[upstreams.backend.routes]]\nname = \"pay\"\npath_prefix = \"/pay\"\n";
        let bench = Bench::new(&Net::default(), &format!("{ONE}{route}")).await;
        let shares = |bench: &Bench| {
            let live = bench.shared.live();
            let routes = &live.table.all()[0];
            let (default, pay) = (&routes.default, &routes.configured[0]);
            std::sync::Arc::ptr_eq(&default.budget, &pay.budget)
        };
        assert!(shares(&bench));
        bench.reload(&format!("{ONE}{route}budget = {{ ratio = 0.2 }}\n")).await;
        assert!(!shares(&bench), "equal numbers, but its own");
    });
}

#[test]
fn a_name_that_does_not_resolve_is_told_and_not_held_against_the_upstream() {
    paused(async {
        let bench = Bench::new(
            &Net::default(),
            "[upstreams.backend]\nendpoints = [\"backend.invalid:80\"]\nbreaker.consecutive_failures = 1\n",
        )
        .await;
        for _ in 0..3 {
            let seen = bench.get("/").await;
            assert!(seen.status == 502 && seen.body.contains("no_address"), "{seen:?}");
        }
    });
}

#[test]
fn beyond_the_in_flight_limit_a_request_is_refused_before_it_is_sent() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            pass(seconds(5)).await;
            peer.say(OK).await;
        });
        let bench = Bench::new(
            &net,
            &ONE.replace("[upstreams.backend.endpoint", "in_flight_max = 1\n[upstreams.backend.endpoint"),
        )
        .await;
        let mut first = bench.connect();
        first.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        settle().await;
        let seen = bench.get("/").await;
        assert_eq!(seen.status, 503);
        assert!(seen.body.contains("in_flight_limit"));
        assert_eq!(first.answer().await.expect("an answer").status, 200);
        assert_eq!(net.arrived().len(), 1);
    });
}

#[test]
fn the_budget_bounds_what_a_dead_endpoint_sees() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[FAILED]);
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
fn requests_go_to_configured_upstreams_or_nowhere() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let ask = async |request: &str| {
            let mut caller = bench.connect();
            caller.say(request).await;
            caller.answer().await.expect("an answer").status
        };
        assert_eq!(
            ask("GET http://backend/ HTTP/1.1\r\nhost: other\r\n\r\n").await,
            200,
            "an absolute target goes before Host"
        );
        assert_eq!(ask("GET http://other/ HTTP/1.1\r\nhost: backend\r\n\r\n").await, 421);
        assert_eq!(
            ask("GET / HTTP/1.1\r\nhost: 127.0.0.1:4140\r\n\r\n").await,
            200,
            "the only upstream is the default"
        );
        assert_eq!(ask("GET / HTTP/1.1\r\n\r\n").await, 400);
        assert_eq!(ask("CONNECT backend:80 HTTP/1.1\r\nhost: backend\r\n\r\n").await, 405);
        assert_eq!(net.arrived().len(), 2, "what was refused went nowhere");
    });
}
