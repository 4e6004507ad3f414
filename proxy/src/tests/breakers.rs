//! Breakers on the way of a request: how the proxy responds while one is open, how it closes, and when a probe's permit goes back.

use super::*;

#[test]
fn an_open_breaker_refuses_at_once_and_spends_neither_budget_nor_attempt() {
    paused(async {
        let net = Net::default();
        let bench = Bench::new(&net, ONE).await; // no endpoint listens
        for _ in 0..3 {
            bench.get("/").await;
        }
        let dialed = net.dialed();
        let balance = bench.shared.live().table.all()[0].default.policies.budget.balance(clock::now());
        let started = clock::now();
        let seen = bench.get("/").await;
        assert_eq!((seen.status, clock::now()), (503, started), "no time passes");
        assert!(seen.head.contains("retry-after: 1") && seen.head.contains("error=destination_unavailable"));
        assert_eq!(net.dialed(), dialed);
        assert!(bench.shared.live().table.all()[0].default.policies.budget.balance(clock::now()) >= balance);
    });
}

#[test]
fn a_breaker_that_opens_between_attempts_leaves_the_client_the_upstreams_response() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[FAILED]);
        let config = ONE.replace("consecutive_failures = 4", "consecutive_failures = 1");
        let bench = Bench::new(&net, &config).await;
        let seen = bench.get("/").await;
        assert_eq!(
            (seen.status, seen.body.as_str()),
            (500, "oops"),
            "the endpoint's own response, not a refusal of ours"
        );
        assert_eq!(net.arrived().len(), 1);
    });
}

#[test]
fn the_breaker_closes_by_one_probe_after_the_return_of_the_endpoint() {
    paused(async {
        let net = Net::default();
        let bench = Bench::new(&net, ONE).await;
        for _ in 0..4 {
            assert!(bench.get("/").await.status >= 502);
        }
        net.responds(A, &[OK]);
        assert_eq!(bench.get("/").await.status, 503, "still open");
        pass(seconds(1)).await;
        assert_eq!(bench.get("/").await.status, 200);
        assert_eq!(bench.get("/").await.status, 200);
        for (from, to, reason) in [
            ("closed", "open", "consecutive_failures"),
            ("open", "half_open", "open_time_over"),
            ("half_open", "closed", "probes_succeeded"),
        ] {
            let labels = [format!("from=\"{from}\""), format!("to=\"{to}\""), format!("reason=\"{reason}\"")];
            let labels: Vec<_> = labels.iter().map(String::as_str).collect();
            assert_eq!(bench.metric("outrigger_breaker_transitions_total", &labels), 1.0, "{from} → {to}");
        }
    });
}

#[test]
fn a_probe_whose_client_disconnects_gives_its_place_to_the_next_request() {
    paused(async {
        let net = Net::default();
        let bench = Bench::new(&net, ONE).await;
        for _ in 0..3 {
            bench.get("/").await;
        }
        net.endpoint(A, |n, mut peer| async move {
            peer.request().await;
            if n > 0 {
                peer.say(OK).await;
            }
            peer.closed().await;
        });
        pass(seconds(1)).await;
        let mut leaving = bench.connect();
        leaving.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        settle().await;
        assert_eq!(bench.under_way(), (1, 1));
        assert_eq!(bench.get("/").await.status, 503, "one probe at a time");
        drop(leaving);
        settle().await;
        assert_eq!(bench.under_way(), (0, 0));
        assert_eq!(bench.get("/").await.status, 200, "the place was given back");
        assert_eq!(bench.metric("outrigger_requests_total", &["downstream_disconnect"]), 1.0);
        assert_eq!(bench.metric("outrigger_attempts_total", &["downstream_disconnect"]), 1.0);
    });
}
