//! Tunnels, by upgrade and by CONNECT: which requests begin one, which bytes pass through it, and how it ends.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::worker::Order;

const ASKED: &str = "GET /chat HTTP/1.1\r\nhost: backend\r\nconnection: keep-alive, Upgrade\r\nupgrade: h2c, WebSocket\r\nsec-websocket-key: k\r\n\r\n";
const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: a\r\n\r\n";

/// `ONE` with WebSocket allowed, and `more` keys of the upstream.
fn allowing(more: &str) -> String {
    ONE.replace(
        "[upstreams.backend.endpoint_",
        &format!("upgrade = [\"websocket\"]\n{more}\n[upstreams.backend.endpoint_"),
    )
}

/// The endpoint responds with `head`, and then echoes what it gets, in brackets, until the other side ends.
fn echoes(net: &Net, head: &'static str) {
    net.endpoint(A, move |_, mut peer| async move {
        peer.head().await;
        peer.say(head).await;
        while let Some(piece) = peer.piece().await {
            peer.say(&format!("<{piece}>")).await;
        }
        peer.say("bye").await;
        peer.end().await;
    });
}

/// Connections to endpoints, idle ones included.
fn connections(bench: &Bench) -> u32 {
    let live = bench.shared.live();
    let endpoints = live.upstreams().next().expect("one upstream").endpoints.load();
    endpoints.iter().map(|endpoint| endpoint.at.connections.load(Relaxed)).sum()
}

#[test]
fn an_allowed_upgrade_is_forwarded_and_once_granted_bytes_pass_both_ways() {
    paused(async {
        let net = Net::default();
        let text = net.raw_requests(A, "\r\n\r\n", &[SWITCHED]);
        let bench = Bench::new(&net, &allowing("")).await;
        let mut client = bench.connect();
        client.say(ASKED).await;
        let head = client.piece().await.expect("a response");
        assert_eq!(
            head,
            "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: a\r\nvia: 1.1 outrigger\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        );
        let sent = text.borrow().clone();
        assert!(sent.ends_with("\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"), "{sent}");
        assert!(sent.contains("sec-websocket-key: k\r\n") && !sent.contains("h2c"), "{sent}");

        echoes(&net, SWITCHED);
        let mut client = bench.connect();
        client.say(ASKED).await;
        client.piece().await.expect("a response");
        for said in ["one", "GET / HTTP/1.1\r\n\r\n"] {
            client.say(said).await;
            assert_eq!(client.piece().await.expect("an echo"), format!("<{said}>"));
        }
        assert_eq!((bench.shared.tunnels(), bench.under_way()), (2, (2, 2)));
        pass(seconds(1)).await;
        let labels = ["code=\"1xx\"", "outcome=\"success\""];
        assert_eq!(bench.metric("outrigger_requests_total", &labels), 2.0, "counted when they begin");
        client.end().await;
        assert_eq!(client.piece().await.expect("the other way is still open"), "bye");
        assert!(client.piece().await.is_none());
        settle().await;
        assert_eq!((bench.shared.tunnels(), bench.under_way()), (1, (1, 1)));
        assert_eq!(bench.metric("outrigger_requests_total", &labels), 2.0, "and only then");
        assert_eq!(connections(&bench), 1, "never kept for another request");
        assert_eq!(bench.metric("outrigger_connections_closed_total", &["done"]), 1.0);
    });
}

#[test]
fn an_upgrade_that_is_not_allowed_is_not_forwarded() {
    paused(async {
        let with_body = ASKED.replace("\r\n\r\n", "\r\ncontent-length: 2\r\n\r\nhi");
        let old = ASKED.replace("HTTP/1.1", "HTTP/1.0");
        let unasked = ASKED.replace("keep-alive, Upgrade", "keep-alive");
        let other = ASKED.replace(", WebSocket", "");
        let allowed = allowing("");
        for (config, request) in [
            (ONE, ASKED),
            (allowed.as_str(), with_body.as_str()),
            (allowed.as_str(), old.as_str()),
            (allowed.as_str(), unasked.as_str()),
            (allowed.as_str(), other.as_str()),
        ] {
            let net = Net::default();
            let end = if request.ends_with("hi") { "hi" } else { "\r\n\r\n" };
            let text = net.raw_requests(A, end, &[OK]);
            let bench = Bench::new(&net, config).await;
            let mut client = bench.connect();
            client.say(request).await;
            assert_eq!(client.response().await.expect("a response").status, 200, "{request}");
            assert!(!text.borrow().to_lowercase().contains("upgrade"), "{}", text.borrow());
        }
    });
}

#[test]
fn the_upgrades_of_a_route_replace_those_of_its_upstream() {
    paused(async {
        let net = Net::default();
        echoes(&net, SWITCHED);
        let routes =
            "[[upstreams.backend.routes]]\nname = \"chat\"\npath_prefix = \"/chat\"\nupgrade = [\"WebSocket\"]\n";
        let bench = Bench::new(&net, &format!("{ONE}{routes}")).await;
        let mut client = bench.connect();
        client.say(ASKED).await;
        assert!(client.piece().await.expect("a response").starts_with("HTTP/1.1 101 "));
        let mut client = bench.connect();
        client.say(&ASKED.replace("/chat", "/")).await;
        assert_eq!(client.response().await.expect("a response").status, 502, "the proxy forwarded no upgrade");

        let bench = Bench::new(&net, &format!("{}{}", allowing(""), routes.replace("\"WebSocket\"", ""))).await;
        let mut client = bench.connect();
        client.say(ASKED).await;
        assert_eq!(client.response().await.expect("a response").status, 502, "the proxy forwarded no upgrade");
    });
}

#[test]
fn an_endpoint_that_goes_on_with_something_else_is_refused() {
    paused(async {
        for named in ["upgrade: h2c\r\n", "upgrade: websocket, h2c\r\n", ""] {
            let net = Net::default();
            net.responds(A, &[&format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n{named}\r\nlater")]);
            let bench = Bench::new(&net, &allowing("")).await;
            let mut client = bench.connect();
            client.say(ASKED).await;
            let seen = client.response().await.expect("a response");
            assert!(seen.status == 502 && seen.body.contains("unexpected_upgrade"), "{named}: {seen:?}");
            settle().await;
            assert_eq!((connections(&bench), bench.shared.tunnels(), bench.under_way()), (0, 0, (0, 0)));
        }
    });
}

#[test]
fn no_byte_of_a_tunnel_goes_up_before_it_is_granted() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.head().await;
            let early = tokio::time::timeout(seconds(1), peer.piece()).await;
            assert!(early.is_err(), "{early:?}");
            peer.say(&format!("{SWITCHED}first")).await;
            let piece = peer.piece().await.expect("what had come early");
            peer.say(&format!("<{piece}>")).await;
            peer.closed().await;
        });
        let bench = Bench::new(&net, &allowing("")).await;
        let mut client = bench.connect();
        client.say(&format!("{ASKED}early")).await;
        assert_eq!(client.response_to_head().await.expect("a response").status, 101);
        assert_eq!(client.piece().await.as_deref(), Some("first<early>"));
    });
}

#[test]
fn an_upgrade_that_is_not_granted_ends_with_an_ordinary_response() {
    paused(async {
        let net = Net::default();
        let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
        let text = net.raw_requests(A, "\r\n\r\n", &[refusal, OK]);
        let bench = Bench::new(&net, &allowing("")).await;
        let mut client = bench.connect();
        client.say(ASKED).await;
        let seen = client.response().await.expect("a response");
        assert_eq!((seen.status, seen.body.as_str()), (403, "no"));
        // The proxy reads what follows as a request, or refuses it. The endpoint does not see a byte of it.
        client.say(&format!("{}\x01\x02", ASKED.replace("/chat", "/next"))).await;
        assert_eq!(client.response().await.expect("a response").status, 200);
        assert_eq!(client.response().await.expect("a response").status, 400);
        assert!(text.borrow().ends_with("\r\n\r\n"), "{}", text.borrow());
        assert_eq!((net.dialed(), bench.shared.tunnels()), (1, 0));
    });
}

#[test]
fn a_tunnel_is_retried_like_any_request_until_it_is_granted() {
    paused(async {
        let net = Net::default();
        net.raw_requests(A, "\r\n\r\n", &[FAILED, SWITCHED]);
        let bench = Bench::new(&net, &allowing("")).await;
        net.next_dials([DialFault::Refused]);
        let mut client = bench.connect();
        client.say(ASKED).await;
        let head = client.piece().await.expect("a response");
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("outrigger-attempts: 3\r\n"), "{head}");
    });
}

#[test]
fn each_direction_ends_independently() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.head().await;
            peer.say(&format!("{SWITCHED}all I had")).await;
            peer.end().await;
            let piece = peer.piece().await.expect("the other way is open");
            assert_eq!((piece.as_str(), peer.piece().await), ("more", None));
        });
        let bench = Bench::new(&net, &allowing("")).await;
        let mut client = bench.connect();
        client.say(ASKED).await;
        assert_eq!(client.response_to_head().await.expect("a response").status, 101);
        assert_eq!(client.piece().await.as_deref(), Some("all I had"));
        assert!(client.piece().await.is_none());
        pass(seconds(3)).await;
        assert_eq!(bench.under_way(), (1, 1));
        client.say("more").await;
        client.end().await;
        settle().await;
        assert_eq!(bench.under_way(), (0, 0));
        assert_eq!(bench.metric("outrigger_connections_closed_total", &["done"]), 1.0);
    });
}

#[test]
fn a_tunnel_through_which_nothing_passes_is_ended() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.head().await;
            peer.say(SWITCHED).await;
            for _ in 0..5 {
                pass(seconds(4)).await;
                peer.say("tick").await;
            }
            peer.closed().await;
        });
        let bench = Bench::new(&net, &allowing("timeouts.tunnel_idle = \"5s\"")).await;
        let mut client = bench.connect();
        client.say(ASKED).await;
        let started = clock::now();
        while client.piece().await.is_some() {}
        let lasted = clock::now() - started;
        assert!((seconds(25)..=seconds(27)).contains(&lasted), "{lasted:?}");
        settle().await;
        assert_eq!((connections(&bench), bench.shared.tunnels(), bench.under_way()), (0, 0, (0, 0)));
        assert_eq!(bench.metric("outrigger_connections_closed_total", &["tunnel_idle"]), 1.0);
    });
}

#[test]
fn a_tunnel_outlives_a_drain_until_the_deadline_of_the_drain() {
    paused(async {
        let net = Net::default();
        echoes(&net, SWITCHED);
        let bench = Bench::new(&net, &allowing("")).await;
        let mut client = bench.connect();
        client.say(ASKED).await;
        client.piece().await.expect("a response");
        bench.order(Order::Finish);
        pass(seconds(60)).await;
        client.say("still here").await;
        assert_eq!(client.piece().await.as_deref(), Some("<still here>"));
        bench.order(Order::CutOff);
        assert!(client.piece().await.is_none());
        settle().await;
        assert_eq!((connections(&bench), bench.shared.tunnels(), bench.under_way()), (0, 0, (0, 0)));
        assert_eq!(bench.metric("outrigger_connections_closed_total", &["cut_off"]), 1.0);
    });
}

#[test]
fn a_tunnel_keeps_its_slot_and_gives_its_permits_back() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[FAILED]);
        let numbers = "in_flight_max = 1\nretry.max_attempts = 1\nbreaker.consecutive_failures = 1\n";
        let config = format!("[upstreams.backend]\nendpoints = [\"{A}\"]\nupgrade = [\"websocket\"]\n{numbers}");
        let bench = Bench::new(&net, &config).await;
        assert_eq!((bench.get("/").await.status, bench.get("/").await.status), (500, 503), "the breaker is open");
        // Long enough for the breaker to admit a probe, and for the pool to drop the connections of the old script.
        pass(seconds(5)).await;
        echoes(&net, SWITCHED);
        let mut probe = bench.connect();
        probe.say(ASKED).await;
        assert!(probe.piece().await.expect("a response").starts_with("HTTP/1.1 101 "));
        let seen = bench.get("/").await;
        assert!(seen.status == 503 && seen.body.contains("in_flight_limit"), "{seen:?}");
        assert_eq!(bench.metric("outrigger_breaker_transitions_total", &["probes_succeeded"]), 1.0);
        net.responds(A, &[OK]);
        probe.end().await;
        while probe.piece().await.is_some() {}
        settle().await;
        assert_eq!(bench.get("/").await.status, 200);
    });
}

/// `ONE` with CONNECT allowed, and `more` keys of the upstream.
fn connecting(more: &str) -> String {
    ONE.replace("[upstreams.backend.endpoint_", &format!("connect = true\n{more}\n[upstreams.backend.endpoint_"))
}

/// The endpoint echoes what it gets, in brackets, without an HTTP response.
fn echoes_bytes(net: &Net) {
    net.endpoint(A, |_, mut peer| async move {
        while let Some(piece) = peer.piece().await {
            peer.say(&format!("<{piece}>")).await;
        }
    });
}

#[test]
fn connect_leads_to_an_endpoint_of_an_upstream_that_allows_it() {
    paused(async {
        let net = Net::default();
        echoes_bytes(&net);
        let route = "[[upstreams.backend.routes]]\nname = \"all\"\n";
        let bench = Bench::new(&net, &format!("{}{route}", connecting(""))).await;
        let mut client = bench.connect();
        client.say("CONNECT Backend:9 HTTP/1.1\r\nhost: other:9\r\nproxy-authorization: secret\r\n\r\n").await;
        assert_eq!(client.piece().await.as_deref(), Some("HTTP/1.1 200 OK\r\n\r\n"));
        client.say("GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(client.piece().await.as_deref(), Some("<GET / HTTP/1.1\r\n\r\n>"), "and nothing before it");
        assert_eq!((bench.shared.tunnels(), bench.under_way()), (1, (1, 1)));
        pass(seconds(1)).await;
        let labels = ["method=\"CONNECT\"", "code=\"2xx\"", "outcome=\"success\"", "route=\"default\""];
        assert_eq!(bench.metric("outrigger_requests_total", &labels), 1.0);
        client.end().await;
        assert!(client.piece().await.is_none());
        settle().await;
        assert_eq!((connections(&bench), bench.shared.tunnels(), bench.under_way()), (0, 0, (0, 0)));
    });
}

#[test]
fn connect_leads_nowhere_else() {
    paused(async {
        let net = Net::default();
        echoes_bytes(&net);
        let ask = async |config: &str, authority: &str| {
            let bench = Bench::new(&net, config).await;
            let mut client = bench.connect();
            client.say(&format!("CONNECT {authority} HTTP/1.1\r\nhost: backend\r\n\r\nearly")).await;
            client.response().await.expect("a response").status
        };
        let allowed = connecting("");
        assert_eq!(ask(ONE, "backend:80").await, 405);
        assert_eq!(ask(&allowed, "other:80").await, 421, "CONNECT does not fall back to the default upstream");
        assert_eq!(ask(&allowed, "10.0.0.1:80").await, 421, "CONNECT needs the upstream by name, not by address");
        assert_eq!(ask(&allowed, "169.254.169.254:80").await, 421);
        assert_eq!(net.dialed(), 0);
    });
}

#[test]
fn connect_takes_a_new_connection_and_is_retried_where_connecting_fails() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, &connecting("")).await;
        assert_eq!((bench.get("/").await.status, connections(&bench)), (200, 1));
        net.next_dials([DialFault::Refused, DialFault::Silent]);
        echoes_bytes(&net);
        let mut client = bench.connect();
        client.say("CONNECT backend:80 HTTP/1.1\r\nhost: backend\r\n\r\nearly").await;
        let started = clock::now();
        let seen = client.response_to_head().await.expect("a response");
        assert_eq!((seen.status, (clock::now() - started).as_secs()), (200, 1));
        assert!(seen.head.contains("outrigger-attempts: 3\r\n") && !seen.head.contains("content-length"), "{seen:?}");
        assert_eq!(client.piece().await.as_deref(), Some("<early>"));
        assert_eq!((net.dialed(), connections(&bench)), (4, 2), "a tunnel takes no idle connection");

        net.next_dials([DialFault::Refused; 3]);
        let mut client = bench.connect();
        client.say("CONNECT backend:80 HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        let seen = client.response().await.expect("a response");
        assert!(seen.status == 502 && seen.body.contains("connect_refused"), "{seen:?}");
    });
}

#[test]
fn a_tunnel_has_succeeded_when_it_begins() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            while let Some(head) = peer.head().await {
                peer.say(if head.contains("upgrade") { SWITCHED } else { FAILED }).await;
            }
        });
        let numbers = "retry.max_attempts = 1\nbreaker.consecutive_failures = 2\nendpoint_breaker.enabled = false";
        let config = format!("[upstreams.backend]\nendpoints = [\"{A}\"]\nupgrade = [\"websocket\"]\n{numbers}\n");
        let bench = Bench::new(&net, &config).await;
        assert_eq!(bench.get("/").await.status, 500);
        let mut open = bench.connect();
        open.say(ASKED).await;
        assert_eq!(open.response_to_head().await.expect("a response").status, 101);
        let seen = [bench.get("/").await.status, bench.get("/").await.status, bench.get("/").await.status];
        assert_eq!(seen, [500, 500, 503], "the tunnel reset the streak");
    });
}
