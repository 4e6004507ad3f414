//! Request bodies: they reach the endpoint whole or the request fails, a retry repeats them only if they were kept, and a slow side slows the other down.

use super::*;

#[test]
fn a_route_may_declare_a_post_repeatable_and_its_body_is_sent_again_whole() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[FAILED, OK]);
        let config = format!("{ONE}\n[upstreams.backend.retry]\nidempotency_key = true\n");
        let bench = Bench::new(&net, &config).await;
        let mut client = bench.connect();
        client.say("POST / HTTP/1.1\r\nhost: backend\r\nidempotency-key: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        settle().await;
        client.say("3\r\ndef\r\n0\r\n\r\n").await;
        assert_eq!(client.response().await.expect("a response").status, 200);
        assert_eq!(net.arrived(), [format!("{A} POST / abcdef"), format!("{A} POST / abcdef")]);
        settle().await;
        assert_eq!(bench.shared.replay.kept(), 0, "what was kept is given back");
    });
}

#[test]
fn a_body_reaches_the_endpoint_whatever_its_method_and_framing() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        for method in ["GET", "DELETE", "POST", "PUT"] {
            for (framed, body) in [
                ("content-length: 5\r\n\r\nhello", "hello"),
                ("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"),
                // The data of the first chunk looks like the end of the body.
                ("transfer-encoding: chunked\r\n\r\n5\r\n0\r\n\r\n\r\n2\r\nok\r\n0\r\n\r\n", "0\r\n\r\nok"),
            ] {
                let mut client = bench.connect();
                client.say(&format!("{method} / HTTP/1.1\r\nhost: backend\r\n{framed}")).await;
                assert_eq!(client.response().await.expect("a response").status, 200);
                assert_eq!(net.arrived().pop(), Some(format!("{A} {method} / {body}")), "{framed:?}");
            }
        }
    });
}

#[test]
fn a_malformed_body_is_refused_and_never_sent_as_an_empty_one() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        for _ in 0..2 {
            let mut client = bench.connect();
            client
                .say("POST / HTTP/1.1\r\nhost: backend\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n")
                .await;
            assert_eq!(client.response().await.map(|seen| seen.status), Some(400));
            assert_eq!(net.arrived(), Vec::<String>::new());
            assert_eq!(bench.get("/").await.status, 200, "now there is an idle connection to the endpoint");
            assert_eq!(net.arrived().len(), 1);
            net.forget();
        }
    });
}

#[test]
fn a_body_that_was_read_for_a_dead_connection_is_sent_again_whole() {
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
        let mut client = bench.connect();
        client.say("POST / HTTP/1.1\r\nhost: backend\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n").await;
        assert_eq!(client.response().await.expect("a response").status, 200);
        let sums = heads.borrow().matches("x-sum: 7").count();
        assert_eq!(sums, 2, "{}", heads.borrow());
    });
}

#[test]
fn an_upload_goes_on_after_a_response_that_came_early() {
    paused(async {
        let net = Net::default();
        let text = net.raw_requests(A, "one", &["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]);
        let bench = Bench::new(&net, &format!("listen.idle_timeout = \"20s\"\n{ONE}\n{}", uploads::AT_ANY_PACE)).await;
        let mut client = bench.connect();
        client.say("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 11\r\n\r\none").await;
        assert_eq!(client.response().await.expect("an early response").status, 200);
        settle().await;
        assert_eq!(bench.under_way(), (1, 1));
        for piece in [" two", " six"] {
            pass(seconds(12)).await;
            client.say(piece).await;
        }
        settle().await;
        assert!(text.borrow().ends_with("one two six"), "{}", text.borrow());
        assert_eq!(bench.under_way(), (0, 0));
        assert_eq!(bench.metric("outrigger_connections_closed_total", &["header_timeout"]), 0.0);
    });
}

#[test]
fn a_body_beyond_the_replay_buffer_streams_through_and_is_not_repeated() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[FAILED]);
        let config = format!("{ONE}\n[upstreams.backend.retry]\nidempotent = true\nreplay_bytes_max = 4\n");
        let bench = Bench::new(&net, &config).await;
        let seen = bench.post("/", "12345").await;
        assert_eq!(seen.status, 500);
        assert!(seen.head.contains("no retry: body_not_buffered"));
        assert_eq!(bench.metric("outrigger_retries_refused_total", &["body_not_buffered"]), 1.0);
    });
}

#[test]
fn an_upload_may_take_longer_than_the_timeouts_because_they_measure_the_upstream() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, &format!("{ONE}\n{}", uploads::AT_ANY_PACE)).await;
        let mut client = bench.connect();
        client.say("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 6\r\n\r\n").await;
        for _ in 0..6 {
            pass(seconds(20)).await;
            client.say("x").await;
        }
        assert_eq!(client.response().await.expect("a response").status, 200);
        assert_eq!(net.arrived(), [format!("{A} POST / xxxxxx")]);
    });
}

#[test]
fn a_client_that_stops_uploading_gets_a_408() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, &format!("{ONE}\n{}", uploads::AT_ANY_PACE)).await;
        let mut client = bench.connect();
        client.say("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 6\r\n\r\nxx").await;
        let started = clock::now();
        assert_eq!(client.response().await.expect("a response").status, 408);
        assert!(clock::now() - started >= seconds(30));
        settle().await;
        assert_eq!(bench.under_way(), (0, 0));
        assert_eq!(bench.metric("outrigger_breaker_transitions_total", &[]), 0.0);
    });
}

#[test]
fn an_endpoint_that_takes_nothing_slows_its_client_down() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.head().await;
            pass(seconds(5)).await;
        });
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say("POST / HTTP/1.1\r\nhost: backend\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let chunks = "3\r\nabc\r\n".repeat(1_000);
        let mut taken = 0;
        while clock::until(clock::now() + seconds(1), client.say(&chunks)).await.is_some() {
            taken += chunks.len();
            assert!(taken < 1_000_000, "the proxy buffers what the endpoint does not read");
        }
    });
}
