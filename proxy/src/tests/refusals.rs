//! Bytes with two meanings: the proxy refuses them in their turn and reads nothing that follows.

use super::*;

#[test]
fn a_refused_head_is_answered_in_its_turn_whatever_pieces_it_comes_in() {
    let text = "GET /first HTTP/1.1\r\nhost: backend\r\n\r\n\
                POST /second HTTP/1.1\r\nhost: backend\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
                0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: backend\r\n\r\n";
    for step in [text.len(), 7, 1] {
        paused(async move {
            let net = Net::default();
            net.responds(A, &[OK]);
            let bench = Bench::new(&net, ONE).await;
            let mut client = bench.connect();
            for piece in text.as_bytes().chunks(step) {
                client.say(std::str::from_utf8(piece).expect("text")).await;
            }
            assert_eq!(client.response().await.expect("a response").status, 200, "in pieces of {step}");
            let refused = client.response().await.expect("a response");
            assert_eq!((refused.status, refused.head.contains("connection: close")), (400, true), "{}", refused.head);
            assert!(refused.body.contains("both Transfer-Encoding and Content-Length"), "{}", refused.body);
            assert!(client.response().await.is_none(), "nothing behind it is a request");
            assert_eq!(net.arrived(), [format!("{A} GET /first")]);
            pass(seconds(1)).await;
            assert_eq!(bench.metric("outrigger_connections_closed_total", &["refused"]), 1.0);
        });
    }
}

#[test]
fn what_is_refused_has_the_status_of_its_kind_and_is_counted_by_its_reason() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let long = "a".repeat(17_000);
        let many = "a: b\r\n".repeat(101);
        for (request, status, reason) in [
            (format!("GET /{long} HTTP/1.1\r\nhost: backend\r\n\r\n"), 414, "target_too_long"),
            (format!("GET / HTTP/1.1\r\nhost: backend\r\na: {long}\r\n\r\n"), 431, "head_too_large"),
            (format!("GET / HTTP/1.1\r\nhost: backend\r\n{many}\r\n"), 431, "head_too_large"),
            ("GET / HTTP/1.2\r\nhost: backend\r\n\r\n".to_owned(), 505, "version_not_supported"),
            ("GET / HTTP/1.1\nhost: backend\n\n".to_owned(), 400, "bad_request"),
            ("\u{16}\u{3}\u{1}".to_owned(), 400, "bad_request"),
        ] {
            let mut client = bench.connect();
            client.say(&request).await;
            let seen = client.response().await.expect("a response");
            assert_eq!(seen.status, status, "{reason}");
            assert!(seen.body.contains(reason), "{}", seen.body);
        }
        assert!(net.arrived().is_empty());
    });
}

#[test]
fn a_body_with_bad_chunks_never_ends_cleanly_for_the_endpoint() {
    paused(async {
        let net = Net::default();
        let seen = net.raw_requests(A, "0\r\n\r\n", &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say("POST / HTTP/1.1\r\nhost: backend\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        settle().await;
        client.say("3\r\ndefX0\r\n\r\n").await;
        let response = client.response().await.expect("a response");
        assert_eq!(response.status, 400, "{}", response.body);
        assert!(response.body.contains("malformed_request_body"), "{}", response.body);
        assert!(seen.borrow().contains("abc") && !seen.borrow().ends_with("0\r\n\r\n"), "{}", seen.borrow());
    });
}

#[test]
fn a_refusal_is_whole_whatever_the_request_before_it_was() {
    paused(async {
        let net = Net::default();
        net.responds(A, &["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"]);
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say("HEAD / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        assert_eq!(client.response_to_head().await.expect("a response").status, 200);
        client.say("GET /\r\n\r\n").await;
        let refused = client.response().await.expect("with its body");
        assert_eq!(refused.status, 400);
        assert!(refused.body.contains("request line"), "{}", refused.body);
    });
}
