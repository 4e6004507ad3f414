//! Interim answers, and a body that waits for one (RFC 9110 §10.1.1, §15.2).

use super::*;

const EARLY: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nkeep-alive: timeout=9\r\n\r\n";
const WAITING: &str = "POST / HTTP/1.1\r\nhost: backend\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";

/// The endpoint says `first` when the head has come, `then` when the body has.
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
fn interim_answers_are_handed_down_before_the_answer_and_only_to_who_knows_them() {
    paused(async {
        let net = Net::default();
        says(&net, EARLY, OK);
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        caller.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        let early = caller.piece().await.expect("before the answer is there");
        assert_eq!(early, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nvia: 1.1 outrigger\r\n\r\n");
        assert_eq!(caller.answer().await.expect("the answer").status, 200);
        let mut old = bench.connect();
        old.say("GET / HTTP/1.0\r\nhost: backend\r\n\r\n").await;
        assert_eq!(old.answer().await.expect("the answer, first of all").status, 200);
    });
}

#[test]
fn a_body_waits_until_the_endpoint_wants_it() {
    paused(async {
        let net = Net::default();
        let text = net.raw_requests(A, "\r\n\r\n", &["HTTP/1.1 100 Continue\r\n\r\n"]);
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        caller.say(WAITING).await;
        let told = caller.piece().await.expect("the endpoint's word");
        assert_eq!(told, "HTTP/1.1 100 Continue\r\n\r\n");
        assert!(text.borrow().contains("expect: 100-continue\r\n"), "{}", text.borrow());
        caller.say("hello").await;
        settle().await;
        assert!(text.borrow().ends_with("\r\n\r\nhello"), "{}", text.borrow());
    });
}

#[test]
fn an_endpoint_that_does_not_know_of_waiting_gets_the_body_after_a_second() {
    paused(async {
        let net = Net::default();
        says(&net, "", OK);
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        let started = clock::now();
        caller.say(WAITING).await;
        assert_eq!(caller.piece().await.expect("our word"), "HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!((clock::now() - started).as_secs(), 1);
        caller.say("hello").await;
        assert_eq!(caller.answer().await.expect("an answer").status, 200);
        // Who does not wait to be told is not told.
        caller.say(&format!("{WAITING}hello")).await;
        assert_eq!(caller.answer().await.expect("an answer").status, 200);
    });
}

#[test]
fn a_body_that_nobody_wants_is_not_sent() {
    paused(async {
        let net = Net::default();
        let refusal = "HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n";
        let text = net.raw_requests(A, "\r\n\r\n", &[refusal, refusal]);
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        caller.say(WAITING).await;
        let started = clock::now();
        let seen = caller.answer().await.expect("an answer");
        assert!(seen.status == 417 && seen.head.contains("\r\nconnection: close\r\n"), "{}", seen.head);
        assert!(caller.piece().await.is_none(), "behind the answer nothing is asked for");
        assert!(clock::now() - started < seconds(1), "and nothing is waited for");
        assert!(!text.borrow().contains("hello"));
        assert_eq!(bench.under_way(), (0, 0));
        // Nor when the answer is ours.
        let mut other = bench.connect();
        other.say(&WAITING.replace("POST /", "POST http://nobody/")).await;
        assert_eq!(other.answer().await.expect("an answer").status, 421);
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
        let mut caller = bench.connect();
        caller.say(WAITING).await;
        assert_eq!(caller.piece().await.expect("the second attempt's word"), "HTTP/1.1 100 Continue\r\n\r\n");
        caller.say("hello").await;
        settle().await;
        assert_eq!(text.borrow().matches("POST / HTTP/1.1").count(), 2);
        assert!(text.borrow().ends_with("hello"), "{}", text.borrow());
    });
}

#[test]
fn trailers_go_down_to_who_can_do_with_them() {
    paused(async {
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
        for (te, expected) in [("te: trailers, deflate\r\n", true), ("te: deflate\r\n", false), ("", false)] {
            let net = Net::default();
            let text = net.raw_requests(A, "\r\n\r\n", &[answer]);
            let bench = Bench::new(&net, ONE).await;
            let mut caller = bench.connect();
            caller.say(&format!("GET / HTTP/1.1\r\nhost: backend\r\nconnection: te\r\n{te}\r\n")).await;
            settle().await;
            let got = caller.piece().await.expect("an answer");
            assert_eq!(got.ends_with("0\r\nx-sum: 7\r\n\r\n"), expected, "{got}");
            assert_eq!(text.borrow().contains("connection: te\r\nte: trailers\r\n"), expected, "{}", text.borrow());
        }
    });
}

#[test]
fn options_go_as_far_as_they_may() {
    paused(async {
        let net = Net::default();
        let text = net.raw_requests(A, "\r\n\r\n", &[OK, OK]);
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        caller.say("OPTIONS http://backend HTTP/1.1\r\nhost: backend\r\nmax-forwards: 1\r\n\r\n").await;
        assert_eq!(caller.answer().await.expect("an answer").status, 200);
        assert!(text.borrow().starts_with("OPTIONS * HTTP/1.1\r\n"), "{}", text.borrow());
        assert!(text.borrow().contains("max-forwards: 0\r\n"), "{}", text.borrow());
        caller.say("OPTIONS / HTTP/1.1\r\nhost: backend\r\nmax-forwards: 0\r\n\r\n").await;
        let ours = caller.answer().await.expect("an answer");
        assert!(ours.status == 200 && ours.head.contains("allow: get, "), "{}", ours.head);
        assert_eq!(text.borrow().matches("OPTIONS").count(), 1);
    });
}
