//! One connection of the app after the other request: what it may bring, and when it ends.

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nhost: backend\r\n\r\n";
/// Its end is known by the connection's.
const OPEN_ENDED: &str = "HTTP/1.1 200 OK\r\n\r\nall of it";

#[test]
fn requests_that_come_at_once_are_answered_one_after_the_other() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[OK, FAILED]);
        let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.retry]\nmax_attempts = 1\n")).await;
        let mut caller = bench.connect();
        let post = "POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 5\r\n\r\nhello";
        caller.say(&[GET, post, GET].concat()).await;
        for status in [200, 500, 500] {
            assert_eq!(caller.answer().await.expect("an answer").status, status);
        }
        assert_eq!(net.arrived(), [format!("{A} GET /"), format!("{A} POST / hello"), format!("{A} GET /")]);
        assert_eq!(net.dialed(), 1, "one connection was enough");
    });
}

#[test]
fn an_old_caller_gets_what_it_understands() {
    paused(async {
        let net = Net::default();
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        net.answers(A, &[OK, OK, chunked]);
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        for _ in 0..2 {
            caller.say("GET / HTTP/1.0\r\nhost: backend\r\nconnection: keep-alive\r\n\r\n").await;
            let seen = caller.answer().await.expect("an answer");
            assert!(seen.head.contains("\r\nconnection: keep-alive\r\n"), "{}", seen.head);
        }
        // Without chunks only the connection's end can be the body's.
        caller.say("GET / HTTP/1.0\r\nhost: backend\r\nconnection: keep-alive\r\n\r\n").await;
        let (mut all, started) = (String::new(), clock::now());
        while let Some(piece) = caller.piece().await {
            all += &piece;
        }
        assert!(clock::now() - started < seconds(1), "an end that is waited for is none");
        assert!(all.contains("\r\nconnection: close\r\n") && all.ends_with("\r\n\r\nok"), "{all}");
    });
}

#[test]
fn names_keep_their_case_and_values_their_bytes() {
    paused(async {
        let net = Net::default();
        let text =
            net.raw_requests(A, "\r\n\r\n", &["HTTP/1.1 200 Fine By Me\r\nX-Odd:\tv \r\nContent-Length: 0\r\n\r\n"]);
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        caller
            .say("GET / HTTP/1.1\r\nHost: backend\r\nX-MiXeD:   a  b\t\r\nConnection: x-gone\r\nX-Gone: 1\r\n\r\n")
            .await;
        let seen = caller.piece().await.expect("an answer");
        assert_eq!(*text.borrow(), "GET / HTTP/1.1\r\nHost: backend\r\nX-MiXeD: a  b\r\nvia: 1.1 outrigger\r\n\r\n");
        assert!(seen.starts_with("HTTP/1.1 200 Fine By Me\r\nX-Odd: v\r\nvia: 1.1 outrigger\r\ndate: "), "{seen}");
    });
}

#[test]
fn an_answer_whose_end_is_its_connections_is_whole_here() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            peer.say(OPEN_ENDED).await;
        });
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        for _ in 0..2 {
            caller.say(GET).await;
            assert_eq!(caller.answer().await.expect("an answer").body, "all of it");
        }
        assert_eq!(net.dialed(), 2);
    });
}

#[test]
fn what_is_left_of_a_refused_upload_is_read_if_it_is_not_much() {
    paused(async {
        let net = Net::default();
        net.answers(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        for (bytes, lives) in [(100_000, true), (400_000, false)] {
            let mut caller = bench.connect();
            caller
                .say(&format!("POST http://nobody/ HTTP/1.1\r\nhost: nobody\r\ncontent-length: {bytes}\r\n\r\n"))
                .await;
            assert_eq!(caller.answer().await.expect("an answer before the body").status, 421);
            caller.say(&"x".repeat(bytes)).await;
            caller.say(GET).await;
            assert_eq!(caller.answer().await.map(|seen| seen.status), lives.then_some(200), "{bytes}");
        }
    });
}

#[test]
fn a_caller_that_leaves_takes_its_attempt_with_it() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            peer.closed().await;
        });
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        caller.say(GET).await;
        settle().await;
        assert_eq!(bench.under_way(), (1, 1));
        drop(caller);
        settle().await;
        assert_eq!(bench.under_way(), (0, 0));
        assert_eq!(bench.metric("outrigger_requests_total", &["downstream_disconnect"]), 1.0);
    });
}

#[test]
fn a_caller_that_sends_no_more_is_asked_whether_it_reads_and_answered() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            while peer.request().await.is_some() {
                pass(seconds(3)).await;
                peer.say(OK).await;
            }
        });
        let bench = Bench::new(&net, ONE).await;
        let mut caller = bench.connect();
        caller.say(&GET.repeat(2)).await;
        caller.shut_down().await;
        for _ in 0..2 {
            let mut seen = caller.answer().await.expect("an answer");
            if seen.status == 100 {
                seen = caller.answer().await.expect("the answer behind it");
            }
            assert_eq!((seen.status, seen.body.as_str()), (200, "ok"));
        }
        assert!(caller.answer().await.is_none(), "and no more");
        assert_eq!(bench.metric("outrigger_requests_total", &["downstream_disconnect"]), 0.0);
        // To HTTP/1.0 nothing may be said before the answer.
        let mut old = bench.connect();
        old.say("GET / HTTP/1.0\r\nhost: backend\r\n\r\n").await;
        settle().await;
        old.shut_down().await;
        assert!(old.piece().await.is_none());
        settle().await;
        assert_eq!(bench.metric("outrigger_requests_total", &["downstream_disconnect"]), 1.0);
    });
}
