//! Connections, generations and limits.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::worker::Order;

#[test]
fn a_head_that_comes_too_slowly_and_an_idle_connection_are_ended() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let mut slow = bench.connect();
        for byte in "GET / HTTP/1.1".chars() {
            slow.say(&byte.to_string()).await;
            pass(Duration::from_millis(900)).await;
        }
        assert_eq!(slow.response().await.expect("a response").status, 408);
        let mut idling = bench.connect();
        idling.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        assert_eq!(idling.response().await.expect("a response").status, 200);
        let started = clock::now();
        assert!(idling.piece().await.is_none());
        let waited = clock::now() - started;
        assert!((seconds(60)..seconds(62)).contains(&waited), "{waited:?}");
    });
}

#[test]
fn a_connection_that_has_carried_its_requests_ends_with_the_last_response() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, &format!("listen.requests_max = 2\n{ONE}")).await;
        let mut client = bench.connect();
        // One request more than the limit, all before any response.
        client.say(&"GET / HTTP/1.1\r\nhost: backend\r\n\r\n".repeat(3)).await;
        let closes = [false, true].map(|closes| Some((200, closes)));
        for expected in closes {
            let seen = client.response().await.map(|seen| (seen.status, seen.head.contains("connection: close\r\n")));
            assert_eq!(seen, expected);
        }
        assert!(client.piece().await.is_none(), "then it ends");
        pass(seconds(1)).await;
        assert_eq!((net.arrived().len(), bench.shared.connections()), (2, 0));
        assert_eq!(bench.metric("outrigger_connections_closed_total", &["done"]), 1.0);
        let unlimited = Bench::new(&net, ONE).await;
        let mut client = unlimited.connect();
        for _ in 0..100 {
            client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
            let seen = client.response().await.expect("a response");
            assert!(seen.status == 200 && !seen.head.contains("connection:"), "{seen:?}");
        }
    });
}

#[test]
fn time_for_which_the_worker_stood_still_counts_against_neither_side() {
    paused(async {
        let net = Net::default();
        let (go, arrived) =
            (std::rc::Rc::new(tokio::sync::Notify::new()), std::rc::Rc::new(tokio::sync::Notify::new()));
        let (going, arriving) = (std::rc::Rc::clone(&go), std::rc::Rc::clone(&arrived));
        net.endpoint(A, move |_, mut peer| {
            let (go, arrived) = (std::rc::Rc::clone(&going), std::rc::Rc::clone(&arriving));
            async move {
                peer.request().await;
                arrived.notify_one();
                go.notified().await;
                peer.say(OK).await;
            }
        });
        let bench = Bench::new(&net, ONE).await;
        for answered in [true, false] {
            let mut client = bench.connect();
            client.say("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 2\r\n\r\nhi").await;
            arrived.notified().await;
            tokio::time::advance(seconds(300)).await;
            let back = clock::now();
            if answered {
                settle().await;
                go.notify_one();
                assert_eq!(client.response().await.expect("a response").status, 200);
            } else {
                // The attempt still has what was left of its time, and no more.
                assert_eq!(client.response().await.expect("a response").status, 504);
                let waited = clock::now() - back;
                assert!((seconds(9)..=seconds(11)).contains(&waited), "{waited:?}");
            }
        }
    });
}

/// Lets the worker run for a moment in each of so many stretches of 450 ms, in which it otherwise stands still.
async fn starve(stretches: u32) {
    for _ in 0..stretches {
        tokio::time::advance(Duration::from_millis(400)).await;
        settle().await;
        pass(Duration::from_millis(50)).await;
        settle().await;
    }
}

#[test]
fn a_request_ends_within_twice_its_time_although_the_worker_hardly_runs() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.head().await;
            peer.closed().await;
        });
        let timeouts = "[upstreams.backend.timeouts]\nrequest = \"1s\"\nupload = \"2s\"\nidle_body = \"1s\"\n";
        let bench = Bench::new(&net, &format!("{ONE}{timeouts}")).await;
        let silent = "GET / HTTP/1.1\r\nhost: backend\r\n\r\n";
        let uploading = "POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 9\r\n\r\nhi";
        for (request, status) in [(silent, 504), (uploading, 408)] {
            let started = clock::now();
            let mut client = bench.connect();
            client.say(request).await;
            settle().await;
            tokio::select! {
                seen = client.response() => assert_eq!(seen.expect("a response").status, status),
                () = starve(20) => panic!("it does not end: {status}"),
            }
            let took = clock::now() - started;
            assert!(took >= seconds(1) && took < seconds(2), "{status}: {took:?}");
        }
    });
}

#[test]
fn a_connection_that_idles_is_ended_in_time_although_the_worker_hardly_runs_and_no_standstill_ends_it_at_once() {
    paused(async {
        let bench = Bench::new(&Net::default(), &format!("listen.idle_timeout = \"10s\"\n{ONE}")).await;
        let mut client = bench.connect();
        settle().await;
        tokio::time::advance(seconds(300)).await;
        settle().await;
        assert_eq!(bench.shared.connections(), 1, "the worker has not looked for what came meanwhile");
        let started = clock::now();
        tokio::select! {
            end = client.piece() => assert!(end.is_none()),
            () = starve(60) => panic!("it does not end"),
        }
        let took = clock::now() - started;
        assert!(took >= seconds(8) && took < seconds(12), "{took:?}");
    });
}

#[test]
fn a_response_that_flows_is_not_ended_although_the_worker_runs_less_often_than_a_body_may_stand_still() {
    paused(async {
        let net = Net::default();
        let go = std::rc::Rc::new(tokio::sync::Notify::new());
        let going = std::rc::Rc::clone(&go);
        net.endpoint(A, move |_, mut peer| {
            let go = std::rc::Rc::clone(&going);
            async move {
                peer.request().await;
                peer.say("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n").await;
                for _ in 0..20 {
                    go.notified().await;
                    peer.say("x").await;
                }
            }
        });
        let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.timeouts]\nidle_body = \"1s\"\n")).await;
        let mut client = bench.connect();
        client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        settle().await;
        for _ in 0..20 {
            tokio::time::advance(Duration::from_millis(1050)).await;
            settle().await;
            go.notify_one();
            settle().await;
        }
        assert_eq!(client.response().await.map(|seen| seen.body.len()), Some(20));
        assert_eq!(bench.endpoint_failures(), 0);
    });
}

#[test]
fn one_standstill_ends_no_head_and_no_idle_connection_before_what_came_meanwhile_is_read() {
    paused(async {
        for (begun, rest) in
            [("GET / HT", "TP/1.1\r\nhost: backend\r\n\r\n"), ("", "GET / HTTP/1.1\r\nhost: backend\r\n\r\n")]
        {
            // Wherever in the second between two looks the standstill begins.
            for after in 0..10 {
                let net = Net::default();
                net.responds(A, &[OK]);
                let limits = "listen.head_timeout = \"1s\"\nlisten.idle_timeout = \"1s\"\n";
                let bench = Bench::new(&net, &format!("{limits}{ONE}")).await;
                pass(Duration::from_millis(20 + 100 * after)).await;
                let mut client = bench.connect();
                client.say(begun).await;
                pass(Duration::from_millis(80)).await;
                tokio::time::advance(seconds(3)).await;
                settle().await;
                client.say(rest).await;
                assert_eq!(client.response().await.map(|seen| seen.status), Some(200), "{begun:?} {after}");
            }
        }
    });
}

#[test]
fn a_panic_ends_one_connection_and_gives_back_what_it_held() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let mut other = bench.connect();
        other.say("GET / HTTP/1.1\r\nhost: backend\r\ncontent-length: 2\r\n\r\n").await;
        settle().await;
        net.next_dials([DialFault::Panic]);
        let mut unlucky = bench.connect();
        unlucky.say("POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 2\r\n\r\nhi").await;
        assert!(unlucky.piece().await.is_none(), "its connection is gone");
        assert_eq!(bench.metric("outrigger_connections_closed_total", &["panic"]), 1.0);
        assert_eq!(bench.shared.connections(), 1, "the other one is there");
        assert_eq!(bench.under_way(), (1, 1));
        other.say("ok").await;
        assert_eq!(other.response().await.expect("a response").status, 200);
        settle().await;
        assert_eq!((bench.under_way(), bench.shared.replay.kept()), ((0, 0), 0));
        assert_eq!(bench.get("/").await.status, 200);
    });
}

#[test]
fn a_reload_keeps_what_did_not_change_and_a_request_keeps_its_generation() {
    paused(async {
        let net = Net::default();
        let bench = Bench::new(&net, ONE).await;
        for _ in 0..3 {
            bench.get("/").await;
        }
        assert_eq!(bench.get("/").await.status, 503);
        bench.reload(&format!(
            "{ONE}\n[upstreams.backend.timeouts]\nconnect = \"2s\"\n[upstreams.other]\nendpoints = [\"10.0.0.9:80\"]\n"
        )).await;
        assert_eq!(bench.get("/").await.status, 503, "an open breaker stays open over an unrelated change");
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            pass(seconds(5)).await;
            peer.say(OK).await;
        });
        bench
            .reload(
                &ONE.replace("consecutive_failures = 3", "consecutive_failures = 7")
                    .replace("consecutive_failures = 4", "consecutive_failures = 9"),
            )
            .await;
        let mut client = bench.connect();
        client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        settle().await;
        bench.reload(&ONE.replace(A, B)).await;
        assert_eq!(
            client.response().await.expect("a response").status,
            200,
            "changed numbers make a new breaker; the request goes on with what it began with"
        );
        assert_eq!(bench.get("/").await.status, 502, "the next request goes where the new file says");
        settle().await;
        assert_eq!(bench.under_way(), (0, 0));
    });
}

#[test]
fn a_route_that_gets_numbers_of_its_own_by_a_reload_gets_a_budget_and_a_breaker_of_its_own() {
    paused(async {
        let route = "\n[[upstreams.backend.routes]]\nname = \"pay\"\npath_prefix = \"/pay\"\n";
        let bench = Bench::new(&Net::default(), &format!("{ONE}{route}")).await;
        let shares = |bench: &Bench| {
            let live = bench.shared.live();
            let routes = &live.table.all()[0];
            let (default, pay) = (&routes.default, &routes.configured[0]);
            std::sync::Arc::ptr_eq(&default.policies.budget, &pay.policies.budget)
        };
        assert!(shares(&bench));
        bench.reload(&format!("{ONE}{route}budget = {{ ratio = 0.2 }}\n")).await;
        assert!(!shares(&bench), "the numbers are equal, but the route has its own");
    });
}

#[test]
fn a_name_that_does_not_resolve_is_reported_and_trips_no_breaker() {
    paused(async {
        let bench = Bench::new(
            &Net::default(),
            "[upstreams.backend]\nendpoints = [\"backend.invalid:80\"]\nbreaker.consecutive_failures = 1\n",
        )
        .await;
        let live = bench.shared.live();
        let mut lookups = live.upstreams().next().expect("one").endpoints.lookups();
        for _ in 0..3 {
            let seen = bench.get("/").await;
            assert!(seen.status == 502 && seen.body.contains("no_endpoints"), "{seen:?}");
            let asked_for = clock::until(clock::now(), lookups.changed()).await;
            assert!(asked_for.is_some(), "the name is looked up again at once");
        }
    });
}

#[test]
fn beyond_the_in_flight_limit_a_request_is_refused_before_it_is_sent() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            pass(seconds(5)).await;
            peer.say(OK).await;
        });
        let bench = Bench::new(
            &net,
            &ONE.replace("[upstreams.backend.endpoint", "in_flight_max = 1\n[upstreams.backend.endpoint"),
        )
        .await;
        let mut first = bench.connect();
        first.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        settle().await;
        let seen = bench.get("/").await;
        assert_eq!(seen.status, 503);
        assert!(seen.body.contains("in_flight_limit"));
        assert_eq!(first.response().await.expect("a response").status, 200);
        assert_eq!(net.arrived().len(), 1);
    });
}

#[test]
fn requests_go_to_configured_upstreams_or_nowhere() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let ask = async |request: &str| {
            let mut client = bench.connect();
            client.say(request).await;
            client.response().await.expect("a response").status
        };
        assert_eq!(
            ask("GET http://backend/ HTTP/1.1\r\nhost: other\r\n\r\n").await,
            200,
            "an absolute target goes before Host"
        );
        assert_eq!(ask("GET http://other/ HTTP/1.1\r\nhost: backend\r\n\r\n").await, 421);
        assert_eq!(
            ask("GET / HTTP/1.1\r\nhost: 127.0.0.1:4140\r\n\r\n").await,
            200,
            "the only upstream is the default"
        );
        assert_eq!(ask("GET / HTTP/1.1\r\n\r\n").await, 400);
        assert_eq!(ask("CONNECT backend:80 HTTP/1.1\r\nhost: backend\r\n\r\n").await, 405);
        assert_eq!(net.arrived().len(), 2, "no refused request reached the endpoint");
    });
}

#[test]
fn a_connection_that_falls_idle_during_the_stop_is_not_kept() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            pass(seconds(1)).await;
            peer.say(OK).await;
            peer.closed().await;
        });
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect();
        client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        settle().await;
        bench.order(Order::Finish);
        assert_eq!(client.response().await.expect("a response").status, 200);
        settle().await;
        let live = bench.shared.live();
        let endpoints = live.upstreams().next().expect("one upstream").endpoints.load();
        assert_eq!(endpoints[0].at.connections.load(Relaxed), 0);
    });
}
