//! Responses that come before their request is whole. The exchange lives until both directions have ended: what the proxy took from the client reaches the endpoint
//! as long as it reads, and until then nothing that the exchange holds is given back.

use std::cell::RefCell;
use std::rc::Rc;

use super::net::{Client, Peer};
use super::*;
use crate::worker::Order;

/// More than the pipe to an endpoint holds. So the last piece stays in the proxy until the endpoint reads.
const BODY: usize = 30_000;

/// What each connection of an endpoint has read of a body.
type Bodies = Rc<RefCell<Vec<String>>>;

/// The endpoint at `address` sends `response` as soon as it has the head of a request, and reads the body with `read`.
fn early<F>(net: &Net, address: &str, response: &'static str, read: impl Fn(Peer, String) -> F + 'static) -> Bodies
where
    F: Future<Output = Option<String>> + 'static,
{
    let bodies = Bodies::default();
    let (read, written) = (Rc::new(read), Rc::clone(&bodies));
    net.endpoint(address, move |_, mut peer| {
        let (read, written) = (Rc::clone(&read), Rc::clone(&written));
        async move {
            let head = peer.head().await.expect("a head");
            peer.say(response).await;
            let body = read(peer, head).await;
            written.borrow_mut().push(body.unwrap_or_else(|| "broken off".to_owned()));
        }
    });
    bodies
}

async fn read_at_once(mut peer: Peer, head: String) -> Option<String> {
    peer.body(&head).await
}

/// Reads nothing for 20 s.
async fn read_late(mut peer: Peer, head: String) -> Option<String> {
    pass(seconds(20)).await;
    peer.body(&head).await
}

/// Reads 4 KiB every 10 s.
async fn read_slowly(mut peer: Peer, _: String) -> Option<String> {
    // What came with the head is not in the pipe any more.
    let mut taken = peer.take(4 * 1024).await;
    while taken < BODY {
        pass(seconds(10)).await;
        taken += match peer.take(4 * 1024).await {
            0 => return None,
            n => n,
        };
    }
    Some("x".repeat(taken))
}

fn post(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: {length}\r\n\r\n")
}

/// Sends a request whose whole body the proxy takes, although its endpoint does not read. Returns when the response is there.
async fn send_whole(client: &mut Client) {
    client.say(&(post(BODY) + &"x".repeat(BODY))).await;
    assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
}

async fn check_nothing_is_left(bench: &Bench) {
    settle().await;
    assert_eq!((bench.under_way(), bench.shared.requests().1, bench.shared.replay.kept()), ((0, 0), 0, 0));
    assert_eq!(bench.metric("outrigger_breaker_transitions_total", &[]), 0.0);
}

#[test]
fn what_was_taken_of_a_request_reaches_the_endpoint_though_its_client_has_left() {
    for read in ["late", "slowly"] {
        paused(async move {
            let net = Net::default();
            let bodies = if read == "late" { early(&net, A, OK, read_late) } else { early(&net, A, OK, read_slowly) };
            let bench = Bench::new(&net, ONE).await;
            let mut client = bench.connect();
            send_whole(&mut client).await;
            drop(client);
            settle().await;
            assert_eq!((bench.under_way(), bench.shared.requests().1), ((1, 1), 1), "{read}");
            pass(seconds(120)).await;
            assert_eq!(*bodies.borrow(), ["x".repeat(BODY)], "{read}");
            assert_eq!(bench.metric("outrigger_requests_total", &["success"]), 1.0);
            check_nothing_is_left(&bench).await;
        });
    }
}

#[test]
fn a_drain_waits_for_an_upload_whose_response_has_come() {
    for response in [OK, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"] {
        paused(async move {
            let net = Net::default();
            let bodies = early(&net, A, response, read_at_once);
            let bench = Bench::new(&net, &format!("{ONE}\n{}", uploads::AT_ANY_PACE)).await;
            let mut client = bench.connect();
            client.say(&post(10)).await;
            assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
            bench.order(Order::Finish);
            for piece in ["01234", "56789"] {
                pass(seconds(25)).await;
                assert_eq!(bench.shared.requests().1, 1);
                client.say(piece).await;
            }
            assert_eq!(client.piece().await, None, "then the connection ends");
            assert_eq!(*bodies.borrow(), ["0123456789"]);
            check_nothing_is_left(&bench).await;
            // It waits for a moment for what the client may have sent meanwhile.
            pass(seconds(1)).await;
            assert_eq!(bench.shared.connections(), 0);
        });
    }
}

#[test]
fn a_drain_does_not_close_on_a_client_that_still_sends_what_is_discarded() {
    paused(async {
        let net = Net::default();
        early(&net, A, "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n", |peer, _| async move {
            drop(peer);
            None
        });
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say(&post(100)).await;
        assert_eq!(client.response().await.map(|seen| seen.status), Some(413));
        client.say("x").await;
        check_nothing_is_left(&bench).await;
        bench.order(Order::Finish);
        // A connection that is closed with unread bytes is reset, and its last response with it.
        pass(Duration::from_millis(450)).await;
        assert_eq!(bench.shared.connections(), 1);
        pass(seconds(1)).await;
        assert_eq!(bench.shared.connections(), 0);
    });
}

#[test]
fn an_upload_keeps_its_slot_after_its_response() {
    paused(async {
        let net = Net::default();
        let bodies = early(&net, A, OK, read_at_once);
        let config = ONE.replace("[upstreams.backend.endpoint", "in_flight_max = 1\n[upstreams.backend.endpoint");
        let bench = Bench::new(&net, &config).await;
        let mut client = bench.connect();
        client.say(&post(4)).await;
        assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
        let seen = bench.get("/").await;
        assert!(seen.status == 503 && seen.body.contains("in_flight_limit"), "{seen:?}");
        client.say("done").await;
        settle().await;
        assert_eq!(*bodies.borrow(), ["done"]);
        assert_eq!(bench.get("/").await.status, 200);
        // The same client connection goes on, but not the endpoint's.
        client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
        assert_eq!(net.dialed(), 3);
    });
}

#[test]
fn idle_body_is_the_time_between_two_pieces_and_not_the_time_for_all() {
    paused(async {
        let net = Net::default();
        let bodies = early(&net, A, OK, read_at_once);
        let config = format!("{ONE}\n{}idle_body = \"2s\"\n", uploads::AT_ANY_PACE);
        let bench = Bench::new(&net, &config).await;
        let mut client = bench.connect();
        client.say(&post(12)).await;
        assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
        for _ in 0..12 {
            pass(Duration::from_millis(900)).await;
            client.say("x").await;
        }
        settle().await;
        assert_eq!(*bodies.borrow(), ["x".repeat(12)]);
        let mut client = bench.connect();
        client.say(&post(12)).await;
        assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
        let started = clock::now();
        client.say("x").await;
        assert_eq!(client.piece().await, None);
        let waited = clock::now() - started;
        assert!((seconds(2)..=seconds(4)).contains(&waited), "{waited:?}");
        settle().await;
        assert_eq!(bodies.borrow()[1], "broken off");
        let closed = ["reason=\"body_idle_timeout\"", "side=\"downstream\""];
        assert_eq!(bench.metric("outrigger_connections_closed_total", &closed), 1.0);
        check_nothing_is_left(&bench).await;
    });
}

#[test]
fn an_endpoint_that_reads_nothing_after_its_response_ends_the_exchange_when_the_idle_time_is_over() {
    paused(async {
        let net = Net::default();
        early(&net, A, OK, |peer, _| async move {
            pass(seconds(100)).await;
            drop(peer);
            None
        });
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        send_whole(&mut client).await;
        assert_eq!(bench.endpoint_results(), 1, "its response is its verdict");
        let started = clock::now();
        assert_eq!(client.piece().await, None);
        let waited = clock::now() - started;
        assert!((seconds(29)..=seconds(32)).contains(&waited), "{waited:?}");
        let closed = ["reason=\"body_idle_timeout\"", "side=\"upstream\""];
        assert_eq!(bench.metric("outrigger_connections_closed_total", &closed), 1.0);
        check_nothing_is_left(&bench).await;
    });
}

#[test]
fn what_has_arrived_whole_may_be_written_for_the_idle_time_after_the_limit_of_the_upload() {
    paused(async {
        let net = Net::default();
        let bodies = early(&net, A, OK, read_slowly);
        // The pipe has room again after 10 s, and then the last piece is read from the client.
        let limits = "[upstreams.backend.timeouts]\nupload = \"11s\"\nidle_body = \"12s\"\n";
        let bench = Bench::new(&net, &format!("{ONE}\n{limits}")).await;
        let mut client = bench.connect();
        send_whole(&mut client).await;
        let started = clock::now();
        assert_eq!(client.piece().await, None);
        let waited = clock::now() - started;
        assert!((seconds(22)..=seconds(25)).contains(&waited), "{waited:?}");
        // What the pipe holds is out of reach.
        pass(seconds(100)).await;
        assert_eq!(*bodies.borrow(), ["broken off"]);
        check_nothing_is_left(&bench).await;
    });
}

#[test]
fn a_client_that_reads_no_response_before_its_request_is_sent_can_send_it() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            let head = peer.head().await.expect("a head");
            // It writes and reads at the same time: first as much as the proxy takes, then the rest.
            let response = format!("HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n{}", "y".repeat(200_000));
            let (first, second) = response.split_at(30_000);
            peer.say(first).await;
            assert_eq!(peer.body(&head).await.map(|body| body.len()), Some(500_000));
            peer.say(second).await;
        });
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        let request = post(500_000) + &"x".repeat(500_000);
        let sent = client.say(&request);
        assert!(clock::until(clock::now() + seconds(5), sent).await.is_some(), "the upload stands still");
        assert_eq!(client.response().await.map(|seen| seen.body.len()), Some(200_000));
        check_nothing_is_left(&bench).await;
    });
}

#[test]
fn an_endpoint_that_responds_early_gets_the_kept_part_of_a_repeated_body_too() {
    paused(async {
        let length = 60_000;
        let net = Net::default();
        let bodies = Bodies::default();
        let written = Rc::clone(&bodies);
        net.endpoint(A, move |n, mut peer| {
            let written = Rc::clone(&written);
            async move {
                let head = peer.head().await.expect("a head");
                if n == 0 {
                    peer.body(&head).await;
                    peer.say("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
                    return;
                }
                peer.say(OK).await;
                let body = read_late(peer, head).await;
                written.borrow_mut().push(body.expect("the whole body"));
            }
        });
        let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.retry]\nidempotent = true\n")).await;
        let mut client = bench.connect();
        client.say(&(post(length) + &"x".repeat(length))).await;
        assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
        assert!(bench.shared.replay.kept() > 0, "it is not sent yet");
        pass(seconds(30)).await;
        assert_eq!(*bodies.borrow(), ["x".repeat(length)]);
        check_nothing_is_left(&bench).await;
    });
}

#[test]
fn a_chunked_request_arrives_with_its_trailers_after_a_reload_in_the_middle() {
    paused(async {
        let net = Net::default();
        let text = net.raw_requests(A, "3\r\none\r\n", &[OK]);
        let bench = Bench::new(&net, &format!("{ONE}\n{}", uploads::AT_ANY_PACE)).await;
        let mut client = bench.connect();
        client.say("POST / HTTP/1.1\r\nhost: backend\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
        assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
        // The request keeps the limits of its own generation.
        let limits = "[upstreams.backend.timeouts]\nidle_body = \"1s\"\nupload = \"1s\"\n";
        bench.reload(&format!("{}\n{limits}", ONE.replace(A, B))).await;
        pass(seconds(20)).await;
        client.say("3\r\ntwo\r\n0\r\nx-sum: 6\r\n\r\n").await;
        settle().await;
        assert!(text.borrow().ends_with("3\r\none\r\n3\r\ntwo\r\n0\r\nx-sum: 6\r\n\r\n"), "{}", text.borrow());
        check_nothing_is_left(&bench).await;
    });
}

#[test]
fn an_upload_that_flows_keeps_its_response_alive_which_comes_when_it_has_ended() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            let head = peer.head().await.expect("a head");
            peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n").await;
            assert_eq!(peer.body(&head).await.map(|body| body.len()), Some(10));
            peer.say("0\r\n\r\n").await;
        });
        let bench = Bench::new(&net, &format!("{ONE}\n{}", uploads::AT_ANY_PACE)).await;
        let mut client = bench.connect();
        client.say(&post(10)).await;
        for _ in 0..10 {
            pass(seconds(20)).await;
            client.say("x").await;
        }
        assert_eq!(client.response().await.map(|seen| seen.body), Some("ok".to_owned()));
        check_nothing_is_left(&bench).await;
    });
}

#[test]
fn an_endpoint_that_waits_for_the_rest_of_a_request_is_not_blamed_for_its_silence() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            let head = peer.head().await.expect("a head");
            peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n").await;
            assert_eq!(peer.body(&head).await, None);
        });
        let bench = Bench::new(&net, &format!("{ONE}\n{}", uploads::AT_ANY_PACE)).await;
        let mut client = bench.connect();
        client.say(&post(10)).await;
        assert_eq!(client.response().await.map(|seen| seen.status), None, "it breaks off");
        let closed = ["reason=\"body_idle_timeout\"", "side=\"downstream\""];
        assert_eq!(bench.metric("outrigger_connections_closed_total", &closed), 1.0);
        check_nothing_is_left(&bench).await;
        assert_eq!((bench.endpoint_results(), bench.endpoint_failures()), (0, 0), "a head alone says nothing");
    });
}

#[test]
fn an_endpoint_that_reads_too_slowly_beside_its_response_gets_no_more_and_the_response_goes_on() {
    paused(async {
        let net = Net::default();
        let taken = Rc::new(RefCell::new(0));
        let counted = Rc::clone(&taken);
        net.endpoint(A, move |_, mut peer| {
            let taken = Rc::clone(&counted);
            async move {
                peer.head().await;
                peer.say("HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n").await;
                for _ in 0..30 {
                    let until = clock::now() + seconds(5);
                    *taken.borrow_mut() += clock::until(until, peer.take(1024)).await.unwrap_or(0);
                    clock::sleep_until(until).await;
                    peer.say("x").await;
                }
                *taken.borrow_mut() += peer.take(usize::from(u16::MAX)).await;
            }
        });
        let limits = "[upstreams.backend.timeouts]\nupload = \"60s\"\n";
        let bench = Bench::new(&net, &format!("{ONE}\n{limits}")).await;
        let mut client = bench.connect();
        let request = post(1_000_000) + &"x".repeat(1_000_000);
        clock::until(clock::now() + seconds(1), client.say(&request)).await;
        assert_eq!(client.response().await.map(|seen| seen.body.len()), Some(30));
        settle().await;
        // 12 KiB in a minute, and what the pipe held then.
        assert!(*taken.borrow() <= 30 * 1024, "{} bytes", taken.borrow());
        assert_eq!(client.piece().await, None, "the client sees that its request did not arrive");
        check_nothing_is_left(&bench).await;
    });
}
