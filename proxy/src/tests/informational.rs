//! Informational responses, and request bodies that wait for one (RFC 9110 §10.1.1, §15.2).

use super::*;

const EARLY: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nkeep-alive: timeout=9\r\n\r\n";
const WAITING: &str = "POST / HTTP/1.1\r\nhost: backend\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";

/// The endpoint sends `first` when it has the head, and `then` when it has the body.
fn says(net: &Net, first: &'static str, then: &'static str) {
    net.endpoint(A, move |_, mut peer| async move {
        while let Some(head) = peer.head().await {
            peer.say(first).await;
            if peer.body(&head).await.is_none() {
                return;
            }
            pass(Duration::from_millis(10)).await;
            peer.say(then).await;
        }
    });
}

#[test]
fn informational_responses_arrive_before_the_response_and_only_at_clients_that_know_them() {
    paused(async {
        let net = Net::default();
        says(&net, EARLY, OK);
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        let early = client.piece().await.expect("before the response is there");
        assert_eq!(early, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nvia: 1.1 outrigger\r\n\r\n");
        assert_eq!(client.response().await.expect("the response").status, 200);
        let mut old = bench.connect();
        old.say("GET / HTTP/1.0\r\nhost: backend\r\n\r\n").await;
        assert_eq!(old.response().await.expect("the response, first of all").status, 200);
    });
}

#[test]
fn a_body_waits_until_the_endpoint_wants_it() {
    paused(async {
        let net = Net::default();
        let text = net.raw_requests(A, "\r\n\r\n", &["HTTP/1.1 100 Continue\r\n\r\n"]);
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say(WAITING).await;
        let received = client.piece().await.expect("the endpoint's response");
        assert_eq!(received, "HTTP/1.1 100 Continue\r\n\r\n");
        assert!(text.borrow().contains("expect: 100-continue\r\n"), "{}", text.borrow());
        client.say("hello").await;
        settle().await;
        assert!(text.borrow().ends_with("\r\n\r\nhello"), "{}", text.borrow());
    });
}

#[test]
fn an_endpoint_that_ignores_expect_gets_the_body_after_a_second() {
    paused(async {
        let net = Net::default();
        says(&net, "", OK);
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        let started = clock::now();
        client.say(WAITING).await;
        assert_eq!(client.piece().await.expect("a response of the proxy's own"), "HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!((clock::now() - started).as_secs(), 1);
        client.say("hello").await;
        assert_eq!(client.response().await.expect("a response").status, 200);
        // A client that sends its body without waiting gets no 100.
        client.say(&format!("{WAITING}hello")).await;
        assert_eq!(client.response().await.expect("a response").status, 200);
    });
}

#[test]
fn a_body_that_the_endpoint_refuses_is_not_sent() {
    paused(async {
        let net = Net::default();
        let refusal = "HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n";
        let text = net.raw_requests(A, "\r\n\r\n", &[refusal, refusal]);
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say(WAITING).await;
        let started = clock::now();
        let seen = client.response().await.expect("a response");
        assert!(seen.status == 417 && seen.head.contains("\r\nconnection: close\r\n"), "{}", seen.head);
        assert!(client.piece().await.is_none(), "after the response no 100 follows");
        assert!(clock::now() - started < seconds(1), "and the proxy does not wait");
        assert!(!text.borrow().contains("hello"));
        assert_eq!(bench.under_way(), (0, 0));
        // The same holds for a response of the proxy's own.
        let mut other = bench.connect();
        other.say(&WAITING.replace("POST /", "POST http://nobody/")).await;
        assert_eq!(other.response().await.expect("a response").status, 421);
        assert!(other.piece().await.is_none());
    });
}

#[test]
fn the_body_that_waits_goes_to_the_attempt_that_wants_it() {
    paused(async {
        let net = Net::default();
        let text = net.raw_requests(A, "\r\n\r\n", &[FAILED, "HTTP/1.1 100 Continue\r\n\r\n"]);
        let config = format!("{ONE}\n[upstreams.backend.retry]\nidempotent = true\n");
        let bench = Bench::new(&net, &config).await;
        let mut client = bench.connect();
        client.say(WAITING).await;
        assert_eq!(client.piece().await.expect("the second attempt's response"), "HTTP/1.1 100 Continue\r\n\r\n");
        client.say("hello").await;
        settle().await;
        assert_eq!(text.borrow().matches("POST / HTTP/1.1").count(), 2);
        assert!(text.borrow().ends_with("hello"), "{}", text.borrow());
    });
}

#[test]
fn trailers_reach_only_clients_that_accept_them() {
    paused(async {
        let response = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
        for (te, expected) in [("te: trailers, deflate\r\n", true), ("te: deflate\r\n", false), ("", false)] {
            let net = Net::default();
            let text = net.raw_requests(A, "\r\n\r\n", &[response]);
            let bench = Bench::new(&net, ONE).await;
            let mut client = bench.connect();
            client.say(&format!("GET / HTTP/1.1\r\nhost: backend\r\nconnection: te\r\n{te}\r\n")).await;
            settle().await;
            let got = client.piece().await.expect("a response");
            assert_eq!(got.ends_with("0\r\nx-sum: 7\r\n\r\n"), expected, "{got}");
            assert_eq!(text.borrow().contains("connection: te\r\nte: trailers\r\n"), expected, "{}", text.borrow());
        }
    });
}

#[test]
fn options_go_as_far_as_max_forwards_allows() {
    paused(async {
        let net = Net::default();
        let text = net.raw_requests(A, "\r\n\r\n", &[OK, OK]);
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say("OPTIONS http://backend HTTP/1.1\r\nhost: backend\r\nmax-forwards: 1\r\n\r\n").await;
        assert_eq!(client.response().await.expect("a response").status, 200);
        assert!(text.borrow().starts_with("OPTIONS * HTTP/1.1\r\n"), "{}", text.borrow());
        assert!(text.borrow().contains("max-forwards: 0\r\n"), "{}", text.borrow());
        client.say("OPTIONS / HTTP/1.1\r\nhost: backend\r\nmax-forwards: 0\r\n\r\n").await;
        let ours = client.response().await.expect("a response");
        assert!(ours.status == 200 && ours.head.contains("allow: get, "), "{}", ours.head);
        assert_eq!(text.borrow().matches("OPTIONS").count(), 1);
    });
}
