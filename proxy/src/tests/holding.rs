//! A request that waits for an endpoint. No key of the configuration asks for it yet; the loop decides it, and the exchange performs it.

use super::*;

const HOLD: Duration = Duration::from_secs(3);
/// tokio's timers round up to the next millisecond.
const TICK: Duration = Duration::from_millis(2);

const GET: &str = "GET / HTTP/1.1\r\nhost: backend\r\n\r\n";

async fn holding(net: &Net, config: &str) -> Bench {
    Bench::edited(net, config, |policies| policies.hold = Some(HOLD)).await
}

/// Nothing was sent, nobody is blamed, and nothing is left.
async fn check_never_sent(bench: &Bench, outcome: &str) {
    settle().await;
    assert_eq!((bench.under_way(), bench.waiting(), bench.shared.replay.kept()), ((0, 0), 0, 0));
    assert_eq!(bench.metric("outrigger_requests_total", &[outcome]), 1.0);
    assert_eq!(bench.metric("outrigger_requests_total", &[]), 1.0);
    assert_eq!(bench.metric("outrigger_attempts_total", &[]), 0.0);
}

#[test]
fn a_held_request_is_sent_as_soon_as_there_is_an_endpoint() {
    paused(async {
        let net = Net::default();
        net.responds(B, &[OK]);
        let bench = holding(&net, ONE).await;
        bench.replace_endpoints(&[]);
        let mut caller = bench.connect();
        caller.say("PUT / HTTP/1.1\r\nhost: backend\r\ncontent-length: 2\r\n\r\nhi").await;
        pass(seconds(1)).await;
        assert_eq!((bench.under_way(), net.dialed()), ((0, 0), 0), "it holds no slot");
        assert_eq!(bench.waiting(), 1);
        let started = clock::now();
        bench.replace_endpoints(&[B]);
        let seen = caller.response().await.expect("an answer");
        assert_eq!((seen.status, clock::now() - started), (200, Duration::ZERO));
        assert!(!seen.head.contains("outrigger-attempts: 2"), "being held is no attempt: {}", seen.head);
        assert_eq!(net.arrived(), [format!("{B} PUT / hi")]);
        settle().await;
        assert_eq!(bench.metric("outrigger_attempts_total", &[]), 1.0);
        assert_eq!((bench.under_way(), bench.shared.replay.kept()), ((0, 0), 0));
    });
}

#[test]
fn a_held_request_is_refused_when_its_time_is_over() {
    let rows = [
        ("the hold's", ONE.to_owned(), HOLD),
        ("the request's", format!("{ONE}[upstreams.backend.timeouts]\nrequest = \"2s\"\n"), seconds(2)),
    ];
    for (whose, config, after) in rows {
        paused(async move {
            let net = Net::default();
            net.responds(A, &[OK]);
            let bench = holding(&net, &config).await;
            bench.replace_endpoints(&[]);
            let started = clock::now();
            let seen = bench.get("/").await;
            let waited = clock::now() - started;
            assert_eq!(seen.status, 502, "{whose}");
            assert!((after..=after + TICK).contains(&waited), "{whose}: {waited:?}");
            check_never_sent(&bench, "no_endpoints").await;
        });
    }
}

#[test]
fn a_request_is_held_until_the_breaker_of_its_endpoint_lets_one_through() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[FAILED, FAILED, FAILED, FAILED, OK]);
        let config = "[upstreams.backend]\nendpoints = [\"10.0.0.1:80\"]\nretry = { max_attempts = 1 }\nbreaker = { enabled = false }\nendpoint_breaker = { consecutive_failures = 4, open_jitter = 0, open_base = \"1s\" }\n";
        let bench = holding(&net, config).await;
        for _ in 0..4 {
            assert_eq!(bench.get("/").await.status, 500);
        }
        let started = clock::now();
        assert_eq!(bench.get("/").await.status, 200);
        let waited = clock::now() - started;
        assert!((seconds(1)..=seconds(1) + TICK).contains(&waited), "{waited:?}");
    });
}

#[test]
fn a_caller_that_leaves_while_its_request_is_held_leaves_nothing_behind() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = holding(&net, ONE).await;
        bench.replace_endpoints(&[]);
        let mut caller = bench.connect();
        caller.say(GET).await;
        pass(seconds(1)).await;
        assert_eq!((bench.under_way(), bench.waiting()), ((0, 0), 1));
        drop(caller);
        check_never_sent(&bench, "downstream_disconnect").await;
        bench.replace_endpoints(&[A]);
        pass(HOLD).await;
        assert_eq!((net.dialed(), bench.shared.connections()), (0, 0));
    });
}
