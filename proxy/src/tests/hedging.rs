//! Two attempts at once. No key of the configuration asks for it yet; the loop decides it, and the exchange performs it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

use super::net::Peer;
use super::*;

/// When the second attempt goes out.
const HEDGE: Duration = Duration::from_millis(100);
/// tokio's timers round up to the next millisecond.
const TICK: Duration = Duration::from_millis(2);

/// Two endpoints. A route that gives up its second attempt makes no third.
const POLICIES: &str = r#"
[upstreams.backend]
endpoints = ["10.0.0.1:80", "10.0.0.2:80"]
[upstreams.backend.timeouts]
attempt = "1s"
connect = "1s"
[upstreams.backend.retry]
max_attempts = 2
replay_bytes_max = 1000
"#;

async fn hedging(net: &Net) -> Bench {
    Bench::edited(net, POLICIES, |policies| policies.hedge = Some(HEDGE)).await
}

/// What the endpoints saw, whichever of them it was.
#[derive(Clone, Default)]
struct Sight {
    arrived: Rc<Cell<usize>>,
    /// When each connection was closed that its endpoint had not answered.
    closed: Rc<RefCell<Vec<usize>>>,
}

/// Both endpoints do `script` with the n-th request (from 0) once its head has come, and then wait for the end of the connection.
fn endpoints<F>(net: &Net, script: impl Fn(usize, Peer, String) -> F + Clone + 'static) -> Sight
where
    F: Future<Output = Peer> + 'static,
{
    let sight = Sight::default();
    for address in [A, B] {
        let (script, sight) = (script.clone(), sight.clone());
        net.endpoint(address, move |_, mut peer| {
            let (script, sight) = (script.clone(), sight.clone());
            async move {
                let Some(head) = peer.head().await else { return };
                let n = sight.arrived.replace(sight.arrived.get() + 1);
                let mut peer = script(n, peer, head).await;
                peer.closed().await;
                sight.closed.borrow_mut().push(n);
            }
        });
    }
    sight
}

/// Both endpoints answer the n-th request after `times[n]`, with `answers[n]`.
fn answering(net: &Net, times: [Duration; 2], answers: [&'static str; 2]) -> Sight {
    endpoints(net, move |n, mut peer, _| async move {
        if clock::until(clock::now() + times[n], peer.closed()).await.is_none() {
            peer.say(answers[n]).await;
        }
        peer
    })
}

/// Attempts by their outcome, and that these were all.
fn check_attempts(bench: &Bench, what: &str, expected: &[(&str, f64)]) {
    for (outcome, count) in expected {
        assert_eq!(bench.metric("outrigger_attempts_total", &[outcome]), *count, "{what}: {outcome}");
    }
    let all: f64 = expected.iter().map(|(_, count)| count).sum();
    assert_eq!(bench.metric("outrigger_attempts_total", &[]), all, "{what}");
}

async fn check_nothing_is_left(bench: &Bench, what: &str) {
    settle().await;
    assert_eq!((bench.under_way(), bench.shared.replay.kept()), ((0, 0), 0), "{what}");
}

#[test]
fn whichever_attempt_answers_first_wins_and_the_other_is_dropped_unheard() {
    // When each of them answers, which one wins, and when.
    let rows = [
        ("the second", [seconds(9), Duration::from_millis(50)], 1, HEDGE + Duration::from_millis(50)),
        ("the first", [Duration::from_millis(150), seconds(9)], 0, Duration::from_millis(150)),
    ];
    for (what, times, winner, after) in rows {
        paused(async move {
            let net = Net::default();
            let sight = answering(&net, times, [OK, OK]);
            let bench = hedging(&net).await;
            let started = clock::now();
            let seen = bench.get("/").await;
            let waited = clock::now() - started;
            assert_eq!((seen.status, seen.body.as_str()), (200, "ok"), "{what}");
            assert!((after..=after + TICK).contains(&waited), "{what}: {waited:?}");
            assert!(seen.head.contains("outrigger-attempts: 2"), "{what}: {}", seen.head);
            check_nothing_is_left(&bench, what).await;
            assert_eq!(
                *sight.closed.borrow(),
                [1 - winner],
                "{what}: the loser's connection ends, the winner's lives on"
            );
            assert_eq!((sight.arrived.get(), net.dialed()), (2, 2), "{what}");
            check_attempts(&bench, what, &[("success", 1.0), ("superseded", 1.0)]);
            assert_eq!(bench.endpoint_results(), 1, "{what}: breakers hear of the winner alone");
            assert_eq!(bench.metric("outrigger_requests_total", &["success"]), 1.0, "{what}");
        });
    }
}

#[test]
fn the_second_attempt_goes_to_the_other_endpoint_when_it_is_time_and_not_before() {
    paused(async {
        for seed in 0..8 {
            let net = Net::default();
            let places = Rc::new(RefCell::new(Vec::new()));
            for address in [A, B] {
                let places = Rc::clone(&places);
                net.endpoint(address, move |_, mut peer| {
                    let places = Rc::clone(&places);
                    async move {
                        peer.head().await;
                        places.borrow_mut().push((address, clock::now()));
                        peer.closed().await;
                    }
                });
            }
            let bench = hedging(&net).await;
            bench.reseed(seed);
            assert_eq!(bench.get("/").await.status, 504);
            let places = places.borrow();
            let [(first, began), (second, hedged)] = places[..] else { panic!("two attempts: {places:?}") };
            assert_ne!(first, second, "seed {seed}");
            assert!((HEDGE..=HEDGE + TICK).contains(&(hedged - began)), "seed {seed}: {:?}", hedged - began);
        }
    });
}

#[test]
fn a_failed_attempt_leaves_it_to_the_other_one() {
    let rows = [
        ("the first fails", [Duration::from_millis(150), Duration::from_millis(200)], [FAILED, OK], 200),
        ("the second fails", [Duration::from_millis(400), Duration::from_millis(50)], [OK, FAILED], 200),
        ("both fail", [Duration::from_millis(150), Duration::from_millis(200)], [FAILED, FAILED], 500),
    ];
    for (what, times, answers, status) in rows {
        paused(async move {
            let net = Net::default();
            let sight = answering(&net, times, answers);
            let bench = hedging(&net).await;
            assert_eq!(bench.get("/").await.status, status, "{what}");
            let failures = answers.iter().filter(|answer| **answer == FAILED).count() as f64;
            check_attempts(&bench, what, &[("success", 2.0 - failures), ("failure", failures)]);
            assert_eq!((sight.arrived.get(), bench.endpoint_results()), (2, 2), "{what}");
            check_nothing_is_left(&bench, what).await;
        });
    }
}

#[test]
fn each_of_two_attempts_has_its_own_time() {
    paused(async {
        let net = Net::default();
        let sight = answering(&net, [seconds(60); 2], [OK; 2]);
        let bench = hedging(&net).await;
        let started = clock::now();
        assert_eq!(bench.get("/").await.status, 504);
        let (waited, after) = (clock::now() - started, HEDGE + seconds(1));
        assert!((after..=after + TICK).contains(&waited), "the second one began later and ends later: {waited:?}");
        check_attempts(&bench, "", &[("attempt_timeout", 2.0)]);
        check_nothing_is_left(&bench, "").await;
        assert_eq!(*sight.closed.borrow(), [0, 1]);
    });
}

#[test]
fn only_what_may_be_sent_twice_and_was_kept_whole_is_hedged() {
    let (small, large) = ("x".repeat(1_000), "x".repeat(1_001));
    let rows = [("GET", "", 2), ("PUT", small.as_str(), 2), ("PUT", &large, 1), ("POST", "", 1), ("POST", &small, 1)];
    for (method, body, attempts) in rows.map(|(method, body, attempts)| (method, body.to_owned(), attempts)) {
        paused(async move {
            let what = format!("{method} of {} bytes", body.len());
            let net = Net::default();
            let sight = answering(&net, [HEDGE * 3; 2], [OK; 2]);
            let bench = hedging(&net).await;
            let mut caller = bench.connect();
            let length = body.len();
            caller
                .say(&format!("{method} / HTTP/1.1\r\nhost: backend\r\ncontent-length: {length}\r\n\r\n{body}"))
                .await;
            assert_eq!(caller.response().await.expect("an answer").status, 200, "{what}");
            assert_eq!(sight.arrived.get(), attempts, "{what}");
            check_attempts(&bench, &what, &[("success", 1.0), ("superseded", (attempts - 1) as f64)]);
            check_nothing_is_left(&bench, &what).await;
        });
    }
}

#[test]
fn a_body_in_pieces_reaches_both_endpoints_whole() {
    paused(async {
        let net = Net::default();
        let bodies = Rc::new(RefCell::new(Vec::new()));
        let read = Rc::clone(&bodies);
        let sight = endpoints(&net, move |n, mut peer, head| {
            let bodies = Rc::clone(&read);
            async move {
                let body = peer.body(&head).await;
                bodies.borrow_mut().push((n, body, clock::now()));
                // The first one keeps silent.
                if n == 1 {
                    pass(Duration::from_millis(50)).await;
                    peer.say(OK).await;
                }
                peer
            }
        });
        let bench = hedging(&net).await;
        let mut caller = bench.connect();
        caller.say("PUT / HTTP/1.1\r\nhost: backend\r\ntransfer-encoding: chunked\r\n\r\n").await;
        // Some come before the second attempt, some after it has begun.
        for piece in ["one", "two", "three", "four", "five"] {
            caller.say(&format!("{:x}\r\n{piece}\r\n", piece.len())).await;
            pass(Duration::from_millis(40)).await;
        }
        let ended = clock::now();
        caller.say("0\r\n\r\n").await;
        assert_eq!(caller.response().await.expect("an answer").status, 200);
        bodies.borrow_mut().sort();
        let whole = Some("onetwothreefourfive".to_owned());
        assert_eq!(*bodies.borrow(), [(0, whole.clone(), ended), (1, whole, ended)], "and neither waits for the other");
        check_attempts(&bench, "", &[("success", 1.0), ("superseded", 1.0)]);
        check_nothing_is_left(&bench, "").await;
        assert_eq!(*sight.closed.borrow(), [0]);
    });
}

#[test]
fn a_body_that_outgrows_what_is_kept_leaves_one_attempt_to_finish_it() {
    paused(async {
        let net = Net::default();
        endpoints(&net, |_, mut peer, head| async move {
            if peer.body(&head).await.is_some_and(|body| body.len() == 1_200) {
                peer.say(OK).await;
            }
            peer
        });
        let bench = hedging(&net).await;
        let mut caller = bench.connect();
        caller.say("PUT / HTTP/1.1\r\nhost: backend\r\ntransfer-encoding: chunked\r\n\r\n").await;
        for _ in 0..3 {
            caller.say(&format!("190\r\n{}\r\n", "x".repeat(400))).await;
            pass(HEDGE * 3 / 4).await;
        }
        caller.say("0\r\n\r\n").await;
        assert_eq!(caller.response().await.expect("an answer").status, 200);
        check_attempts(&bench, "", &[("success", 1.0), ("superseded", 1.0)]);
        check_nothing_is_left(&bench, "").await;
    });
}

#[test]
fn a_caller_that_leaves_takes_both_attempts_with_it() {
    paused(async {
        let net = Net::default();
        let sight = answering(&net, [seconds(60); 2], [OK; 2]);
        let bench = hedging(&net).await;
        let mut caller = bench.connect();
        caller.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        pass(HEDGE * 2).await;
        assert_eq!(bench.under_way(), (1, 2));
        drop(caller);
        check_nothing_is_left(&bench, "").await;
        check_attempts(&bench, "", &[("downstream_disconnect", 2.0)]);
        assert_eq!((sight.closed.borrow().len(), bench.endpoint_results()), (2, 0));
    });
}
