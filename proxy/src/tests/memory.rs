//! Memory and sockets, over all connections together: what gives way when they run out, and that an honest request is served.

use std::rc::Rc;

use proptest::prelude::*;
use tikv_jemalloc_ctl::thread;

use super::*;

const MIB: usize = 1 << 20;

/// Large heads are allowed, so that a few of them fill a small limit.
const LARGE_HEADS: &str = "listen.head_bytes_max = \"1MiB\"\nlisten.headers_max = 1000\n";
const REPEATED: &str = "\n[upstreams.backend.retry]\nidempotent = true\n";

/// A request head of about `kib` KiB that does not end.
fn half_a_head(kib: usize) -> String {
    let field = format!("x: {}\r\n", "y".repeat(1_000));
    format!("GET / HTTP/1.1\r\nhost: backend\r\n{}", field.repeat(kib))
}

/// Memory that something else than a connection holds.
fn ballast(mib: usize) -> Vec<u8> {
    Vec::with_capacity(mib * MIB)
}

/// How many connections ended for lack of memory.
fn shed(bench: &Bench) -> f64 {
    bench.metric("outrigger_connections_closed_total", &["reason=\"memory_limit\""])
}

/// The heap, counted at this moment.
fn used_now(bench: &Bench) -> usize {
    let _level = bench.worker.context().memory().level();
    bench.shared.memory.used()
}

/// What this thread has allocated and not freed.
fn allocated() -> usize {
    let (all, freed) = (thread::allocatedp::read(), thread::deallocatedp::read());
    usize::try_from(all.expect("jemalloc").get() - freed.expect("jemalloc").get()).expect("a size")
}

/// Lets all tasks run as [`settle`] does; the most that was allocated meanwhile, whenever each of them had its turn.
async fn most_allocated() -> usize {
    let mut most = 0;
    for _ in 0..300 {
        tokio::task::yield_now().await;
        most = most.max(allocated());
    }
    most
}

#[test]
fn half_heads_that_arrive_together_never_hold_more_than_the_limit() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let (mut clients, head) = (Vec::new(), half_a_head(30));
        for _ in 0..100 {
            let client = bench.connect_over(64 * 1024);
            clients.push(client);
        }
        settle().await;
        let more = 64 * 1024;
        tokio::task::unconstrained(async {
            for client in &mut clients {
                client.say(&head).await;
            }
        })
        .await;
        let before = allocated();
        bench.shared.memory.set_max(used_now(&bench) + MIB);
        let grown = most_allocated().await - before;
        assert!(grown < MIB + MIB / 2 + more, "{grown}");
        drop(clients);
        settle().await;
        assert_eq!(bench.get("/").await.status, 200);
    });
}

#[test]
fn half_heads_of_responses_that_arrive_together_never_hold_more_than_the_limit_and_blame_nobody() {
    paused(async {
        let net = Net::default();
        net.buffers(64 * 1024);
        let go = Rc::new(tokio::sync::Notify::new());
        let at_once = Rc::clone(&go);
        net.endpoint(A, move |_, mut peer| {
            let go = Rc::clone(&at_once);
            async move {
                peer.request().await;
                go.notified().await;
                peer.say(&half_a_head(30).replacen("GET / HTTP/1.1", "HTTP/1.1 200 OK", 1)).await;
                std::future::pending::<()>().await;
            }
        });
        let bench = Bench::new(&net, ONE).await;
        let mut clients = Vec::new();
        for _ in 0..100 {
            let mut client = bench.connect();
            client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
            clients.push(client);
        }
        settle().await;
        bench.shared.memory.set_max(used_now(&bench) + 5 * MIB);
        let before = allocated();
        go.notify_waiters();
        let grown = most_allocated().await - before;
        // The endpoints' pipes hold 4 MiB of it, which the proxy's heads then share the rest with.
        assert!(grown < 6 * MIB + MIB / 2, "{grown}");
        let mut refused = 0;
        for client in &mut clients {
            if let Some(seen) = clock::until(clock::now(), client.response()).await.flatten() {
                assert!(seen.status == 503 && seen.body.contains("memory_limit"), "{seen:?}");
                refused += 1;
            }
        }
        assert!(refused > 30, "{refused}");
        assert_eq!(bench.metric("outrigger_breaker_transitions_total", &[]), 0.0);
    });
}

#[test]
fn a_connection_that_is_idle_after_a_long_head_keeps_none_of_its_memory() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        let ask = |head: &str| format!("{}\r\n", head.replacen("backend", "unknown", 1));
        let mut clients = Vec::new();
        for _ in 0..40 {
            let mut client = bench.connect_over(64 * 1024);
            client.say(&ask("GET / HTTP/1.1\r\nhost: backend\r\n")).await;
            client.response().await.expect("a response");
            clients.push(client);
        }
        let before = allocated();
        for client in &mut clients {
            client.say(&ask(&half_a_head(30))).await;
            client.response().await.expect("a response");
        }
        settle().await;
        let (kept, pipes) = (allocated().saturating_sub(before), 40 * 34 * 1024);
        assert!(kept < pipes + 8 * 40 * 1024, "{kept}");
    });
}

#[test]
fn heads_that_do_not_end_give_way_to_an_honest_request() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, &format!("{LARGE_HEADS}{ONE}")).await;
        bench.shared.memory.set_max(4 * MIB);
        let (mut clients, head) = (Vec::new(), half_a_head(400));
        for _ in 0..50 {
            let mut client = bench.connect();
            client.say(&head).await;
            clients.push(client);
            settle().await;
            let used = bench.shared.memory.used();
            assert!(used <= 5 * MIB, "{used}");
        }
        assert_eq!(bench.get("/").await.status, 200);
        let ended = shed(&bench);
        assert!((30.0..50.0).contains(&ended), "{ended} of 50 heads of 400 KiB, where eight fit");
        // The last one fits, and may still end.
        let mut last = clients.pop().expect("fifty of them");
        last.say("\r\n").await;
        assert_eq!(last.response().await.expect("a response").status, 200);
        let mut told = 0.0;
        for client in &mut clients {
            let seen = client.response().await.expect("a last response");
            let is_for_memory = seen.head.contains("memory_limit");
            assert_eq!(seen.status, if is_for_memory { 503 } else { 408 });
            told += f64::from(u8::from(is_for_memory));
        }
        assert_eq!(
            told,
            shed(&bench),
            "each that ended for memory is told so, and the others come to the end of their time"
        );
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn with_any_mix_of_heads_the_sum_holds_and_a_small_request_is_served(sizes in prop::collection::vec(0_usize..900, 1..40)) {
        paused(async {
            let net = Net::default();
            net.responds(A, &[OK]);
            let bench = Bench::new(&net, &format!("{LARGE_HEADS}{ONE}")).await;
            bench.shared.memory.set_max(4 * MIB);
            let mut clients = Vec::new();
            for size in sizes {
                let mut client = bench.connect();
                client.say(&half_a_head(size)).await;
                clients.push(client);
                settle().await;
                // The largest head has a buffer of 1 MiB.
                let used = bench.shared.memory.used();
                assert!(used <= 4 * MIB + 2 * MIB, "{used}");
                assert_eq!(bench.get("/").await.status, 200);
            }
        });
    }
}

#[test]
fn without_memory_a_request_is_refused_with_a_reason_of_its_own_and_served_again_when_there_is_some() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        bench.shared.memory.set_max(8 * MIB);
        let large = format!("/{}", "x".repeat(5_000));
        for (mib, small_one, large_one) in [(7, 200, 200), (8, 200, 503), (10, 503, 503), (1, 200, 200)] {
            net.forget();
            let _held = ballast(mib);
            for (path, status) in [("/", small_one), (&large, large_one)] {
                let seen = bench.get(path).await;
                let is_refused = seen.body.contains("memory_limit") && seen.head.contains("retry-after: 1");
                assert_eq!((seen.status, is_refused), (status, status == 503), "{mib} MiB of 8");
                assert_eq!(seen.head.contains("connection: close"), is_refused, "a connection costs memory too");
            }
            let sent = usize::from(small_one == 200) + usize::from(large_one == 200);
            assert_eq!(net.arrived().len(), sent, "of a refused one nothing");
        }
        assert_eq!(bench.metric("outrigger_requests_total", &["outcome=\"memory_limit\""]), 3.0);
    });
}

#[test]
fn large_heads_that_wait_for_their_endpoint_keep_no_small_request_out() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            while let Some(request) = peer.request().await {
                if request.contains("/wait") {
                    std::future::pending::<()>().await;
                }
                peer.say(OK).await;
            }
        });
        let bench = Bench::new(&net, &format!("{LARGE_HEADS}{ONE}")).await;
        bench.shared.memory.set_max(4 * MIB);
        let (mut clients, head) = (Vec::new(), half_a_head(300).replacen("/", "/wait", 1) + "\r\n");
        for _ in 0..12 {
            let mut client = bench.connect();
            client.say(&head).await;
            clients.push(client);
            settle().await;
            assert!(bench.shared.memory.used() < 6 * MIB);
            assert_eq!(bench.get("/").await.status, 200);
        }
        assert!(shed(&bench) + bench.metric("outrigger_requests_total", &["outcome=\"memory_limit\""]) >= 1.0);
    });
}

#[test]
fn callers_who_stay_with_small_pieces_keep_no_pages_of_those_who_have_gone() {
    paused(async {
        let net = Net::default();
        net.buffers(128 * 1024);
        net.endpoint(A, |_, mut peer| async move {
            peer.head().await;
            std::future::pending::<()>().await;
        });
        let bench = Bench::new(&net, ONE).await;
        let unused = || {
            bench.shared.memory.measure();
            bench.shared.memory.unused()
        };
        let (before, mut clients) = (unused(), Vec::new());
        for _ in 0..160 {
            let mut client = bench.connect();
            client.say("PUT / HTTP/1.1\r\nhost: backend\r\ntransfer-encoding: chunked\r\n\r\n").await;
            clients.push(client);
        }
        // In turn, so that pieces of different callers lie side by side.
        let piece = format!("1c0\r\n{}\r\n", "x".repeat(448));
        for _ in 0..120 {
            for client in &mut clients {
                client.say(&piece).await;
            }
            settle().await;
        }
        let kept = bench.shared.replay.kept();
        assert!(kept > 160 * 120 * 448, "{kept}");
        let mut number = 0;
        clients.retain(|_| {
            number += 1;
            number % 32 == 0
        });
        settle().await;
        let (unused, kept) = (unused().saturating_sub(before), bench.shared.replay.kept());
        assert!(unused < 3 * MIB && kept < MIB, "{unused} are unused where {kept} are kept");
    });
}

#[test]
fn while_memory_is_scarce_a_body_streams_on_and_is_not_kept_for_a_retry() {
    paused(async {
        for (mib, status) in [(1, 200), (7, 500)] {
            let net = Net::default();
            net.responds(A, &[FAILED, OK]);
            let config = format!("{ONE}{REPEATED}");
            let bench = Bench::new(&net, &config).await;
            bench.shared.memory.set_max(8 * MIB);
            let _held = ballast(mib);
            assert_eq!(bench.post("/", "a body").await.status, status, "{mib} MiB of 8 in use");
            let refused = bench.metric("outrigger_retries_refused_total", &["reason=\"body_not_buffered\""]);
            assert_eq!(refused, f64::from(u8::from(status == 500)));
        }
    });
}

#[test]
fn clients_that_do_not_read_give_way_and_those_that_do_go_on() {
    paused(async {
        let net = Net::default();
        let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n{}", "z".repeat(200_000));
        net.responds(A, &[&long]);
        let bench = Bench::new(&net, ONE).await;
        let mut deaf = Vec::new();
        for _ in 0..20 {
            let mut client = bench.connect();
            client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
            deaf.push(client);
            clock::sleep(Duration::from_millis(150)).await;
        }
        // They hold about 2 MiB, pipes of the test included.
        bench.shared.memory.set_max(bench.shared.memory.used());
        assert_eq!(bench.get("/").await.status, 200);
        let ended = shed(&bench);
        assert!((1.0..20.0).contains(&ended), "{ended}: as many as are needed");
        assert!(deaf[0].response().await.is_none(), "the one that was silent for longest is the first");
        assert!(deaf[19].response().await.is_some(), "the last one goes on");
    });
}

#[test]
fn exchanges_end_only_beyond_the_limit_and_a_few_at_a_time() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            std::future::pending::<()>().await;
        });
        let bench = Bench::new(&net, ONE).await;
        bench.shared.memory.set_max(8 * MIB);
        let mut clients = Vec::new();
        for _ in 0..32 {
            let mut client = bench.connect();
            client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
            clients.push(client);
        }
        settle().await;
        let full = ballast(7);
        pass(seconds(1)).await;
        assert_eq!(shed(&bench), 0.0, "scarce is no reason");
        let critical = ballast(4);
        clock::sleep(Duration::from_millis(150)).await;
        let ended = shed(&bench);
        assert!((1.0..=4.0).contains(&ended), "{ended} of 32 in one or two ticks");
        drop((full, critical));
        pass(seconds(1)).await;
        assert_eq!(shed(&bench), ended);
    });
}

#[test]
fn idle_connections_over_all_endpoints_together_leave_sockets_for_the_next() {
    paused(async {
        let addresses: Vec<String> = (1..=12).map(|n| format!("10.0.0.{n}:80")).collect();
        let net = Net::default();
        for address in &addresses {
            net.responds(address, &[OK]);
        }
        let bench = Bench::new(&net, ONE).await;
        bench.shared.sockets.set_max(3);
        for address in addresses.iter().cycle().take(30) {
            bench.replace_endpoints(&[address]);
            assert_eq!(bench.get("/").await.status, 200, "{address}");
            let open = bench.shared.sockets.open();
            assert!((1..=3).contains(&open), "{open}");
        }
        assert_eq!(net.dialed(), 30, "the oldest one was closed each time");
        let refused = bench.metric("outrigger_connects_total", &["result=\"no_local_socket\""]);
        assert_eq!(refused, 0.0, "no attempt was lost for it");
        for (after, open) in [(100, 3), (2_000, 2)] {
            clock::sleep(Duration::from_millis(after)).await;
            bench.shared.sockets.ask_for_downstream();
            clock::sleep(Duration::from_millis(150)).await;
            assert_eq!(bench.shared.sockets.open(), open, "the acceptor gets none that was in use a moment ago");
        }
    });
}

#[test]
fn without_a_socket_a_request_is_refused_and_nobody_is_blamed() {
    paused(async {
        let net = Net::default();
        net.endpoint(A, |_, mut peer| async move {
            peer.request().await;
            clock::sleep(seconds(5)).await;
            peer.say(OK).await;
        });
        let bench = Bench::new(&net, ONE).await;
        bench.shared.sockets.set_max(1);
        let mut busy = bench.connect();
        busy.say("GET /first HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        settle().await;
        let seen = bench.get("/second").await;
        assert!(seen.status == 503 && seen.body.contains("no_local_socket"), "{seen:?}");
        assert_eq!(busy.response().await.expect("a response").status, 200);
        assert_eq!(bench.endpoint_results(), 1);
    });
}

#[test]
fn when_the_system_has_no_descriptor_an_idle_connection_gives_its_own() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[OK]);
        net.responds(B, &[OK]);
        let bench = Bench::new(&net, ONE).await;
        assert_eq!(bench.get("/").await.status, 200);
        bench.replace_endpoints(&[B]);
        net.next_dials([DialFault::NoDescriptor]);
        assert_eq!(bench.get("/").await.status, 200, "the second time there is one");
        assert_eq!((net.dialed(), bench.shared.sockets.open()), (3, 1));
    });
}
