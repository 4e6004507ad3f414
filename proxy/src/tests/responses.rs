//! Responses on their way to the client: they stream as they come, and the client can always see when one is cut off.

use super::*;

#[test]
fn a_response_in_an_unknown_transfer_coding_is_malformed() {
    paused(async {
        let net = Net::default();
        net.responds(A, &["HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nxxxx"]);
        let bench = Bench::new(&net, ONE).await;
        assert_eq!(bench.post("/", "x").await.status, 502);
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
        let mut client = bench.connect();
        client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        let started = clock::now();
        let first = client.piece().await.expect("the head and the first piece");
        let first = if first.contains("first") { first } else { client.piece().await.expect("the first piece") };
        assert!(first.contains("first") && clock::now() == started);
        assert_eq!(bench.under_way(), (1, 1));
        assert!(client.piece().await.expect("the second piece").contains("second"));
        settle().await;
        assert_eq!(bench.under_way(), (0, 0));
    });
}

#[test]
fn a_truncated_response_is_never_ended_cleanly() {
    for head in ["content-length: 10\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        paused(async move {
            let net = Net::default();
            net.endpoint(A, move |_, mut peer| async move {
                peer.request().await;
                peer.say(&format!("HTTP/1.1 200 OK\r\n{head}")).await;
            });
            let bench = Bench::new(&net, ONE).await;
            let mut client = bench.connect();
            client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
            assert!(client.response().await.is_none(), "{head:?} must not look whole");
            settle().await;
            assert_eq!(bench.metric("outrigger_requests_total", &["truncated"]), 1.0);
            assert_eq!(net.arrived().len(), 1, "nothing is retried once the head has gone down");
        });
    }
}

#[test]
fn a_body_that_stands_still_is_ended_whichever_side_stopped() {
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
        let mut client = bench.connect();
        client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        let started = clock::now();
        assert!(client.response().await.is_none());
        let waited = clock::now() - started;
        assert!((seconds(30)..seconds(32)).contains(&waited), "{waited:?}");
        assert_eq!(
            bench.metric("outrigger_connections_closed_total", &["reason=\"body_idle_timeout\"", "side=\"upstream\""]),
            1.0
        );
        let live = bench.shared.live();
        let upstream = live.upstreams().next().expect("one upstream");
        let failures = upstream.endpoints.load()[0].breaker.as_ref().map(|b| b.snapshot(clock::now()).failures);
        assert_eq!(failures, Some(0), "a stream that is quiet is no illness of its endpoint");

        let bench = Bench::new(&net, &ONE.replace(A, B)).await;
        let mut client = bench.connect();
        client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        pass(seconds(32)).await; // and reads nothing
        settle().await;
        assert_eq!(
            bench
                .metric("outrigger_connections_closed_total", &["reason=\"body_idle_timeout\"", "side=\"downstream\""]),
            1.0
        );
        assert_eq!(bench.under_way(), (0, 0));
    });
}

#[test]
fn the_end_of_a_response_waits_for_a_slow_reader_longer_than_an_idle_connection_may() {
    paused(async {
        let net = Net::default();
        let body = "x".repeat(40_000); // more than the pipe holds: the rest stays in the write buffer
        net.responds(A, &[&format!("HTTP/1.1 200 OK\r\ncontent-length: 40000\r\n\r\n{body}")]);
        let bench = Bench::new(&net, &format!("listen.idle_timeout = \"5s\"\n{ONE}")).await;
        let mut client = bench.connect();
        client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        pass(seconds(20)).await;
        assert_eq!(client.response().await.expect("a whole response").body.len(), 40_000);
    });
}

#[test]
fn a_truncated_response_is_never_ended_cleanly_when_its_reader_is_slow() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, move |_, mut peer| async move {
            peer.request().await;
            let seven = format!("1b58\r\n{}\r\n", "x".repeat(7000));
            peer.say(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{seven}{seven}")).await;
            pass(seconds(1)).await;
            peer.say(&format!("fa0\r\n{}\r\n", "y".repeat(4000))).await;
            pass(seconds(1)).await;
        });
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        pass(seconds(5)).await;
        assert!(client.response().await.is_none(), "must not look whole");
        settle().await;
        assert_eq!(bench.metric("outrigger_requests_total", &["truncated"]), 1.0);
    });
}
