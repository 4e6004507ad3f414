//! A request that waits is not at the upstream: it holds none of its slots, and the budget is charged only for what was sent.

use super::*;

/// Asks for a retry in 15 s or later; with the jitter after 22.5 s at most.
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 15\r\ncontent-length: 4\r\n\r\nbusy";

/// No breaker trips, an attempt may take as long as its request, and so many requests may be in flight.
fn slots(max: u32) -> String {
    format!(
        "[upstreams.backend]\nendpoints = [\"{A}\"]\nin_flight_max = {max}\nbreaker.enabled = false\nendpoint_breaker.enabled = false\ntimeouts.attempt = \"30s\"\n"
    )
}

/// Says BUSY to the first request for each `/busy`, takes `secs` seconds for `/slow`, and answers others at once.
fn overloaded(net: &Net, secs: u64) {
    let busy_left = std::rc::Rc::new(std::cell::RefCell::new(vec!["/busy2", "/busy1"]));
    net.endpoint(A, move |_, mut peer| {
        let busy_left = std::rc::Rc::clone(&busy_left);
        async move {
            while let Some(head) = peer.request().await {
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let was_left = busy_left.borrow().iter().any(|busy| *busy == path);
                busy_left.borrow_mut().retain(|busy| *busy != path);
                if path == "/slow" {
                    pass(seconds(secs)).await;
                }
                peer.say(if was_left || path == "/busy" { BUSY } else { OK }).await;
            }
        }
    });
}

async fn asking(bench: &Bench, path: &str) -> net::Client {
    let mut client = bench.connect();
    client.say(&format!("GET {path} HTTP/1.1\r\nhost: backend\r\n\r\n")).await;
    settle().await;
    client
}

#[test]
fn a_request_that_sleeps_before_a_retry_leaves_its_slot_to_others() {
    paused(async {
        let net = Net::default();
        overloaded(&net, 0);
        let bench = Bench::new(&net, &slots(1)).await;
        let mut busy = asking(&bench, "/busy1").await;
        assert_eq!((bench.under_way(), bench.waiting()), ((0, 0), 1));
        assert_eq!(bench.get("/light").await.status, 200);
        assert_eq!(busy.response().await.expect("a response").status, 200);
        settle().await;
        assert_eq!((bench.under_way(), bench.waiting()), ((0, 0), 0));
    });
}

#[test]
fn a_request_that_wakes_up_gets_the_next_slot_before_any_new_request() {
    paused(async {
        let net = Net::default();
        overloaded(&net, 13);
        let bench = Bench::new(&net, &slots(1)).await;
        let mut busy = asking(&bench, "/busy1").await;
        pass(seconds(14)).await;
        let mut other = bench.connect();
        // The second request arrives at the very moment at which the first gives its slot back.
        other.say(&"GET /slow HTTP/1.1\r\nhost: backend\r\n\r\n".repeat(2)).await;
        pass(seconds(9)).await;
        assert_eq!((bench.under_way(), bench.waiting()), ((1, 1), 1), "it is awake, and no slot is free");
        assert_eq!(other.response().await.expect("a response").status, 200);
        let refused = other.response().await.expect("a response");
        assert!(refused.status == 503 && refused.body.contains("in_flight_limit"), "{refused:?}");
        assert_eq!(busy.response().await.expect("a response").status, 200);
        assert_eq!(net.arrived().len(), 3, "two for the request that was retried, one for the slow one");
        settle().await;
        assert_eq!((bench.under_way(), bench.waiting()), ((0, 0), 0));
    });
}

#[test]
fn a_request_that_gets_no_slot_by_its_deadline_returns_the_response_at_hand() {
    paused(async {
        let net = Net::default();
        overloaded(&net, 28);
        let config = format!("{}timeouts.request = \"25s\"\n", slots(1)).replace("\"30s\"", "\"25s\"");
        let bench = Bench::new(&net, &config).await;
        let started = clock::now();
        let mut busy = asking(&bench, "/busy1").await;
        pass(seconds(14)).await;
        let _slow = asking(&bench, "/slow").await;
        let seen = busy.response().await.expect("a response");
        assert_eq!((seen.status, seen.body.as_str()), (503, "busy"));
        let took = clock::now() - started;
        assert!((seconds(25)..seconds(25) + Duration::from_millis(10)).contains(&took), "{took:?}");
        assert_eq!(bench.metric("outrigger_retries_total", &[]), 0.0, "the retry was never sent");
    });
}

#[test]
fn a_retry_whose_wait_ends_late_because_the_worker_stood_still_has_its_time() {
    paused(async {
        let net = Net::default();
        overloaded(&net, 0);
        let bench = Bench::new(&net, &slots(1)).await;
        let mut busy = asking(&bench, "/busy1").await;
        tokio::time::advance(seconds(300)).await;
        assert_eq!(busy.response().await.expect("a response").status, 200);
        settle().await;
        assert_eq!(bench.metric("outrigger_attempts_total", &["attempt_timeout"]), 0.0);
    });
}

#[test]
fn a_failure_that_came_while_the_worker_stood_still_is_retried_within_the_time_that_is_left() {
    for stands_still in [0, 5] {
        paused(async {
            let net = Net::default();
            net.endpoint(A, |_, mut peer| async move {
                for response in [FAILED, OK] {
                    peer.request().await;
                    clock::sleep(Duration::from_millis(200)).await;
                    peer.say(response).await;
                }
                peer.closed().await;
            });
            let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.timeouts]\nrequest = \"1s\"\n")).await;
            let mut client = asking(&bench, "/").await;
            tokio::time::advance(seconds(stands_still)).await;
            let seen = client.response().await.expect("a response");
            assert_eq!(seen.status, 200, "{stands_still} s: {seen:?}");
        });
    }
}

#[test]
fn a_reload_with_a_higher_limit_gives_its_slots_to_the_queue() {
    paused(async {
        let net = Net::default();
        overloaded(&net, 28);
        let bench = Bench::new(&net, &slots(1)).await;
        let mut busy = asking(&bench, "/busy1").await;
        pass(seconds(14)).await;
        let _slow = asking(&bench, "/slow").await;
        pass(seconds(9)).await;
        assert_eq!((bench.under_way(), bench.waiting()), ((1, 1), 1), "it is awake, and no slot is free");
        bench.reload(&slots(2)).await;
        let reloaded = clock::now();
        assert_eq!(busy.response().await.expect("a response").status, 200);
        assert_eq!(clock::now(), reloaded, "at once");
    });
}

#[test]
fn a_client_that_leaves_the_queue_for_a_slot_passes_its_turn_on() {
    paused(async {
        let net = Net::default();
        overloaded(&net, 13);
        let bench = Bench::new(&net, &slots(3)).await;
        let first = asking(&bench, "/busy1").await;
        let mut second = asking(&bench, "/busy2").await;
        assert_eq!(bench.waiting(), 2);
        pass(seconds(14)).await;
        let _slow = [asking(&bench, "/slow").await, asking(&bench, "/slow").await, asking(&bench, "/slow").await];
        pass(seconds(9)).await;
        assert_eq!((bench.under_way().0, bench.waiting()), (3, 2), "both are awake");
        drop(first);
        settle().await;
        assert_eq!((bench.under_way().0, bench.waiting()), (3, 1));
        assert_eq!(second.response().await.expect("a response").status, 200);
    });
}

#[test]
fn no_more_requests_wait_than_may_and_half_of_the_places_are_for_short_waits() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            while let Some(head) = peer.request().await {
                peer.say(if head.contains("/busy") { BUSY } else { FAILED }).await;
            }
        });
        let bench =
            Bench::new(&net, &format!("{}retry.backoff_base = \"5s\"\nretry.backoff_cap = \"5s\"\n", slots(4))).await;
        let _asleep = [asking(&bench, "/busy").await, asking(&bench, "/busy").await];
        assert_eq!(bench.waiting(), 2);
        let seen = bench.get("/busy").await;
        assert!(seen.status == 503 && seen.body == "busy" && seen.head.contains("no retry: waiting_limit"), "{seen:?}");
        let _short = [asking(&bench, "/").await, asking(&bench, "/").await];
        assert_eq!((bench.waiting(), bench.under_way()), (4, (0, 0)));
        let seen = bench.get("/").await;
        assert!(seen.status == 500 && seen.head.contains("no retry: waiting_limit"), "{seen:?}");
        pass(Duration::from_millis(200)).await; // the worker's counts are there with its next tick
        assert_eq!(bench.metric("outrigger_retries_refused_total", &["reason=\"waiting_limit\""]), 2.0);
    });
}

#[test]
fn a_superseded_response_that_does_not_end_keeps_its_slot_for_a_second_and_no_longer() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            peer.say(&BUSY.replace("busy", "b")).await;
            peer.closed().await;
        });
        let bench = Bench::new(&net, &slots(2)).await;
        let _busy = asking(&bench, "/").await;
        assert_eq!((bench.under_way(), bench.waiting()), ((1, 1), 1), "its endpoint is still sending");
        pass(Duration::from_millis(1_010)).await;
        assert_eq!((bench.under_way(), bench.waiting()), ((0, 0), 1));
    });
}

#[test]
fn requests_that_are_not_sent_do_not_feed_the_budget() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let config = format!("{}budget = {{ ratio = 1, floor_per_second = 0 }}\n", slots(1));
        let bench = Bench::new(&net, &config).await;
        bench.replace_endpoints(&[]);
        for _ in 0..10 {
            assert_eq!(bench.get("/").await.status, 502);
        }
        assert_eq!(bench.balance(), 0.0);
        bench.replace_endpoints(&[A]);
        assert_eq!(bench.get("/").await.status, 200);
        assert_eq!(bench.balance(), 1.0);
    });
}

#[test]
fn what_the_budget_paid_for_a_retry_that_is_never_sent_goes_back() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[BUSY]);
        let config = format!("{}budget = {{ ratio = 1, floor_per_second = 0 }}\n", slots(1));
        let bench = Bench::new(&net, &config).await;
        let busy = asking(&bench, "/").await;
        assert_eq!(bench.balance(), 0.0, "one request, one retry that is due");
        drop(busy);
        settle().await;
        assert_eq!((bench.balance(), bench.waiting()), (1.0, 0));
    });
}

#[test]
fn the_failure_of_an_attempt_is_the_result_when_its_retry_finds_no_endpoint() {
    paused(async {
        let net = Net::default();
        let bench =
            Bench::new(&net, &format!("{}retry.backoff_base = \"1s\"\nretry.backoff_cap = \"1s\"\n", slots(1))).await;
        let mut client = asking(&bench, "/").await;
        bench.replace_endpoints(&[]);
        let seen = client.response().await.expect("a response");
        assert!(seen.status == 502 && seen.body.contains("connect_refused"), "{seen:?}");
    });
}
