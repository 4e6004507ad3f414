//! The life of a downstream connection: several requests on it, what each may contain, and when it ends.

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nhost: backend\r\n\r\n";
/// It has no length: the end of the connection ends it.
const OPEN_ENDED: &str = "HTTP/1.1 200 OK\r\n\r\nall of it";

#[test]
fn requests_that_come_at_once_are_answered_one_after_the_other() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK, FAILED]);
        let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.retry]\nmax_attempts = 1\n")).await;
        let mut client = bench.connect();
        let post = "POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 5\r\n\r\nhello";
        client.say(&[GET, post, GET].concat()).await;
        for status in [200, 500, 500] {
            assert_eq!(client.response().await.expect("a response").status, status);
        }
        assert_eq!(net.arrived(), [format!("{A} GET /"), format!("{A} POST / hello"), format!("{A} GET /")]);
        assert_eq!(net.dialed(), 1, "one connection was enough");
    });
}

#[test]
fn an_http_1_0_client_gets_only_what_http_1_0_knows() {
    paused(async {
        let net = Net::default();
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        net.responds(A, &[OK, OK, chunked]);
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        for _ in 0..2 {
            client.say("GET / HTTP/1.0\r\nhost: backend\r\nconnection: keep-alive\r\n\r\n").await;
            let seen = client.response().await.expect("a response");
            assert!(seen.head.contains("\r\nconnection: keep-alive\r\n"), "{}", seen.head);
        }
        // HTTP/1.0 has no chunks, so only the end of the connection can end this body.
        client.say("GET / HTTP/1.0\r\nhost: backend\r\nconnection: keep-alive\r\n\r\n").await;
        let (mut all, started) = (String::new(), clock::now());
        while let Some(piece) = client.piece().await {
            all += &piece;
        }
        assert!(clock::now() - started < seconds(1), "the proxy ends the connection with the body and does not wait");
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
        let mut client = bench.connect();
        client
            .say("GET / HTTP/1.1\r\nHost: backend\r\nX-MiXeD:   a  b\t\r\nConnection: x-gone\r\nX-Gone: 1\r\n\r\n")
            .await;
        let seen = client.piece().await.expect("a response");
        assert_eq!(*text.borrow(), "GET / HTTP/1.1\r\nHost: backend\r\nX-MiXeD: a  b\r\nvia: 1.1 outrigger\r\n\r\n");
        assert!(seen.starts_with("HTTP/1.1 200 Fine By Me\r\nX-Odd: v\r\nvia: 1.1 outrigger\r\ndate: "), "{seen}");
    });
}

#[test]
fn a_response_that_ends_with_its_upstream_connection_arrives_whole() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            peer.say(OPEN_ENDED).await;
        });
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        for _ in 0..2 {
            client.say(GET).await;
            assert_eq!(client.response().await.expect("a response").body, "all of it");
        }
        assert_eq!(net.dialed(), 2);
    });
}

#[test]
fn the_rest_of_a_refused_upload_is_read_if_it_is_short() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        for (bytes, lives) in [(100_000, true), (400_000, false)] {
            let mut client = bench.connect();
            client
                .say(&format!("POST http://nobody/ HTTP/1.1\r\nhost: nobody\r\ncontent-length: {bytes}\r\n\r\n"))
                .await;
            assert_eq!(client.response().await.expect("a response before the body").status, 421);
            client.say(&"x".repeat(bytes)).await;
            client.say(GET).await;
            assert_eq!(client.response().await.map(|seen| seen.status), lives.then_some(200), "{bytes}");
        }
    });
}

#[test]
fn a_client_that_disconnects_ends_its_attempt() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            peer.closed().await;
        });
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say(GET).await;
        settle().await;
        assert_eq!(bench.under_way(), (1, 1));
        drop(client);
        settle().await;
        assert_eq!(bench.under_way(), (0, 0));
        assert_eq!(bench.metric("outrigger_requests_total", &["downstream_disconnect"]), 1.0);
    });
}

#[test]
fn a_client_that_shuts_down_its_sending_side_still_gets_its_responses() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            while peer.request().await.is_some() {
                pass(seconds(3)).await;
                peer.say(OK).await;
            }
        });
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say(&GET.repeat(2)).await;
        client.shut_down().await;
        for _ in 0..2 {
            let mut seen = client.response().await.expect("a response");
            if seen.status == 100 {
                seen = client.response().await.expect("the response behind it");
            }
            assert_eq!((seen.status, seen.body.as_str()), (200, "ok"));
        }
        assert!(client.response().await.is_none(), "and no more");
        assert_eq!(bench.metric("outrigger_requests_total", &["downstream_disconnect"]), 0.0);
        // HTTP/1.0 has no informational responses, so the proxy cannot probe whether this client still reads.
        let mut old = bench.connect();
        old.say("GET / HTTP/1.0\r\nhost: backend\r\n\r\n").await;
        settle().await;
        old.shut_down().await;
        assert!(old.piece().await.is_none());
        settle().await;
        assert_eq!(bench.metric("outrigger_requests_total", &["downstream_disconnect"]), 1.0);
    });
}

#[test]
fn no_request_goes_over_a_connection_whose_last_response_came_before_its_request_was_whole() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |n, mut peer| async move {
            if n > 0 {
                peer.request().await;
                return peer.say(OK).await;
            }
            // It has no use for the body, takes it for a request, and its response to that for one to the next.
            peer.head().await;
            peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n").await;
            pass(Duration::from_millis(300)).await;
            peer.say("0\r\n\r\n").await;
            peer.head().await;
            pass(seconds(1)).await;
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled").await;
            peer.closed().await;
        });
        let bench = Bench::new(&net, ONE).await;
        let body = "GET /smuggled HTTP/1.1\r\nhost: backend\r\n\r\n";
        let mut client = bench.connect();
        client.say(&format!("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: {}\r\n\r\n", body.len())).await;
        pass(Duration::from_millis(100)).await;
        client.say(body).await;
        assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
        assert_eq!(bench.get("/mine").await.body, "ok");
        assert_eq!(net.dialed(), 2);
    });
}
